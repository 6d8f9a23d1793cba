"""The file system `nbws://` of fsspec."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import walk

fsspec = pytest.importorskip("fsspec")

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(file_url: str, tree: Path) -> str:
    nbws.Workspace.open(file_url, create=True).save(tree)
    return file_url


def test_open_by_url(repository: str, tree: Path) -> None:
    with fsspec.open("nbws://model.bin", repository=repository) as file:
        file.seek(300_000)
        assert file.read(1_000) == (tree / "model.bin").read_bytes()[300_000:301_000]
    with fsspec.open("nbws://src/a.py", "rt", repository=repository) as file:
        assert file.read() == "print('a')\n"
    with fsspec.open(f"nbws://src/a.py::{repository}") as file:
        assert file.read() == b"print('a')\n"


def test_list_walk_and_ranges(repository: str, tree: Path) -> None:
    fs = fsspec.filesystem("nbws", repository=repository)
    assert set(fs.ls("", detail=False)) == {os.fsdecode(name) for name in os.listdir(os.fsencode(tree))}
    assert set(fs.find("", withdirs=True)) >= {"src/a.py", "hollow", "model.bin"}
    found = {
        os.path.join(top, name) if top else name
        for top, directories, files in fs.walk("")
        for name in [*directories, *files]
    }
    assert found == {os.fsdecode(path) for path, _ in walk(tree)}
    content = (tree / "model.bin").read_bytes()
    for start, end in [
        (None, None),
        (0, 10),
        (5, None),
        (-10, None),
        (100, -100),
        (-20, -10),
        (600_000, 700_000),
        (9, 3),
    ]:
        assert fs.cat_file("nbws://model.bin", start, end) == content[start:end]
    assert fs.cat(["src/a.py", "empty"]) == {"src/a.py": b"print('a')\n", "empty": b""}
    info = fs.info("/model.bin")
    assert (info["type"], info["size"]) == ("file", 512_000)
    assert fs.info("latest")["destination"] == "src/a.py"
    assert fs.isdir("src")
    assert fs.isdir("")
    assert fs.isfile("src/a.py")
    assert not fs.exists("nowhere")
    assert fs.glob("src/*.py") == ["src/a.py", "src/b-again.py", "src/b.py"]
    assert fs.du("src") == 33
    assert fs.modified("model.bin").year == 2022
    assert pickle.loads(pickle.dumps(fs)).cat_file("src/a.py") == b"print('a')\n"


def test_one_snapshot_is_chosen_once(repository: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(repository)
    fs = fsspec.filesystem("nbws", repository=workspace)
    (tree / "src/a.py").write_bytes(b"newer")
    workspace.save(tree)
    assert fs.cat_file("src/a.py") == b"print('a')\n"
    assert fsspec.filesystem("nbws", repository=repository).cat_file("src/a.py") == b"newer"
    for snapshot in ("latest~1", workspace.snapshot("latest~1")):
        old = fsspec.filesystem("nbws", repository=repository, snapshot=snapshot)
        assert old.cat_file("src/a.py") == b"print('a')\n"


def test_nothing_can_be_changed(repository: str) -> None:
    fs = fsspec.filesystem("nbws", repository=repository)
    for change in (
        lambda: fs.open("src/a.py", "wb"),
        lambda: fs.rm("src/a.py"),
        lambda: fs.mkdir("x"),
        lambda: fs.makedirs("x/y"),
        lambda: fs.rmdir("hollow"),
        lambda: fs.cp_file("src/a.py", "b"),
        lambda: fs.pipe_file("x", b"1"),
        lambda: fs.touch("x"),
    ):
        with pytest.raises((OSError, NotImplementedError)):
            change()  # type: ignore[no-untyped-call]
    assert fs.cat_file("src/a.py") == b"print('a')\n"


def test_a_repository_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput):
        fsspec.filesystem("nbws")
    with pytest.raises(FileNotFoundError):
        fsspec.filesystem("nbws", repository=(tmp_path / "nothing").as_uri())
