"""`nbws bill`, `nbws notebook totals` and `nbws preview --tariff`."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from lives import IDENTITY, REACH, World
from nbws.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

DEAR = """
name = "dear"
currency = "CHF"
price = 1_000_000_000
allowance = "0.0001"
after_window = "excess"
count = "logical"
backups = false
proration = "none"
months = "30d"
compute_price = 60
"""


@pytest.fixture
def tariff(tmp_path: Path) -> str:
    path = tmp_path / "dear.toml"
    path.write_text(DEAR)
    return str(path)


@pytest.fixture
def home(disk: World) -> World:
    machine = disk.machine()
    REACH["RUNNING"](machine)
    machine.write("a.bin", "a" * 300_000)
    machine.notebook().stop()
    return disk


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out, shown.err


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    found, out, _ = run(capsys, *words, "--json")
    assert found == code, out
    return json.loads(out)


def test_bill(home: World, tariff: str, capsys: pytest.CaptureFixture[str]) -> None:
    until = (datetime.now(UTC) + timedelta(days=40)).strftime("%Y-%m-%dT%H:%M:%S%z")
    words = ("bill", IDENTITY, "--store", home.url, "--tariff", tariff)
    size = home.machine().notebook().timeline()[-1].logical_bytes
    found = answer(capsys, *words, "--until", until)
    storage = [line for line in found["lines"] if line["what"] == "storage"]
    assert [Decimal(line["amount"]) for line in storage] == [size - 100_000] * 2
    assert [line["forecast"] for line in storage] == [False, True]
    assert Decimal(found["total"]) == sum(Decimal(line["amount"]) for line in found["lines"])
    assert (found["currency"], found["tariff"]) == ("CHF", "dear")
    code, out, _ = run(capsys, *words, "--until", until)
    assert code == 0
    assert "over 0.0001 GB, forecast" in out
    assert re.search(r"^total [\d,]+\.00 CHF, of which [\d,]+\.00 is a forecast$", out, re.MULTILINE)
    assert "RUNNING" in out
    assert answer(capsys, "bill", IDENTITY, "--store", home.url)["total"] == "0"
    code, out, _ = run(capsys, "bill", IDENTITY, "--store", home.url)
    assert "total 0.00 EUR" in out


def test_bad_input(home: World, tariff: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("bill", IDENTITY, "--store", home.url)
    assert run(capsys, *words, "--until", "someday")[0] == 2
    code, _, shown = run(capsys, *words, "--until", "2001-01-01")
    assert (code, "before the first sample" in shown) == (2, True)
    (tmp_path / "bad.toml").write_text(DEAR + "\nalowance = 3\n")
    code, _, shown = run(capsys, *words, "--tariff", str(tmp_path / "bad.toml"))
    assert (code, "line 13: there is no rule 'alowance'" in shown) == (2, True)
    code, out, shown = run(capsys, *words, "--tariff", "aws", "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (2, "InvalidInput")
    assert "name a TOML file, or one of lightning, ovh" in shown
    assert run(capsys, "bill", "nobody", "--store", home.url)[0] == 3


def test_totals(home: World, tariff: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("notebook", "totals", "--store", home.url)
    found = answer(capsys, *words)
    assert [(part["state"], part["notebooks"]) for part in found["by_state"]] == [("STOPPED", 1)]
    assert (found["snapshots"], found["cost"], found["problems"]) == (None, None, [])
    whole = answer(capsys, *words, "--history", "--tariff", tariff)
    assert whole["snapshots"] == len(home.machine().notebook().backups())
    assert Decimal(whole["cost"]) == home_bill(home, capsys, tariff)
    code, out, _ = run(capsys, *words, "--history", "--tariff", tariff)
    assert code == 0
    assert re.search(r"^STOPPED +1 ", out, re.MULTILINE)
    assert "by dear; read in" in out
    log = home.root / "objects" / "notebooks_workspace" / IDENTITY / "log"
    newest = max(log.iterdir())
    newest.write_bytes(b"{}")
    assert answer(capsys, *words, code=9)["problems"][0]["id"] == IDENTITY
    code, out, _ = run(capsys, *words)
    assert (code, "Could not be read: 1" in out) == (9, True)


def home_bill(home: World, capsys: pytest.CaptureFixture[str], tariff: str) -> Decimal:
    return Decimal(answer(capsys, "bill", IDENTITY, "--store", home.url, "--tariff", tariff)["total"])


def test_preview(home: World, tariff: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine = home.machine()
    url = f"{machine.notebooks().url}/{IDENTITY}"
    machine.write("b.bin", "b" * 500_000)
    found = answer(capsys, "preview", str(machine.workspace), url, "--tariff", tariff)
    cost = found["cost"]
    assert Decimal(cost["monthly_after"]) == found["bytes_total"] - 100_000
    assert cost["free_days_left"] is None
    assert answer(capsys, "preview", str(machine.workspace), url)["cost"] is None
    _, out, _ = run(capsys, "preview", str(machine.workspace), url, "--tariff", "ovh")
    assert "a month instead of 0.00" in out
    assert re.search(r"(29\.\d|30\.0) days of the free window are left", out)
