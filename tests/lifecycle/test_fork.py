"""Forks: independent notebooks from a backup, without moving its data through this program; pins."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import compare_trees

if TYPE_CHECKING:
    from pathlib import Path

    from lives import World

MOST_MOVED = 1 << 20


def lived(world: World) -> tuple[nbws.Notebook, Path, str]:
    """A running notebook, its workspace, and a backup that is not its newest."""
    notebook = nbws.Notebooks(world.url, options=world.options).create(name="first")
    place = world.root / "workspace"
    notebook.start(place)
    for number in range(20):
        (place / f"f{number}").write_bytes(random.Random(number).randbytes(300_000))
    backup = notebook.save().snapshot
    (place / "f0").unlink()
    notebook.save()
    return notebook, place, backup


@pytest.fixture(params=["world", "disk"])
def any_world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


def test_a_fork_is_independent(any_world: World, tmp_path: Path) -> None:
    notebook, place, backup = lived(any_world)
    fork = notebook.fork(backup, name="second")
    assert fork.id != notebook.id
    assert fork.workspace.repository_id != notebook.workspace.repository_id
    status = fork.status()
    assert (status.state, status.name) == ("STOPPED", "second")
    assert notebook.workspace.pins() == ()
    elsewhere = tmp_path / "elsewhere"
    fork.start(elsewhere)
    (place / "f0").write_bytes(random.Random(0).randbytes(300_000))
    differences = [found for found in compare_trees(place, elsewhere) if ".workspace.initialized" not in str(found)]
    assert not [found for found in differences if "mtime" not in str(found)]
    (elsewhere / "own.txt").write_text("own")
    fork.stop()
    assert fork.workspace.check(read_data=True).ok
    assert len(fork.backups()) == 2
    # Neither concerns the other.
    notebook.delete(force=True)
    nbws.Notebooks(any_world.url, options=any_world.options).purge(notebook.id, confirm=notebook.id)
    assert fork.workspace.check(read_data=True).ok
    assert fork.workspace.snapshot().read("own.txt") == b"own"


def test_no_data_passes_through(any_world: World) -> None:
    notebook, _, backup = lived(any_world)
    url = f"{notebook.workspace.url.rpartition('/')[0]}/copy"
    done = notebook._engine.fork(backup, url).wait()
    assert done["bytes"] > 5_000_000
    assert done["bytes_moved"] < MOST_MOVED
    with pytest.raises(errors.AlreadyExists):
        notebook._engine.fork(backup, url).wait()


@pytest.mark.soak
def test_a_gibibyte_is_forked_with_less_than_one_mebibyte(disk: World) -> None:
    notebook = nbws.Notebooks(disk.url, options=disk.options).create(name="large")
    place = disk.root / "workspace"
    notebook.start(place)
    for number in range(64):
        (place / f"f{number}").write_bytes(random.Random(number).randbytes(16 << 20))
    backup = notebook.save().snapshot
    done = notebook._engine.fork(backup, f"{notebook.workspace.url.rpartition('/')[0]}/copy").wait()
    print(f"{done['bytes']} bytes forked, {done['bytes_moved']} through the client")
    assert done["bytes"] > 1 << 30
    assert done["bytes_moved"] < MOST_MOVED


def test_the_reader_restores_a_fork(disk: World, tmp_path: Path) -> None:
    notebook, _, backup = lived(disk)
    fork = notebook.fork(backup)
    objects = fork.workspace.url.removeprefix("file://")
    target = tmp_path / "read"
    subprocess.run(
        [sys.executable, "-m", "nbws.reader", objects, "latest", target], check=True, stdout=subprocess.DEVNULL
    )
    assert (target / "f0").read_bytes() == random.Random(0).randbytes(300_000)


def test_forks_of_forks_and_of_rescues(world: World, tmp_path: Path) -> None:
    notebook, place, _ = lived(world)
    other = nbws.Notebooks(world.url, options=world.options, state_dir=tmp_path / "other").get(notebook.id)
    other.start(tmp_path / "there", take_over=True)
    (place / "unsaved.txt").write_text("unsaved")
    with pytest.raises(errors.Fenced) as fenced:
        notebook.save()
    assert fenced.value.rescue is not None
    fork = notebook.fork(fenced.value.rescue)
    assert fork.workspace.snapshot().read("unsaved.txt") == b"unsaved"
    again = fork.fork("latest")
    assert again.workspace.snapshot().read("unsaved.txt") == b"unsaved"
    assert again.workspace.check(read_data=True).ok


def test_a_service_that_does_not_copy_is_noticed(cloud: World) -> None:
    notebook, _, backup = lived(cloud)
    with pytest.raises(errors.Unavailable, match="not copied whole"):
        notebook.fork(backup)
    assert notebook.save().complete


def test_what_is_not_there_is_not_forked(world: World) -> None:
    notebook, _, _ = lived(world)
    before = nbws.Notebooks(world.url, options=world.options).ids()
    with pytest.raises(errors.NotFound):
        notebook.fork("0" * 32)
    assert nbws.Notebooks(world.url, options=world.options).ids() == before


def test_pins_of_backups(world: World) -> None:
    notebook, _, backup = lived(world)
    assert notebook.pin(backup, comment="the paper") == backup
    assert [kept.pinned for kept in notebook.backups() if kept.snapshot == backup] == [True]
    notebook.fork(backup)
    assert [pin.comment for pin in notebook.workspace.pins()] == ["the paper"]
    notebook.unpin(backup)
    assert notebook.workspace.pins() == ()
