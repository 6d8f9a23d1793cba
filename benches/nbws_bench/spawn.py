"""Runs one pipeline of commands and reports what it used. Run as a small program of its own: `python -I -S spawn.py`.

The kernel counts the memory of the parent into the peak of a child until the child's program is loaded. So the parent of what is
measured must be small, which the benchmark, with its tables of files, is not. For the same reason nothing but built-in modules and
`json` is imported here.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Reads {commands, environment, directory, output} from stdin, writes what was used to stdout."""
    order = json.load(sys.stdin)
    os.chdir(order["directory"])
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    commands = order["commands"]
    start = time.perf_counter()
    children = []
    source = nothing
    for number, command in enumerate(commands):
        following, sink = (None, output) if number == len(commands) - 1 else os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, sink, 1)]
        children.append(os.posix_spawnp(command[0], command, order["environment"], file_actions=actions))
        for spent in {source, sink} - {output, nothing}:
            os.close(spent)
        source = nothing if following is None else following
    codes, cpu_s, peaks = [], 0.0, []
    for child in children:
        _, status, used = os.wait4(child, 0)
        codes.append(os.waitstatus_to_exitcode(status))
        cpu_s += used.ru_utime + used.ru_stime
        peaks.append(used.ru_maxrss * 1024)
    wall_s = time.perf_counter() - start
    json.dump({"codes": codes, "wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": sum(peaks)}, sys.stdout)


if __name__ == "__main__":
    main()
