"""Speed of the Python calls on a small workspace: `make bench` runs this; `make test` does not."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbws
import pytest

if TYPE_CHECKING:
    from pathlib import Path

FILES, FOLDERS = 2_000, 20
_numbers = itertools.count()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """2,000 files of 5 KB and one of 20 MB."""
    top = tmp_path / "workspace"
    for number in range(FILES):
        folder = top / f"folder-{number % FOLDERS}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"part-{number}.txt").write_bytes(f"{number} of {FILES}\n".encode() * 350)
    (top / "large.bin").write_bytes(b"".join(number.to_bytes(4, "big") * 2 for number in range(2_500_000)))
    return top


@pytest.fixture
def repository(tmp_path: Path) -> nbws.Workspace:
    return nbws.Workspace.open((tmp_path / "objects").as_uri(), create=True, state_dir=tmp_path / "state")


@pytest.fixture
def snapshot(repository: nbws.Workspace, workspace: Path) -> nbws.Snapshot:
    repository.save(workspace)
    return repository.snapshot()


def test_save_first(benchmark: Any, workspace: Path, tmp_path: Path) -> None:
    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        number = next(_numbers)
        url = (tmp_path / f"objects-{number}").as_uri()
        return (nbws.Workspace.open(url, create=True, state_dir=tmp_path / f"state-{number}"),), {}

    report = benchmark.pedantic(lambda place: place.save(workspace), setup=fresh, rounds=5)
    assert report.files_new == FILES + 1


def test_save_no_change(benchmark: Any, repository: nbws.Workspace, workspace: Path) -> None:
    repository.save(workspace)
    assert benchmark(repository.save, workspace).files_unchanged == FILES + 1


def test_save_one_edit(benchmark: Any, repository: nbws.Workspace, workspace: Path) -> None:
    repository.save(workspace)

    def edit() -> tuple[tuple[Any, ...], dict[str, Any]]:
        (workspace / "folder-1" / "part-1.txt").write_text(f"run {next(_numbers)}\n" * 400)
        return (workspace,), {}

    assert benchmark.pedantic(repository.save, setup=edit, rounds=20).files_changed == 1


def test_restore(benchmark: Any, repository: nbws.Workspace, snapshot: nbws.Snapshot, tmp_path: Path) -> None:
    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tmp_path / f"restored-{next(_numbers)}",), {"snapshot": snapshot}

    assert benchmark.pedantic(repository.restore, setup=fresh, rounds=5).files_written == FILES + 1


def test_open(benchmark: Any, repository: nbws.Workspace, tmp_path: Path) -> None:
    opened = benchmark(nbws.Workspace.open, repository.url, state_dir=tmp_path / "state")
    assert opened.repository_id == repository.repository_id


def test_snapshots(benchmark: Any, repository: nbws.Workspace, snapshot: nbws.Snapshot) -> None:
    assert benchmark(repository.snapshots)[-1].snapshot == snapshot.snapshot


def test_ls(benchmark: Any, snapshot: nbws.Snapshot) -> None:
    assert len(benchmark(snapshot.ls, "folder-1")) == FILES // FOLDERS


def test_ls_recursive(benchmark: Any, snapshot: nbws.Snapshot) -> None:
    assert len(benchmark(snapshot.ls, "", recursive=True)) == FILES + FOLDERS + 1


def test_read_small_file(benchmark: Any, snapshot: nbws.Snapshot) -> None:
    assert benchmark(snapshot.read, "folder-1/part-1.txt").startswith(b"1 of")


def test_read_large_file(benchmark: Any, snapshot: nbws.Snapshot) -> None:
    assert len(benchmark(snapshot.read, "large.bin")) == 20_000_000


def test_diff_snapshots(benchmark: Any, repository: nbws.Workspace, snapshot: nbws.Snapshot, workspace: Path) -> None:
    (workspace / "folder-1" / "part-1.txt").write_text("other")
    repository.save(workspace)
    assert len(benchmark(snapshot.diff, repository.snapshot()).changed) == 1


def test_diff_directory(benchmark: Any, snapshot: nbws.Snapshot, workspace: Path) -> None:
    assert benchmark(snapshot.diff, workspace).changed == ()


def test_export(benchmark: Any, snapshot: nbws.Snapshot) -> None:
    assert benchmark.pedantic(lambda: snapshot.export(io.BytesIO()), rounds=5).files == FILES + 1


def test_import(benchmark: Any) -> None:
    command = [sys.executable, "-c", "import nbws"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True), rounds=15, warmup_rounds=1)
