"""What a stop does for the store when there is time: a prune once a week, and the ballast; and that no stop fails by it."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws.notebooks import Notebooks
from nbws.retention import Retention
from runs import Machine as Commands

if TYPE_CHECKING:
    from lives import Machine, World
    from nbws.notebook import Notebook
    from nbws.reports import SaveReport

WEEK = timedelta(days=7)
NOW = datetime.now(UTC)


class Clock:
    """What time it is for the notebooks of a test."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def begun(machine: Machine, clock: Clock, **rules: Any) -> Notebook:
    """A notebook with four backups that runs; two of them are small."""
    notebook = machine.notebooks(clock=clock).create(id="demo")
    notebook.start(machine.workspace)
    (machine.workspace / "large.bin").write_bytes(random.Random(1).randbytes(2_000_000))
    notebook.save()
    for number in range(3):
        machine.write("work.txt", f"{number}" * 1_000)
        notebook.save()
    if rules:
        notebook.set_retention(Retention(**rules))
    return notebook


def weekly(report: SaveReport) -> list[str]:
    return [text for text in report.warnings if "weekly prune" in text]


def kinds(notebook: Notebook) -> list[str]:
    return [event.kind for event in notebook.history()]


def test_a_week_after_the_last_one(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock, retained_number=2)
    clock.now = NOW + WEEK - timedelta(seconds=1)
    report = notebook.stop()
    assert (report.complete, weekly(report)) == (True, [])
    assert "mark" not in kinds(notebook)

    clock.now = NOW + WEEK
    notebook.start(machine.workspace)
    (said,) = weekly(notebook.stop())
    assert said.startswith("the weekly prune gave up 3 of 5 snapshots, marked ")
    assert "mark" in kinds(notebook)
    assert notebook.status().state == "STOPPED"
    assert len(notebook.backups()) == 2

    # The next one is due a week later, in every handle.
    clock.now += WEEK - timedelta(seconds=1)
    again = machine.notebooks(clock=clock).get("demo")
    again.start(machine.workspace)
    assert weekly(again.stop()) == []
    clock.now += timedelta(seconds=1)
    again.start(machine.workspace)
    assert len(weekly(again.stop())) == 1


def test_a_prune_by_hand_counts(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock)
    clock.now = NOW + WEEK
    notebook.prune()
    assert "settings" not in kinds(notebook)[-2:], "a plan leaves no trace"
    notebook.prune(apply=True)
    assert weekly(notebook.stop()) == []


def test_a_note_that_means_nothing_is_replaced(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock)
    clock.now = NOW + WEEK
    for text in ('"soon"', "7", '"2026-01-01T00:00:00"'):
        notebook._engine.set_setting("pruned", text).wait()
        assert len(weekly(notebook.stop())) == 1
        notebook.start(machine.workspace)
        assert weekly(notebook.stop()) == []
        notebook.start(machine.workspace)


def test_by_the_rules_of_the_container(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock)
    machine.notebooks().set_defaults(retention=Retention(retained_number=1))
    clock.now = NOW + WEEK
    (said,) = weekly(notebook.stop())
    assert "gave up 4 of 5 snapshots" in said


def test_never_where_time_is_short(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock, retained_number=1)
    clock.now = NOW + WEEK
    assert weekly(notebook.stop(deadline=60.0)) == []
    notebook.start(machine.workspace)
    assert weekly(notebook.stop(prune=False)) == []
    notebook.start(machine.workspace)
    assert weekly(notebook.stop(failed="the program ended with 1")) == []
    notebook.start(machine.workspace)
    assert len(weekly(notebook.stop(deadline=60.0, prune=True))) == 1


def test_never_over_a_fifth_of_what_is_stored(world: World) -> None:
    machine, clock = world.machine(), Clock(NOW)
    notebook = begun(machine, clock, retained_number=1)
    # As large as it was, and all of it is another one: half of what is stored is for the older backups alone.
    (machine.workspace / "large.bin").write_bytes(random.Random(2).randbytes(2_000_000))
    clock.now = NOW + WEEK
    before = len(notebook.backups())
    report = notebook.stop()
    (said,) = weekly(report)
    assert "refused" in said
    assert "20 %" in said
    assert report.complete
    assert notebook.status().state == "STOPPED"
    assert len(notebook.backups()) == before + 1


def test_no_stop_fails_by_it(disk: World) -> None:
    machine, clock = disk.machine(), Clock(NOW)
    notebook = begun(machine, clock)
    clock.now = NOW + WEEK
    # A backup whose pack is gone stops a prune, and nothing else.
    packs = sorted(Path(disk.url.removeprefix("file://")).rglob("packs/*"), key=lambda path: path.stat().st_size)
    lost = packs[-1].read_bytes()
    packs[-1].unlink()
    report = notebook.stop()
    assert report.complete
    assert notebook.status().state == "STOPPED"
    (said,) = [text for text in report.warnings if "looked after" in text]
    assert "the next stop tries again" in said
    packs[-1].write_bytes(lost)
    notebook.start(machine.workspace)
    assert len(weekly(notebook.stop())) == 1


def ballast(world: World) -> list[Path]:
    return list(Path(world.url.removeprefix("file://")).rglob("ballast"))


def test_the_ballast_is_there_from_the_beginning_and_comes_back(disk: World) -> None:
    machine = disk.machine()
    notebook = begun(machine, Clock(NOW))
    (found,) = ballast(disk)
    assert found.stat().st_size == 64 << 10
    found.unlink()
    notebook.save()
    assert ballast(disk) == []
    notebook.stop(deadline=60.0)
    assert ballast(disk) == []
    notebook.start(machine.workspace)
    notebook.stop()
    assert len(ballast(disk)) == 1
    fork = notebook.fork("latest")
    assert len(ballast(disk)) == 2
    for identity in (fork.id, notebook.id):
        machine.notebook(identity).delete()
        plan = machine.notebooks().purge(identity)
        done = machine.notebooks().purge(identity, confirm=identity)
        assert done.bytes == plan.bytes
    assert ballast(disk) == []


def old_notebook(here: Commands) -> None:
    """A notebook that was made eight days ago."""
    here.directory.mkdir(parents=True, exist_ok=True)

    notebooks = Notebooks(here.store, state_dir=here.directory / "state", clock=lambda: NOW - timedelta(days=8))
    notebooks.create(id="old")


def test_a_run_that_ends_by_itself_prunes(tmp_path: Path) -> None:
    here = Commands(tmp_path / "here", (tmp_path / "objects").as_uri())
    old_notebook(here)
    run = here.run("true", identity="old")
    assert run.end() == 0
    assert "the weekly prune gave up" in run.said()
    again = here.run("true", identity="old")
    assert again.end() == 0
    assert "weekly prune" not in again.said()


def test_a_run_that_was_told_to_stop_does_not(tmp_path: Path) -> None:
    here = Commands(tmp_path / "here", (tmp_path / "objects").as_uri())
    old_notebook(here)
    run = here.run("sh", "-c", f"touch {here.workspace}/up; exec sleep 60", identity="old")
    run.wait_file("up")
    run.send(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM
    assert "weekly prune" not in run.said()
    assert here.notebook("old").status().state == "STOPPED"
