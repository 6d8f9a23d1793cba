"""The marker can be lost, damaged or replaced: no notebook ends with it."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import pytest
from lives import IDENTITY, REACH, Machine, World, state_of
from nbws.errors import InvalidState
from nbws.marker import NAME as MARKER
from nbws.marker import read_marker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_text(path.read_text()[:20])


def empty(path: Path) -> None:
    path.write_text("")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def deep(path: Path) -> None:
    path.write_text("[" * 60_000)


def huge(path: Path) -> None:
    path.write_text('{"notebook": "demo"}' + " " * 200_000)


def another(path: Path) -> None:
    path.write_text('{"notebook": "another"}')


def no_object(path: Path) -> None:
    path.write_text('["demo"]')


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "work.txt").write_text("somebody's work")


DAMAGES = [missing, truncated, empty, binary, deep, huge, another, no_object, link, dangling, pipe, directory]


def whole(machine: Machine) -> bool:
    found = read_marker(machine.workspace)
    return found is not None and found["notebook"] == IDENTITY


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_repaired_at_a_save_and_reported(damage: Callable[[Path], None], world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    damage(machine.workspace / MARKER)
    report = machine.notebook().save()
    assert [warning for warning in report.warnings if MARKER in warning] != []
    assert whole(machine)
    assert json.loads(machine.notebook().workspace.snapshot().read(MARKER))["notebook"] == IDENTITY
    assert [warning for warning in machine.notebook().save().warnings if MARKER in warning] == []
    if damage is directory:
        assert (machine.workspace / f"{MARKER}.directory-1" / "work.txt").read_text() == "somebody's work"
    machine.notebook().stop()
    assert state_of(machine) == "STOPPED"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_a_snapshot_is_repaired_at_a_start(damage: Callable[[Path], None], world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    machine.notebook().stop()
    damage(machine.workspace / MARKER)
    # A save by hand takes what it finds.
    machine.notebook().workspace.save(machine.workspace)
    report = other.notebook().start(other.workspace)
    assert [warning for warning in report.warnings if "newest snapshot" in warning and MARKER in warning] != []
    assert whole(other)
    if damage is directory:
        assert (other.workspace / f"{MARKER}.directory-1" / "work.txt").read_text() == "somebody's work"
    assert [warning for warning in other.notebook().stop().warnings if MARKER in warning] == []
    assert state_of(other) == "STOPPED"


def test_a_marker_that_can_not_be_written_stops_no_save(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    (machine.workspace / MARKER).unlink()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nbws.marker._replace", refuse)
    report = machine.notebook().stop()
    assert [warning for warning in report.warnings if "No space left" in warning and "next start" in warning] != []
    assert state_of(machine) == "STOPPED"
    monkeypatch.undo()
    other = world.machine("two")
    other.notebook().start(other.workspace)
    assert whole(other)
    assert other.files() == {"a.txt": "a"}


def test_strict_marker_is_the_original_behaviour_and_has_a_way_out(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    notebook = machine.notebook()
    notebook.start(machine.workspace, strict_marker=True)
    machine.write("a.txt", "a")
    (machine.workspace / MARKER).unlink()
    report = notebook.stop()
    assert [warning for warning in report.warnings if "ERROR" in warning] != []
    assert not (machine.workspace / MARKER).exists()
    assert state_of(machine) == "STOPPED"
    with pytest.raises(InvalidState, match="strict_marker"):
        notebook.start(machine.workspace, strict_marker=True)
    status = notebook.status()
    assert status.state == "ERROR"
    assert MARKER in (status.info or "")
    # Everything can be read.
    snapshot = notebook.workspace.snapshot()
    assert [entry.path for entry in snapshot.ls()] == ["a.txt"]
    assert snapshot.read("a.txt") == b"a"
    stream = io.BytesIO()
    assert snapshot.export(stream).files == 1
    elsewhere = machine.root / "elsewhere"
    assert notebook.workspace.restore(elsewhere).complete
    assert (elsewhere / "a.txt").read_text() == "a"
    # And the way out: start without it.
    other = world.machine("two")
    other.notebook().start(other.workspace)
    assert other.files() == {"a.txt": "a"}
    assert whole(other)
    other.notebook().stop()
    other.notebook().start(other.workspace, strict_marker=True)
    assert state_of(other) == "RUNNING"


def test_the_marker_of_a_replaced_root_is_not_repaired(world: World) -> None:
    # The check of the root comes first: a new marker would only hide what happened to it.
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    machine.notebook().save()
    machine.workspace.rename(machine.root / "moved")
    machine.workspace.mkdir()
    machine.write("other.txt", "other")
    with pytest.raises(InvalidState) as refused:
        machine.notebook().save()
    assert not (machine.workspace / MARKER).exists()
    assert refused.value.rescue is not None
    assert machine.notebook().workspace.rescue(refused.value.rescue).read("other.txt") == b"other"
    assert machine.notebook().workspace.snapshot().read("a.txt") == b"a"
