"""What follows a crash: on the same disk, elsewhere, and for a writer that was displaced while it lived."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import nbws
import pytest
from lives import IDENTITY, REACH, Machine, World, state_of
from nbws.errors import Conflict, Corrupt, Denied, Fenced, InvalidState, NbwsError
from nbws.marker import NAME as MARKER

if TYPE_CHECKING:
    from nbws.notebook import Notebook
    from s3_server import Service

# A process that starts the notebook, writes files and waits to be killed.
RUN = """
import sys, time
from pathlib import Path
from nbws.notebooks import Notebooks

url, state, workspace, resident = sys.argv[1:5]
notebook = Notebooks(url, state_dir=state).get("demo")
notebook.start(workspace, resident=resident == "resident")
(Path(workspace) / "saved.txt").write_text("saved")
notebook.save()
(Path(workspace) / "late.txt").write_text("not saved")
(Path(workspace) / "saved.txt").write_text("saved, then edited")
print("ready", flush=True)
time.sleep(600)
"""
EDITED = {"saved.txt": "saved, then edited", "late.txt": "not saved"}


def killed(machine: Machine, *, resident: bool = False) -> None:
    """Runs the notebook in a process that SIGKILL ends after edits that nobody saved."""
    command = [sys.executable, "-c", RUN, machine.url, str(machine.root / "state"), str(machine.workspace)]
    with subprocess.Popen([*command, "resident" if resident else "plain"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # While it lives, no other process of this machine runs the notebook.
        with pytest.raises(Conflict, match="another process of this machine"):
            machine.notebook().start(machine.workspace, take_over=True)
        process.send_signal(signal.SIGKILL)
        process.wait()


def claim(machine: Machine, notebook: Notebook, **options: object) -> None:
    hold = notebook._engine.hold(machine.workspace).wait()
    try:
        notebook._engine.claim(hold, {"take_over": False, "resident": False, **options}).wait()
    finally:
        hold.release()


@pytest.mark.parametrize("resident", [False, True])
def test_a_crash_on_the_same_disk_loses_nothing(resident: bool, disk: World) -> None:
    machine = disk.machine()
    REACH["STOPPED"](machine)
    killed(machine, resident=resident)
    report = machine.notebook().start(machine.workspace)
    assert machine.files() == EDITED
    assert report.rescue is None
    assert [warning for warning in report.warnings if "survived" in warning] != []
    assert [warning for warning in report.warnings if "did not end" in warning] == []
    # It was saved first, as the head; a machine elsewhere gets it.
    newest = machine.notebook().workspace.snapshot()
    assert (newest.origin, newest.read("late.txt")) == ("crash", b"not saved")
    machine.notebook().stop()
    other = disk.machine("two")
    other.notebook().start(other.workspace)
    assert other.files() == EDITED


# A process that saves what lies in the workspace of a notebook that runs.
SAVE = """
import json, sys
from nbws.notebooks import Notebooks

