"""The trees that are saved: real packages from PyPI, and generated ones for what packages do not have."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FULL = HERE / "environment.txt"
QUICK = HERE / "environment-quick.txt"
MINIMUM_FILES = 40_000
MINIMUM_BYTES = 1_500_000_000

# The library that is upgraded, from one release to the next: what `pip install --upgrade` does to a real environment.
LIBRARY = "pandas"
OLDER, NEWER = "3.0.6", "3.1.1"

NOTEBOOK = "analysis.ipynb"
_SEED = 20261122


@dataclass(frozen=True)
class Tree:
    """One tree.

    Attributes:
        name: a word for tables.
        text: what it holds.
        path: where it lies.
        folder: the folder in it that the case "rename" renames.
        versions: where the releases of the library lie that the case "upgrade" installs, or None.
        without: names in the library that are left out.
    """

    name: str
    text: str
    path: Path
    folder: str
    versions: Path | None = None
    without: tuple[str, ...] = ()

    def count(self) -> tuple[int, int]:
        """Files, and the bytes that they would have without holes; a name more of the same file counts no bytes."""
        files = size = 0
        seen = set()
        for place, _, names in os.walk(self.path):
            for name in names:
                status = os.lstat(f"{place}/{name}")
                files += 1
                if (status.st_dev, status.st_ino) not in seen:
                    size += status.st_size
                    seen.add((status.st_dev, status.st_ino))
        return files, size


def environment(directory: Path, pinned: Path) -> Tree:
    """A Python environment with the pinned packages, built once below ``directory``."""
    name = pinned.stem
    path = directory / name
    finished = directory / f"{name}.complete"
    if not finished.exists():
        shutil.rmtree(path, ignore_errors=True)
        _pip(["--target", str(path / "site-packages"), "--requirement", str(pinned)])
        finished.touch()
    write_notebook(path, 1)
    tree = Tree(name, "packages from PyPI", path, "site-packages", _releases(directory))
    files, size = tree.count()
    if pinned == FULL and (files < MINIMUM_FILES or size < MINIMUM_BYTES):
        raise SystemExit(f"the environment has {files} files and {size} bytes: too small to compare anything")
    return tree


def library(directory: Path) -> Tree:
    """One real library and a notebook: small enough for an S3 server that counts requests."""
    path = directory / "library"
    shutil.rmtree(path, ignore_errors=True)
    (path / "site-packages").mkdir(parents=True)
    write_notebook(path, 1)
    without = ("tests", "__pycache__")
    return Tree(
        "library", f"{LIBRARY} from PyPI without its tests", path, "site-packages", _releases(directory), without
    )


def tiny(directory: Path, files: int) -> Tree:
    """Many files of 100 to 2,000 bytes of text, no two alike, 100 to a folder."""
    path = directory / "tiny"
    shutil.rmtree(path, ignore_errors=True)
    chance = random.Random(_SEED)
    for number in range(files):
        if number % 100 == 0:
            folder = path / "folders" / f"{number // 100:04}"
            folder.mkdir(parents=True)
        rows = [
            f"{row},{chance.random():.9f},station {chance.randrange(40)}\n" for row in range(chance.randrange(4, 75))
        ]
        (folder / f"part-{number:06}.csv").write_text("".join(rows))
    write_notebook(path, 1)
    return Tree("tiny", "text files of 100 to 2,000 bytes", path, "folders")


def big(directory: Path, unit: int) -> Tree:
    """Few big files: noise, half noise, text, one that is mostly a hole, and hard links."""
    path = directory / "big"
    shutil.rmtree(path, ignore_errors=True)
    folder = path / "models"
    folder.mkdir(parents=True)
    chance = random.Random(_SEED)
    block = 1 << 20
    with (folder / "noise.bin").open("wb") as file:
        for _ in range(unit // block):
            file.write(chance.randbytes(block))
    with (folder / "half.bin").open("wb") as file:
        for _ in range(unit // block):
            noise = chance.randbytes(block // 2)
            file.write(noise + noise[:64] * (block // 128))
    with (folder / "table.csv").open("w") as text:
        for row in range(unit // 40):
            text.write(f"{row},{chance.random():.12f},{chance.randrange(999)}\n")
    with (folder / "sparse.img").open("wb") as file:
        for island in range(8):
            file.seek(island * unit)
            file.write(chance.randbytes(block))
        file.truncate(8 * unit)
    for number in range(8):
        os.link(folder / "half.bin", folder / f"checkpoint-{number}.bin")
    write_notebook(path, 1)
    return Tree("big", "noise, half noise, text, a sparse file and hard links", path, "models")


def write_notebook(top: Path, run: int) -> None:
    """Writes a notebook of about 5 KB; another ``run`` gives other outputs, as running its cells does."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": run * 10 + number,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [{"name": "stdout", "output_type": "stream", "text": [f"loss {number / (run + 1):.6f}\n"] * 8}],
            "source": [f"model.fit(data[{number}])\n", "report(model)\n"],
        }
        for number in range(12)
    ]
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    (top / NOTEBOOK).write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def install(tree: Tree, version: str) -> None:
    """Makes ``version`` the library's release in the tree: what was there goes, files come with new times and inodes."""
    if tree.versions is None:
        return
    packages = tree.path / tree.folder
    for old in packages.glob(f"{LIBRARY}*"):
        shutil.rmtree(old)
    source = tree.versions / f"{LIBRARY}-{version}"
    for part in source.iterdir():
        if part.is_dir() and part.name.startswith(LIBRARY):
            shutil.copytree(
                part, packages / part.name, copy_function=shutil.copy, ignore=shutil.ignore_patterns(*tree.without)
            )


def touch(tree: Tree) -> None:
    """Gives every file a new time, as a copy without times or a checkout does."""
    for place, _, names in os.walk(tree.path):
        for name in names:
            os.utime(f"{place}/{name}", follow_symlinks=False)


def disk_bytes(directory: Path) -> int:
    """Sum of the sizes of all files below ``directory``: what a store holds."""
    total = 0
    for place, _, names in os.walk(directory):
        total += sum(os.lstat(f"{place}/{name}").st_size for name in names)
    return total


def _releases(directory: Path) -> Path:
    versions = directory / "releases"
    for version in (OLDER, NEWER):
        finished = versions / f"{version}.complete"
        if not finished.exists():
            place = versions / f"{LIBRARY}-{version}"
            shutil.rmtree(place, ignore_errors=True)
            _pip(["--target", str(place), f"{LIBRARY}=={version}"])
            finished.touch()
    return versions


def _pip(words: list[str]) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, *words], check=True)
