"""Many ends of `nbws run` at random moments: no acknowledged save is lost, and the next start works first time.

A save is acknowledged when its id was said. What a program had written when is known from its counters: every file it writes is a
function of its number, and is renamed into place when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from runs import Machine, Run, wait_until

if TYPE_CHECKING:
    from pathlib import Path

BUDGET_S = 3.0
RATE = 1_000_000
# Sixteen times as much as can be sent in the budget.
HEAVY_FILES = 60
FILE_BYTES = 800_000
ROUNDS = 20
SOAK_ROUNDS = 500
WORKERS = 4

PROGRAM = f"""
import hashlib, os, signal, sys, time
workspace, seed, heavy = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(os.path.join(os.environ["PROGRAM_PID"]), "w").write(str(os.getpid()))
def content(number, size):
    return hashlib.shake_128(f"{{seed}} {{number}}".encode()).digest(size)
def write(name, data):
    with open(f"{{workspace}}/.tmp", "wb") as file:
        file.write(data)
    os.rename(f"{{workspace}}/.tmp", f"{{workspace}}/{{name}}")
for number in range(heavy):
    write(f"{{number}}.bin", content(number, {FILE_BYTES}))
write("ready", b"")
number = heavy
while True:
    write(f"{{number}}.bin", content(number, 20_000))
    write("counter", str(number).encode())
    number += 1
    time.sleep(0.05)
