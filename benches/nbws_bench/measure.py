"""Measures commands, and how fast the machine is at the moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import blake3

SPAWN = Path(__file__).with_name("spawn.py")
LIMIT_S = 900
_BLOCK = bytes(32 << 20)
_REPEATS, _BLOCKS = 5, 4
_KEPT_OUTPUT = 20_000_000


@dataclass(frozen=True)
class Used:
    """What a pipeline of commands used.

    Attributes:
        wall_s: from its start to the end of its last process.
        cpu_s: user and system time of all its processes.
        peak_bytes: the sum of the peaks of resident memory of its processes.
        output: what it wrote to stdout.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


def run(commands: list[list[str]], environment: dict[str, str], directory: Path) -> Used:
    """Runs a pipeline.

    Raises:
        RuntimeError: one of its commands failed, or did not end.
    """
    with tempfile.NamedTemporaryFile() as output:
        order = {
            "commands": commands,
            "environment": environment,
            "directory": str(directory),
            "output": output.name,
        }
        spawned = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SPAWN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            answer, complaint = spawned.communicate(json.dumps(order), timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(spawned.pid, signal.SIGKILL)
            answer, complaint = spawned.communicate()
            complaint += f"no end within {LIMIT_S} s"
        text = Path(output.name).read_bytes()[:_KEPT_OUTPUT].decode(errors="replace")
    if spawned.returncode or any(json.loads(answer)["codes"]):
        words = " | ".join(" ".join(command) for command in commands)
        raise RuntimeError(f"{words}: {(complaint + text).strip()[-1500:]}")
    used = json.loads(answer)
    return Used(used["wall_s"], used["cpu_s"], used["peak_bytes"], text)


def calibrate() -> float:
    """Seconds that a fixed amount of hashing takes on two threads, the best of a few.

    A host that is throttled does not tell; this does. The best of a few is not moved by what else runs for an instant.
    """
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        hasher = blake3.blake3(max_threads=2)
        for _ in range(_BLOCKS):
            hasher.update(_BLOCK)
        hasher.digest()
        best = min(best, time.perf_counter() - start)
    return best


def touch_memory(directory: Path, size: int) -> None:
    """Writes and removes a file: the first use of a guest's memory is slow, and must not hit whoever is first in turn."""
    path = directory / "first-use"
    block = os.urandom(1 << 20) * 16
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    path.unlink()
