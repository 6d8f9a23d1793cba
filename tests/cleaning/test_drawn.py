"""Drawn trees: whatever lies there, a plan changes nothing, and its application nothing but what it named."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from junk import CleanWorkspace, covered, listing, swap

if TYPE_CHECKING:
    from collections.abc import Callable

# What makes a tree hard: names that the catalogue looks for, protected ones, odd ones.
NAMES = [
    b"__pycache__",
    b".cache",
    b"pip",
    b"http-v2",
    b"wheels",
    b".npm",
    b"_cacache",
    b"content-v2",
    b".ssh",
    b".git",
    b".ipynb_checkpoints",
    b"core",
    b"core.1",
    b".pytest_cache",
    b"v",
    b".Trash-1000",
    b"files",
    b"info",
    b"src",
    b"\xff\xfe",
    b"a\nb",
    b"keep",
]
LEAVES = [
    b"a.pyc",
    b"a.py",
    b"a.ipynb",
    b"a-checkpoint.ipynb",
    b"core",
    b"core.12",
    b".a.swp",
    b"CACHEDIR.TAG",
    b".workspace.initialized",
    b".nbwsignore",
    b"\xfd.pyc",
    b"notes",
]
CONTENTS = [b"", b"x", b"\x7fELF\x02\x01" + bytes(10) + b"\x04\x00", swap(), swap(unsaved=True)]
PROTECTED = (b".workspace.initialized", b".nbwsignore")

directories = st.lists(st.sampled_from(NAMES), max_size=4).map(b"/".join)
leaves = st.tuples(directories, st.sampled_from(LEAVES))


@st.composite
def actions(draw: st.DrawFn) -> list[tuple[str, bytes, bytes]]:
    """How a tree is made: files, links to it and outside, further names of files, pipes."""
    made = []
    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(["file", "file", "file", "directory", "symlink", "outward", "link", "pipe"]))
        directory, leaf = draw(leaves)
        name = draw(st.sampled_from(NAMES)) if kind in {"symlink", "outward"} and draw(st.booleans()) else leaf
        path = directory + b"/" + name if directory else name
        other = b"/".join(draw(leaves)).lstrip(b"/")
        made.append((kind, path, other if kind in {"symlink", "link"} else draw(st.sampled_from(CONTENTS))))
    return made


def build(root: Path, made: list[tuple[str, bytes, bytes]], outside: Path) -> None:
    top = os.fsencode(root) + b"/"

    def write(path: bytes, content: bytes) -> None:
        with open(path, "xb") as file:
            file.write(content)

    makers: dict[str, Callable[[bytes, bytes], object]] = {
        "file": write,
        "directory": lambda path, _: os.mkdir(path, 0o755),
        "symlink": lambda path, other: os.symlink(top + other, path),
        "outward": lambda path, _: os.symlink(os.fsencode(outside), path),
        "link": lambda path, other: os.link(top + other, path, follow_symlinks=False),
        "pipe": lambda path, _: os.mkfifo(path, 0o600),
    }
    for kind, path, more in made:
        # Things in each other's way, and links through links to nowhere, just don't come about.
        try:
            above = top + os.path.dirname(path)
            if os.path.realpath(above).startswith(top[:-1]):
                os.makedirs(above, exist_ok=True)
                makers[kind](top + path, more)
        except OSError:
            continue


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=actions(), to_trash=st.booleans(), protect=st.sampled_from([[], ["keep/"], ["*.pyc"], ["/src/", "core*"]]))
def test_nothing_changes_but_what_was_planned(
    made: list[tuple[str, bytes, bytes]], to_trash: bool, protect: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        outside = Path(temporary).resolve() / "outside"
        (outside / "pip/wheels").mkdir(parents=True)
        (outside / "__pycache__").mkdir()
        (outside / "__pycache__/a.pyc").write_bytes(b"precious")
        trash = Path(temporary) / "trash"
        workspace = CleanWorkspace(Path(temporary).resolve() / "workspace")
        build(workspace.path, made, outside)
        beyond = listing(outside)

        # What lay in a cache and did not belong there can be a find of its own; without it the cache is one.
        for _ in range(4):
            before = workspace.listing()
            plan = workspace.plan(protect=protect)
            assert workspace.listing() == before
            if not plan.paths:
                break
            report = plan.apply(trash=trash if to_trash else None)
            assert report.complete
            after = workspace.listing()
            assert after == {path: value for path, value in before.items() if not covered(path, list(plan.paths))}
            assert listing(outside) == beyond
            assert {path for path in before if path.rpartition(b"/")[2] in PROTECTED} <= after.keys()
            assert report.files == plan.files
            assert report.bytes_moved + report.bytes_freed >= plan.bytes
            assert to_trash or report.bytes_freed == plan.bytes
            assert plan.apply().files == 0
        else:
            raise AssertionError("there is always more to clean")
