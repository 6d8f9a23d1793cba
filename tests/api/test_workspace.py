"""`Workspace` from Python: what a save and a restore promise."""

from __future__ import annotations

import os
import pickle
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import File, compare_trees, make_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    Machine = Callable[[str, str], nbws.Workspace]


def test_a_tree_comes_back_as_it_was(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    saved = workspace.save(tree, comment="first")
    assert saved.complete
    assert not saved.partial
    assert saved.files_total == saved.files_new == 12
    assert saved.files_opened > 0
    assert saved.requests.put > 0
    assert saved.bytes_uploaded > 0

    restored = workspace.restore(tmp_path / "restored")
    assert restored.complete
    assert restored.snapshot == saved.snapshot
    assert compare_trees(tree, tmp_path / "restored") == []
    assert restored.tree_root == workspace.snapshot().tree_root


def test_nothing_changed_costs_nothing(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    first = workspace.save(tree)
    _settle(tree)
    workspace.save(tree)
    again = workspace.save(tree)
    assert again.snapshot == first.snapshot
    assert (again.requests.put, again.files_opened, again.bytes_uploaded, again.bytes_read) == (0, 0, 0, 0)
    assert again.requests.total <= 2
    assert again.files_unchanged == again.files_total
    assert len(workspace.snapshots()) == 1


def _settle(tree: Path) -> None:
    """Waits until no time of the tree lies within the clock tick of the next scan."""
    probe = tree.parent / "tick"
    probe.touch()
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.touch()
    probe.unlink()


def test_one_edit_costs_two_puts(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    (tree / "notebook.ipynb").write_bytes(os.urandom(5_000))
    report = workspace.save(tree)
    assert report.requests.put <= 2
    assert report.bytes_uploaded <= 256 << 10
    assert report.files_changed == 1
    assert len(workspace.snapshots()) == 2


def test_after_a_restore_elsewhere_the_first_save_opens_nothing(
    file_url: str, tree: Path, tmp_path: Path, machine: Machine
) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    there = machine(file_url, "there")
    there.restore(tmp_path / "there")
    report = there.save(tmp_path / "there")
    assert (report.files_opened, report.requests.put) == (0, 0)

    (tmp_path / "there" / "src" / "a.py").write_text("print('changed')\n")
    report = there.save(tmp_path / "there")
    assert (report.files_opened, report.files_changed) == (1, 1)


def test_restore_in_place_writes_what_differs(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    first = workspace.save(tree)
    (tree / "src" / "a.py").write_text("print('changed')\n")
    (tree / "new").write_text("new")
    (tree / "empty").unlink()
    workspace.save(tree)
    report = workspace.restore(tree, snapshot=first.snapshot)
    assert (report.files_written, report.files_removed) == (2, 1)
    assert (tree / "src" / "a.py").read_text() == "print('a')\n"
    assert not (tree / "new").exists()


def test_restore_asks_before_it_removes_what_is_not_ours(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    target = make_tree({b"mine": File.of(b"precious")}, tmp_path / "foreign")
    with pytest.raises(errors.InvalidInput, match="delete"):
        workspace.restore(target)
    assert [path.name for path in target.iterdir()] == ["mine"]
    workspace.restore(target, delete=False)
    assert (target / "mine").read_bytes() == b"precious"
    assert (target / "src" / "a.py").is_file()


def test_restore_removes_when_told(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    target = make_tree({b"mine": File.of(b"old")}, tmp_path / "foreign")
    workspace.restore(target, delete=True)
    assert compare_trees(tree, target) == []


def test_restore_of_paths_touches_nothing_else(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    report = workspace.restore(tmp_path / "part", paths=["src", b"\xff\xfe not utf-8"])
    assert report.files_written == 4
    assert sorted(os.listdir(os.fsencode(tmp_path / "part"))) == [b"src", b"\xff\xfe not utf-8"]


def test_unsaved_work_is_kept_as_a_rescue(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    first = workspace.save(tree)
    (tree / "notebook.ipynb").write_text("hours of work")
    report = workspace.restore(tree, snapshot=first.snapshot)
    assert report.rescue is not None
    assert (tree / "notebook.ipynb").read_bytes() != b"hours of work"

    (rescue,) = workspace.rescues()
    assert rescue.snapshot == report.rescue
    assert rescue.reason
    workspace.restore(tmp_path / "rescued", snapshot=rescue)
    assert (tmp_path / "rescued" / "notebook.ipynb").read_text() == "hours of work"
    workspace.dismiss(rescue)
    assert workspace.rescues() == []
    with pytest.raises(errors.NotFound):
        workspace.dismiss(rescue)


def test_discard_changes_keeps_no_rescue(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    first = workspace.save(tree)
    (tree / "notebook.ipynb").write_text("never mind")
    assert workspace.restore(tree, snapshot=first.snapshot, discard_changes=True).rescue is None
    assert workspace.rescues() == []


def test_a_second_writer_is_stopped_and_its_work_kept(
    file_url: str, tree: Path, tmp_path: Path, machine: Machine
) -> None:
    here = nbws.Workspace.open(file_url, create=True)
    here.save(tree)
    there = machine(file_url, "there")
    stranger = make_tree({b"other": File.of(b"other work")}, tmp_path / "other")
    with pytest.raises((errors.InvalidState, errors.Fenced)) as caught:
        there.save(stranger)
    assert caught.value.rescue is not None
    assert [rescue.snapshot for rescue in here.rescues()] == [caught.value.rescue]
    assert here.snapshot().files == 12
    there.save(stranger, take_over=True)
    assert here.snapshot().files == 1


def test_snapshots_are_found_by_many_names(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    ids = []
    for number in range(3):
        (tree / "notebook.ipynb").write_text(f"version {number}")
        ids.append(workspace.save(tree, comment=f"number {number}").snapshot)
    found = workspace.snapshots()
    assert [snapshot.snapshot for snapshot in found] == ids
    assert [snapshot.comment for snapshot in found] == ["number 0", "number 1", "number 2"]
    assert workspace.snapshot().snapshot == ids[2]
    assert workspace.snapshot("latest~2").snapshot == ids[0]
    assert workspace.snapshot(ids[1][:12]).snapshot == ids[1]
    assert workspace.snapshot(datetime.now(UTC) + timedelta(hours=1)).snapshot == ids[2]
    assert workspace.snapshot("2999-01-01").snapshot == ids[2]
    for absent in ("latest~3", "0000", "1999-01-01T12:00"):
        with pytest.raises(errors.NotFound):
            workspace.snapshot(absent)
    with pytest.raises(errors.InvalidInput):
        workspace.snapshot("yesterday-ish")


def test_restore_by_prefix_number_and_time(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    ids = []
    for number in range(2):
        (tree / "notebook.ipynb").write_text(f"version {number}")
        ids.append(workspace.save(tree).snapshot)
    assert workspace.restore(tmp_path / "a", snapshot=ids[0][:12]).snapshot == ids[0]
    assert workspace.restore(tmp_path / "b", snapshot="latest~1").snapshot == ids[0]
    assert workspace.restore(tmp_path / "c", snapshot="2999-01-01").snapshot == ids[1]
    for absent in ("latest~7", "ffff" * 8, "1999-01-01"):
        with pytest.raises(errors.NotFound):
            workspace.restore(tmp_path / "d", snapshot=absent)
    assert not (tmp_path / "d").exists()


def test_what_is_left_out(url: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / ".nbwsignore").write_text("*.log\n/hollow\n")
    (tree / "run.log").write_text("noise")
    (tree / "cache").mkdir()
    (tree / "cache" / "big").write_text("noise")
    os.mkfifo(tree / "pipe")
    monkeypatch.chdir(tree)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    workspace = nbws.Workspace.open(url, create=True)
    report = workspace.save(tree, exclude=["cache/"])
    assert {item.path for item in report.skipped} == {"pipe", "socket"}
    assert [item.path for item in report.skipped if not item.reason] == []
    assert report.files_total == 13  # with .nbwsignore, without run.log and cache


def test_usage_and_check(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    usage = workspace.usage()
    assert usage.snapshots == 1
    assert usage.files == 12
    assert usage.logical_bytes > usage.unique_bytes
    assert usage.unique_bytes > 0
    assert usage.objects >= 2
    assert [item.path for item in usage.by_path] == sorted(path.name for path in tree.iterdir())
    assert sum(item.files for item in usage.by_path) == usage.files
    assert sum(item.logical_bytes for item in usage.by_path) == usage.logical_bytes == usage.snapshot_bytes
    assert usage.to_dict()["dedup_ratio"] == usage.logical_bytes / usage.unique_bytes
    assert usage.to_dict()["compression_ratio"] > 0
    workspace.save(tree, comment="again")
    assert workspace.usage().dedup_ratio >= usage.dedup_ratio
    for read_data in (False, True, 0.5):
        report = workspace.check(read_data=read_data)
        assert report.ok, report
        assert report.objects > 0


def test_a_save_that_shrinks_pins_what_was_there(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    for path in tree.rglob("*"):
        if path.is_file() and path.name != "empty":
            path.unlink()
    report = workspace.save(tree)
    assert report.warnings
    before, after = workspace.snapshots()
    assert before.pinned
    assert before.eviction_date is not None
    assert 29 <= (before.eviction_date - before.time).days <= 30
    assert (after.pinned, after.eviction_date) == (False, None)


def test_progress_is_told(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    seen: list[nbws.Progress] = []
    workspace.save(tree, progress=seen.append)
    workspace.restore(tmp_path / "restored", progress=seen.append)
    assert seen
    assert {type(item) for item in seen} == {nbws.Progress}
    assert all(0.0 <= item.fraction <= 1.0 for item in seen)


def test_a_raising_callback_cancels(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)

    def stop(_: nbws.Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        workspace.save(tree, progress=stop)
    assert workspace.save(tree).complete


def test_handles_pickle(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    again = pickle.loads(pickle.dumps(workspace))
    assert again.repository_id == workspace.repository_id
    assert again.url == workspace.url
    again.restore(tmp_path / "restored")
    assert compare_trees(tree, tmp_path / "restored") == []


def test_a_fork_gets_a_clear_error(file_url: str) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            workspace.snapshots()
        except errors.InvalidState as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert "fork" in os.read(reader, 4096).decode()
    os.close(reader)
    assert workspace.snapshots() == []


def test_numeric_ids_are_chosen_once(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True, numeric_ids=True)
    assert workspace.save(tree).complete
    assert nbws.Workspace.open(url, create=True).repository_id == workspace.repository_id


def test_reports_print_compare_and_pickle(url: str, tree: Path) -> None:
    report = nbws.Workspace.open(url, create=True).save(tree)
    assert pickle.loads(pickle.dumps(report)) == report
    plain = report.to_dict()
    assert plain["snapshot"] == report.snapshot
    assert plain["requests"]["put"] == report.requests.put
    assert report._repr_html_().startswith("<table")
    with pytest.raises(AttributeError):
        report.seq = 7  # type: ignore[misc]


def test_paths_are_python_paths_too(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True, state_dir=tmp_path / "elsewhere")
    workspace.save(str(tree))
    workspace.restore(os.fspath(tmp_path / "restored"), paths=[Path("src")])
    assert (tmp_path / "elsewhere").is_dir()
    assert (tmp_path / "restored" / "src" / "a.py").is_file()
