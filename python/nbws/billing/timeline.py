"""What is billed: the states and sizes of a notebook over time, as a step function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, overload

from nbws.errors import InvalidInput
from nbws.lifecycle import LIVE_STATES, STATES
from nbws.listing import Listing
from nbws.rendering import render_listing, render_notes
from nbws.values import Report, format_size

if TYPE_CHECKING:
    from arro3.core import Table

__all__ = ["Sample", "Timeline"]

_STATES = frozenset({*STATES, "NONE"})
_OPERATION = "read timeline"


@dataclass(frozen=True, slots=True)
class Sample(Report):
    """What holds from a moment on, until the next sample.

    Attributes:
        time: the moment, with a time zone.
        state: one of `nbws.lifecycle.STATES`, or ``"NONE"`` for a repository that is no notebook.
        logical_bytes: bytes of the workspace's files.
        stored_bytes: bytes that the store keeps for it, with backups and metadata.
        backup_bytes: of these, what only older snapshots need; None where that is not known, as in a log.
        attached_bytes: object storage that is attached beside the workspace.
    """

    time: datetime
    state: str
    logical_bytes: int
    stored_bytes: int
    backup_bytes: int | None = None
    attached_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be billed."""
        given: Any = self.time
        if not isinstance(given, datetime) or given.utcoffset() is None:
            raise _refused(f"the time of a sample needs a time zone, as in datetime(..., tzinfo=UTC): {self.time!r}")
        if self.state not in _STATES:
            raise _refused(f"there is no state {self.state!r}; known are {', '.join(STATES)} and NONE")
        for name in ("logical_bytes", "stored_bytes", "backup_bytes", "attached_bytes"):
            value = getattr(self, name)
            if value is None and name == "backup_bytes":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise _refused(f"{name} is a whole number of bytes from 0 on, not {value!r}")
        if self.backup_bytes is not None and self.backup_bytes > self.stored_bytes:
            raise _refused("backup_bytes is a part of stored_bytes and can't be more")

    @property
    def is_live(self) -> bool:
        """Whether the notebook is starting, running, stopping or restarting."""
        return self.state in LIVE_STATES

    def says_the_same(self, other: Sample) -> bool:
        """Whether only the time differs."""
        return replace(self, time=other.time) == other


class LogEvent(Protocol):
    """A record as far as a timeline needs it; `nbws.lifecycle.Event` is one."""

    @property
    def seq(self) -> int: ...
    @property
    def time(self) -> datetime: ...
    @property
    def state(self) -> str: ...
    @property
    def purge(self) -> bool: ...
    @property
    def bytes(self) -> int: ...
    @property
    def stored_bytes(self) -> int: ...
    @property
    def unread(self) -> str | None: ...


