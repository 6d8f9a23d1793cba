"""The trees that benchmarks work on: a real Python environment, and edits of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "environment.txt"
MINIMUM_FILES = 40_000
MINIMUM_BYTES = 1_500_000_000
NOTEBOOK = "analysis.ipynb"


def build_environment(directory: Path) -> Path:
    """Installs the pinned packages below ``directory``, once; returns the environment."""
    environment = directory / "environment"
    finished = directory / "environment.complete"
    if not finished.exists():
        environment.mkdir(parents=True, exist_ok=True)
        words = [
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(environment / "site-packages"),
            "-r",
            str(REQUIREMENTS),
        ]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        write_notebook(environment, 1)
        finished.touch()
    files, size = count(environment)
    if files < MINIMUM_FILES or size < MINIMUM_BYTES:
        raise SystemExit(f"the environment has {files} files and {size} bytes: too small to compare anything")
    return environment


def write_notebook(environment: Path, run: int) -> None:
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
    (environment / NOTEBOOK).write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def count(directory: Path) -> tuple[int, int]:
    """Files and their bytes below ``directory``."""
    files = size = 0
    for place, _, names in os.walk(directory):
        for name in names:
            files += 1
            size += os.lstat(f"{place}/{name}").st_size
    return files, size


def disk_bytes(directory: Path) -> int:
    """Sum of the sizes of all files below ``directory``: what a store holds."""
    return count(directory)[1]
