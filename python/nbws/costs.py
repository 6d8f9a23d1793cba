"""What one notebook costs: its timeline, its bill, and what the next save adds. Composed of its log and pure rules."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from nbws.billing import Invoice, Tariff, Timeline, invoice
from nbws.billing.forecast import save_cost
from nbws.calls import Call, twin, verb
from nbws.lifecycle import Event, utc_now
from nbws.limits import Limits
from nbws.reports import Preview

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.progress import ProgressTarget

__all__ = ["Costs", "previewed"]


class Costs(Limits):
    """The half of a `Notebook` that knows what it costs."""

    @verb
    def timeline(self) -> Call[Timeline]:
        """Returns states and sizes over time, as the log tells them: also what was pruned from it. Reads each record once.

        Clocks that went backwards or ahead are put right and noted, see `Timeline.repaired`.
        """

        def steps() -> Steps[Timeline]:
            events = yield from self._run.events()
            return Timeline.from_events(events, now=self._run.clock())

        return Call(steps)

    timeline_async = twin(timeline)

    @verb
    def bill(
        self, until: datetime | None = None, tariff: Tariff | None = None, *, since: datetime | None = None
    ) -> Call[Invoice]:
        """Returns what the notebook has cost, or will have cost.

        Args:
            until: the end, with a time zone; now if None. After now it is a forecast at constant size and state, and its lines say so.
            tariff: the rules; `Tariff.ovh` if None.
            since: the begin; when the notebook was made if None.

        Raises:
            InvalidInput: the end lies before the begin, or before the notebook was made.
        """
        rules = tariff or Tariff.ovh()

        def steps() -> Steps[Invoice]:
            now = self._run.clock()
            events = yield from self._run.events()
            life = Timeline.from_events(events, now=now)
            return invoice(life, rules, until or now, since=since, now=now)

        return Call(steps)

    bill_async = twin(bill)

    @verb
    def preview(
        self, *, tariff: Tariff | None = None, estimate: bool = False, progress: ProgressTarget = None
    ) -> Call[Preview]:
        """Tells what `save` would read and send now, and what that costs; sends nothing and leaves no trace.

        What the quota would leave out is in ``omitted``; that it would refuse the save is a warning.

        Args:
            tariff: the rules; `Tariff.ovh` if None.
            estimate: as for `Workspace.preview`.
            progress: as for `Workspace.preview`.

        Raises:
            InvalidState: the notebook does not run on this machine.
        """
        rules = tariff or Tariff.ovh()

        def steps() -> Steps[Preview]:
            _, session = yield from self._run.session("preview", {"RUNNING", "SYNC_FAILED", "RESTARTING", "STOPPING"})
            settings = yield from self._run.settings()
            options = self._run.labels(settings, (yield from self._save_limits()))
            return (yield from previewed(self._engine, session.place, options, estimate, rules, clock=self._run.clock))

        return Call(steps, progress=progress, label="preview")

    preview_async = twin(preview)


def previewed(
    engine: _nbws.Workspace,
    directory: Any,
    options: dict[str, Any],
    estimate: bool,
    tariff: Tariff,
    *,
    clock: Callable[[], datetime] = utc_now,
) -> Steps[Preview]:
    """Steps to a preview that says what the save costs."""
    report = Preview.from_engine((yield engine.preview(directory, options, estimate)))
    now = clock()
    events = [Event.of(values) for values in (yield engine.history(False))]
    # An estimate knows only the plain size of what is new.
    new = report.bytes_new if report.bytes_uploaded is None else report.bytes_uploaded
    cost = save_cost(
        Timeline.from_events(events, now=now),
        tariff,
        now,
        logical_bytes=report.bytes_total,
        new_stored_bytes=new,
        requests=report.requests.total,
    )
    return dataclasses.replace(report, cost=cost)
