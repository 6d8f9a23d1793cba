"""How long an event loop stands still at most while 20 workspaces are saved in it: `python -m nbws_bench.loop DIRECTORY`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORKSPACES = 20
FILES, FILE_BYTES = 200, 50_000
AIM_S = 0.05
_TICK_S = 0.001


def measure(directory: Path) -> dict[str, Any]:
    """Runs the saves in a process of their own."""
    command = [sys.executable, "-m", "nbws_bench.loop", str(directory)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def make(directory: Path) -> list[Path]:
    """Makes the workspaces."""
    made = []
    for number in range(WORKSPACES):
        place = directory / f"workspace-{number}"
        place.mkdir(parents=True)
        for file in range(FILES):
            (place / f"part-{file}.bin").write_bytes(os.urandom(FILE_BYTES))
        made.append(place)
    return made


async def save_all(directory: Path, workspaces: list[Path]) -> dict[str, Any]:
    """Saves all at once; between two ticks the loop did everything else that it had to do.

    The longest tick counts waiting for a core, too; the busiest one is what the loop's own thread worked.
    """
    import nbws  # noqa: PLC0415  # loaded before the clock runs, in the process that is measured only

    async def one(place: Path) -> int:
        url = (directory / "objects" / place.name).as_uri()
        workspace = await nbws.Workspace.open_async(url, create=True, state_dir=directory / "state")
        return (await workspace.save_async(place)).files_total

    longest = busiest = 0.0
    ticks = 0
    start = last = time.perf_counter()
    last_cpu = time.thread_time()
    saves = asyncio.gather(*(one(place) for place in workspaces))
    while not saves.done():
        await asyncio.sleep(_TICK_S)
        now, cpu = time.perf_counter(), time.thread_time()
        longest, busiest = max(longest, now - last - _TICK_S), max(busiest, cpu - last_cpu)
        last, last_cpu = now, cpu
        ticks += 1
    return {
        "workspaces": len(workspaces),
        "files": sum(await saves),
        "wall_s": time.perf_counter() - start,
        "ticks": ticks,
        "longest_tick_s": longest,
        "busiest_tick_cpu_s": busiest,
        "aim_s": AIM_S,
    }


def main(directory: Path) -> None:
    """Saves, and prints what was seen."""
    import nbws.workspace  # noqa: F401, PLC0415  # the import is no part of what is measured

    print(json.dumps(asyncio.run(save_all(directory, make(directory)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
