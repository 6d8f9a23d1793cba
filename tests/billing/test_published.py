"""The examples that OVHcloud publishes, to the cent; and one reading of Lightning AI's rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from drawn import GB
from nbws import tariffs
from nbws.billing import Invoice, Sample, Tariff, Timeline, invoice, money, total

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# The examples are without dates; they hold at the end of a month, too.
BEGINS = [
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 28, 13, 7, 11, tzinfo=UTC),
    datetime(2028, 2, 28, 23, 59, tzinfo=UTC),
]
GPU = Tariff.ovh(compute_price="1.93", compute_units=2)


def amounts(bill: Invoice, what: str) -> Decimal:
    return sum((line.amount for line in bill.lines if line.what == what), Decimal(0))


@pytest.mark.parametrize("begin", BEGINS)
def test_example_1_ten_hours_then_deleted(begin: datetime) -> None:
    life = Timeline([Sample(begin, "RUNNING", 0, 0), Sample(begin + 10 * HOUR, "DELETING", 0, 0)])
    bill = invoice(life, GPU, until=begin + 30 * DAY)
    assert bill.total == Decimal("38.6")
    assert (bill.lines[0].what, bill.lines[0].quantity, bill.lines[0].unit) == ("compute", Decimal(600), "minute")


@pytest.mark.parametrize("begin", BEGINS)
def test_example_2_ten_hours_then_stopped_for_ten_days(begin: datetime) -> None:
    stop, gone = begin + 10 * HOUR, begin + 10 * HOUR + 10 * DAY
    life = Timeline(
        [
            Sample(begin, "RUNNING", 100 * GB, 100 * GB),
            Sample(stop, "STOPPED", 100 * GB, 100 * GB),
            Sample(gone, "DELETING", 0, 0),
        ]
    )
    bill = invoice(life, GPU, until=gone + 60 * DAY)
    assert amounts(bill, "compute") == Decimal("38.6")
    assert amounts(bill, "storage") == Decimal("0.90")
    assert bill.total == Decimal("39.50")
    storage = next(line for line in bill.lines if line.what == "storage")
    assert (storage.quantity, storage.unit, storage.price, storage.rule) == (
        Decimal(90),
        "GB-month",
        Decimal("0.01"),
        "over 10 GB",
    )
    assert (storage.begin, storage.end) == (begin, gone)


@pytest.mark.parametrize("begin", BEGINS)
def test_stopped_for_ten_days_alone(begin: datetime) -> None:
    life = Timeline([Sample(begin, "STOPPED", 100 * GB, 100 * GB)])
    assert invoice(life, Tariff.ovh(), until=begin + 10 * DAY).total == Decimal("0.90")


@pytest.mark.parametrize("begin", BEGINS)
def test_example_3_ten_hours_with_a_terabyte_attached(begin: datetime) -> None:
    gone = begin + 10 * HOUR
    life = Timeline(
        [
            Sample(begin, "RUNNING", 100 * GB, 100 * GB, attached_bytes=1000 * GB),
            Sample(gone, "DELETING", 0, 0),
        ]
    )
    bill = invoice(life, GPU, until=gone)
    assert amounts(bill, "compute") == Decimal("38.6")
    assert amounts(bill, "storage") == Decimal("0.90")
    assert amounts(bill, "attached storage") == Decimal(10)
    assert bill.total == Decimal("49.5")


def test_example_4_fifteen_notebooks() -> None:
    begin = BEGINS[0]
    life = Timeline([Sample(begin, "RUNNING", 0, 0), Sample(begin + 5 * HOUR, "DELETING", 0, 0)])
    bills = [invoice(life, Tariff.ovh(compute_price="0.03"), until=begin + DAY) for _ in range(15)]
    assert total(bills).total == Decimal("2.25")
    assert money(total(bills).total) == "2.25"


def test_the_first_ten_gigabytes_for_thirty_days() -> None:
    begin = BEGINS[0]
    life = Timeline([Sample(begin, "STOPPED", 10 * GB, 10 * GB)])
    assert invoice(life, Tariff.ovh(), until=begin + 30 * DAY).total == 0
    late = invoice(life, Tariff.ovh(), until=begin + 30 * DAY + HOUR)
    assert [(line.rule, line.amount) for line in late.lines] == [("all, after 30 free days", Decimal("0.1"))]
    assert invoice(life, Tariff.ovh(after_window="excess"), until=begin + 300 * DAY).total == 0


def test_every_doubtful_rule_can_be_read_the_other_way() -> None:
    begin = BEGINS[0]
    size = 10 * 2**30
    life = Timeline(
        [
            Sample(begin, "STARTING", size, 4 * GB),
            Sample(begin + HOUR, "RUNNING", size, 4 * GB),
            Sample(begin + 20 * DAY, "STOPPED", size, 4 * GB),
            Sample(begin + 40 * DAY, "RUNNING", size, 4 * GB),
            Sample(begin + 41 * DAY, "STOPPED", size, 4 * GB),
        ]
    )
    until = begin + 60 * DAY

    def storage(**rules: object) -> Decimal:
        return amounts(invoice(life, Tariff.ovh(**rules), until=until), "storage")  # type: ignore[arg-type]

    excess = Decimal(size - 10 * GB) / GB / 100
    assert storage() == 0
    assert storage(count="logical", backups=False) == 2 * excess
    assert storage(count="logical", backups=False, unit="GiB") == 0
    assert storage(window="creation") == Decimal("0.04")
    assert storage(restart_resets=False) == Decimal("0.04")
    assert storage(window="creation", after_window="excess") == 0
    assert storage(window="creation", months="calendar") == Decimal("0.12")
    assert storage(window="creation", storage_states="stopped", proration="daily") == Decimal("0.038666666667")
    all_phases = invoice(life, Tariff.ovh(compute_price=60, compute_phases="all"), until=until)
    running = invoice(life, Tariff.ovh(compute_price=60), until=until)
    assert all_phases.total - running.total == 60


def test_each_started_minute_counts_whole() -> None:
    begin = BEGINS[0]
    life = Timeline([Sample(begin, "RUNNING", 0, 0), Sample(begin + timedelta(seconds=60.5), "STOPPED", 0, 0)])
    assert invoice(life, Tariff.ovh(compute_price=60), until=begin + HOUR).total == 2
    exact = Tariff(name="exact", currency="EUR", price=Decimal(0), compute_price=Decimal(60), started_minutes=False)
    assert invoice(life, exact, until=begin + HOUR).exact == Fraction("60.5") / 60


def test_lightning_as_shipped() -> None:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    life = Timeline([Sample(begin, "STOPPED", 40 * GB, 12 * GB)])
    tariff = tariffs.load("lightning")
    assert invoice(life, tariff, until=begin + 30 * DAY).total == Decimal("3.00")
    assert invoice(life, tariff, until=begin + DAY).total == Decimal("0.1")
    assert tariffs.shipped() == ["lightning", "ovh"]
    assert tariffs.load("ovh") == Tariff.ovh()
