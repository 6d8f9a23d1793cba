"""What is true of every bill, whatever the tariff."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import datetime, timedelta
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

from drawn import BEGIN, GB, moments, plain_storage, sizes, tariffs, timelines
from hypothesis import given, settings
from hypothesis import strategies as st
from nbws.billing import Sample, Tariff, Timeline, invoice, monthly, total

END = BEGIN + timedelta(days=125)


def inserted(life: Timeline, time: datetime) -> Timeline:
    """With one more sample, which says what holds already."""
    held = life.at(time)
    if held is None:
        return life
    return Timeline(sorted({*life.samples, dataclasses.replace(held, time=time)}, key=lambda sample: sample.time))


@settings(deadline=None)
@given(timelines(), tariffs(), st.lists(moments, max_size=6))
def test_more_samples_change_nothing(life: Timeline, tariff: Tariff, times: list[datetime]) -> None:
    more = life
    for time in times:
        more = inserted(more, time)
    bill, same = invoice(life, tariff, until=END), invoice(more, tariff, until=END)
    assert same.lines == bill.lines
    assert same.total == bill.total


@settings(deadline=None)
@given(timelines(), tariffs(), st.lists(moments, max_size=4))
def test_the_bills_of_the_parts_sum_up_to_that_of_the_whole(
    life: Timeline, tariff: Tariff, times: list[datetime]
) -> None:
    first = life.begin
    assert first is not None
    cuts = sorted({first, *(time for time in times if time > first), END})
    parts = [invoice(life, tariff, until=end, since=begin) for begin, end in itertools.pairwise(cuts)]
    whole = invoice(life, tariff, until=END)
    assert sum((part.exact for part in parts), Fraction(0)) == whole.exact
    assert all(line.exact > 0 for part in parts for line in part.lines)
    # Each line is rounded once, at the twelfth place.
    count = sum(len(part.lines) for part in parts) + len(whole.lines)
    assert abs(total(parts).total - whole.total) <= Decimal("0.5e-12") * count


@settings(deadline=None)
@given(timelines(), tariffs(), moments, moments)
def test_more_time_never_costs_less(life: Timeline, tariff: Tariff, one: datetime, other: datetime) -> None:
    assert life.begin is not None
    early, late = (max(life.begin, time) for time in sorted([one, other]))
    assert invoice(life, tariff, until=early).exact <= invoice(life, tariff, until=late).exact


@settings(deadline=None)
@given(timelines(), tariffs(), st.data())
def test_more_bytes_never_cost_less(life: Timeline, tariff: Tariff, data: st.DataObject) -> None:
    def grown(sample: Sample) -> Sample:
        more = data.draw(sizes)
        return dataclasses.replace(
            sample,
            logical_bytes=sample.logical_bytes + data.draw(sizes),
            stored_bytes=sample.stored_bytes + more,
            backup_bytes=(sample.backup_bytes or 0) + (0 if tariff.count == "stored" else more),
            attached_bytes=sample.attached_bytes + data.draw(sizes),
        )

    larger = Timeline([grown(sample) for sample in life])
    small, large = invoice(life, tariff, until=END), invoice(larger, tariff, until=END)
    assert small.exact <= large.exact
    assert small.total <= large.total


@settings(deadline=None)
@given(timelines(largest=10 * GB), tariffs(after_window="excess", attached_price=None, compute_price=None))
def test_nothing_is_charged_inside_the_allowance(life: Timeline, tariff: Tariff) -> None:
    small = Timeline(
        [
            dataclasses.replace(
                s, logical_bytes=min(s.logical_bytes, 4 * GB), backup_bytes=min(s.backup_bytes or 0, 4 * GB)
            )
            for s in life
        ]
    )
    assert invoice(small, tariff, until=END).lines == ()


@settings(deadline=None)
@given(
    timelines(largest=10 * GB),
    tariffs(free_days=Decimal(130), after_window="all", attached_price=None, compute_price=None, count="stored"),
)
def test_nothing_is_charged_inside_the_allowance_within_the_free_window(life: Timeline, tariff: Tariff) -> None:
    assert invoice(life, tariff, until=END).lines == ()


@settings(max_examples=30, deadline=None)
@given(
    timelines(),
    tariffs(proration="hourly", months="30d", attached_price=None, compute_price=None),
)
def test_an_hourly_bill_is_what_counting_hours_gives(life: Timeline, tariff: Tariff) -> None:
    assert invoice(life, tariff, until=END).exact == plain_storage(life, tariff, END)


@settings(deadline=None)
@given(timelines(), tariffs())
def test_the_total_is_the_exact_sum_of_the_lines(life: Timeline, tariff: Tariff) -> None:
    bill = invoice(life, tariff, until=END)
    with localcontext() as context:
        context.prec = 200
        assert sum((line.amount for line in bill.lines), Decimal(0)) == bill.total
    assert all(abs(Fraction(line.amount) - line.exact) <= Fraction(1, 2 * 10**12) for line in bill.lines)
    with localcontext() as context:
        context.prec = 3
        assert invoice(life, tariff, until=END) == bill, "the caller's precision changes nothing"
    assert getcontext().prec > 3


@settings(deadline=None)
@given(timelines(), tariffs(), moments)
def test_a_forecast_goes_on_at_the_last_size(life: Timeline, tariff: Tariff, more: datetime) -> None:
    assert life.end is not None
    now = max(life.end, more)
    bill = invoice(life, tariff, until=END, now=now)
    assert bill.exact == invoice(life, tariff, until=END).exact
    done = sum((line.exact for line in bill.lines if not line.forecast), Fraction(0))
    assert done == invoice(life, tariff, until=min(now, END)).exact
    assert all(line.forecast == (line.begin >= now) for line in bill.lines)


@settings(deadline=None)
@given(sizes, st.sampled_from(["none", "daily", "hourly"]))
def test_a_whole_month_costs_the_monthly_amount(size: int, proration: str) -> None:
    tariff = Tariff(name="t", currency="EUR", price=Decimal("0.01"), proration=proration, months="30d")  # type: ignore[arg-type]
    begin = BEGIN.replace(hour=0, minute=0, second=0, microsecond=0)
    life = Timeline([Sample(begin, "STOPPED", size, size)])
    bill = invoice(life, tariff, until=begin + timedelta(days=30))
    assert bill.total == monthly(tariff, life[0])
    assert monthly(Tariff.ovh(), life[0], is_free_window=True) == Decimal(max(0, size - 10 * GB)) / GB / 100