url, options, state = sys.argv[1:4]
Notebooks(url, options=json.loads(options), state_dir=state).get("demo").save()
"""


def test_a_crash_between_a_record_and_the_note_of_it_loses_nothing(cloud: World, service: Service) -> None:
    machine = cloud.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "first")
    machine.notebook().save()
    machine.write("a.txt", "second")
    words = [machine.url, json.dumps(machine.options), str(machine.root / "state")]
    child = subprocess.Popen([sys.executable, "-c", SAVE, *words])

    def kill(verb: str, key: str) -> None:
        if verb == "put" and "/log/" in key and child.poll() is None:
            # The record is stored, and nobody hears of it.
            child.kill()
            child.wait()

    service.fault = kill
    assert child.wait(60) == -signal.SIGKILL
    service.fault = lambda _verb, _key: None
    assert machine.notebook().workspace.snapshot().read("a.txt") == b"second"
    machine.write("a.txt", "third")
    report = machine.notebook().start(machine.workspace)
    assert (report.rescue, machine.notebook().status().rescues) == (None, ())
    assert machine.files() == {"a.txt": "third"}
    assert machine.notebook().workspace.snapshot().read("a.txt") == b"third"


def test_a_crash_between_the_tree_and_the_session_of_a_save_keeps_later_work(cloud: World, service: Service) -> None:
    place, state, tree = f"{cloud.url}/plain", cloud.root / "state", cloud.root / "tree"
    tree.mkdir()

    def fresh() -> nbws.Workspace:
        return nbws.Workspace.open(place, create=True, store=cloud.options, state_dir=state)

    (tree / "a.txt").write_text("first")
    fresh().save(tree)
    (tree / "a.txt").write_text("second")
    (tree / "b.txt").write_text("second")
    (session,) = state.glob("**/session.json")
    then: list[bytes] = []

    def copy(verb: str, key: str) -> None:
        if verb == "put" and "/log/" in key:
            then.append(session.read_bytes())

    service.fault = copy
    saved = fresh().save(tree).snapshot
    service.fault = lambda _verb, _key: None
    # The tree of the save is on the disk, and the session does not name it yet.
    assert b"pending" in then[0]
    session.write_bytes(then[0])
    (tree / "a.txt").write_text("third")
    report = fresh().restore(tree)
    assert report.snapshot == saved
    assert (tree / "a.txt").read_text() == "second"
    assert report.rescue is not None
    assert fresh().rescue(report.rescue).read("a.txt") == b"third"


def test_a_crash_after_which_somebody_else_saved_keeps_a_rescue(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["STOPPED"](machine)
    killed(machine)
    there = other.notebook()
    report = there.start(other.workspace, take_over=True)
    assert other.files() == {"saved.txt": "saved"}
    # It says since when something may be missing.
    saved = there.workspace.snapshot().time
    assert [warning for warning in report.warnings if f"{saved:%Y-%m-%d %H:%M:%S}" in warning] != []
    other.write("other.txt", "from elsewhere")
    there.stop()
    report = machine.notebook().start(machine.workspace)
    assert machine.files() == {"saved.txt": "saved", "other.txt": "from elsewhere"}
    assert report.rescue is not None
    assert machine.notebook().status().rescues == (report.rescue,)
    rescue = machine.notebook().workspace.rescue(report.rescue)
    assert {name: rescue.read(name).decode() for name in EDITED} == EDITED
    # It is restored like any snapshot, and dismissed when it is no longer needed.
    machine.notebook().stop()
    machine.notebook().workspace.restore(machine.workspace, snapshot=rescue)
    assert machine.files() == EDITED
    machine.notebook().workspace.dismiss(rescue)
    assert machine.notebook().status().rescues == ()


def test_a_start_elsewhere_without_a_save_there_keeps_a_rescue_too(disk: World) -> None:
    # The head is the same, but this was not the last run: nobody can say which work is the newer one.
    machine, other = disk.machine(), disk.machine("two")
    REACH["STOPPED"](machine)
    killed(machine)
    other.notebook().start(other.workspace, take_over=True)
    other.notebook().stop()
    report = machine.notebook().start(machine.workspace)
    assert report.rescue is not None
    assert machine.notebook().workspace.rescue(report.rescue).read("late.txt") == b"not saved"
    assert machine.files() == {"saved.txt": "saved"}


def test_survived_work_is_given_up_if_told_so(disk: World) -> None:
    machine = disk.machine()
    REACH["STOPPED"](machine)
    killed(machine)
    report = machine.notebook().start(machine.workspace, discard_changes=True)
    assert machine.files() == {"saved.txt": "saved"}
    assert report.rescue is None
    assert machine.notebook().status().rescues == ()


def test_a_crash_whose_local_state_is_lost_keeps_a_rescue(disk: World) -> None:
    machine = disk.machine()
    REACH["STOPPED"](machine)
    killed(machine)
    shutil.rmtree(machine.root / "state")
    with pytest.raises(Conflict, match="take over"):
        machine.notebook().start(machine.workspace)
    assert machine.files() == EDITED
    report = machine.notebook().start(machine.workspace, take_over=True)
    assert report.rescue is not None
    assert machine.notebook().workspace.rescue(report.rescue).read("late.txt") == b"not saved"
    assert machine.files() == {"saved.txt": "saved"}


def test_files_of_somebody_else_are_refused_before_the_claim(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    machine.notebook().stop()
    other.write("mine.txt", "mine")
    written = len(machine.notebook().history())
    with pytest.raises(NbwsError, match="did not come from this notebook"):
        other.notebook().start(other.workspace)
    assert other.files() == {"mine.txt": "mine"}
    assert len(machine.notebook().history()) == written


def test_a_session_without_a_process_is_never_stale(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["STOPPED"](machine)
    killed(machine)
    assert machine.notebook().status().writer is not None
    assert machine.notebook().status().writer.stale is None  # type: ignore[union-attr]
    there = other.notebook()
    with pytest.raises(Conflict, match="keeps no process"):
        claim(other, there, ttl=0.0)
    assert state_of(other) == "RUNNING"
    there.start(other.workspace, take_over=True)
    assert other.files() == {"saved.txt": "saved"}


def test_a_resident_session_goes_stale(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["STOPPED"](machine)
    killed(machine, resident=True)
    there = other.notebook()
    with pytest.raises(Conflict, match="was last seen"):
        claim(other, there, ttl=3_600.0)
    time.sleep(1.1)
    claim(other, there, ttl=1.0)
    assert there.history()[-1].take_over
    assert state_of(other) == "STARTING"
    # The rest of the start follows; the hold of this machine is free.
    other.notebook().start(other.workspace)
    assert other.files() == {"saved.txt": "saved"}


def test_a_beating_session_does_not_go_stale(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["STOPPED"](machine)
    notebook = machine.notebook()
    notebook.start(machine.workspace, resident=True)
    time.sleep(1.1)
    notebook.beat()
    with pytest.raises(Conflict):
        claim(other, other.notebook(), ttl=1.0)
    assert notebook.status().writer is not None
    assert notebook.status().writer.stale is False  # type: ignore[union-attr]


def test_a_running_writer_that_is_taken_over_keeps_its_work(world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    machine.write("shared.txt", "first")
    machine.notebook().save()
    machine.write("mine.txt", "mine")
    machine.write("shared.txt", "mine")
    other.notebook().start(other.workspace, take_over=True)
    other.write("shared.txt", "theirs")
    other.notebook().save()
    with pytest.raises(Fenced) as refused:
        machine.notebook().save()
    rescue = machine.notebook().workspace.rescue(refused.value.rescue or "")
    # Listed, browsed, restored.
    assert [found.snapshot for found in other.notebook().workspace.rescues()] == [rescue.snapshot]
    assert other.notebook().status().rescues == (rescue.snapshot,)
    assert rescue.read("mine.txt") == b"mine"
    assert sorted(entry.path for entry in rescue.ls()) == [MARKER, "mine.txt", "shared.txt"]
    copy = other.root / "copy"
    assert other.notebook().workspace.restore(copy, snapshot=rescue).complete
    assert (copy / "shared.txt").read_text() == "mine"
    # The other writer was not disturbed.
    assert other.notebook().workspace.snapshot().read("shared.txt") == b"theirs"
    other.notebook().stop()
    assert state_of(other) == "STOPPED"


@pytest.mark.parametrize("verb", ["save", "stop"])
@pytest.mark.parametrize("end", ["running", "stopped", "deleted", "saved over"])
def test_work_of_a_displaced_run_is_kept_whatever_came_after(verb: str, end: str, world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    machine.write("mine.txt", "mine")
    there = other.notebook()
    if end == "deleted":
        there.delete(force=True)
    elif end == "saved over":
        other.write("other.txt", "other")
        there.workspace.save(other.workspace, take_over=True)
    else:
        there.start(other.workspace, take_over=True)
        if end == "stopped":
            there.stop()
    notebook = machine.notebook()
    with pytest.raises(Fenced) as refused:
        getattr(notebook, verb)()
    assert refused.value.rescue is not None
    assert notebook.workspace.rescue(refused.value.rescue).read("mine.txt") == b"mine"
    # What had all been saved before makes no second rescue, and is not silent either.
    assert machine.files()["mine.txt"] == "mine"


def test_a_displaced_run_without_changes_is_told(world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    other.notebook().start(other.workspace, take_over=True)
    notebook = machine.notebook()
    with pytest.raises(Fenced, match="saved before"):
        notebook.save()
    with pytest.raises(Fenced):
        notebook.restart()
    with pytest.raises(Fenced, match="saved before"):
        notebook.stop()
    assert notebook.status().rescues == ()
    assert state_of(other) == "RUNNING"


def test_a_run_that_ended_by_itself_is_not_displaced(world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    machine.notebook().stop()
    other.notebook().start(other.workspace)
    machine.write("after.txt", "written after the end of the run")
    with pytest.raises(InvalidState, match="does not run on this machine"):
        machine.notebook().save()
    with pytest.raises(InvalidState, match="does not run on this machine"):
        machine.notebook().stop()
    other.notebook().stop()
    assert machine.notebook().stop().warnings == ("the notebook is STOPPED already; nothing was done",)
    # The next start here keeps it beside the head.
    report = machine.notebook().start(machine.workspace)
    assert report.rescue is not None
    assert machine.notebook().workspace.rescue(report.rescue).read("after.txt") == b"written after the end of the run"


def test_a_root_that_is_gone_is_never_saved_over_good_data(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    machine.notebook().save()
    head = machine.notebook().workspace.snapshot().snapshot
    machine.workspace.rename(machine.root / "moved")
    with pytest.raises(NbwsError) as refused:
        machine.notebook().save()
    assert refused.value.kind == "NotFound"
    # Another directory while the old one still has its inode.
    machine.workspace.mkdir()
    with pytest.raises(InvalidState):
        machine.notebook().save()
    assert machine.notebook().workspace.snapshot().snapshot == head
    # A start brings it back.
    machine.notebook().start(machine.workspace)
    assert machine.files() == {"a.txt": "a"}


def test_a_disk_that_was_lost_is_no_work(world: World) -> None:
    # A new directory often has the inode of the one that was removed: nothing but its emptiness tells.
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("a.txt", "a")
    machine.notebook().save()
    head = machine.notebook().workspace.snapshot().snapshot
    for path in machine.workspace.iterdir():
        path.unlink()
    report = machine.notebook().start(machine.workspace)
    assert machine.files() == {"a.txt": "a"}
    assert machine.notebook().workspace.snapshot().snapshot == head
    assert report.rescue is None


def test_a_workspace_that_shrank_is_saved_and_the_last_one_pinned(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    for number in range(10):
        machine.write(f"{number}.txt", "x" * 1_000)
    before = machine.notebook().save()
    for number in range(9):
        (machine.workspace / f"{number}.txt").unlink()
    report = machine.notebook().save()
    assert [warning for warning in report.warnings if "more than half" in warning] != []
    pinned = machine.notebook().workspace.snapshot(before.snapshot)
    assert pinned.pinned
    assert pinned.eviction_date is not None


def test_an_interrupted_start_is_resumed(disk: World) -> None:
    machine = disk.machine()
    REACH["RUNNING"](machine)
    for number in range(30):
        machine.write(f"folder/{number}.txt", str(number) * 500)
    machine.notebook().stop()
    files = machine.files()
    program = f"""
