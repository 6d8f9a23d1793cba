"""Runs everything: `make bench`, or `PYTHONPATH=benches python -m nbws_bench quick`."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbws_bench import loop, startup, trees
from nbws_bench.cases import Row, Turn
from nbws_bench.figures import DRIFT, counted, figures, lost_by_tool, undisturbed
from nbws_bench.measure import touch_memory
from nbws_bench.peers import BUILT, LEFT_OUT, TOOLS, Nbws, Tool
from nbws_bench.plot import draw
from nbws_bench.report import markdown, replace_between
from nbws_bench.s3_server import serve

BENCHES = Path(__file__).resolve().parents[1]
RESULTS = BENCHES / "results"
DOCUMENT = BENCHES.parent / "docs" / "performance.md"
MEMORY = Path("/dev/shm")
_FREE_PART = 3
_SHOWN = 300


@dataclass(frozen=True)
class Mode:
    """How much is run."""

    pinned: Path
    tiny_files: int
    big_unit: int
    rounds: int
    other_rounds: int


MODES = {
    "quick": Mode(trees.QUICK, 3_000, 24 << 20, rounds=1, other_rounds=1),
    "full": Mode(trees.FULL, 40_000, 128 << 20, rounds=3, other_rounds=2),
}


class Run:
    """One run of the benchmark."""

    def __init__(self, directory: Path, tools: list[Tool]) -> None:
        self.rows: list[Row] = []
        self.failures: list[dict[str, str]] = []
        self.trees: list[dict[str, Any]] = []
        self._directory = directory
        self._tools = tools

    def compare(self, tree: trees.Tree, rounds: int) -> None:
        """All tools in turn, round after round; one more for those that were disturbed each time."""
        files, size = tree.count()
        self.trees.append({"name": tree.name, "text": tree.text, "files": files, "bytes": size})
        touch_memory(self._directory, min(2 * size, shutil.disk_usage(self._directory).free // _FREE_PART))
        for number in range(rounds):
            # Another one begins each round, so that nobody's place in the order counts.
            for tool in self._tools[number:] + self._tools[:number]:
                self._turn(tool, tree, number)
        if rounds > 1:
            for tool in [tool for tool in self._tools if self._is_unsettled(tool, tree)]:
                self._turn(tool, tree, rounds)

    def count_requests(self, tree: trees.Tree) -> list[Row]:
        """One turn of each tool that speaks S3, on a server that counts."""
        trees.install(tree, trees.OLDER)
        files, size = tree.count()
        self.trees.append({"name": tree.name, "text": tree.text, "files": files, "bytes": size})
        rows = []
        for tool in [tool for tool in self._tools if tool.speaks_s3]:
            with serve() as server:
                rows += self._guarded(Turn(tool, tree, self._directory, 0, server), tool, tree, "on S3")
        return rows

    def reference_s(self) -> float:
        """The time of a calibration when the machine is left alone."""
        return undisturbed([row.slowest_calibration_s for row in self.rows])

    def _turn(self, tool: Tool, tree: trees.Tree, number: int) -> None:
        if not any(failure["tool"] == tool.name and failure["tree"] == tree.name for failure in self.failures):
            self.rows += self._guarded(Turn(tool, tree, self._directory, number), tool, tree, f"round {number + 1}")

    def _guarded(self, turn: Turn, tool: Tool, tree: trees.Tree, title: str) -> list[Row]:
        try:
            turn.go()
        except RuntimeError as error:
            # A failing peer is a result; a failing nbws is a reason to stop.
            if isinstance(tool, Nbws):
                raise
            said = str(error).replace(f"{BUILT}/", "").replace(str(self._directory), "DIR")
            self.failures.append(
                {"tool": tool.name, "tree": tree.name, "error": " ".join(said.replace("`", "'").split())[:_SHOWN]}
            )
        cases = ", ".join(f"{row.case} {row.wall_s:.2f} s{' (wrong tree)' if row.wrong else ''}" for row in turn.rows)
        print(f"{tree.name}, {title}: {tool.name}: {cases}", flush=True)
        return turn.rows

    def _is_unsettled(self, tool: Tool, tree: trees.Tree) -> bool:
        mine = [row for row in self.rows if (row.tool, row.tree) == (tool.name, tree.name)]
        kept = {row.case for row in counted(mine, self.reference_s())}
        return any(row.case not in kept for row in mine)


def machine(directory: Path) -> dict[str, Any]:
    """What ran it; no names."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(directory)], check=True, capture_output=True, text=True)
    return {
        "cores": os.cpu_count(),
        "processor": processor,
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "kernel": platform.release().split("-")[0],
        "file_system": kind.stdout.strip(),
        "python": platform.python_version(),
    }


