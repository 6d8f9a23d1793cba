"""The same tests on every store: the main line, what is not there, writers side by side, and what the doctor finds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws.errors import Conflict, Fenced, InvalidInput, InvalidState, NbwsError, NotFound, Unsupported
from nbws.testing.trees import File, Symlink, compare_trees, make_tree

if TYPE_CHECKING:
    from conftest import Place, Server


def small_tree(path: Path) -> Path:
    return make_tree(
        {
            **{f"lib/m{i}.py".encode(): File.of(b"x = 1\n" * i) for i in range(50)},
            b"model.bin": File.of(bytes(range(256)) * 8_000),
            b"link": Symlink(b"lib/m1.py"),
        },
        path,
    )


def test_save_edit_and_restore(place: Place, tmp_path: Path) -> None:
    work = small_tree(tmp_path / "work")
    workspace = place.open(create=True)
    assert workspace.save(work).complete
    (work / "lib" / "m5.py").write_text("y = 2\n")
    edited = workspace.save(work, comment="an edit")
    assert (edited.requests.put, edited.requests.list, edited.requests.get) == (2, 1, 0)
    assert workspace.save(work).requests.put == 0
    restored = place.open().restore(tmp_path / "restored", verify=True)
    assert restored.complete
    assert compare_trees(work, tmp_path / "restored") == []
    assert [snapshot.comment for snapshot in workspace.snapshots()] == [None, "an edit"]
    assert workspace.check(read_data=True).complete


def test_nothing_there_is_not_a_new_notebook(place: Place) -> None:
    with pytest.raises(NotFound):
        place.open()


def test_writers_side_by_side(place: Place, tmp_path: Path) -> None:
    """Two writers with targets and state of their own: every save is in the log once, as snapshot or as rescue."""
    place.open(create=True)
    errors: list[NbwsError] = []

    def write(name: str) -> None:
        exclusive = None if place.is_atomic else nbws.LockFile(place.lock)
        options = {"store": place.options, "state_dir": tmp_path / f"state-{name}", "exclusive": exclusive}
        workspace = nbws.Workspace.open(place.url, **options)  # type: ignore[arg-type]
        for number in range(3):
            work = make_tree({b"f": File.of(f"{name} {number}".encode())}, tmp_path / f"{name}-{number}")
            try:
                workspace.save(work, take_over=True, comment=f"{name} {number}")
            except (Conflict, Fenced, InvalidState) as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    workspace = place.open()
    kept = [s.comment for s in workspace.snapshots()] + [r.comment for r in workspace.rescues()]
    assert sorted(str(comment) for comment in kept) == [f"{name} {n}" for name in ("a", "b") for n in range(3)]
    assert len(workspace.rescues()) == len(errors)
    if not place.is_atomic:
        assert errors == []


@pytest.mark.parametrize("run", [1, 2])
def test_what_the_doctor_finds(place: Place, run: int) -> None:
    report = nbws.doctor(place.url, store=place.options)
    assert report.multi_writer is place.is_atomic
    assert (report.most_winners == 1) is place.is_atomic
    assert report.rounds == 8
    assert report.sequential_create
    assert report.read_after_write
    assert report.list_after_write
    assert bool(report.findings) is not place.is_atomic
    assert report.clock_offset_s is not None
    assert abs(report.clock_offset_s) < 5
    assert "canary" not in repr(report)
    # It leaves nothing, so that the place still is unused.
    with pytest.raises(NotFound):
        place.open()


@pytest.mark.soak
def test_the_doctor_finds_the_same_twenty_times(moto_server: Server, swift_server: Server) -> None:
    for name, server, is_atomic in (("moto", moto_server, True), ("swift", swift_server, False)):
        most = []
        for run in range(20):
            report = nbws.doctor(f"s3://bucket/twenty/{run}", store=server.options)
            assert report.multi_writer is is_atomic, (name, run, report)
            most.append(report.most_winners)
        print(f"\n{name}: multi_writer is {is_atomic} in 20 of 20 runs; most winners {most}")


def test_several_writers_are_refused_where_creates_are_not_atomic(swift_server: Server, tmp_path: Path) -> None:
    url, options = "s3://bucket/refused", swift_server.options
    with pytest.raises(Unsupported, match="not atomic") as refused:
        nbws.Workspace.open(url, create=True, store=options)
    assert "LockFile" in str(refused.value)
    with pytest.raises(NotFound):
        nbws.Workspace.open(url, store=options)

    writer = nbws.Workspace.open(url, create=True, store=options, exclusive=nbws.LockFile(tmp_path / "lock"))
    work = small_tree(tmp_path / "work")
    writer.save(work)
    reader = nbws.Workspace.open(url, store=options)
    assert len(reader.snapshots()) == 1
    reader.restore(tmp_path / "restored")
    assert compare_trees(work, tmp_path / "restored") == []
    with pytest.raises(Unsupported, match="not atomic"):
        reader.save(work)

    environment = os.environ | {f"AWS_{name.upper()}": value for name, value in options.items()}
    command = [str(Path(sys.executable).with_name("nbws")), "save", str(work), url]
    for extra, code in ([], 8), (["--lock-file", str(tmp_path / "lock")], 0):
        done = subprocess.run([*command, *extra], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr


def test_a_bucket_that_does_not_exist(moto_server: Server, swift_server: Server) -> None:
    for server in (moto_server, swift_server):
        with pytest.raises(InvalidInput, match="bucket does not exist"):
            nbws.Workspace.open("s3://no-such-bucket/x", create=True, store=server.options)
        with pytest.raises(InvalidInput, match="bucket does not exist"):
            nbws.doctor("s3://no-such-bucket/x", store=server.options)