import os, signal, threading, sys
from nbws.notebooks import Notebooks
notebook = Notebooks({machine.url!r}, state_dir={str(disk.root / "two" / "state")!r}).get({IDENTITY!r})
threading.Timer(float(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
notebook.start({str(disk.root / "two" / "workspace")!r})
"""
    other = disk.machine("two")
    for delay in (0.001, 0.01, 0.02, 0.03, 0.05):
        subprocess.run([sys.executable, "-c", program, str(delay)], check=False, capture_output=True)
        assert state_of(other) in {"STOPPED", "STARTING", "RUNNING"}
    other.notebook().start(other.workspace)
    assert other.files() == files
    with contextlib.suppress(FileNotFoundError):
        os.stat(other.workspace / ".nbws-restoring")
        pytest.fail("the mark of an unfinished restore is left")


def test_a_half_restored_tree_is_never_saved(cloud: World, service: Service) -> None:
    machine, other = cloud.machine(), cloud.machine("two")
    REACH["RUNNING"](machine)
    for number in range(12):
        (machine.workspace / f"{number}.bin").write_bytes(random.Random(number).randbytes(3_000_000))
    machine.notebook().stop()
    head = machine.notebook().workspace.snapshot().snapshot
    # Some files come, then the store refuses.
    got = itertools.count()
    service.fault = lambda verb, key: 403 if verb == "get" and "/packs/" in key and next(got) > 8 else None
    with pytest.raises(Denied):
        other.notebook().start(other.workspace)
    service.fault = lambda _verb, _key: None
    assert state_of(other) == "FAILED"
    with pytest.raises(InvalidState, match="has not finished"):
        other.notebook().workspace.save(other.workspace)
    assert machine.notebook().workspace.snapshot().snapshot == head
    other.notebook().start(other.workspace)
    for number in range(12):
        assert (other.workspace / f"{number}.bin").read_bytes() == (machine.workspace / f"{number}.bin").read_bytes()


def test_damage_ends_in_error_with_a_way_out(cloud: World, service: Service) -> None:
    machine, other = cloud.machine(), cloud.machine("two")
    REACH["RUNNING"](machine)
    machine.write("whole.txt", "whole")
    machine.notebook().save()
    known = set(service.objects)
    (machine.workspace / "damaged.bin").write_bytes(random.Random(0).randbytes(3_000_000))
    machine.notebook().stop()
    pack = max(
        (key for key in set(service.objects) - known if "/packs/" in key),
        key=lambda key: len(service.objects[key].body),
    )
    body = bytearray(service.objects[pack].body)
    body[1_500_000] ^= 1
    service.objects[pack].body = bytes(body)
    notebook = other.notebook()
    with pytest.raises(Corrupt, match=r"damaged\.bin.*continue_unrestored"):
        notebook.start(other.workspace)
    assert state_of(other) == "ERROR"
    assert notebook.workspace.snapshot().read("whole.txt") == b"whole"
    # The way out: the rest runs, what is saved goes beside the head until somebody has looked.
    report = notebook.start(other.workspace, continue_unrestored=True)
    assert not report.complete
    assert state_of(other) == "RUNNING"
    assert other.files() == {"whole.txt": "whole"}
    head = notebook.workspace.snapshot().snapshot
    other.write("new.txt", "new")
    with pytest.raises(NbwsError) as refused:
        notebook.save()
    assert refused.value.rescue is not None
    assert notebook.workspace.snapshot().snapshot == head
    notebook.clear_latch()
    notebook.save()
    assert notebook.workspace.snapshot().read("new.txt") == b"new"
    notebook.stop()
    assert state_of(other) == "STOPPED"