def surface(directory: Path) -> list[dict[str, Any]]:
    """Runs the benchmarks of the Python calls."""
    report = directory / "surface.json"
    options = [
        "--benchmark-json",
        str(report),
        "--benchmark-disable-gc",
        "--basetemp",
        str(directory / "surface"),
        "--quiet",
    ]
    command = [sys.executable, "-m", "pytest", "--rootdir", str(BENCHES), "-c", os.devnull, str(BENCHES / "surface")]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    return [
        {
            "name": row["name"].removeprefix("test_"),
            "median_s": row["stats"]["median"],
            "min_s": row["stats"]["min"],
            "runs": row["stats"]["rounds"],
        }
        for row in found
    ]


def run(mode: str, directory: Path, rounds: int | None) -> dict[str, Any]:
    """Runs everything and returns what goes into the JSON file."""
    chosen = MODES[mode]
    absent = {tool.name: reason for tool in TOOLS if (reason := tool.absent())}
    tools = [tool for tool in TOOLS if tool.name not in absent]
    for name, reason in absent.items():
        print(f"{name}: not compared: {reason}", flush=True)
    bench = Run(directory, tools)
    bench.compare(trees.environment(directory, chosen.pinned), rounds or chosen.rounds)
    bench.compare(trees.tiny(directory, chosen.tiny_files), min(rounds or chosen.other_rounds, chosen.other_rounds))
    bench.compare(trees.big(directory, chosen.big_unit), min(rounds or chosen.other_rounds, chosen.other_rounds))
    traffic = bench.count_requests(trees.library(directory))
    reference = bench.reference_s()
    found = figures(bench.rows, reference)
    scratch = directory / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    result = {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "mode": mode,
        "rounds": rounds or chosen.rounds,
        "machine": machine(directory),
        "calibration": {
            "undisturbed_s": reference,
            "drift": DRIFT,
            "rows": len(bench.rows),
            "rejected": sum(figure.rejected for figure in found),
        },
        "trees": bench.trees,
        "tools": [{"name": tool.name, "version": tool.version(), "settings": tool.settings} for tool in tools],
        "absent": absent,
        "left_out": LEFT_OUT,
        "failures": bench.failures,
        "figures": [figure.to_dict() for figure in found],
        "lost": lost_by_tool(bench.rows),
        "traffic": [asdict(row) for row in traffic],
        "start_up": startup.measure(),
        "loop": loop.measure(scratch / "loop"),
        "surface": surface(scratch),
        "rows": [asdict(row) for row in bench.rows],
    }
    shutil.rmtree(scratch)
    return result


def main() -> None:
    """Writes JSON, tables and a picture into ``results``; a full run puts tables and picture into docs/performance.md, too."""
    parser = argparse.ArgumentParser(prog="nbws_bench", description=__doc__)
    parser.add_argument("mode", choices=MODES, nargs="?", default="quick")
    parser.add_argument("--rounds", type=int, help="rounds of the real environment; the other trees get at most two")
    fast = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    parser.add_argument("--directory", type=Path, default=MEMORY / "nbws-bench" if fast else BENCHES / "work")
    arguments = parser.parse_args()
    directory = arguments.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    result = run(arguments.mode, directory, arguments.rounds)
    RESULTS.mkdir(exist_ok=True)
    is_full = arguments.mode == "full"
    name = "latest" if is_full else arguments.mode
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    picture = DOCUMENT.with_suffix(".svg") if is_full else RESULTS / f"{name}.svg"
    draw(result, result["trees"][0]["name"], picture)
    if is_full:
        replace_between(DOCUMENT, f"![Wall times of all tools, one panel for each case]({picture.name})\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
