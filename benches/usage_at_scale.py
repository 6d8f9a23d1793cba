"""Usage and growth of a workspace with many files and snapshots: seconds, peak memory, requests. `docs/performance.md` has the table.

    PYTHONPATH=python:benches python benches/usage_at_scale.py --files 1000000 --snapshots 50 --place /dev/shm

Real files are made and really saved; between two saves some are added, edited, removed and renamed. Then each question is asked by a
process of its own that knows nothing yet. `du -s` and `find` read the same tree before and after, for a comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DIRECTORY = 100
CHANGES = 20
RESULTS = Path(__file__).parent / "results" / "usage.json"


def name_of(number: int) -> str:
    """Paths as in workspaces: most files are packages, the rest is data, code and caches."""
    group, within = divmod(number, DIRECTORY)
    kind = group % 10
    if kind < 6:
        return f".venv/lib/python3.12/site-packages/package_{group // 10:05}/part_{kind}/module_{within:02}.py"
    if kind < 8:
        return f".cache/pip/http/{group // 10:05}/{kind}/{within:02}.body"
    if kind < 9:
        return f"data/set_{group // 100:04}/{group // 10:05}/sample_{within:02}.json"
    return f"project_{group // 1000:03}/src/{group // 10:05}/file_{within:02}.py"


def text_of(number: int, version: int = 0) -> bytes:
    digest = hashlib.blake2b(f"{number} {version}".encode()).hexdigest()
    return f"number = {number}\nhash = '{digest}'\n".encode() + b"# a line of text like others\n" * (number % 5)


def make(tree: Path, files: int) -> None:
    for first in range(0, files, DIRECTORY):
        directory = (tree / name_of(first)).parent
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(first, min(first + DIRECTORY, files)):
            with open(tree / name_of(number), "wb", buffering=0) as file:  # noqa: PTH123  # a million times
                file.write(text_of(number))


def change(tree: Path, files: int, version: int) -> None:
    """Edits, adds and removes some files all over the tree, and renames a directory."""
    step = files // CHANGES
    for at in range(CHANGES):
        number = (at * step + version * 7_919) % files
        edited = tree / name_of(number)
        if edited.exists():
            edited.write_bytes(text_of(number, version))
        (tree / f"data/new_{version:03}").mkdir(parents=True, exist_ok=True)
        (tree / f"data/new_{version:03}/sample_{at:02}.bin").write_bytes(os.urandom(50_000))
        gone = tree / name_of((number + 50) % files)
        gone.unlink(missing_ok=True)
    runs = tree / "runs"
    runs.mkdir(exist_ok=True)
    if version > 1:
        (runs / f"run_{version - 1}").rename(runs / f"run_{version}")
    else:
        (runs / "run_1").mkdir()
        (runs / "run_1/log.txt").write_bytes(os.urandom(20_000))


def question(url: str, what: str) -> dict[str, Any]:
    """Asks one question and tells what it took; runs in a process of its own."""
    import nbws  # noqa: PLC0415  # the parent needs none

    workspace = nbws.Workspace.open(url)
    idle = peak()
    start, cpu = time.perf_counter(), time.process_time()
    if what == "usage":
        found = workspace.usage(depth=3)
        answer = {"files": found.files, "rows": len(found.by_path), "stored_bytes": found.stored_bytes}
        requests = found.requests.total
    elif what == "usage of one directory":
        found = workspace.usage("data", depth=1)
        answer = {"files": found.total.files, "rows": len(found.by_path)}
        requests = found.requests.total
    elif what == "growth of one pair":
        step = workspace.growth("latest~1", depth=3)
        answer = {"rows": len(step.by_path), "new_stored_bytes": step.total.new_stored_bytes}
        requests = step.requests.total
    else:
        steps = workspace.growth_history(depth=3)
        answer = {"pairs": len(steps), "new_stored_bytes": sum(step.total.new_stored_bytes for step in steps)}
        requests = sum(step.requests.total for step in steps)
    seconds = time.perf_counter() - start
    taken = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu, "requests": requests}
    return {**taken, "peak_rss_bytes": peak(), "idle_rss_bytes": idle, **answer}


def peak() -> int:
    # Not getrusage: that begins with what the parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


QUESTIONS = ("usage", "usage of one directory", "growth of one pair", "growth of all pairs")


def ask(url: str, what: str, runs: int) -> dict[str, Any]:
    """The median run of several."""
    found = []
    for _ in range(runs):
        command = [sys.executable, __file__, "--ask", what, "--url", url]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    found.sort(key=lambda run: run["seconds"])
    median: dict[str, Any] = found[len(found) // 2]
    return {**median, "all_seconds": [run["seconds"] for run in found]}


def timed(command: list[str]) -> dict[str, float]:
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu}


def walks(tree: Path) -> dict[str, dict[str, float]]:
    """What others take that look at every file of the tree itself."""
    return {
        "du": timed(["du", "-s", str(tree)]),
        "find": timed(["find", str(tree), "-type", "f", "-printf", "%s\n"]),
    }


def build(work: Path, files: int, snapshots: int) -> tuple[str, Path]:
    import nbws  # noqa: PLC0415

    tree, url = work / "tree", (work / "objects").as_uri()
    start = time.perf_counter()
    make(tree, files)
    print(f"made {files:,} files in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    workspace = nbws.Workspace.open(url, create=True, state_dir=work / "state")
    for number in range(snapshots):
        if number:
            change(tree, files, number)
        start = time.perf_counter()
        report = workspace.save(tree)
        took = time.perf_counter() - start
        print(f"save {number + 1}: {report.files_total:,} files, {took:.1f} s", file=sys.stderr)
    return url, tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--snapshots", type=int, default=50)
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(question(options.url, options.ask)))
        return
    work = Path(tempfile.mkdtemp(prefix="nbws-usage-", dir=options.place))
    try:
        url, tree = build(work, options.files, options.snapshots)
        before = walks(tree)
        answers = {what: ask(url, what, options.runs) for what in QUESTIONS}
        after = walks(tree)
        others = {
            name: {figure: statistics.mean((before[name][figure], after[name][figure])) for figure in before[name]}
            for name in before
        }
        first = answers["usage"]
        result = {
            "files": options.files,
            "snapshots": options.snapshots,
            "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
            "questions": answers,
            "walks": others,
            "walks_before_and_after": [before, after],
            "usage_over": {
                name: {figure: first[figure] / taken[figure] for figure in taken} for name, taken in others.items()
            },
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
