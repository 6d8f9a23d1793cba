"""A container of many notebooks, made by writing one and copying its objects: reading is what is tested."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lives import REACH, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("RUNNING", "STOPPED", "DELETING")


def models(root: Path) -> dict[str, Path]:
    """The objects of one notebook in each of some states, with a snapshot, below a directory each."""
    found = {}
    for kind in KINDS:
        place = root / f"model-{kind}"
        place.mkdir(parents=True)
        world = World(place, (place / "objects").as_uri())
        machine = world.machine()
        REACH["RUNNING"](machine)
        machine.write("code.py", "print()\n" * 1000)
        machine.notebook().save()
        if kind != "RUNNING":
            machine.notebook().stop()
        if kind == "DELETING":
            machine.notebook().delete()
        found[kind] = next((place / "objects" / "notebooks_workspace").iterdir())
    return found


def names(count: int) -> Iterator[tuple[str, str]]:
    """Ids and the kind of each."""
    return ((f"nb-{number:05}", KINDS[number % len(KINDS)]) for number in range(count))


def fill(container: Path, found: dict[str, Path], count: int) -> None:
    """Makes a container of so many notebooks. What a look over all of them never reads is left out."""
    container.mkdir(parents=True)
    for name, kind in names(count):
        shutil.copytree(found[kind], container / name, ignore=shutil.ignore_patterns("packs", "index", "hb"))
