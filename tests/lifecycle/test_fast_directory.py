"""The directory that does not outlive a run: made, marked, wiped, and never at the cost of anybody's files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from lives import IDENTITY, REACH, Machine, World, end_at, state_of
from nbws.ephemeral import MARKER, ephemeral_bytes, mount_point, prepare_ephemeral, wipe_ephemeral
from nbws.errors import Denied, InvalidInput, NbwsError

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Service


def begin(world: World) -> Machine:
    machine = world.machine()
    REACH["RUNNING"](machine)
    (machine.data / "deep" / "er").mkdir(parents=True)
    (machine.data / "deep" / "er" / "scratch.bin").write_bytes(b"x" * 10_000)
    return machine


def held(machine: Machine) -> bool:
    return (machine.data / "deep" / "er" / "scratch.bin").exists()


def test_it_is_made_marked_and_never_saved(world: World) -> None:
    machine = begin(world)
    marker = json.loads((machine.data / MARKER).read_text())
    assert marker["notebook"] == IDENTITY
    assert marker["epoch"] == machine.notebook().history()[-1].epoch
    machine.notebook().save()
    assert "scratch.bin" not in str(
        [entry.path for entry in machine.notebook().workspace.snapshot().ls(recursive=True)]
    )
    assert held(machine)


def test_no_directory_without_being_asked(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    machine.notebook().start(machine.workspace)
    assert not machine.data.exists()


def test_it_is_wiped_when_the_run_stops_and_its_use_reported(world: World) -> None:
    machine = begin(world)
    report = machine.notebook().stop()
    assert list(machine.data.iterdir()) == []
    assert [warning for warning in report.warnings if str(machine.data) in warning and "KiB" in warning] != []


def test_it_is_wiped_when_the_run_fails(world: World) -> None:
    machine = begin(world)
    machine.notebook().stop(failed="the program ended with 1")
    assert list(machine.data.iterdir()) == []


def test_it_is_wiped_when_the_notebook_is_deleted(world: World) -> None:
    machine = begin(world)
    machine.notebook().delete(force=True)
    assert list(machine.data.iterdir()) == []


def test_it_is_wiped_when_a_start_fails(cloud: World, service: Service) -> None:
    machine = cloud.machine()
    REACH["STOPPED"](machine)
    settings = {key for key in service.objects if "/packs/" in key}
    machine.notebook().start(machine.workspace, machine.data)
    (machine.data / "scratch.bin").write_bytes(b"x" * 10_000)
    shutil.rmtree(machine.workspace)
    service.fault = lambda verb, key: 403 if verb == "get" and "/packs/" in key and key not in settings else None
    with pytest.raises(Denied):
        machine.notebook().start(machine.workspace, machine.data)
    assert state_of(machine) == "FAILED"
    assert list(machine.data.iterdir()) == []


def test_a_machine_that_never_ran_it_wipes_nothing(world: World) -> None:
    machine = begin(world)
    world.machine("two").notebook().delete(force=True)
    assert held(machine)


def test_it_is_kept_while_restarting(world: World) -> None:
    machine = begin(world)
    notebook = machine.notebook()
    end_at(type(notebook).restart, notebook, when=lambda: state_of(machine) == "RESTARTING")
    assert held(machine)
    machine.notebook().restart()
    assert held(machine)


def test_it_is_kept_when_the_last_save_failed_until_it_is_made_good(world: World) -> None:
    machine = begin(world)
    machine.write("late.bin", "late" * 50_000)
    machine.notebook().stop(deadline=0.0)
    assert state_of(machine) == "SYNC_FAILED"
    assert held(machine)
    machine.notebook().save()
    assert state_of(machine) == "STOPPED"
    assert not held(machine)


def test_it_is_wiped_by_the_next_start_after_a_crash(world: World) -> None:
    machine = begin(world)
    machine.notebook().start(machine.workspace, machine.data)
    assert sorted(path.name for path in machine.data.iterdir()) == [MARKER]
    assert json.loads((machine.data / MARKER).read_text())["epoch"] == machine.notebook().history()[-1].epoch


def test_a_run_that_was_taken_over_keeps_it(world: World) -> None:
    machine = begin(world)
    other = world.machine("two")
    other.notebook().start(other.workspace, take_over=True)
    with pytest.raises(NbwsError):
        machine.notebook().stop()
    assert held(machine)


# What is never touched.


def test_without_its_marker_nothing_is_wiped(world: World) -> None:
    machine = begin(world)
    (machine.data / MARKER).unlink()
    report = machine.notebook().stop()
    assert held(machine)
    assert [warning for warning in report.warnings if "not marked" in warning] != []
    with pytest.raises(InvalidInput, match="did not come from this notebook"):
        machine.notebook().start(machine.workspace, machine.data)
    assert held(machine)
    assert state_of(machine) == "STOPPED"


def test_the_directory_of_another_notebook_is_refused(world: World) -> None:
    machine = begin(world)
    machine.notebooks().create(id="another")
    with pytest.raises(InvalidInput, match=IDENTITY):
        machine.notebook("another").start(machine.root / "second", machine.data)
    assert held(machine)
    assert machine.notebook("another").status().state == "STOPPED"
    assert wipe_ephemeral(machine.data, "another") != []
    assert held(machine)


def test_what_holds_files_is_never_adopted(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    machine.data.mkdir()
    (machine.data / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput):
        machine.notebook().start(machine.workspace, machine.data)
    assert (machine.data / "mine.txt").read_text() == "mine"
    # Refused before the claim.
    assert state_of(machine) == "STOPPED"


@pytest.mark.parametrize("text", ["", "{", '{"notebook": 3}'])
def test_a_marker_that_a_crash_cut_off_is_no_obstacle(text: str, world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    machine.data.mkdir()
    (machine.data / MARKER).write_text(text)
    machine.notebook().start(machine.workspace, machine.data)
    assert json.loads((machine.data / MARKER).read_text())["notebook"] == IDENTITY


def test_a_marker_of_another_kind_is_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARKER)
    with pytest.raises(InvalidInput):
        prepare_ephemeral(tmp_path, IDENTITY, 1)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_directory_of_its_own(kind: str, world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    if kind == "file":
        machine.data.write_text("a file")
    else:
        (machine.root / "real").mkdir()
        machine.data.symlink_to("real")
    with pytest.raises(InvalidInput, match="directory of its own"):
        machine.notebook().start(machine.workspace, machine.data)
    assert state_of(machine) == "STOPPED"


def test_links_are_removed_and_not_followed(world: World, tmp_path: Path) -> None:
    machine = begin(world)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    (machine.data / "folder").symlink_to(precious)
    (machine.data / "deep" / "file").symlink_to(precious / "file")
    os.link(precious / "file", machine.data / "hard")
    machine.notebook().stop()
    assert list(machine.data.iterdir()) == []
    assert (precious / "file").read_text() == "precious"


def test_directories_without_permissions_are_wiped(world: World) -> None:
    machine = begin(world)
    (machine.data / "deep").chmod(0o000)
    machine.notebook().stop()
    assert list(machine.data.iterdir()) == []


MOUNTED = """
import ctypes, json, os, sys
from pathlib import Path
from nbws.ephemeral import prepare_ephemeral, wipe_ephemeral