"""


@dataclass
class Round:
    """What came of one end."""

    number: int
    heavy: bool
    code: int
    seconds: float
    acknowledged: int
    partial: bool
    next_start_s: float


def content(seed: str, number: int, size: int) -> bytes:
    return hashlib.shake_128(f"{seed} {number}".encode()).digest(size)


def run_once(directory: Path, number: int, kill: bool) -> Round:
    """One notebook, one end at a random moment, one start after it."""
    draw = random.Random(f"{kill} {number}")
    heavy = number % 2 == 1
    here = Machine(directory / "here", (directory / "objects").as_uri())
    here.extra["PROGRAM_PID"] = str(directory / "pid")
    here.notebooks().create(id="demo")
    options = ("--autosave", "1s", "--limit-rate", str(RATE), "--stop-budget", f"{BUDGET_S}s")
    program = (sys.executable, "-c", PROGRAM, here.workspace, str(number), HEAVY_FILES if heavy else 0)
    run = here.run(*program, options=options)
    run.wait_file("ready")
    time.sleep(draw.uniform(0.0, 3.0))
    began = time.monotonic()
    run.send(signal.SIGKILL if kill else signal.SIGTERM)
    code = run.end()
    seconds = time.monotonic() - began
    if not kill and code == 9:
        # By its own means, not by the watchdog: what was stored in time is committed, and the rest is named.
        assert "files left out" in run.said(), run.said()
        assert here.notebook().status().state == "SYNC_FAILED"
    if kill:
        # The machine is gone with all that ran on it.
        os.kill(int((directory / "pid").read_text()), signal.SIGKILL)
    said = re.findall(r"saved as ([0-9a-f]{32})", run.said())
    on_disk = counter_in(here.workspace)
    check_acknowledged(here, said, str(number))
    # On the same disk nothing is lost at all; elsewhere what was not saved is.
    elsewhere = number % 4 < 2
    there = Machine(directory / "there", here.store) if elsewhere else Machine(here.directory, here.store)
    began = time.monotonic()
    there.nbws("notebook", "start", "demo", *(["--take-over"] if elsewhere else []))
    next_start_s = time.monotonic() - began
    newest = counter_of(here, said[-1]) if said else -1
    found = counter_in(there.workspace)
    assert found >= newest, f"acknowledged {newest}, found {found}:\n{run.said()}"
    if not elsewhere or code == 0:
        assert found == on_disk, f"on disk {on_disk}, found {found}:\n{run.said()}"
    check_files(there.workspace, str(number))
    there.nbws("notebook", "stop", "demo")
    partial = any(item.partial for item in here.notebook().backups())
    return Round(number, heavy, code, seconds, len(said), partial, next_start_s)


def counter_in(workspace: Path) -> int:
    path = workspace / "counter"
    return int(path.read_text()) if path.exists() else -1


def counter_of(machine: Machine, snapshot: str) -> int:
    found = machine.notebook().workspace.snapshot(snapshot)
    # What the deadline left out is named, and not there.
    names = {entry.path for entry in found.ls("") if entry.kind == "file"}
    return int(found.read("counter")) if "counter" in names else -1


def check_acknowledged(machine: Machine, said: list[str], seed: str) -> None:
    """Every acknowledged save is in the log, newer ones hold newer work, and the newest one is whole."""
    kept = [item.snapshot for item in machine.notebook().backups()]
    assert set(said) <= set(kept)
    counters = [counter_of(machine, snapshot) for snapshot in said]
    assert counters == sorted(counters)
    if said:
        newest = machine.notebook().workspace.snapshot(said[-1])
        for entry in newest.ls(""):
            if entry.path.endswith(".bin") and entry.kind == "file":
                data = newest.read(entry.path)
                assert data == content(seed, int(entry.path.removesuffix(".bin")), len(data)), entry.path


def check_files(workspace: Path, seed: str) -> None:
    for path in workspace.glob("*.bin"):
        data = path.read_bytes()
        expected = content(seed, int(path.stem), len(data))
        assert len(data) in {20_000, FILE_BYTES}
        assert data == expected, path


def storm(directory: Path, rounds: int, *, kill: bool) -> None:
    def one(number: int) -> Round:
        place = directory / str(number)
        place.mkdir()
        done = run_once(place, number, kill)
        shutil.rmtree(place)
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(one, range(rounds)))
    seconds = sorted(item.seconds for item in done)
    late = [item for item in done if item.seconds > BUDGET_S + 2]
    print(
        f"{rounds} {'SIGKILL' if kill else 'SIGTERM'}s: {sum(item.acknowledged for item in done)} acknowledged saves, 0 lost; ended "
        f"after {seconds[len(seconds) // 2]:.1f} s (median), {seconds[-1]:.1f} s (worst), budget {BUDGET_S:g} s, {len(late)} beyond "
        f"budget + 2 s; codes {sorted({item.code for item in done})}; {sum(item.heavy for item in done)} with more than could be "
        f"sent, {sum(item.partial for item in done)} with a partial snapshot; next start after "
        f"{max(item.next_start_s for item in done):.1f} s at worst"
    )
    if not kill:
        assert {item.code for item in done} <= {0, 143, 9}


@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_twenty_ends(tmp_path: Path, kill: bool) -> None:
    storm(tmp_path, ROUNDS, kill=kill)


@pytest.mark.soak
@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_five_hundred_ends(tmp_path: Path, kill: bool) -> None:
    storm(tmp_path, SOAK_ROUNDS, kill=kill)


@pytest.mark.soak
def test_a_start_elsewhere_after_the_silence(tmp_path: Path) -> None:
    """Nobody says take over: after three minutes without a sign of life the notebook may be started elsewhere."""
    here = Machine(tmp_path / "here", (tmp_path / "objects").as_uri())
    there = Machine(tmp_path / "there", here.store)
    here.notebooks().create(id="demo")
    run: Run = here.run(
        "sh",
        "-c",
        f"echo $$ > {tmp_path}/pid; echo work > {here.workspace}/work; sleep 600",
        options=("--autosave", "1s"),
    )
    run.wait_for("autosaved as")
    run.send(signal.SIGKILL)
    run.end()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert there.json("notebook", "start", "demo", code=4)["error"]["kind"] == "Conflict"
    wait_until(lambda: there.notebook().status().writer.stale, "silence", patience=300)  # type: ignore[union-attr]
    there.nbws("notebook", "start", "demo")
    assert (there.workspace / "work").read_text() == "work\n"
