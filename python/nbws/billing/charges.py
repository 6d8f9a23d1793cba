"""What is charged and when: sizes over time, cut into the slots and months of a tariff. Exact: whole microseconds, bytes and fractions.

Everything is built up from increments in the order of time. So what is charged up to a moment never depends on what comes later, a
bill for two periods is the sum of both, and a sample that repeats what holds already changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from nbws.billing.tariff import UNITS
from nbws.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbws.billing.tariff import Tariff
    from nbws.billing.timeline import Sample

__all__ = [
    "Charge",
    "Months",
    "Size",
    "attached_sizes",
    "compute_charges",
    "counted_bytes",
    "storage_charges",
    "storage_sizes",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
DAY = 24 * HOUR
_MINUTE = 60_000_000
_FIXED = {"30d": 30 * DAY, "730h": 730 * HOUR}
_SLOT = {"hourly": HOUR, "daily": DAY}


def to_us(time: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_us(time: int) -> datetime:
    """The moment."""
    return EPOCH + timedelta(microseconds=time)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes that are charged from ``begin`` to ``end``, and by which rule."""

    begin: int
    end: int
    charged: int
    rule: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What was added in one month by one rule: unit-months, or minutes."""

    begin: int
    end: int
    rule: str
    quantity: Fraction


class Months:
    """The months of a tariff, counted from the first sample on or those of the calendar."""

    def __init__(self, tariff: Tariff, first: int) -> None:
        self._length = _FIXED.get(tariff.months)
        self._first = first

    def of(self, time: int) -> tuple[int, int]:
        """Begin and end of the month that a moment lies in."""
        if self._length is not None:
            begin = self._first + (time - self._first) // self._length * self._length
            return begin, begin + self._length
        day = from_us(time)
        starting = datetime(day.year, day.month, 1, tzinfo=UTC)
        following = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
        return to_us(starting), to_us(following)

    def between(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a stretch of time, month by month."""
        while begin < end:
            part = min(end, self.of(begin)[1])
            yield begin, part
            begin = part


def counted_bytes(tariff: Tariff, sample: Sample) -> int:
    """Returns the bytes that count by a tariff.

    Raises:
        InvalidInput: the sample does not say how much of it is for backups, and the tariff must know.
    """
    if tariff.count == "logical" and not tariff.backups:
        return sample.logical_bytes
    if tariff.count == "stored" and tariff.backups:
        return sample.stored_bytes
    if sample.backup_bytes is None:
        raise InvalidInput(
            f"by count={tariff.count!r} and backups={tariff.backups} the share of backups must be known, and a log does not tell it: "
            'take count="stored" with backups, or count="logical" without, or samples with backup_bytes',
            operation="bill",
        )
    if tariff.count == "stored":
        return sample.stored_bytes - sample.backup_bytes
    return sample.logical_bytes + sample.backup_bytes


def storage_sizes(tariff: Tariff, samples: Sequence[Sample], until: int) -> Iterator[Size]:
    """The workspace's charged size over time."""
    late = _late(tariff, samples, until)
    unit = f"{tariff.allowance:f} {tariff.unit}"
    excess = f"over {unit}" if tariff.allowance else "from the first byte on"
    everything = f"all, after {tariff.free_days:f} free days"
    for sample, begin, end in _stretches(samples, until):
        if sample.is_live and tariff.storage_states == "stopped":
            continue
        counted = counted_bytes(tariff, sample)
        for part, stop, is_late in _cut(begin, end, late):
            if is_late and tariff.after_window == "all":
                yield Size(part, stop, counted, everything)
            else:
                yield Size(part, stop, max(0, counted - tariff.allowance_bytes), excess)


def attached_sizes(samples: Sequence[Sample], until: int) -> Iterator[Size]:
    """The attached storage over time."""
    for sample, begin, end in _stretches(samples, until):
        yield Size(begin, end, sample.attached_bytes, "attached")