data, precious = Path(sys.argv[1]), Path(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x44000, None):  # a name space of its own, private
    sys.exit(77)
prepare_ephemeral(data, "demo", 1)
for name in ("mounted", "m\u00fcnted", "with space"):
    inner = data / "deep" / name
    inner.mkdir(parents=True)
    # A bind mount has the device of what it shows.
    assert libc.mount(os.fsencode(precious), os.fsencode(inner), None, 0x1000, None) == 0
(data / "deep" / "scratch").write_text("scratch")
left = wipe_ephemeral(data, "demo")
print(json.dumps([len(left), sorted(os.listdir(data)), sorted(os.listdir(data / "deep")), os.listdir(precious)]))
"""


def test_mounts_are_not_entered(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    command = [sys.executable, "-c", MOUNTED, str(tmp_path / "data"), str(precious)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 77:
        pytest.skip("the right to mount is missing")
    assert run.returncode == 0, run.stderr
    left, top, deep, shown = json.loads(run.stdout)
    assert (left, top, shown) == (3, [MARKER, "deep"], ["file"])
    assert set(deep) == {"mounted", "m\u00fcnted", "with space"}
    assert (precious / "file").read_text() == "precious"


def test_mount_points_are_read_as_bytes() -> None:
    assert mount_point(b"36 35 98:0 / /data/m\\303\\274x\\040y rw - ext3") == "/data/m\u00fcx y"
    assert mount_point("36 35 98:0 / /data/m\u00fc rw - ext3".encode()) == "/data/m\u00fc"
    assert mount_point(b"36 35 98:0 / /data/back\\134slash rw - ext3") == "/data/back\\slash"


def test_its_use_is_what_the_disk_gives(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/usr")
    assert 90_000 < ephemeral_bytes(tmp_path) < 300_000


# Places.


def test_one_in_the_other_is_refused(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    top = machine.root / "top"
    inner = top / "inner"
    inner.mkdir(parents=True)
    alias = machine.root / "alias"
    alias.symlink_to(top)
    pairs = [
        (top, top),
        (top, inner),
        (inner, top),
        (top, alias),
        (alias / "inner", top),
        (top, alias / "inner"),
        (top, top / "not" / "there" / ".."),
        (alias / "not-there", top),
    ]
    for workspace, data in pairs:
        with pytest.raises(InvalidInput, match="places apart"):
            machine.notebook().start(workspace, data)
    assert state_of(machine) == "STOPPED"
    machine.notebook().start(top, machine.root / "top-data")
    assert state_of(machine) == "RUNNING"
