"""Every tree that the engine saves is read back by the independent reader and compared."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbws
import pytest
from canonical import check_encoding
from hypothesis import HealthCheck, given, settings
from nbws import reader
from nbws.testing.strategies import trees
from nbws.testing.trees import File, compare_trees, make_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbws.testing.trees import Tree


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBWS_STATE", str(tmp_path / "state"))


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def read_back(objects: Path, original: Path, target: Path, snapshot: str = "latest") -> reader.SnapshotRoot:
    """Restores with the reader alone, compares with the original, and checks every encoding."""
    repository = reader.Repository(objects)
    work = repository.resolve(snapshot)
    root = repository.snapshot(work)
    restored = reader.restore(repository, root, target, special_modes=True)
    assert restored.tree_root == root.tree_root.hex()
    assert compare_trees(original, target) == []
    check_encoding(repository, root)
    for record in repository.log().records:
        if record.kind == "snapshot" and record.body["snapshot"] == work.snapshot:
            repository.check_against_record(root, record)
    return root


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=trees(), second=trees())
def test_any_tree_is_what_the_reader_reads(first: Tree, second: Tree) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        work, objects = place / "work", place / "objects"
        make_tree(first, work)
        workspace = nbws.Workspace.open(objects.as_uri(), create=True)
        saved = workspace.save(work)
        assert saved.complete, saved
        root = read_back(objects, work, place / "by-reader-1")
        workspace.restore(place / "by-engine")
        assert compare_trees(work, place / "by-engine") == []
        assert workspace.snapshot().tree_root == root.tree_root.hex()
        # The second tree replaces the first: everything may change its kind.
        shutil.rmtree(work)
        make_tree(second, work)
        workspace.save(work, take_over=True)
        read_back(objects, work, place / "by-reader-2")
        workspace.restore(place / "by-engine", delete=True, discard_changes=True)
        assert compare_trees(work, place / "by-engine") == []
        read_back(objects, make_tree(first, place / "first"), place / "by-reader-3", saved.snapshot)


def test_large_files_go_through_chunk_lists(place: Path) -> None:
    chance = random.Random(7)
    work, objects = place / "work", place / "objects"
    large = chance.randbytes(1 << 20) * 4 + chance.randbytes(90 << 20)
    make_tree({b"large.bin": File.of(large), b"hole.bin": File({5: b"x", 300 << 20: b"end"}, 310 << 20)}, work)
    workspace = nbws.Workspace.open(objects.as_uri(), create=True)
    saved = workspace.save(work)
    assert saved.bytes_read < 120 << 20, "holes are not read"
    read_back(objects, work, place / "one")
    with (work / "large.bin").open("r+b") as file:
        file.seek(50 << 20)
        file.write(b"edit")
    edited = workspace.save(work)
    assert edited.bytes_uploaded < 3 << 20, "one edit in the middle sends a few chunks and lists"
    read_back(objects, work, place / "two")
    workspace.restore(place / "three", verify=True)
    assert compare_trees(work, place / "three") == []


def test_an_environment_is_what_the_reader_reads(place: Path) -> None:
    environment, objects = place / "environment", place / "objects"
    shutil.copytree(Path(sys.prefix) / "lib", environment, symlinks=True)
    (environment / ".workspace.initialized").write_text("{}")
    workspace = nbws.Workspace.open(objects.as_uri(), create=True)
    saved = workspace.save(environment)
    assert saved.files_total > 1_000
    read_back(objects, environment, place / "restored")