class Timeline(Sequence[Sample]):
    """The samples of one notebook, oldest first. A value: it compares, hashes and pickles.

    A sample holds until the next one; the last one holds for good; before the first there is nothing. So a sample that repeats what
    holds already says nothing new, wherever it stands.

    Exports as an Arrow stream with one column for each field of `Sample`; needs ``pip install 'nbws[arrow]'``.

    Args:
        samples: their times must rise; a repeated sample is left out.
        notes: what a reader of the bill should know.

    Raises:
        InvalidInput: the clock goes backwards, or two samples of one time differ. `repaired` puts both right.
    """

    def __init__(self, samples: Iterable[Sample] = (), notes: Iterable[str] = ()) -> None:
        kept: list[Sample] = []
        for number, sample in enumerate(samples, 1):
            if not isinstance(sample, Sample):
                raise _refused(f"a timeline is made of samples, not of {type(sample).__name__}")
            if kept and sample.time < kept[-1].time:
                raise _refused(
                    f"sample {number} is older than the one before it ({_shown(sample.time)} after "
                    f"{_shown(kept[-1].time)}): sort them, or take Timeline.repaired if a clock went backwards"
                )
            if kept and sample.time == kept[-1].time:
                if sample != kept[-1]:
                    raise _refused(
                        f"two samples at {_shown(sample.time)} say different things: drop one, or take Timeline.repaired, "
                        "which lets the later one count"
                    )
                continue
            kept.append(sample)
        self._samples = tuple(kept)
        self.notes = tuple(notes)

    @classmethod
    def repaired(cls, samples: Iterable[Sample], *, now: datetime | None = None, notes: Iterable[str] = ()) -> Timeline:
        """Returns a timeline of samples in the order in which they were written, whatever their writers' clocks said.

        A sample that is younger than ``now`` gets the time of the next one that is not, or ``now``. One that is older than the sample
        before it gets that one's time. Of several at one time the last counts. Each repair is noted.

        Args:
            samples: in the order of writing.
            now: the present; None: no sample is too young.
            notes: what is known already.
        """
        found, said = list(samples), list(notes)
        if now is not None:
            found = _not_in_the_future(found, now, said)
        rising: list[Sample] = []
        for sample in found:
            moved = sample
            if rising and sample.time < rising[-1].time:
                back = (rising[-1].time - sample.time).total_seconds()
                said.append(
                    f"a clock went back by {back:g} s at {_shown(rising[-1].time)}: the sample of {_shown(sample.time)} counts from then on"
                )
                moved = replace(sample, time=rising[-1].time)
            if rising and moved.time == rising[-1].time:
                rising[-1] = moved
            else:
                rising.append(moved)
        return cls(rising, said)

    @classmethod
    def from_events(cls, events: Iterable[LogEvent], *, now: datetime | None = None) -> Timeline:
        """Returns the timeline that a notebook's history tells.

        Clocks are repaired as by `repaired`. Where records are missing, what the record before them said is taken to hold, and that is
        noted. After a purge nothing is stored.

        Args:
            events: what `Notebook.history` returns.
            now: the present; None: no record is too young.
        """
        samples: list[Sample] = []
        notes: list[str] = []
        expected, is_purged = 1, False
        for event in events:
            if event.seq > expected:
                missing = (
                    f"record {expected} is"
                    if event.seq == expected + 1
                    else f"records {expected} to {event.seq - 1} are"
                )
                held = "what came before counts until" if samples else "the bill begins with"
                notes.append(f"{missing} missing: {held} record {event.seq}")
            expected = event.seq + 1
            is_purged = is_purged or event.purge
            if event.unread is not None:
                notes.append(f"records after {event.seq} can't be read, what it said is taken to hold: {event.unread}")
            sizes = (0, 0) if is_purged else (event.bytes, event.stored_bytes)
            samples.append(Sample(event.time, event.state, *sizes))
        return cls.repaired(samples, now=now, notes=notes)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All of them."""
        return self._samples

    @property
    def begin(self) -> datetime | None:
        """When the first sample was taken; None without any."""
        return self._samples[0].time if self._samples else None

    @property
    def end(self) -> datetime | None:
        """When the last sample was taken; None without any."""
        return self._samples[-1].time if self._samples else None

    def changes(self) -> tuple[Sample, ...]:
        """Returns the samples that change something: what bills are made of."""
        found: list[Sample] = []
        for sample in self._samples:
            if not found or not sample.says_the_same(found[-1]):
                found.append(sample)
        return tuple(found)

    def at(self, time: datetime) -> Sample | None:
        """Returns the sample that holds at a moment; None before the first."""
        found = None
        for sample in self._samples:
            if sample.time > time:
                break
            found = sample
        return found

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns plain values, as ``--json`` prints them."""
        return [sample.to_dict() for sample in self._samples]

    def to_arrow(self) -> Table:
        """Returns the samples as a table of ``arro3``.

        Raises:
            ImportError: ``arro3-core`` is not installed.
        """
        return Listing(Sample, self._samples).to_arrow()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Exports the samples as an Arrow stream.

        Raises:
            ImportError: ``arro3-core`` is not installed.
        """
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeline) and (self._samples, self.notes) == (other._samples, other.notes)

    def __hash__(self) -> int:
        return hash((self._samples, self.notes))

    def __repr__(self) -> str:
        return f"Timeline({list(self._samples)!r}, notes={list(self.notes)!r})"

    def __str__(self) -> str:
        lines = [f"{'time':<24}{'state':<13}{'workspace':>11}{'stored':>11}"]
        lines += [
            f"{_shown(s.time):<24}{s.state:<13}{format_size(s.logical_bytes):>11}{format_size(s.stored_bytes):>11}"
            for s in self._samples
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        columns = [field.name for field in fields(Sample)]
        return render_listing("Timeline", columns, self._samples) + render_notes(self.notes)


def _not_in_the_future(samples: list[Sample], now: datetime, notes: list[str]) -> list[Sample]:
    if now.utcoffset() is None:
        raise _refused(f"the present needs a time zone, as in datetime.now(UTC): {now!r}")
    limit, found = now, []
    for sample in reversed(samples):
        if sample.time > now:
            notes.append(f"the sample of {_shown(sample.time)} lies in the future: it counts from {_shown(limit)} on")
            found.append(replace(sample, time=limit))
        else:
            limit = sample.time
            found.append(sample)
    return found[::-1]


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _refused(why: str) -> InvalidInput:
    return InvalidInput(why, operation=_OPERATION)
