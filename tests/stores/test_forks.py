"""Copies by the service itself: the repository that a fork makes is whole on every store."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from nbws.testing.trees import compare_trees

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Place

MOST_MOVED = 1 << 20


def test_a_fork_is_copied_by_the_store(place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "workspace"
    tree.mkdir()
    for number in range(40):
        (tree / f"f{number}").write_bytes(random.Random(number).randbytes(250_000))
    workspace = place.open(create=True)
    workspace.save(tree)
    url = f"{place.url.rstrip('/')}-fork"
    if place.name == "memory":
        # Names below one name share a room; those beside each other do not.
        url = f"{place.url.rstrip('/')}/fork"
    done = workspace._engine.fork("latest", url).wait()
    assert done["bytes"] > 10_000_000
    assert done["bytes_moved"] < MOST_MOVED
    fork = dataclasses.replace(place, url=url).open()
    assert fork.repository_id == done["repository"] != workspace.repository_id
    fork.restore(tmp_path / "restored")
    assert compare_trees(tree, tmp_path / "restored") == []
    assert fork.check(read_data=True).ok
