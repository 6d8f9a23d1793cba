"""Shared by the tests of the API: places of their own for objects, local state and workspaces."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws.testing.trees import Dir, File, Hardlink, Symlink, Tree, make_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_numbers = itertools.count()

SMALL_TREE: Tree = {
    b"notebook.ipynb": File.of(b'{"cells": []}\n' * 400),
    b"src": Dir(0o750),
    b"src/a.py": File.of(b"print('a')\n", mode=0o755),
    b"src/b.py": File.of(b"print('b')\n", xattrs={"user.kind": b"script"}),
    b"src/b-again.py": Hardlink(b"src/b.py"),
    b"model.bin": File.of(bytes(range(256)) * 2_000, mtime_ns=1_650_000_000_123_456_789),
    b"sparse.bin": File({1 << 20: b"island"}, 3 << 20),
    b"latest": Symlink(b"src/a.py"),
    b"dangling": Symlink(b"/nowhere/at/all"),
    b"empty": File.of(b""),
    b"hollow": Dir(),
    b"\xff\xfe not utf-8": File.of(b"odd"),
    b"x" * 255: File.of(b"long name"),
    b"line\nbreak \x1b[31m": File.of(b"rude name"),
}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBWS_STATE", str(tmp_path / "state"))


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place without a repository."""
    if request.param == "memory":
        return f"memory:///test-{next(_numbers)}"
    return (tmp_path / "objects").as_uri()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return (tmp_path / "objects").as_uri()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small workspace with everything that is hard."""
    return make_tree(SMALL_TREE, tmp_path / "workspace")


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str, str], nbws.Workspace]:
    """Opens the repository as another machine would: with local state of its own."""

    def open_there(url: str, name: str) -> nbws.Workspace:
        return nbws.Workspace.open(url, state_dir=tmp_path / f"state-{name}")

    return open_there
