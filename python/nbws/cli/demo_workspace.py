"""The workspace of `nbws demo`: a real Python environment, notebooks, a large binary, and what a user does to them."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import sys
from importlib import resources
from typing import TYPE_CHECKING

from nbws.errors import InvalidInput, LocalIo, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["NEWER", "OLDER", "DemoDirectory"]

OLDER = "pandas==3.0.6"
NEWER = "pandas==3.1.1"

_MARKER = ".nbws-demo"
_NEEDED_BYTES = 3 << 30
_SEED = 20261122
_NOTEBOOKS = 24
_BINARY_BYTES = 160 << 20
_BLOCK_BYTES = 1 << 16


class DemoDirectory:
    """The directory that a demo works in: downloaded packages, two workspaces, two machines' state, the store."""

    def __init__(self, top: Path) -> None:
        self.top = top.absolute()
        self.wheels = self.top / "wheels"
        self.workspace = self.top / "workspace"
        self.second = self.top / "second-machine" / "workspace"
        self.objects = self.top / "objects"
        self.state = self.top / "state"
        self.second_state = self.top / "second-machine" / "state"
        self._environment = self.workspace / "env"

    def prepare(self) -> None:
        """Makes the directory ready; what an earlier demo left is removed but for downloaded packages.

        Raises:
            InvalidInput: the directory holds something that no demo made.
            LocalIo: it has too little room.
        """
        if self.top.is_dir() and any(self.top.iterdir()) and not (self.top / _MARKER).is_file():
            raise InvalidInput(
                f"{self.top} is not empty and was not made by nbws demo; name another directory",
                operation="demo",
            )
        self.top.mkdir(parents=True, exist_ok=True)
        (self.top / _MARKER).touch()
        for old in (self.workspace, self.second.parent, self.objects, self.state):
            if old.exists():
                shutil.rmtree(old)
        free = shutil.disk_usage(self.top).free
        if free < _NEEDED_BYTES:
            raise LocalIo(
                f"{self.top} has {free >> 20} MiB of room; the demo needs {_NEEDED_BYTES >> 20} MiB",
                operation="demo",
                path=str(self.top),
            )

    def download(self, tell: Callable[[str], None]) -> None:
        """Downloads the pinned packages unless an earlier demo did.

        Raises:
            Unavailable: pip can't reach its index.
        """
        pinned = _requirements()
        complete = self.wheels / ".complete"
        if complete.is_file() and complete.read_text() == pinned + NEWER:
            return
        tell("downloading packages (once)")
        self.wheels.mkdir(exist_ok=True)
        listed = self.wheels / "requirements.txt"
        listed.write_text(pinned)
        get = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(self.wheels)]
        _pip([*get, "--requirement", str(listed)])
        _pip([*get, NEWER])
        complete.write_text(pinned + NEWER)

    def build(self, tell: Callable[[str], None]) -> None:
        """Builds the workspace: environment, notebooks, a large binary, a few scripts and links."""
        self.workspace.mkdir()
        tell("making a virtual environment and installing the packages into it")
        _run([sys.executable, "-m", "venv", "--without-pip", str(self._environment)], "make an environment")
        self._install(["--requirement", str(self.wheels / "requirements.txt")])
        tell("writing notebooks and a large binary")
        chance = random.Random(_SEED)  # noqa: S311  the same workspace every time
        for number in range(_NOTEBOOKS):
            path = self.notebook(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(_notebook(number, chance), indent=1) + "\n")
        _write_binary(self.workspace / "models" / "weights-0001.bin", chance)
        (self.workspace / "models" / "weights.bin").symlink_to("weights-0001.bin")
        (self.workspace / "results").mkdir()
        source = self.workspace / "src" / "analysis.py"
        source.parent.mkdir()
        source.write_text("def mean(values):\n    return sum(values) / len(values)\n")

    def notebook(self, number: int, *, second: bool = False) -> Path:
        """The path of a notebook."""
        return (self.second if second else self.workspace) / "notebooks" / f"experiment-{number:02}.ipynb"

    def edit_notebook(self, number: int, *, second: bool = False) -> int:
        """Runs one cell of a notebook, as an editor's autosave would leave it; returns the file's size."""
        path = self.notebook(number, second=second)
        notebook = json.loads(path.read_text())
        cell = notebook["cells"][1]
        cell["execution_count"] = (cell["execution_count"] or 0) + 1
        lines = [f"epoch {epoch}: loss {1 / (epoch + 3):.6f}\n" for epoch in range(200)]
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}]
        path.write_text(json.dumps(notebook, indent=1) + "\n")
        return path.stat().st_size

    def upgrade(self) -> None:
        """Upgrades one library as a user would, with pip."""
        self._install(["--upgrade", NEWER])

    def _install(self, words: list[str]) -> None:
        into = ["--python", str(self._environment / "bin" / "python"), "install"]
        _pip([*into, "--no-index", "--find-links", str(self.wheels), "--no-deps", *words])


def _requirements() -> str:
    return resources.files("nbws.cli").joinpath("demo_requirements.txt").read_text()


def _pip(words: list[str]) -> None:
    if _run([sys.executable, "-m", "pip", "--version"], None).returncode:
        raise InvalidInput(
            f"the demo installs packages with pip, and {sys.executable} has none: `python -m ensurepip` adds it",
            operation="demo",
        )
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], "run pip")


def _run(words: list[str], what: str | None) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONPATH": ""}
    result = subprocess.run(words, capture_output=True, text=True, check=False, env=quiet)
    if what and result.returncode:
        last = [line for line in result.stderr.splitlines() if "ERROR" in line][-1:]
        last = last or result.stderr.splitlines()[-1:]
        raise Unavailable(
            f"could not {what}: {' '.join(last)[:500]}; the demo needs pip and a package index that it can reach",
            operation="demo",
        )
    return result


def _notebook(number: int, chance: random.Random) -> dict[str, object]:
    image = base64.encodebytes(b"\x89PNG\r\n\x1a\n" + chance.randbytes(chance.randrange(20_000, 120_000))).decode()
    code: dict[str, object] = {
        "cell_type": "code",
        "execution_count": None,
        "id": f"{number:04x}",
        "metadata": {},
        "outputs": [],
        "source": ["import pandas as pd\n", f"frame = pd.read_csv('run-{number}.csv')\n", "frame.describe()"],
    }
    plot = {
        **code,
        "id": f"{number + 256:04x}",
        "execution_count": 2,
        "outputs": [{"output_type": "display_data", "metadata": {}, "data": {"image/png": image}}],
        "source": ["frame.plot()"],
    }
    text = {"cell_type": "markdown", "id": "00", "metadata": {}, "source": [f"# Experiment {number}\n"]}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [text, code, plot],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _write_binary(path: Path, chance: random.Random) -> None:
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for _ in range(_BINARY_BYTES // _BLOCK_BYTES):
            # Half noise, half a pattern: compressible about as well as trained weights in half precision.
            noise = chance.randbytes(_BLOCK_BYTES // 2)
            file.write(noise + (noise[:64] * (_BLOCK_BYTES // 128)))
