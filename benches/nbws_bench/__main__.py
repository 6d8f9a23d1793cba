"""Compares nbws with the installed peers on one real environment, in turn, and checks every restored tree by hash.

``python benches/run.py [--rounds N] [--directory DIR]``. Times on a shared machine mislead: quote the ratios. One round that is
not counted warms the memory of the file system up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import trees
from nbws.testing.trees import compare_trees
from peers import Place, Tool, available

CASES = ("first", "no_change", "one_edit", "restore")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measured:
    """One command: seconds of wall time and CPU, peak memory of its process, bytes in the store afterwards."""

    tool: str
    case: str
    wall_s: float
    cpu_s: float
    peak_bytes: int
    stored_bytes: int


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float, int]:
    """Runs a command; wall seconds, CPU seconds and peak memory as the operating system counted them."""
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def one_round(tool: Tool, tree: Path, directory: Path, number: int) -> list[Measured]:
    """All cases of one tool, in a fresh place."""
    base = directory / f"{tool.name}-{number}"
    shutil.rmtree(base, ignore_errors=True)
    place = Place(base / "store", base / "state", base / "target")
    base.mkdir(parents=True)
    environment = tool.environment(place)
    tool.prepare(place)
    out = []

    def measure(case: str, command: list[str]) -> None:
        wall, cpu, peak = run(command, environment)
        out.append(Measured(tool.name, case, wall, cpu, peak, trees.disk_bytes(place.store)))

    measure("first", tool.save(tree, place, first=True))
    measure("no_change", tool.save(tree, place, first=False))
    trees.write_notebook(tree, 100 + number)
    measure("one_edit", tool.save(tree, place, first=False))
    command, restored = tool.restore(tree, place)
    measure("restore", command)
    differences = compare_trees(tree, restored)
    if differences:
        raise SystemExit(f"{tool.name} restored another tree: {differences[:3]}")
    shutil.rmtree(base)
    return out


def calibrate() -> float:
    """Seconds for a fixed amount of hashing: tells whether the machine was slowed down between rounds."""
    start = time.perf_counter()
    hashlib.blake2b(bytes(200_000_000)).digest()
    return time.perf_counter() - start


def summarise(measured: list[Measured], tools: list[Tool]) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by tool and case."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for tool in tools:
        for case in CASES:
            rows = [m for m in measured if (m.tool, m.case) == (tool.name, case)]
            out.setdefault(tool.name, {})[case] = {
                field: statistics.median(getattr(row, field) for row in rows)
                for field in ("wall_s", "cpu_s", "peak_bytes", "stored_bytes")
            }
    return out


def table(summary: dict[str, dict[str, dict[str, float]]]) -> str:
    """A Markdown table: medians, and the ratio of nbws to each peer."""
    lines = [
        "| case | tool | wall s | user+sys s | peak MiB | stored MB | nbws / tool: wall | CPU | stored |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        ours = summary["nbws"][case]
        for name, cases in summary.items():
            row = cases[case]
            ratios = [f"{ours[key] / row[key]:.2f}" for key in ("wall_s", "cpu_s", "stored_bytes")]
            lines.append(
                f"| {case} | {name} | {row['wall_s']:.2f} | {row['cpu_s']:.2f} | {row['peak_bytes'] / 2**20:.0f} "
                f"| {row['stored_bytes'] / 1e6:.0f} | {' | '.join(ratios)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison and writes ``results/latest.json`` and ``results/latest.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1 if os.environ.get("BENCH", "quick") == "quick" else 5)
    memory = Path("/dev/shm/nbws-bench")
    parser.add_argument("--directory", type=Path, default=memory if memory.parent.is_dir() else Path("benches/work"))
    arguments = parser.parse_args()
    directory = arguments.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    tree = trees.build_environment(directory)
    files, size = trees.count(tree)
    tools = available()
    measured: list[Measured] = []
    calibration = []
    for number in range(arguments.rounds + 1):
        calibration.append(calibrate())
        for tool in tools:
            rows = one_round(tool, tree, directory, number)
            measured += rows if number else []
            print(
                f"round {number}: {tool.name} " + ", ".join(f"{row.case} {row.wall_s:.2f} s" for row in rows),
                flush=True,
            )
    summary = summarise(measured, tools)
    result = {
        "tree": {"files": files, "bytes": size},
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "rounds": arguments.rounds,
        "tools": {tool.name: tool.version() for tool in tools},
        "calibration_s": calibration,
        "medians": summary,
        "measured": [asdict(row) for row in measured],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tree_text = f"{files:,} files, {size / 1e9:.2f} GB, {os.cpu_count()} cores"
    head = f"{tree_text}, medians of {arguments.rounds} rounds after one that is not counted.\n\n"
    versions = "".join(f"- {name}: {version}\n" for name, version in result["tools"].items())
    (RESULTS / "latest.md").write_text(f"{head}{versions}\n{table(summary)}\n", encoding="utf-8")
    print(table(summary))


if __name__ == "__main__":
    main()
