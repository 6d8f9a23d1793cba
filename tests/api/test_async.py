"""The asynchronous twins: the same answers, a loop that keeps turning, and cancellation on both sides."""

from __future__ import annotations

import asyncio
import inspect
import io
import random
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import compare_trees

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


# Steps for other verbs, and what only describes.
NO_VERBS = {"named", "opened", "attach", "to_dict", "from_engine"}


@pytest.mark.parametrize("cls", [nbws.Workspace, nbws.Snapshot, nbws.Rescue])
def test_every_verb_has_a_twin_with_the_same_arguments(cls: type) -> None:
    verbs = {
        name: function
        for name, function in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and not name.endswith("_async") and name not in NO_VERBS
    }
    assert {"save", "find", "check"} <= set(verbs) or {
        "ls",
        "stat",
        "read",
        "open_file",
        "diff",
        "du",
        "growth",
        "usage",
        "export",
    } == set(verbs)
    for name, function in verbs.items():
        other = getattr(cls, f"{name}_async")
        assert inspect.iscoroutinefunction(other)
        assert inspect.signature(other).parameters == inspect.signature(function).parameters
        assert "Call" not in str(inspect.signature(function))
        assert other.__name__ == f"{name}_async"
        if name != "open_file":
            assert inspect.signature(other) == inspect.signature(function)


class Collector:
    """A writer of the kind that event loops have."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def write(self, piece: bytes) -> None:
        await asyncio.sleep(0)
        self.pieces.append(bytes(piece))


def test_snapshots_are_read_without_blocking(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    (tree / "new.txt").write_text("new")
    workspace.save(tree)

    async def work() -> None:
        first, second = await workspace.snapshot_async("latest~1"), await workspace.find_async()
        assert await second.ls_async(recursive=True) == second.ls(recursive=True)
        assert await second.stat_async("new.txt") == second.stat("new.txt")
        assert await second.read_async("new.txt") == b"new"
        assert await second.du_async() == second.du()
        assert [entry.path for entry in (await first.diff_async(second)).added] == ["new.txt"]
        assert [entry.path for entry in (await first.diff_async("latest")).added] == ["new.txt"]
        assert (await second.diff_async(tree)).is_empty
        collector, file = Collector(), io.BytesIO()
        report = await second.export_async(collector)
        assert await second.export_async(file) == report == second.export(io.BytesIO())
        assert b"".join(collector.pieces) == file.getvalue()
        with pytest.raises(errors.NotFound):
            await second.stat_async("nothing")
        with pytest.raises(errors.InvalidInput, match="_async"):
            second.export(collector)

    run(work())


def test_a_time_is_found_without_blocking(url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    saved = workspace.save(tree)
    now = datetime.now(UTC)
    (tree / "later.txt").write_text("later")
    workspace.save(tree)

    async def work() -> None:
        assert (await workspace.snapshot_async(now)).snapshot == saved.snapshot
        assert (await workspace.restore_async(tmp_path / "restored", snapshot=now)).snapshot == saved.snapshot
        with pytest.raises(errors.NotFound):
            await workspace.find_async("2001-01-01")

    run(work())


def test_an_awaited_file_seeks_and_reads(url: str, tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    content = random.Random(7).randbytes(300_000)
    (tmp_path / "workspace" / "f").write_bytes(content)
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tmp_path / "workspace")

    async def work() -> None:
        async with await (await workspace.snapshot_async()).open_file_async("f") as file:
            assert (file.name, file.size, file.tell()) == ("f", len(content), 0)
            assert await file.read(1000) == content[:1000]
            assert await file.read(0) == b""
            assert file.seek(-10, io.SEEK_END) == len(content) - 10
            assert await file.read(100) == content[-10:]
            assert await file.read() == b""
            file.seek(len(content) + 5)
            assert await file.read(1) == b""
            file.seek(0)
            assert await file.read() == content
        with pytest.raises(ValueError, match="closed"):
            await file.read(1)

    run(work())


def test_twins_answer_like_the_verbs(url: str, tree: Path, tmp_path: Path) -> None:
    async def work() -> None:
        workspace = await nbws.Workspace.open_async(url, create=True)
        seen: list[nbws.Progress] = []
        saved = await workspace.save_async(tree, comment="first", progress=seen.append)
        assert saved.complete
        assert seen
        assert [s.snapshot for s in await workspace.snapshots_async()] == [saved.snapshot]
        assert (await workspace.snapshot_async()).comment == "first"
        restored = await workspace.restore_async(tmp_path / "restored")
        assert restored.tree_root == (await workspace.snapshot_async("latest")).tree_root
        assert (await workspace.usage_async()).snapshots == 1
        assert (await workspace.check_async(read_data=True)).ok
        assert await workspace.rescues_async() == []
        with pytest.raises(errors.NotFound):
            await workspace.dismiss_async("0" * 32)

    run(work())
    assert compare_trees(tree, tmp_path / "restored") == []


def test_the_loop_keeps_turning_and_does_no_work_itself(tmp_path: Path) -> None:
    for number in range(20):
        place = tmp_path / f"w{number}"
        place.mkdir()
        for file in range(30):
            (place / f"f{file}").write_bytes(random.Random(1000 * number + file).randbytes(400_000))
    told: set[int] = set()
    ticks = 0
    most_work = 0.0

    async def one(number: int) -> nbws.SaveReport:
        workspace = await nbws.Workspace.open_async(f"file://{tmp_path}/objects-{number}", create=True)
        return await workspace.save_async(tmp_path / f"w{number}", progress=lambda _: told.add(threading.get_ident()))

    async def work() -> list[nbws.SaveReport]:
        nonlocal ticks, most_work
        saves = asyncio.gather(*(one(number) for number in range(20)))
        while not saves.done():
            before = time.thread_time()
            await asyncio.sleep(0.002)
            most_work = max(most_work, time.thread_time() - before)
            ticks += 1
        return await saves

    reports = run(work())
    assert [report.files_total for report in reports] == [30] * 20
    assert ticks > 5
    # Seconds of CPU, which waiting for a core does not count: cutting and hashing one of the workspaces alone takes longer.
    assert most_work < 0.02
    # Callbacks run on the loop's own thread, as everything else of the caller.
    assert told == {threading.get_ident()}


def test_a_cancelled_task_ends_the_save_and_loses_nothing(file_url: str, tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.mkdir()
    # More than one pack: the first one is not held back by the rate.
    for number in range(80):
        (place / f"f{number}").write_bytes(random.Random(number).randbytes(1_000_000))
    workspace = nbws.Workspace.open(file_url, create=True)

    async def work() -> None:
        task = asyncio.create_task(workspace.save_async(place, limit_rate=10_000))
        await asyncio.sleep(1)
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 20

    run(work())
    assert workspace.snapshots() == []
    assert workspace.save(place).complete


def test_a_raising_callback_cancels(url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(url, create=True)

    def fail(_: nbws.Progress) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        run(workspace.save_async(tree, progress=fail))
    assert workspace.save(tree).complete


def test_errors_come_out_of_the_await(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        run(nbws.Workspace.open_async(f"file://{tmp_path}/nothing"))
