"""Whole trees drawn by hypothesis survive save and restore, and the independent reader agrees."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbws
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbws.testing.strategies import trees
from nbws.testing.trees import File, Symlink, Tree, compare_trees, make_tree

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def read_with_reader(objects: Path, snapshot: str, target: Path) -> None:
    words = [sys.executable, "-m", "nbws.reader", str(objects), snapshot, str(target)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@EXAMPLES
@given(tree=trees())
def test_round_trip(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        made = make_tree(tree, top / "workspace")
        here = nbws.Workspace.open((top / "objects").as_uri(), create=True, state_dir=top / "state")
        saved = here.save(made)
        assert saved.complete, saved
        there = nbws.Workspace.open((top / "objects").as_uri(), state_dir=top / "other-state")
        restored = there.restore(top / "restored", verify=True)
        assert restored.complete
        assert compare_trees(made, top / "restored") == []
        again = there.save(top / "restored")
        assert (again.snapshot, again.files_opened, again.requests.put) == (saved.snapshot, 0, 0)
        read_with_reader(top / "objects", saved.snapshot, top / "read")
        assert compare_trees(made, top / "read") == []


@EXAMPLES
@given(before=trees(), after=trees())
def test_restore_in_place_over_another_tree(before: Tree, after: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        make_tree(before, top / "before")
        workspace = nbws.Workspace.open((top / "objects").as_uri(), create=True, state_dir=top / "state")
        first = workspace.save(top / "before").snapshot
        make_tree(after, top / "after")
        second = workspace.save(top / "after", take_over=True).snapshot
        workspace.restore(top / "before", snapshot=second, delete=True)
        assert compare_trees(top / "before", top / "after") == []
        workspace.restore(top / "before", snapshot=first, delete=True)
        make_tree(before, top / "again")
        assert compare_trees(top / "before", top / "again") == []


@EXAMPLES
@given(data=st.data())
def test_a_tree_equals_itself_and_differs_when_touched(data: st.DataObject) -> None:
    tree = data.draw(trees())
    with tempfile.TemporaryDirectory() as name:
        left, right = make_tree(tree, Path(name) / "left"), make_tree(tree, Path(name) / "right")
        assert compare_trees(left, right) == []
        if tree:
            path = os.path.join(os.fsencode(right), data.draw(st.sampled_from(sorted(tree))))
            # Another time than it has, whatever was drawn.
            touched = os.lstat(path).st_mtime_ns + 1
            os.utime(path, ns=(touched, touched), follow_symlinks=False)
            assert compare_trees(left, right) != []


@pytest.mark.parametrize(
    "other",
    [
        {},
        {b"a": File.of(b"other")},
        {b"a": File.of(b"same", mode=0o600)},
        {b"a": File.of(b"same", mtime_ns=1)},
        {b"a": File.of(b"same", xattrs={"user.x": b"1"})},
        {b"a": Symlink(b"same")},
        {b"a": File.of(b"same"), b"b": File.of(b"more")},
    ],
)
def test_comparison_sees_every_kind_of_difference(other: Tree, tmp_path: Path) -> None:
    left = make_tree({b"a": File.of(b"same")}, tmp_path / "left")
    assert compare_trees(left, make_tree(other, tmp_path / "right")) != []
