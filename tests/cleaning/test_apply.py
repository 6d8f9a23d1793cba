"""What applying a plan does and says: bytes, trash, full disks, interruptions, progress."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from junk import KINDS, CleanWorkspace, listing
from nbws import cleaning
from nbws.cleaning import CleaningInterrupted
from nbws.cleaning.in_use import InUse
from nbws.cleaning.removal import Removal
from nbws.errors import InvalidInput
from test_safety import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from nbws.progress import Progress


def blocks(path: Path) -> int:
    """What a tree takes on disk, as du counts."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for found in [path, *path.rglob("*")]:
        info = found.lstat()
        if (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total


def test_bytes_are_those_of_the_disk(workspace: CleanWorkspace) -> None:
    workspace.fill("pip", "npm", own=False)
    with workspace.write(".cache/pip/http-v2/sparse").open("r+b") as file:
        file.truncate(50 << 20)
    expected = blocks(workspace.path / ".cache/pip") + blocks(workspace.path / ".npm/_cacache")
    plan = workspace.plan()
    assert plan.bytes == expected
    assert plan.bytes < 1 << 20
    assert plan.bytes == sum(item.bytes for item in plan.items) == sum(group.bytes for group in plan.categories)
    assert plan.files == sum(item.files for item in plan.items) == 5
    report = plan.apply()
    assert report.bytes_freed == expected
    assert report.files == 5
    assert {item.name: item.bytes for item in report.items} == {item.name: item.bytes for item in plan.items}


def test_hard_links_count_when_the_last_name_goes(workspace: CleanWorkspace) -> None:
    size = 1 << 20
    inside = workspace.write(".npm/_cacache/content-v2/a", os.urandom(size))
    os.link(inside, workspace.path / ".npm/_cacache/content-v2/b")
    shared = workspace.write(".npm/_cacache/content-v2/c", os.urandom(size))
    os.link(shared, workspace.path / "kept")
    plan = workspace.plan()
    assert size <= plan.bytes < 2 * size
    assert plan.files == 3
    report = plan.apply()
    assert report.bytes_freed == plan.bytes
    assert (workspace.path / "kept").stat().st_size == size


def test_a_second_apply_does_nothing(workspace: CleanWorkspace) -> None:
    workspace.fill()
    plan = workspace.plan()
    assert plan.apply().files == plan.files
    again = plan.apply()
    assert (again.complete, again.files, again.bytes_freed, again.left, again.failed) == (True, 0, 0, (), ())


def test_reports_turn_into_json_and_html(workspace: CleanWorkspace) -> None:
    workspace.fill("pip")
    plan = workspace.plan()
    assert json.loads(json.dumps(plan.to_dict()))["paths"] == [".cache/pip"]
    assert "downloads and wheels" in plan._repr_html_()
    report = plan.apply()
    assert json.loads(json.dumps(report.to_dict()))["applied"] is True
    assert "bytes freed" in report._repr_html_()


# ---- trash


def test_trash_takes_what_would_be_removed(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("pip", "npm", "core-dumps", "pycache")
    plan = workspace.plan()
    trash = tmp_path / "made" / "trash"
    report = plan.apply(trash=trash)
    assert report.complete
    assert (report.bytes_freed, report.bytes_moved, report.files) == (0, plan.bytes, plan.files)
    moved = sorted(os.listdir(trash))
    assert [name.split("-", 5)[-1] for name in moved] == [
        ".cache%2Fpip",
        "core.4711",
        "run%2Fcore",
        ".npm%2F_cacache",
        "src%2F__pycache__",
    ] or len(moved) == 5
    kept = {path.rpartition(b"/")[2] for path in listing(trash)}
    assert {b"abcde", b"1f", b"cd", b"a.cpython-311.pyc"} <= kept
    assert workspace.plan().paths == ()


def test_a_trash_in_the_workspace_is_not_cleaned_again(workspace: CleanWorkspace) -> None:
    workspace.fill("uv", own=False)
    workspace.write(".cache/uv/archive-v0/x1/__pycache__/a.pyc")
    report = workspace.plan().apply(trash=workspace.path / "trash")
    assert report.complete
    assert "saved and counts" in report.warnings[0]
    assert workspace.plan().paths == ()
    assert [path for path in listing(workspace.path) if path.endswith(b"a.pyc")]


def test_what_stays_is_not_moved_either(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("npm", own=False)
    busy = workspace.path / ".npm/_cacache/index-v5/ab/cd"
    plan = workspace.plan()
    came = workspace.write(".npm/_cacache/tmp/new")
    with busy.open("rb"):
        report = plan.apply(trash=tmp_path / "trash")
    assert busy.exists()
    assert came.exists()
    assert not report.complete
    assert not (workspace.path / ".npm/_cacache/content-v2").exists()
    assert report.files == 1


def test_trashes_that_can_not_be_used(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("npm", own=False)
    plan = workspace.plan()
    before = workspace.listing()
    with pytest.raises(InvalidInput, match="which is to be cleaned"):
        plan.apply(trash=workspace.path / ".npm/_cacache/content-v2")
    with pytest.raises(InvalidInput, match="directory that is cleaned"):
        plan.apply(trash=workspace.path)
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(InvalidInput, match="not a directory"):
        plan.apply(trash=file)
    with (
        mounted("none", tmp_path / "other", "-t", "tmpfs", "-o", "size=1m"),
        pytest.raises(InvalidInput, match="another file system"),
    ):
        plan.apply(trash=tmp_path / "other/trash")
    assert workspace.listing() == before


def test_long_paths_fit_into_the_trash(workspace: CleanWorkspace, tmp_path: Path) -> None:
    names = "/".join(letter * 200 for letter in "abc")
    workspace.write(f"{names}/__pycache__/x.pyc")
    assert workspace.plan().apply(trash=tmp_path / "trash").complete
    assert os.listdir(tmp_path / "trash")[0].endswith("c%2F__pycache__")


# ---- full disks


def fill_up(directory: Path) -> None:
    """Takes all bytes and all inodes of a file system."""
    with suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    with suppress(OSError):
        for number in range(100_000):
            (directory / f"inode-{number}").touch()
    with pytest.raises(OSError, match="No space"):
        (directory / "one-more").touch()
    assert os.statvfs(directory).f_bavail == 0


@pytest.mark.parametrize("to_trash", [False, True])
def test_a_disk_without_a_free_byte_or_inode(tmp_path: Path, to_trash: bool) -> None:
    disk = tmp_path / "disk"
    with mounted("none", disk, "-t", "tmpfs", "-o", "size=2m,nr_inodes=200"):
        workspace = CleanWorkspace(disk / "workspace")
        workspace.fill("npm", "pip", "pycache", "huggingface")
        (disk / "trash").mkdir()
        fill_up(disk)
        plan = workspace.plan()
        assert plan.bytes > 0
        report = plan.apply(trash=disk / "trash" if to_trash else None)
        assert report.complete
        assert report.files == plan.files
        if to_trash:
            assert report.bytes_moved == plan.bytes
        else:
            assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >= plan.bytes > 0
            assert (report.bytes_freed, report.bytes_moved) == (plan.bytes, 0)
        assert workspace.plan().paths == ()


def test_the_command_on_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted("none", disk, "-t", "tmpfs", "-o", "size=2m,nr_inodes=200"):
        workspace = CleanWorkspace(disk / "workspace")
        workspace.fill("npm", "pip")
        fill_up(disk)
        environment = {**os.environ, "HOME": str(workspace.path), "TMPDIR": str(disk), "PYTHONDONTWRITEBYTECODE": ""}
        run = [sys.executable, "-m", "nbws.cli.main", "clean", str(workspace.path), "--apply", "--json"]
        code = "from nbws.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *run[3:]],
            env=environment,
            cwd=disk,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["complete"] is True


@pytest.mark.parametrize("to_trash", [False, True])
def test_not_a_byte_is_written(workspace: CleanWorkspace, tmp_path: Path, to_trash: bool) -> None:
    """The portable check of the same: a process that may not write to files at all."""
    workspace.fill()
    (tmp_path / "trash").mkdir()
    code = f"""
from nbws import cleaning
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
plan = cleaning.plan({str(workspace.path)!r}, environment={workspace.environment!r})
report = plan.apply(trash={str(tmp_path / "trash") if to_trash else None!r})
raise SystemExit(0 if report.complete and report.files == plan.files > 40 else 1)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert workspace.plan().paths == ()


# ---- interruptions and progress


def test_ctrl_c_leaves_a_true_report(workspace: CleanWorkspace) -> None:
    for number in range(3000):
        workspace.write(f".npm/_cacache/content-v2/{number % 30}/{number}")
    plan = workspace.plan()
    shown: list[Progress] = []

    def press(progress: Progress) -> None:
        shown.append(progress)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(CleaningInterrupted) as caught:
        plan.apply(progress=press)
    report = caught.value.report
    left = sum(len(files) for _, _, files in os.walk(workspace.path / ".npm"))
    assert report.interrupted
    assert not report.complete
    assert report.files == 3000 - left
    assert isinstance(caught.value, KeyboardInterrupt)
    # It goes on where it was ended, by the same plan or by another one.
    assert workspace.plan().files == left
    if left:
        assert plan.apply().files == left
    assert workspace.plan().paths == ()


def test_a_signal_in_the_middle_counts_exactly(workspace: CleanWorkspace) -> None:
    for number in range(10_000):
        workspace.write(f".npm/_cacache/content-v2/{number % 100}/{number}", b"")
    code = f"""
import os, signal, threading
from nbws import cleaning
from nbws.cleaning import CleaningInterrupted
plan = cleaning.plan({str(workspace.path)!r}, environment={workspace.environment!r})
main = threading.main_thread().ident
shown = []
def show(progress):
    if not shown:
        threading.Timer(0.01, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    shown.append(progress)
try:
    report = plan.apply(progress=show)
except CleaningInterrupted as interrupted:
    report = interrupted.report
left = sum(len(files) for _, _, files in os.walk({str(workspace.path)!r}))
print(report.interrupted, report.files, left)
# Interrupted late, all files may be gone, and directories not.
raise SystemExit(0 if report.files + left == 10_000 and (report.interrupted or not left) else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["uv", "torch-hub", "go-modules"])
def test_what_is_left_of_an_interrupted_find_is_still_proven(workspace: CleanWorkspace, kind: str) -> None:
    workspace.fill(kind, own=False)
    for number in range(12):
        path = next(iter(KINDS[kind][0])).rsplit("/", 1)[0]
        workspace.write(f"{path}/extra-v{number}.x/{number}")
    plan = workspace.plan()
    root = str(workspace.path)
    while plan.files:
        removal = Removal(root, plan._work.units, InUse(root), frozenset(), young_after_ns=None, trash=None)
        steps = removal.steps()
        next(steps)
        next(steps, None)
        steps.close()
        assert removal.files == 1
        before, plan = plan, workspace.plan()
        assert plan.files == before.files - 1


def test_progress_reaches_the_total(workspace: CleanWorkspace) -> None:
    workspace.fill()
    shown: list[Progress] = []
    plan = workspace.plan(progress=shown.append)
    assert shown[-1].phase == "look"
    assert shown[-1].files_done >= plan.files
    shown.clear()
    plan.apply(progress=shown.append)
    assert (shown[-1].files_done, shown[-1].bytes_done) == (plan.files, plan.bytes)
    assert shown[-1].fraction == 1.0


def test_a_progress_callback_that_raises_ends_it(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)

    def fail(progress: Progress) -> None:
        raise RuntimeError(progress.phase)

    with pytest.raises(RuntimeError, match="look"):
        workspace.plan(progress=fail)
    plan = workspace.plan()
    with pytest.raises(RuntimeError, match="clean"):
        plan.apply(progress=fail)


def test_twins_for_event_loops(workspace: CleanWorkspace) -> None:
    workspace.fill("npm", own=False)

    async def clean() -> cleaning.CleaningReport:
        plan = await cleaning.plan_async(workspace.path, environment=workspace.environment)
        return await plan.apply_async()

    report = asyncio.run(clean())
    assert report.complete
    assert report.files == 2


def test_a_cancelled_task_ends_it_between_two_files(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    # A quick disk removes all in one slice of the usual length.
    monkeypatch.setattr("nbws.cleaning.slices._SLICE_S", 0.001)
    for number in range(10_000):
        workspace.write(f".npm/_cacache/content-v2/{number % 100}/{number}", b"")
    plan = workspace.plan()

    async def cancel() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(plan.apply_async(progress=lambda _: begun.set()))
        await begun.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    left = workspace.plan().files
    assert 0 < left < 10_000
    assert plan.apply().files == left


# ---- the store


def test_what_the_store_has_of_it(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("npm", "pip", "huggingface")
    repository = nbws.Workspace.open((tmp_path / "objects").as_uri(), create=True)
    assert workspace.plan(workspace=repository).store is None
    saved = repository.save(workspace.path)
    workspace.write(".npm/_cacache/content-v2/unsaved", b"x" * 100)
    plan = workspace.plan(workspace=repository)
    assert plan.store is not None
    sizes = {name: len(content) for kind in ("npm", "pip", "huggingface") for name, content in KINDS[kind][0].items()}
    assert (plan.store.snapshot, plan.store.files) == (saved.snapshot, len(sizes))
    assert plan.store.logical_bytes == sum(sizes.values())
    # All is zeros and x here; what is stored of it is little, and not nothing.
    assert plan.store.stored_bytes is not None
    assert 0 < plan.store.stored_bytes < plan.store.logical_bytes
    pip = workspace.plan(workspace=repository.snapshot(), only=["pip"]).store
    assert pip is not None
    assert (pip.snapshot, pip.files) == (saved.snapshot, 2)
    assert pip.logical_bytes == sizes[".cache/pip/http-v2/a/b/c/d/e/abcde"] + sizes[".cache/pip/selfcheck/1f"]
    assert pip.stored_bytes == repository.usage(".cache/pip", depth=0).total.stored_bytes
    before = repository.usage().logical_bytes
    plan.apply()
    repository.save(workspace.path)
    assert before - repository.usage().logical_bytes == plan.store.logical_bytes


def test_many_finds_are_looked_up_in_one_listing(workspace: CleanWorkspace, tmp_path: Path) -> None:
    for number in range(70):
        workspace.write(f"p{number}/__pycache__/a.pyc", b"123")
    workspace.write("p1/a.py", b"123")
    repository = nbws.Workspace.open((tmp_path / "objects").as_uri(), create=True)
    repository.save(workspace.path)
    share = workspace.plan(workspace=repository).store
    assert share is not None
    assert (share.files, share.logical_bytes, share.stored_bytes) == (70, 210, None)


def test_the_store_frees_what_was_said_once_nothing_needs_it(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.write("notebook.ipynb", b"{}" * 500)
    workspace.write(".npm/_cacache/content-v2/big", os.urandom(400_000))
    repository = nbws.Workspace.open((tmp_path / "objects").as_uri(), create=True)
    repository.save(workspace.path)
    plan = workspace.plan(workspace=repository)
    assert plan.store is not None
    assert plan.store.stored_bytes is not None
    plan.apply()
    repository.save(workspace.path)
    kept = repository.usage()
    assert kept.total.logical_bytes == 1000
    # It is all there still, in what only the older snapshot needs.
    assert kept.other_bytes >= plan.store.stored_bytes > 400_000


def test_a_failure_is_reported_and_the_rest_goes_on(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.fill("npm", "pip", own=False)
    plan = workspace.plan()
    real = os.unlink

    def unlink(name: Any, *, dir_fd: int | None = None) -> None:
        if name == "cd":
            raise OSError(5, "Input/output error")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    report = plan.apply()
    assert not report.complete
    assert [(item.path, item.reason) for item in report.failed] == [
        (".npm/_cacache/index-v5/ab/cd", "Input/output error")
    ]
    assert report.left == ()
    assert report.files == plan.files - 1
