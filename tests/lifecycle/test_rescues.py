"""Who was fenced is told so even when there is nothing to save, and equal work is rescued once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from lives import REACH
from nbws.errors import Fenced, InvalidState
from nbws.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from lives import Machine, World


def displaced(world: World) -> tuple[Machine, Machine]:
    """A machine whose run another one has taken over, with work that it had not saved."""
    one, two = world.machine(), world.machine("two")
    REACH["RUNNING"](one)
    one.write("unsaved.txt", "unsaved")
    two.notebook().start(two.workspace, take_over=True)
    return one, two


def rescue_of(machine: Machine) -> str | None:
    with pytest.raises(Fenced) as refused:
        machine.notebook().stop()
    return refused.value.rescue


def test_stopping_again_keeps_the_same_rescue(world: World) -> None:
    one, two = displaced(world)
    first = rescue_of(one)
    assert first is not None
    for _ in range(3):
        assert rescue_of(one) == first
    assert two.notebook().status().rescues == (first,)
    # Other work is another rescue.
    one.write("more.txt", "more")
    second = rescue_of(one)
    assert second not in {None, first}
    assert two.notebook().status().rescues == (first, second)
    # One that was dismissed keeps nothing any more.
    assert second is not None
    two.notebook().workspace.dismiss(second)
    third = rescue_of(one)
    assert third not in {None, first, second}
    assert two.notebook().workspace.rescue(str(third)).read("more.txt") == b"more"


def test_a_rescue_restored_in_place_is_not_rescued_again(world: World) -> None:
    one, two = displaced(world)
    first = rescue_of(one)
    assert first is not None
    two.notebook().stop()
    workspace = one.notebook().workspace
    report = workspace.restore(one.workspace, snapshot=first)
    assert report.rescue in {None, first}
    assert two.notebook().status().rescues == (first,)
    assert (one.workspace / "unsaved.txt").read_text() == "unsaved"


def test_an_open_writer_hears_that_it_was_fenced(world: World) -> None:
    one, two = world.machine(), world.machine("two")
    REACH["RUNNING"](one)
    one.write("work.txt", "work")
    workspace = one.notebook().workspace
    saved = workspace.save(one.workspace)
    assert workspace.save(one.workspace).snapshot == saved.snapshot
    # Settings concern no writer.
    two.notebook().pin(saved.snapshot)
    assert workspace.save(one.workspace).snapshot == saved.snapshot
    two.notebook().start(two.workspace, take_over=True)
    before = len(two.notebook().history())
    with pytest.raises(Fenced, match="everything here had been saved before"):
        workspace.save(one.workspace)
    assert len(two.notebook().history()) == before
    two.notebook().stop()
    with pytest.raises(Fenced):
        workspace.save(one.workspace)


def test_an_open_writer_hears_that_the_notebook_was_deleted(world: World) -> None:
    one = world.machine()
    REACH["RUNNING"](one)
    workspace = one.notebook().workspace
    assert workspace.save(one.workspace).complete
    world.machine("two").notebook().delete(force=True)
    with pytest.raises(Fenced, match="deleted"):
        workspace.save(one.workspace)


def test_an_open_writer_beside_a_run_is_refused(world: World) -> None:
    # A plain save of a notebook at rest, whose handle stays open while somebody starts it.
    one, two = world.machine(), world.machine("two")
    REACH["STOPPED"](one)
    one.write("work.txt", "work")
    workspace = one.notebook().workspace
    workspace.save(one.workspace)
    assert workspace.save(one.workspace).complete
    two.notebook().start(two.workspace)
    with pytest.raises((InvalidState, Fenced)):
        workspace.save(one.workspace)


def test_an_empty_directory_in_its_place_is_not_the_workspace(tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    (place / "work.txt").write_text("work")
    workspace = Workspace.open((tmp_path / "objects").as_uri(), create=True, state_dir=tmp_path / "state")
    saved = workspace.save(place).snapshot
    inode = place.stat().st_ino
    shutil.rmtree(place)
    # Many file systems give the number of what was removed last to what is made next.
    for _ in range(20):
        place.mkdir()
        if place.stat().st_ino == inode:
            break
        place.rmdir()
    else:
        place.mkdir()
    for _ in range(2):
        with pytest.raises(InvalidState, match="never restored"):
            workspace.save(place)
    assert workspace.snapshot().snapshot == saved
    # Emptied by hand it is the same directory, and that is saved.
    workspace.restore(place)
    workspace.save(place)
    (place / "work.txt").unlink()
    assert workspace.save(place).files_removed == 1
