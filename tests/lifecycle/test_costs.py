"""What a notebook costs, from its log: timelines, bills and previews."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import nbws
import pytest
from lives import IDENTITY, REACH
from nbws.billing import Sample, Tariff, invoice
from nbws.errors import InvalidInput, InvalidState

if TYPE_CHECKING:
    from lives import World

DAY = timedelta(days=1)
# A byte-sized allowance, so that a small workspace costs something.
DEAR = Tariff(
    name="dear",
    currency="EUR",
    price=Decimal(1_000_000_000),
    allowance=Decimal("0.0001"),
    free_days=Decimal(30),
    after_window="all",
    count="logical",
    backups=False,
    proration="none",
    months="30d",
)


def test_the_timeline_is_what_the_log_says(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.bin", "a" * 50_000)
    notebook = machine.notebook()
    notebook.save()
    notebook.stop()
    notebook.delete()
    life, events = notebook.timeline(), notebook.history()
    assert life == asyncio.run(notebook.timeline_async())
    assert life.notes == ()
    expected = {event.time: Sample(event.time, event.state, event.bytes, event.stored_bytes) for event in events}
    assert list(life) == list(expected.values())
    assert [sample.state for sample in life.changes()][-1] == "DELETING"
    assert life[-1].logical_bytes > 50_000
    machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    assert (notebook.timeline()[-1].logical_bytes, notebook.timeline()[-1].stored_bytes) == (0, 0)


def test_a_bill_until_now_and_beyond(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.bin", "a" * 300_000)
    notebook = machine.notebook()
    notebook.stop()
    life = notebook.timeline()
    now = datetime.now(UTC)
    size = life[-1].logical_bytes
    present = notebook.bill(tariff=DEAR)
    assert present.total == Decimal(size - 100_000)
    assert present.forecast == 0
    future = notebook.bill(now + 65 * DAY, DEAR)
    assert future == asyncio.run(notebook.bill_async(now + 65 * DAY, DEAR)) or future.total > 0
    # The month at hand, the next one in which the window ends, and the one after that.
    assert future.total == Decimal(size - 100_000) + 2 * size
    assert future.forecast == Decimal(2 * size)
    assert [line.forecast for line in future.lines if line.amount][-1]
    assert future.total == invoice(life, DEAR, until=now + 65 * DAY).total
    assert notebook.bill(now + 29 * DAY).total == 0, "ten gigabytes are free"
    assert notebook.bill(now + 65 * DAY).currency == "EUR"
    later = notebook.bill(now + 65 * DAY, DEAR, since=now + 20 * DAY)
    assert later.total == Decimal(2 * size)
    with pytest.raises(InvalidInput, match="take a later end"):
        notebook.bill(now - DAY)


def test_what_a_save_will_cost(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    notebook = machine.notebook()
    notebook.save()
    before = notebook.timeline()[-1]
    machine.write("a.bin", "a" * 500_000)
    machine.write("b.bin", "".join(map(str, range(60_000))))
    planned = notebook.preview(tariff=DEAR)
    cost = planned.cost
    assert cost is not None
    assert (cost.tariff, cost.currency, cost.requests) == ("dear", "EUR", planned.requests.total)
    assert cost.new_stored_bytes == planned.bytes_uploaded
    assert cost.stored_bytes == before.stored_bytes + cost.new_stored_bytes
    assert cost.free_days_left == 30, "the window begins with the stop"
    assert cost.monthly_before == 0
    assert cost.monthly_after == planned.bytes_total - 100_000
    assert cost.monthly_after_window == planned.bytes_total
    notebook.save()
    # Ids are random, and compress as they like.
    assert abs(notebook.timeline()[-1].stored_bytes - cost.stored_bytes) < 100
    assert asyncio.run(notebook.preview_async(tariff=DEAR)).cost is not None
    estimated = notebook.preview(estimate=True).cost
    assert estimated is not None
    assert estimated.monthly_after == 0
    assert planned.to_dict()["cost"]["monthly_after"] == str(planned.bytes_total - 100_000)
    notebook.stop()
    with pytest.raises(InvalidState):
        notebook.preview()


def test_a_plain_workspace_has_a_price_when_a_tariff_is_given(world: World) -> None:
    machine = world.machine()
    REACH["NONE"](machine)
    workspace = nbws.Workspace.open(f"{machine.notebooks().url}/{IDENTITY}", state_dir=machine.root / "state")
    machine.write("more.bin", "m" * 400_000)
    assert workspace.preview(machine.workspace).cost is None
    cost = workspace.preview(machine.workspace, tariff=DEAR).cost
    assert cost is not None
    assert cost.monthly_after > cost.monthly_before
    assert cost.free_days_left is not None
    assert Decimal("29.9") < cost.free_days_left < 30, "it rests since its first save"


def test_what_is_left_behind_has_a_price(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.bin", "a" * 300_000)
    notebook = machine.notebook()
    notebook.stop()
    notebook.delete()
    (orphan,) = machine.notebooks().orphans(tariff=DEAR)
    assert (orphan.monthly_cost, orphan.currency) == (Decimal(notebook.timeline()[-1].logical_bytes), "EUR")
    (by_ovh,) = machine.notebooks().orphans()
    assert by_ovh.monthly_cost == pytest.approx(Decimal(by_ovh.stored_bytes) / 10**11, abs=Decimal("1e-12"))
    assert isinstance(by_ovh.to_dict()["monthly_cost"], str)


@pytest.mark.soak
def test_what_a_ledger_tells_is_billed_and_the_run_goes_on(disk: World) -> None:
    machine = disk.machine()
    REACH["RUNNING"](machine)
    notebook = machine.notebook()
    notebook.save()
    for number in range(1_130):
        notebook.comment(f"comment {number}")
    machine.write("late.bin", "late" * 1_000)
    notebook.save()
    log = disk.root / "objects" / "notebooks_workspace" / IDENTITY / "log"
    month_ago = time.time() - 40 * 86_400
    for path in log.iterdir():
        os.utime(path, (month_ago, month_ago))
    before = notebook.timeline()
    assert notebook.workspace.prune(apply=True).ledger is not None
    assert not (log / f"{1:020}").exists()
    other = machine.notebook()
    after = other.timeline()
    assert after.samples[: len(before)] == before.samples
    assert after.notes == ()
    assert other.bill(tariff=DEAR).lines == notebook.bill(tariff=DEAR).lines
    machine.write("later.bin", "later" * 1_000)
    assert other.save().complete
    assert other.stop().complete
    assert other.timeline()[-1].state == "STOPPED"
    other.delete()
    assert other.timeline()[-1].state == "DELETING"
    total = machine.notebooks().totals(history=True, tariff=DEAR)
    assert (total.notebooks, total.cost) == (1, other.bill(tariff=DEAR).total)
