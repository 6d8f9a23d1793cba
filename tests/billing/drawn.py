"""Timelines and tariffs drawn with hypothesis, and the rules once more in the plainest form that can be compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from nbws.billing import UNITS, Sample, Tariff, Timeline
from nbws.lifecycle import LIVE_STATES, STATES

GB = 10**9
BEGIN = datetime(2026, 1, 25, 9, 17, 3, 250_000, tzinfo=UTC)

moments = st.builds(
    lambda hours, rest: BEGIN + timedelta(hours=hours, microseconds=rest),
    st.integers(0, 24 * 120),
    st.sampled_from([0, 1, 30_000_000, 1_799_999_999, 3_599_999_999]),
)
sizes = st.sampled_from([0, 1, 10 * GB - 1, 10 * GB, 10 * GB + 1, 10 * 2**30, 37 * GB + 12_345, 100 * GB])
states = st.sampled_from([*STATES, "NONE"])


@st.composite
def timelines(draw: st.DrawFn, least: int = 1, largest: int | None = None) -> Timeline:
    """States and sizes of a few months."""
    size = sizes if largest is None else sizes.filter(lambda value: value <= largest)
    times = sorted(draw(st.sets(moments, min_size=least, max_size=8)))
    found = []
    for time in times:
        stored = draw(size)
        found.append(
            Sample(
                time, draw(states), draw(size), stored, draw(st.integers(0, stored)), draw(st.sampled_from([0, 5 * GB]))
            )
        )
    return Timeline(found)


@st.composite
def tariffs(draw: st.DrawFn, /, **given: Any) -> Tariff:
    """Any rules."""
    free_days = draw(st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(7), Decimal(30)]))
    choices: dict[str, Any] = {
        "name": "drawn",
        "currency": "EUR",
        "price": draw(st.sampled_from([Decimal("0.01"), Decimal("0.1"), Decimal("0.0337"), Decimal(3)])),
        "unit": draw(st.sampled_from(sorted(UNITS))),
        "allowance": Decimal(10),
        "free_days": free_days,
        "window": draw(st.sampled_from(["stop", "creation"])),
        "restart_resets": draw(st.booleans()),
        "after_window": draw(st.sampled_from(["all", "excess"])) if free_days else "excess",
        "count": draw(st.sampled_from(["stored", "logical"])),
        "backups": draw(st.booleans()),
        "storage_states": draw(st.sampled_from(["all", "stopped"])),
        "proration": draw(st.sampled_from(["none", "daily", "hourly"])),
        "months": draw(st.sampled_from(["calendar", "30d", "730h"])),
        "compute_price": draw(st.sampled_from([None, Decimal("1.93")])),
        "compute_units": draw(st.integers(0, 3)),
        "compute_phases": draw(st.sampled_from(["running", "all"])),
        "started_minutes": draw(st.booleans()),
        "attached_price": draw(st.sampled_from([None, Decimal("0.01")])),
    }
    return Tariff(**{**choices, **given})


def plain_storage(timeline: Timeline, tariff: Tariff, until: datetime) -> Fraction:
    """The storage of a bill by an hourly tariff in months of 30 days: hour by hour of UTC, the largest charged size of each."""
    assert (tariff.proration, tariff.months) == ("hourly", "30d")
    hour = timedelta(hours=1)
    samples = timeline.changes()
    first = samples[0].time.replace(minute=0, second=0, microsecond=0)
    units = Fraction(0)
    while first < until:
        ends = [*(sample.time for sample in samples[1:]), until]
        peak = 0
        for sample, end in zip(samples, ends, strict=True):
            begin, stop = max(sample.time, first), min(end, first + hour, until)
            if begin < stop:
                # A window may end within: just before the end it is as late as it gets.
                peak = max(peak, _charged(timeline, tariff, sample, stop - timedelta(microseconds=1)))
        units += Fraction(peak, UNITS[tariff.unit] * 720)
        first += hour
    return units * Fraction(tariff.price)


def _charged(timeline: Timeline, tariff: Tariff, sample: Sample, time: datetime) -> int:
    is_live = sample.state in LIVE_STATES
    if is_live and tariff.storage_states == "stopped":
        return 0
    counted = sample.stored_bytes if tariff.count == "stored" else sample.logical_bytes
    assert sample.backup_bytes is not None
    if tariff.count == "stored" and not tariff.backups:
        counted -= sample.backup_bytes
    if tariff.count == "logical" and tariff.backups:
        counted += sample.backup_bytes
    if tariff.after_window == "all" and _is_late(timeline, tariff, is_live, time):
        return counted
    return max(0, counted - tariff.allowance_bytes)


def _is_late(timeline: Timeline, tariff: Tariff, is_live: bool, time: datetime) -> bool:
    before = [sample for sample in timeline if sample.time <= time]
    rests = [sample for sample in before if sample.state not in LIVE_STATES]
    if tariff.window == "creation":
        begin = before[0].time
    elif not rests or (is_live and tariff.restart_resets):
        return False
    elif tariff.restart_resets:
        live = [number for number, sample in enumerate(before) if sample.state in LIVE_STATES]
        begin = before[live[-1] + 1 if live else 0].time
    else:
        begin = rests[0].time
    return time >= begin + timedelta(days=float(tariff.free_days))
