"""What can't be billed is refused with a way out; what only looks wrong is repaired, and the bill says so."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from drawn import BEGIN, GB, sizes, states
from hypothesis import given, settings
from hypothesis import strategies as st
from nbws import tariffs
from nbws.billing import Sample, Tariff, Timeline, invoice, total
from nbws.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

HOUR = timedelta(hours=1)
ONE = Sample(BEGIN, "STOPPED", 20 * GB, 20 * GB)
GOOD = 'name = "t"\ncurrency = "EUR"\nprice = "0.01"\n'


def later(hours: float, state: str = "STOPPED", size: int = 20 * GB) -> Sample:
    return Sample(BEGIN + hours * HOUR, state, size, size)


@dataclass(frozen=True)
class Record:
    seq: int
    time: datetime
    state: str = "STOPPED"
    purge: bool = False
    bytes: int = 20 * GB
    stored_bytes: int = 20 * GB
    unread: str | None = None


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"time": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001  # that is what is refused
        ({"state": "ASLEEP"}, "no state 'ASLEEP'"),
        ({"state": "stopped"}, "no state 'stopped'"),
        ({"logical_bytes": -1}, "logical_bytes"),
        ({"stored_bytes": 1.5}, "stored_bytes"),
        ({"stored_bytes": True}, "stored_bytes"),
        ({"attached_bytes": -5}, "attached_bytes"),
        ({"backup_bytes": 21 * GB}, "part of stored_bytes"),
    ],
)
def test_samples_that_make_no_sense(values: dict[str, Any], why: str) -> None:
    whole = {"time": BEGIN, "state": "STOPPED", "logical_bytes": 0, "stored_bytes": 20 * GB}
    with pytest.raises(InvalidInput, match=why):
        Sample(**{**whole, **values})


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"price": "-0.01"}, "price can't be -0.01"),
        ({"price": "NaN"}, "price can't be NaN"),
        ({"price": "cheap"}, "price is a decimal number"),
        ({"price": 0.01}, "best written as text"),
        ({"allowance": -10}, "allowance can't be -10"),
        ({"allowance": "Infinity"}, "allowance can't be"),
        ({"allowance": "0.0000000001"}, "whole number of bytes"),
        ({"allowance": 10, "after_window": "all"}, "would never count"),
        ({"free_days": -1}, "free_days can't be"),
        ({"free_days": 10**9}, "a hundred years"),
        ({"unit": "GO"}, "unit is one of 'GB', 'GiB', not 'GO'"),
        ({"unit": "TB"}, "unit is one of"),
        ({"currency": "euro"}, "three capital letters"),
        ({"window": "start"}, "window is one of"),
        ({"proration": "weekly"}, "proration is one of"),
        ({"months": "31d"}, "months is one of"),
        ({"restart_resets": "yes"}, "true or false"),
        ({"compute_units": -2}, "compute_units"),
        ({"compute_units": 1.5}, "compute_units"),
        ({"name": 7}, "name is text"),
    ],
)
def test_tariffs_that_make_no_sense(values: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Tariff(**{"name": "t", "currency": "EUR", "price": "0.01", **values})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD + "alowance = 10\n", r"my.toml, line 4: there is no rule 'alowance'; known are name, currency, price"),
        (GOOD + "\n\n[storage]\nprice = 1\n", r"my.toml, line 6: there is no rule 'storage'"),
        ('name = "t"\nprice = 1\n', r"my.toml, line 2: the tariff ends without 'currency'"),
        ("", r"my.toml, line 1: the tariff ends without 'name' and 'currency' and 'price'"),
        (GOOD + "\nunit = 'MB'\n", r"my.toml, line 5: unit is one of"),
        (GOOD + "# unit\nfree_days = -3\n", r"my.toml, line 5: free_days can't be -3"),
        (GOOD + "restart_resets = 1\n", r"my.toml, line 4: restart_resets is true or false"),
        (GOOD + "allowance = 10\nfree_days = 0\nafter_window = 'all'\n", r"my.toml, line 5: an allowance"),
        ("name = \n", r"my.toml: not TOML: .*line 1"),
        (GOOD + GOOD, r"my.toml: not TOML"),
        (GOOD + "price.gb = 1\n", r"my.toml: not TOML"),
    ],
)
def test_tariff_files_name_line_and_key(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Tariff.from_toml(text, file="my.toml")


def test_numbers_of_a_tariff_file_are_exact() -> None:
    tariff = Tariff.from_toml('name = "t"\ncurrency = "USD"\nprice = 0.1\nallowance = 2.5\n')
    assert (tariff.price, tariff.allowance_bytes) == (Decimal("0.1"), 2_500_000_000)


def test_a_tariff_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name a TOML file, or one of lightning, ovh"):
        tariffs.load(str(tmp_path / "none.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        tariffs.load(str(tmp_path / "binary.toml"))
    (tmp_path / "mine.toml").write_text(GOOD)
    assert tariffs.load(str(tmp_path / "mine.toml")).name == "t"


def test_intervals_that_make_no_sense() -> None:
    life = Timeline([ONE, later(5)])
    with pytest.raises(InvalidInput, match=r"before the first sample of .*: take a later end"):
        invoice(life, Tariff.ovh(), until=BEGIN - HOUR)
    with pytest.raises(InvalidInput, match=r"before it begins at .*: swap them"):
        invoice(life, Tariff.ovh(), until=BEGIN + HOUR, since=BEGIN + 2 * HOUR)
    with pytest.raises(InvalidInput, match="until needs a time zone"):
        invoice(life, Tariff.ovh(), until=datetime(2026, 5, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInput, match=r"lies in the future of .*Timeline\.repaired"):
        invoice(life, Tariff.ovh(), until=BEGIN + 9 * HOUR, now=BEGIN + HOUR)
    nothing = invoice(Timeline(), Tariff.ovh(), until=BEGIN)
    assert (nothing.total, nothing.notes) == (Decimal(0), ("the timeline has no samples",))


def test_overlapping_samples() -> None:
    with pytest.raises(InvalidInput, match=r"two samples at .* say different things: drop one"):
        Timeline([ONE, later(0, size=GB)])
    assert list(Timeline([ONE, ONE])) == [ONE]
    assert list(Timeline.repaired([ONE, later(0, size=GB)])) == [later(0, size=GB)]


def test_a_clock_that_went_backwards() -> None:
    with pytest.raises(
        InvalidInput, match=r"sample 3 is older than the one before it .*: sort them, or take Timeline.repaired"
    ):
        Timeline([ONE, later(5, "RUNNING"), later(3)])
    life = Timeline.repaired([ONE, later(5, "RUNNING"), later(3), later(9, size=GB)])
    assert [(sample.time - BEGIN) / HOUR for sample in life] == [0, 5, 9]
    assert [sample.state for sample in life] == ["STOPPED", "STOPPED", "STOPPED"]
    assert len(life.notes) == 1
    assert "a clock went back by 7200 s" in life.notes[0]
    assert invoice(life, Tariff.ovh(), until=BEGIN + 9 * HOUR).notes == life.notes


def test_samples_of_the_future() -> None:
    now = BEGIN + 10 * HOUR
    life = Timeline.repaired([ONE, later(1000, "RUNNING"), later(6), later(2000)], now=now)
    assert [((sample.time - BEGIN) / HOUR, sample.state) for sample in life] == [
        (0, "STOPPED"),
        (6, "STOPPED"),
        (10, "STOPPED"),
    ]
    assert sum("lies in the future" in note for note in life.notes) == 2
    assert invoice(life, Tariff.ovh(), until=now + HOUR, now=now).total == Decimal("0.1")


def test_records_that_are_missing() -> None:
    events = [Record(3, BEGIN), Record(4, BEGIN + HOUR), Record(9, BEGIN + 5 * HOUR, bytes=0, stored_bytes=0)]
    life = Timeline.from_events(events)
    assert life.notes == (
        "records 1 to 2 are missing: the bill begins with record 3",
        "records 5 to 8 are missing: what came before counts until record 9",
    )
    assert life.at(BEGIN + 4 * HOUR) == Sample(BEGIN + HOUR, "STOPPED", 20 * GB, 20 * GB)
    assert Timeline.from_events([Record(1, BEGIN), Record(3, BEGIN + HOUR)]).notes == (
        "record 2 is missing: what came before counts until record 3",
    )


def test_records_that_cannot_be_read() -> None:
    life = Timeline.from_events([Record(1, BEGIN), Record(2, BEGIN + HOUR, unread="log/3 is damaged")])
    assert life.notes == ("records after 2 can't be read, what it said is taken to hold: log/3 is damaged",)


def test_a_purge_ends_what_is_stored() -> None:
    life = Timeline.from_events(
        [Record(1, BEGIN), Record(2, BEGIN + HOUR, "DELETING", purge=True), Record(3, BEGIN + 2 * HOUR)]
    )
    assert [sample.stored_bytes for sample in life] == [20 * GB, 0, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-2000, 2000), states, sizes), max_size=12), st.integers(-500, 500))
def test_whatever_clocks_say_there_is_a_bill(written: list[tuple[int, str, int]], present: int) -> None:
    now = BEGIN + present * HOUR
    events = [
        Record(n, BEGIN + hours * HOUR, state, bytes=s, stored_bytes=s)
        for n, (hours, state, s) in enumerate(written, 1)
    ]
    life = Timeline.from_events(events, now=now)
    assert all(sample.time <= now for sample in life)
    assert [one.time < other.time for one, other in itertools.pairwise(life)] == [True] * (max(len(life), 1) - 1)
    bill = invoice(life, Tariff.ovh(), until=now + 100 * HOUR, now=now)
    assert bill.total >= 0
    if events:
        assert (life[-1].state, life[-1].stored_bytes) == (events[-1].state, events[-1].stored_bytes)
        assert bool(life.notes) or [event.time for event in events] == sorted(event.time for event in events)


def test_currencies_are_not_mixed() -> None:
    life = Timeline([ONE])
    euro = invoice(life, Tariff.ovh(), until=BEGIN + HOUR)
    dollar = invoice(life, tariffs.load("lightning"), until=BEGIN + HOUR)
    with pytest.raises(InvalidInput, match="bills in EUR and USD can't be added: sum each currency for itself"):
        total([euro, dollar])
    with pytest.raises(InvalidInput, match="EUR and USD"):
        euro + dollar
    with pytest.raises(InvalidInput, match="at least one"):
        total([])
    assert (euro + euro).total == 2 * euro.total


def test_a_log_does_not_know_the_share_of_backups() -> None:
    with pytest.raises(InvalidInput, match=r"the share of backups must be known, .* take count="):
        invoice(Timeline([ONE]), Tariff.ovh(backups=False), until=BEGIN + HOUR)


def test_values_look_like_something() -> None:
    life = Timeline([ONE, later(30 * 24)], ["a <note>"])
    bill = invoice(life, Tariff.ovh(compute_price=1), until=BEGIN + 31 * 24 * HOUR, now=BEGIN + 30 * 24 * HOUR)
    assert "a &lt;note&gt;" in life._repr_html_()
    assert "a &lt;note&gt;" in bill._repr_html_()
    text = str(bill)
    assert "over 10 GB" in text
    assert "total 0.30 EUR, of which 0.20 is a forecast" in text
    assert text.endswith("note: a <note>")
    assert "no charges" in str(invoice(life, Tariff.ovh(price=0), until=BEGIN + HOUR))
    assert "STOPPED" in str(life)
    assert bill.to_dict()["total"] == "0.3"
    for value in (life, bill, Tariff.ovh()):
        assert pickle.loads(pickle.dumps(value)) == value
    assert len({life, Timeline(life, life.notes)}) == 1
    with pytest.raises(InvalidInput, match="made of samples"):
        Timeline([1])  # type: ignore[list-item]


def test_a_timeline_is_an_arrow_stream() -> None:
    arro3 = pytest.importorskip("arro3.core", reason="arro3-core is not installed")
    table = arro3.Table.from_arrow(Timeline([ONE, later(1)]))
    assert table.num_rows == 2
    assert table.column_names == ["time", "state", "logical_bytes", "stored_bytes", "backup_bytes", "attached_bytes"]
    assert arro3.Table.from_arrow(Timeline()).num_rows == 0
