"""All notebooks of a container at once: how many, how large, what they cost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping  # others look the types of fields up at run time
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from nbws import _nbws
from nbws.billing import Invoice, Sample, Tariff, Timeline, exact_sum, invoice, monthly
from nbws.calls import Call, Elsewhere, started, twin, verb
from nbws.errors import InvalidInput
from nbws.lifecycle import Event
from nbws.listing import Listing
from nbws.progress import sink_for
from nbws.reports import Requests
from nbws.values import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from nbws.calls import Steps
    from nbws.progress import ProgressTarget

__all__ = ["Accounts", "NotebookProblem", "NotebookSample", "StateTotals", "Totals"]

# Notebooks in one piece of work: what one answer holds in memory.
_BATCH = 250
_BATCH_OF_LOGS = 20
# Pieces of work that an executor has at once.
_AHEAD = 16
_MOST_PARALLEL = 1_000


@dataclass(frozen=True, slots=True)
class StateTotals(Report):
    """The notebooks in one state; sums as in `Totals`."""

    state: str
    notebooks: int
    logical_bytes: int
    stored_bytes: int
    monthly_cost: Decimal


@dataclass(frozen=True, slots=True)
class NotebookProblem(Report):
    """A notebook that could not be read, and why: kind and text of the error."""

    id: str
    kind: str
    problem: str


@dataclass(frozen=True, slots=True)
class NotebookSample(Report):
    """A `Sample` of one of several notebooks."""

    id: str
    time: datetime
    state: str
    logical_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Totals(Report):
    """All notebooks of a container.

    Attributes:
        notebooks: how many were read; ``problems`` come on top.
        by_state: the same by state, sorted by name; ``"NONE"`` are repositories that are no notebooks.
        logical_bytes: bytes of the files of all workspaces.
        stored_bytes: bytes that the store keeps for them.
        files, objects: files of the workspaces, objects in the store.
        snapshots: that are kept; None unless whole logs were read.
        tariff, currency: the rules and the currency of all amounts.
        monthly_cost: what a month of storage costs at the present sizes and states once free windows are over.
        cost: the sum of all bills; None unless whole logs were read.
        forecast: the part of it that lies ahead; None unless whole logs were read.
        notes: how many bills have repairs that a reader should know of.
        problems: notebooks that could not be read; the others are summed up all the same.
        requests: requests sent for the notebooks, without the listing of the container.
        duration_s: seconds of wall time.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "by_state": StateTotals,
        "problems": NotebookProblem,
        "requests": Requests,
    }

    notebooks: int
    by_state: tuple[StateTotals, ...]
    logical_bytes: int
    stored_bytes: int
    files: int
    objects: int
    snapshots: int | None
    tariff: str
    currency: str
    monthly_cost: Decimal
    cost: Decimal | None
    forecast: Decimal | None
    notes: tuple[str, ...]
    problems: tuple[NotebookProblem, ...]
    requests: Requests
    duration_s: float

    @property
    def complete(self) -> bool:
        """Whether every notebook could be read."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a piece of work needs beside ids; it pickles."""

    url: str
    options: dict[str, str] | None
    tariff: Tariff
    now: datetime
    until: datetime
    whole: bool
    parallel: int