def _stretches(samples: Sequence[Sample], until: int) -> Iterator[tuple[Sample, int, int]]:
    ends = [*(to_us(sample.time) for sample in samples[1:]), until]
    for sample, following in zip(samples, ends, strict=False):
        begin, end = to_us(sample.time), min(following, until)
        if begin < end:
            yield sample, begin, end


def _late(tariff: Tariff, samples: Sequence[Sample], until: int) -> list[tuple[int, int]]:
    """When the free window is over: rising stretches of time."""
    free = int(Fraction(tariff.free_days) * DAY)
    if not samples or not tariff.free_days:
        return []
    if tariff.window == "creation":
        return [(to_us(samples[0].time) + free, until)]
    rests: list[tuple[int, int]] = []
    for sample, begin, end in _stretches(samples, until):
        if sample.is_live:
            continue
        if rests and rests[-1][1] == begin:
            rests[-1] = (rests[-1][0], end)
        else:
            rests.append((begin, end))
    if rests and not tariff.restart_resets:
        rests = [(rests[0][0], until)]
    return [(begin + free, end) for begin, end in rests if begin + free < end]


def _cut(begin: int, end: int, late: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    for start, stop in late:
        if stop <= begin or start >= end:
            continue
        if begin < start:
            yield begin, start, False
            begin = start
        yield begin, min(end, stop), True
        begin = min(end, stop)
    if begin < end:
        yield begin, end, False


def storage_charges(tariff: Tariff, months: Months, sizes: Iterator[Size], cuts: Sequence[int]) -> Iterator[Charge]:
    """What is charged for sizes, month by month; no charge reaches over a cut.

    A slot (month, day or hour) is charged at the largest size within it: whenever that grows, the growth is charged.
    """
    unit, length = UNITS[tariff.unit], _SLOT.get(tariff.proration)
    last_slot, peak = None, 0
    for size in sizes:
        for part, stop in _between(size.begin, size.end, cuts):
            for begin, end in months.between(part, stop):
                month = months.of(begin)
                if length is None:
                    oldest = newest = month[0]
                    slots, share = 1, Fraction(1)
                else:
                    oldest, newest = begin // length * length, (end - 1) // length * length
                    slots, share = (newest - oldest) // length + 1, Fraction(length, month[1] - month[0])
                added = size.charged * slots
                if oldest == last_slot:
                    added -= min(peak, size.charged)
                peak = max(peak, size.charged) if newest == last_slot else size.charged
                last_slot = newest
                if size.charged:
                    # Also where nothing is added: the interval of a line is all that it is for.
                    yield Charge(begin, end, size.rule, Fraction(added, unit) * share)


def compute_charges(
    tariff: Tariff, months: Months, samples: Sequence[Sample], until: int, cuts: Sequence[int]
) -> Iterator[Charge]:
    """Minutes of the charged phases, month by month; no charge reaches over a cut."""
    rule = "RUNNING" if tariff.compute_phases == "running" else "STARTING to STOPPING"
    for begin, end in _phases(tariff, samples, until):
        for part, stop in _between(begin, end, cuts):
            for first, last in months.between(part, stop):
                added = _minutes(tariff, last - begin) - _minutes(tariff, first - begin)
                if added:
                    yield Charge(first, last, rule, added)


def _phases(tariff: Tariff, samples: Sequence[Sample], until: int) -> Iterator[tuple[int, int]]:
    open_phase: tuple[int, int] | None = None
    for sample, begin, end in _stretches(samples, until):
        is_charged = sample.state == "RUNNING" if tariff.compute_phases == "running" else sample.is_live
        if not is_charged:
            continue
        if open_phase is not None and open_phase[1] == begin:
            open_phase = (open_phase[0], end)
            continue
        if open_phase is not None:
            yield open_phase
        open_phase = (begin, end)
    if open_phase is not None:
        yield open_phase


def _between(begin: int, end: int, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    for cut in cuts:
        if begin < cut < end:
            yield begin, cut
            begin = cut
    yield begin, end


def _minutes(tariff: Tariff, span: int) -> Fraction:
    return Fraction(-(-span // _MINUTE)) if tariff.started_minutes else Fraction(span, _MINUTE)
