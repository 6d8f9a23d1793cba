"""The end of a notebook's data: what deleted notebooks and failed forks have left, and how it goes for good."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from nbws import _nbws
from nbws.billing import Sample, Tariff, monthly
from nbws.calls import Call, twin, verb
from nbws.errors import Corrupt, InvalidInput, InvalidState, NotFound, RollbackDetected, Unsupported
from nbws.listing import Listing
from nbws.reports import time_from_ms
from nbws.values import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbws.calls import Steps
    from nbws.exclusive import EpochSource
    from nbws.lifecycle import Event
    from nbws.notebook import Notebook

__all__ = ["UNREADABLE", "Orphan", "PurgeReport", "Purging", "checked_id", "is_id"]

UNREADABLE = (Corrupt, RollbackDetected, Unsupported)
"""What a notebook raises whose log is damaged, older than it was, or of a later program."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Orphan(Report):
    """Data that belongs to no notebook any more, or never came to belong to one.

    Attributes:
        id, name: of the notebook.
        reason: ``"deleted"``, or ``"unfinished"`` for what a fork or a creation has left that failed or is under way.
        deleted_at: when it was deleted; None if it is unfinished.
        stored_bytes: what its data takes in the store.
        age_days: days since it was deleted, or since an unfinished one was begun.
        monthly_cost: what a month of it costs by the tariff, once free windows are over.
        currency: of that.
    """

    id: str
    name: str | None
    reason: str
    deleted_at: datetime | None
    stored_bytes: int
    age_days: float
    monthly_cost: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class PurgeReport(Report):
    """What a purge removed, or would remove.

    Attributes:
        id: of the notebook.
        applied: whether it was done; otherwise this is the plan.
        bytes: stored bytes that go. ``format`` and the log stay, so that the id is not used again.
        snapshots, rescues: snapshots and rescues that go with them.
        warnings: what a person should know; a purge can't be undone.
    """

    id: str
    applied: bool
    bytes: int
    snapshots: int
    rescues: int
    warnings: tuple[str, ...]


class Purging:
    """The part of `Notebooks` that removes data."""

    url: str
    _options: dict[str, str] | None
    _exclusive: EpochSource | None
    _clock: Callable[[], datetime]
    if TYPE_CHECKING:
        _open: Callable[[str], Steps[Notebook]]

    @verb
    def orphans(self, *, tariff: Tariff | None = None) -> Call[Listing[Orphan]]:
        """Lists data that no notebook has: of deleted ones that were not purged, and of forks and creations that failed.

        One whose log can't be read is left out: `Notebooks.list` shows it.

        Args:
            tariff: the rules of what it costs; `Tariff.ovh` if None.
        """
        rules = tariff or Tariff.ovh()

        def steps() -> Steps[Listing[Orphan]]:
            found: list[Orphan] = []
            for name in (yield _nbws.children(self.url, {"store": self._options})):
                if not is_id(name):
                    continue
                try:
                    orphan = yield from self._orphan(name, rules)
                except (NotFound, *UNREADABLE):
                    continue
                if orphan is not None:
                    found.append(orphan)
            return Listing(Orphan, found)

        return Call(steps)

    orphans_async = twin(orphans)

    def _orphan(self, identity: str, tariff: Tariff) -> Steps[Orphan | None]:
        notebook = yield from self._open(identity)
        engine = notebook._engine  # noqa: SLF001  # of the same family
        events = yield from notebook._run.events()  # noqa: SLF001
        tombs = [event for event in events if event.kind == "tombstone"]
        deleted: datetime | None = None
        if _is_unfinished(events):
            stored, began = (yield engine.purge_plan()), time_from_ms(engine.created_ms)
        elif tombs and not tombs[-1].purge:
            stored, began = events[-1].stored_bytes, tombs[-1].time
            deleted = began
        else:
            return None
        try:
            settings = yield from notebook._run.settings(required=False)  # noqa: SLF001
        except Corrupt:
            settings = None
        age = 0.0 if began is None else (self._clock() - began).total_seconds() / _DAY_S
        reason = "unfinished" if deleted is None else "deleted"
        name = settings.name if settings else None
        left = Sample(self._clock(), "DELETING", events[-1].bytes if deleted and events else 0, stored)
        cost = monthly(tariff, left)
        return Orphan(identity, name, reason, deleted, stored, max(0.0, age), cost, tariff.currency)

    @verb
    def purge(self, id: str, confirm: str | None = None) -> Call[PurgeReport]:  # noqa: A002  # what it is called everywhere
        """Removes the data of a deleted notebook, or of a fork or creation that failed, for good. May be repeated after a crash.

        Args:
            id: of the notebook.
            confirm: the id once more; without it only the plan is returned.

        Raises:
            InvalidState: the notebook was not deleted; or it is being forked, and the message says where to and until when.
            InvalidInput: ``confirm`` is another id.
        """
        identity = checked_id(id)
        if confirm is not None and confirm != identity:
            raise InvalidInput("confirm is the id of the notebook, written out", operation="purge", path=identity)

        def steps() -> Steps[PurgeReport]:
            notebook = yield from self._open(identity)
            engine = notebook._engine  # noqa: SLF001
            events = yield from notebook._run.events()  # noqa: SLF001
            state = events[-1].state if events else "NONE"
            if state != "DELETING" and not _is_unfinished(events):
                raise InvalidState(
                    f"the notebook is {state}; delete it first, then its data can be purged",
                    operation="purge",
                    path=identity,
                )
            is_purged = any(event.purge for event in events)
            dismissed = {event.snapshot for event in events if event.kind == "dismiss"}
            rescues = {event.snapshot for event in events if event.kind == "rescue"} - dismissed
            snapshots = sum(event.kind == "snapshot" for event in events)
            counts = (0, 0) if is_purged else (snapshots, len(rescues))
            if confirm is None:
                planned = yield engine.purge_plan()
                return PurgeReport(identity, False, planned, *counts, ("a purge can't be undone",))
            freed = yield engine.purge()
            return PurgeReport(identity, True, freed, *counts, ())

        return Call(steps, hold=self._exclusive)

    purge_async = twin(purge)


def _is_unfinished(events: Sequence[Event]) -> bool:
    """Whether nothing was ever saved there, and it never became a notebook."""
    return all(event.kind == "settings" for event in events)


def is_id(text: str) -> bool:
    """Whether a notebook can have this id."""
    return _ID.fullmatch(text) is not None


def checked_id(text: str) -> str:
    """Returns an id that can be one.

    Raises:
        InvalidInput: it can't.
    """
    if not is_id(text):
        raise InvalidInput(
            f"{text!r} is no id of a notebook: letters, digits, - and _, beginning with a letter or digit, at most 63",
            operation="open notebook",
        )
    return text
