"""How long a plan of a cleaning takes beside `du` on the same tree, and its application beside `rm -r`.

    python benches/cleaning_at_scale.py [FILES]

Makes a tree of so many files (200,000) below the temporary directory: sources, bytecode beside them, a package manager's cache; half of
them can go. Prints medians of five rounds, in which both take turns, and the peak of memory. Processor time is that of each alone.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nbws import cleaning

ROUNDS = 5
SOURCES, BYTECODE, CACHED = 50, 40, 50


def make(root: Path, files: int) -> None:
    """Writes the tree."""
    for number in range(files // 100):
        package = root / f"venv/lib/python3.11/site-packages/p{number % 200}/s{number}"
        (package / "__pycache__").mkdir(parents=True)
        for name in range(SOURCES):
            (package / f"m{name}.py").write_bytes(b"x = 1\n")
        for name in range(BYTECODE):
            (package / f"__pycache__/m{name}.cpython-311.pyc").write_bytes(b"x" * 100)
    for number in range(files // 500):
        place = root / f".npm/_cacache/content-v2/sha512/{number:03x}"
        place.mkdir(parents=True)
        for name in range(CACHED):
            (place / str(name)).write_bytes(b"y" * 50)


def timed(who: int, work: object) -> tuple[float, float]:
    """Returns seconds, and processor time of this process or of its children."""
    assert callable(work)
    before, began = resource.getrusage(who), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(who)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(what: str, ours: list[tuple[float, float]], theirs: list[tuple[float, float]], other: str) -> str:
    """A line: medians of wall and processor time, and of their ratios."""
    wall = statistics.median(a[0] / b[0] for a, b in zip(ours, theirs, strict=True))
    cpu = statistics.median(a[1] / b[1] for a, b in zip(ours, theirs, strict=True))
    mine, its = (tuple(statistics.median(pair[i] for pair in pairs) for i in (0, 1)) for pairs in (ours, theirs))
    return (
        f"{what}: {mine[0]:.2f} s ({mine[1]:.2f} s of processor), {other}: {its[0]:.2f} s ({its[1]:.2f}); "
        f"wall {wall:.1f}, processor {cpu:.1f}"
    )


def main() -> None:
    """Measures and prints."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as temporary:
        root, copy = Path(temporary) / "tree", Path(temporary) / "copy"
        make(root, files)
        plans, sums = [], []
        for _ in range(ROUNDS):
            sums.append(
                timed(
                    resource.RUSAGE_CHILDREN,
                    lambda: subprocess.run(["du", "-s", root], stdout=subprocess.DEVNULL, check=True),
                )
            )
            plans.append(timed(resource.RUSAGE_SELF, lambda: cleaning.plan(root, environment={})))
        plan = cleaning.plan(root, environment={})
        counted = sum(len(names) for _, _, names in os.walk(root))
        print(f"{counted:,} files, {plan.files:,} can go in {len(plan.paths):,} paths")
        print(row("plan", plans, sums, "du"))
        shutil.copytree(root, copy)
        doomed = [copy / path for path in plan.paths]
        apply = [timed(resource.RUSAGE_SELF, plan.apply)]
        remove = [
            timed(
                resource.RUSAGE_CHILDREN,
                lambda: subprocess.run(
                    ["xargs", "-0", "rm", "-r"], input=b"\0".join(map(os.fsencode, doomed)), check=True
                ),
            )
        ]
        print(row("apply", apply, remove, "rm -r"))
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
