"""The end of the interpreter while the engine is at work: an ordinary end, not a crash."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 8

LEAVE = """
import asyncio, sys, nbws

workspace = nbws.Workspace.open(sys.argv[1], create=True)

async def main():
    task = asyncio.create_task(workspace.save_async(sys.argv[2], progress=lambda *_: None))
    await asyncio.sleep(float(sys.argv[3]))
    raise KeyboardInterrupt

asyncio.run(main())
"""


def test_a_loop_that_is_interrupted_ends_with_its_own_exception(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(60):
        (tree / f"f{number}").write_bytes(random.Random(number).randbytes(400_000))
    for attempt in range(ROUNDS):
        words = [f"file://{tmp_path}/store{attempt}", str(tree), str(0.01 * (attempt + 1))]
        done = subprocess.run([sys.executable, "-c", LEAVE, *words], capture_output=True, text=True, check=False)
        # Python ends itself by the signal, or with 130 where a shell would see it so; an abort would be -6.
        assert done.returncode in {130, -2}, done.stderr
        assert done.stderr.rstrip().endswith("KeyboardInterrupt")