@dataclass(slots=True)
class _Sums:
    """Sums of some notebooks; small, whatever their number."""

    by_state: dict[str, StateTotals] = field(default_factory=dict)
    files: int = 0
    objects: int = 0
    snapshots: int = 0
    cost: Fraction = Fraction(0)
    forecast: Fraction = Fraction(0)
    repaired: int = 0
    problems: list[NotebookProblem] = field(default_factory=list)
    requests: Requests = field(default_factory=Requests)

    def add(self, part: StateTotals) -> None:
        """Adds notebooks of one state."""
        known = self.by_state.get(part.state)
        self.by_state[part.state] = part if known is None else _joined(known, part)

    def join(self, other: _Sums) -> None:
        """Adds other sums."""
        for part in other.by_state.values():
            self.add(part)
        for name in ("files", "objects", "snapshots", "cost", "forecast", "repaired"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems
        self.requests = _more(self.requests, other.requests)


class Accounts:
    """The half of `Notebooks` that sums all of them up."""

    url: str
    ids: Callable[[], list[str]]
    _options: dict[str, str] | None
    _clock: Callable[[], datetime]

    @verb
    def totals(
        self,
        executor: Executor | None = None,
        tariff: Tariff | None = None,
        *,
        until: datetime | None = None,
        history: bool = False,
        parallel: int = 32,
        progress: ProgressTarget = None,
    ) -> Call[Totals]:
        """Sums up all notebooks of the container: by state, bytes, cost. Reads each once, in bounded memory.

        The newest record of a log says state and sizes: four requests for each notebook, however long its log. With ``history`` or
        ``until`` whole logs are read, one request for each record more, and bills are exact.

        Args:
            executor: any of `concurrent.futures`, or one that looks like it, such as ``dask.distributed``'s ``client.get_executor()``:
                pieces of work of some notebooks each are sent to it, with the options of the store. Its processes must not be forked from
                one that has used nbws. None: this process does all.
            tariff: the rules; `Tariff.ovh` if None.
            until: the end of the bills, with a time zone; now if None.
            history: read whole logs: for bills and the number of snapshots.
            parallel: notebooks that are read at once, by each piece of work.
            progress: called with a `Progress` whose files are notebooks; True shows a bar.

        Raises:
            InvalidInput: ``until`` has no time zone, or ``parallel`` is not from 1 to 1,000.
        """
        if isinstance(parallel, bool) or not 1 <= parallel <= _MOST_PARALLEL:
            raise InvalidInput(
                f"parallel is a number from 1 to {_MOST_PARALLEL:,}, not {parallel!r}", operation="totals"
            )
        if until is not None and until.utcoffset() is None:
            raise InvalidInput(f"until needs a time zone, as in datetime(2026, 12, 31, tzinfo=UTC): {until!r}")

        def steps() -> Steps[Totals]:
            begin, now = time.monotonic(), self._clock()
            rules = _Rules(
                self.url,
                self._options,
                tariff or Tariff.ovh(),
                now,
                until or now,
                history or until is not None,
                parallel,
            )
            names: list[str] = yield from started(self.ids).steps()
            sums = _Sums()
            with sink_for(progress, "totals") as sink:
                done = 0

                def take(count: int, part: _Sums) -> None:
                    nonlocal done
                    sums.join(part)
                    done += count
                    if sink is not None:
                        sink("notebooks", done, len(names), 0, 0)

                if executor is None:
                    yield from _here(rules, names, take)
                else:
                    yield from _there(rules, names, take, executor)
            return _totals(sums, rules, time.monotonic() - begin)

        return Call(steps)

    totals_async = twin(totals)

    @verb
    def timeline(self, *, parallel: int = 32) -> Call[Listing[NotebookSample]]:
        """Returns the samples of all notebooks, by id and time: a table for Arrow, as `Listing` says. Reads whole logs.

        Those that can't be read are left out; `totals` names them.

        Args:
            parallel: notebooks that are read at once.
        """

        def steps() -> Steps[Listing[NotebookSample]]:
            now = self._clock()
            names: list[str] = yield from started(self.ids).steps()
            found: list[NotebookSample] = []
            for ids in _pieces(names, _BATCH_OF_LOGS):
                for values in (yield _nbws.tally(self.url, {"store": self._options}, ids, True, parallel)):
                    life = Timeline.from_events(map(Event.of, values["events"]), now=now)
                    found += (
                        NotebookSample(values["id"], s.time, s.state, s.logical_bytes, s.stored_bytes) for s in life
                    )
            return Listing(NotebookSample, found)

        return Call(steps)

    timeline_async = twin(timeline)


def _pieces(names: list[str], size: int) -> Iterator[list[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def _size(rules: _Rules) -> int:
    return _BATCH_OF_LOGS if rules.whole else _BATCH


def _here(rules: _Rules, names: list[str], take: Callable[[int, _Sums], None]) -> Steps[None]:
    for ids in _pieces(names, _size(rules)):
        found = yield _nbws.tally(rules.url, {"store": rules.options}, ids, rules.whole, rules.parallel)
        take(len(ids), _summed(rules, found))


def _there(rules: _Rules, names: list[str], take: Callable[[int, _Sums], None], executor: Executor) -> Steps[None]:
    waiting: deque[tuple[int, Future[_Sums]]] = deque()
    try:
        for ids in _pieces(names, _size(rules)):
            if len(waiting) >= _AHEAD:
                count, oldest = waiting.popleft()
                take(count, (yield Elsewhere(oldest.result)))
            waiting.append((len(ids), executor.submit(_work, rules, ids)))
        while waiting:
            count, oldest = waiting.popleft()
            take(count, (yield Elsewhere(oldest.result)))
    finally:
        for _, future in waiting:
            future.cancel()


def _work(rules: _Rules, ids: list[str]) -> _Sums:
    """One piece of work, wherever it is done."""
    found = _nbws.tally(rules.url, {"store": rules.options}, ids, rules.whole, rules.parallel).wait()
    return _summed(rules, found)


def _summed(rules: _Rules, found: Iterable[Mapping[str, Any]]) -> _Sums:
    sums = _Sums()
    for values in found:
        sums.requests = _more(sums.requests, Requests.from_engine(values["requests"]))
        if values["kind"] == "NotFound":
            # Something lies there that is no repository.
            continue
        if values["kind"] is not None:
            sums.problems.append(NotebookProblem(values["id"], values["kind"], values["problem"]))
            continue
        events = [Event.of(event) for event in values["events"]]
        newest = events[-1] if events else None
        life = Timeline.from_events(events[-1:] if not rules.whole else events, now=rules.now)
        sample = life[-1] if newest else Sample(rules.now, "NONE", 0, 0)
        sums.add(StateTotals(sample.state, 1, sample.logical_bytes, sample.stored_bytes, monthly(rules.tariff, sample)))
        if newest is not None and not newest.purge:
            sums.files += newest.files
            sums.objects += newest.objects
        if rules.whole:
            sums.snapshots += values["snapshots"]
            _bill(sums, rules, life)
    return sums


def _bill(sums: _Sums, rules: _Rules, life: Timeline) -> None:
    if life.begin is None or life.begin > rules.until:
        return
    bill: Invoice = invoice(life, rules.tariff, rules.until, now=rules.now)
    sums.cost += Fraction(bill.total)
    sums.forecast += Fraction(bill.forecast)
    sums.repaired += bool(bill.notes)


def _joined(one: StateTotals, other: StateTotals) -> StateTotals:
    return replace(
        one,
        notebooks=one.notebooks + other.notebooks,
        logical_bytes=one.logical_bytes + other.logical_bytes,
        stored_bytes=one.stored_bytes + other.stored_bytes,
        monthly_cost=exact_sum([one.monthly_cost, other.monthly_cost]),
    )


def _more(one: Requests, other: Requests) -> Requests:
    return Requests(
        one.put + other.put,
        one.get + other.get,
        one.list + other.list,
        one.head + other.head,
        one.delete + other.delete,
    )


def _totals(sums: _Sums, rules: _Rules, duration_s: float) -> Totals:
    states: Sequence[StateTotals] = [sums.by_state[name] for name in sorted(sums.by_state)]
    repaired = f"{sums.repaired} bills have repairs: nbws bill ID shows them"
    return Totals(
        notebooks=sum(part.notebooks for part in states),
        by_state=tuple(states),
        logical_bytes=sum(part.logical_bytes for part in states),
        stored_bytes=sum(part.stored_bytes for part in states),
        files=sums.files,
        objects=sums.objects,
        snapshots=sums.snapshots if rules.whole else None,
        tariff=rules.tariff.name,
        currency=rules.tariff.currency,
        monthly_cost=exact_sum(part.monthly_cost for part in states),
        cost=exact_sum([sums.cost]) if rules.whole else None,
        forecast=exact_sum([sums.forecast]) if rules.whole else None,
        notes=(repaired,) if sums.repaired else (),
        problems=tuple(sorted(sums.problems, key=lambda problem: problem.id)),
        requests=sums.requests,
        duration_s=duration_s,
    )
