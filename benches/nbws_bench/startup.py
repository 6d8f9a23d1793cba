"""How long a start takes, by the start of the interpreter alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNS = 25
AIMS = {"import nbws": 4, "nbws --version": 8}
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import nbws": [sys.executable, "-c", "import nbws"],
    "nbws --version": [str(Path(sys.executable).with_name("nbws")), "--version"],
}


def measure() -> dict[str, dict[str, Any]]:
    """Medians of runs in turn: seconds, times the bare interpreter, and the aim."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(RUNS + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            # The first round fills caches.
            taken[name] += [time.perf_counter() - start] if number else []
    bare = statistics.median(taken["python -c pass"])
    return {
        name: {
            "median_s": statistics.median(times),
            "times_bare": statistics.median(times) / bare,
            "aim": AIMS.get(name),
            "runs": RUNS,
        }
        for name, times in taken.items()
    }
