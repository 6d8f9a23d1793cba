"""Runs the blocks of a document as a reader would: one after the other, in one directory, on one machine.

Places that the documents name for their readers lie below a directory of the test. Blocks of Python share their names;
blocks for the shell share directory and exported variables with each other and with Python.
"""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from documents import Block

# What documents say: where it lies in a test.
PLACES = {"/workspace": "workspace", "/elsewhere": "elsewhere", "/srv/objects": "objects"}
ENDPOINT = "https://s3.example.com"
# A time in the documents; in a test it is the time at which the block runs.
TIME = "2026-11-22T18:00"
# Languages of blocks that say something and do nothing.
SILENT = {"text", "toml"}
TIMEOUT_S = 120

_END = "\x1e"
_CHANGING = [
    (re.compile(r"\b[0-9a-f]{8,64}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?"), "<time>"),
    (re.compile(r"\b\d+\.\d+ s\b"), "<seconds>"),
    # Ids are random and compress as they like.
    (re.compile(r"\b(uploaded|downloaded|objects, read) [\d.]+ ([KM]i)?B"), r"\1 <size>"),
]


class Machine:
    """Where the blocks of one document run."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str | None) -> None:
        self._monkeypatch = monkeypatch
        self._endpoint = endpoint or ENDPOINT
        self._places = {place: directory / name for place, name in PLACES.items()}
        self._names: dict[str, Any] = {"__name__": "__document__"}
        self._state = directory / "shell"
        home = directory / "home"
        for path in [home, self._places["/workspace"], self._places["/srv/objects"]]:
            path.mkdir()
        for name in list(os.environ):
            if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "NBWS_")):
                monkeypatch.delenv(name)
        programs = Path(sys.executable).parent
        for name, value in {
            "COLUMNS": "100",
            "HOME": str(home),
            "NBWS_STATE": str(directory / "state"),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TZ": "UTC",
        }.items():
            monkeypatch.setenv(name, value)
        if endpoint:
            monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.chdir(home)

    def run(self, block: Block, name: str) -> None:
        """Runs a block; raises what it raises, or `AssertionError` where a command fails or prints something else."""
        if block.language == "python":
            self._python(block, name)
        elif block.language == "sh":
            self._shell(f"set -eo pipefail\n{self._here(block.text)}")
        elif block.language == "console":
            self._console(block)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language not in SILENT:
            raise AssertionError(f"nothing is known of blocks in {block.language!r}")

    def _here(self, text: str) -> str:
        for place, path in self._places.items():
            text = re.sub(rf"(?<![\w.-]){place}\b", str(path), text)
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        return text.replace(ENDPOINT, self._endpoint).replace(TIME, now)

    def _there(self, text: str) -> str:
        for place, path in self._places.items():
            text = text.replace(str(path), place)
        return text.replace(self._endpoint, ENDPOINT)

    def _python(self, block: Block, name: str) -> None:
        # Line numbers of tracebacks are those of the document.
        source = "\n" * block.line + self._here(block.text)
        code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, self._names))
        else:
            exec(code, self._names)

    def _shell(self, script: str) -> str:
        keep = f"trap '{{ pwd; export -p; }} > {self._state}' EXIT\n"
        run = subprocess.run(
            ["bash", "-c", keep + script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert run.returncode == 0, f"exit code {run.returncode}:\n{run.stdout}"
        directory, exported = self._state.read_text().split("\n", 1)
        self._monkeypatch.chdir(directory)
        for name, value in re.findall(r'^declare -x (\w+)="(.*)"$', exported, re.MULTILINE):
            if os.environ.get(name) != value:
                self._monkeypatch.setenv(name, value)
        return run.stdout

    def _console(self, block: Block) -> None:
        pairs = [step.partition("\n") for step in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
        assert pairs, "a console block has lines that begin with $"
        steps = [_whole_command(command, output) for command, _, output in pairs]
        script = "\n".join(
            f"{self._here(command)}\n_s=$?; printf '{_END}%s{_END}' $_s; (exit $_s)" for command, _ in steps
        )
        answers = self._shell(f"{script}\nexit 0").split(_END)
        for i, (command, expected) in enumerate(steps):
            printed, status = answers[2 * i : 2 * i + 2]
            is_shown = i + 1 < len(steps) and steps[i + 1][0] == "echo $?"
            assert status == "0" or is_shown, f"{command} exits with {status}:\n{printed}"
            assert is_like(expected, self._there(printed)), f"{command} prints:\n{printed}\nnot:\n{expected}"


def _whole_command(command: str, output: str) -> tuple[str, str]:
    while command.endswith("\\"):
        line, _, output = output.partition("\n")
        command += f"\n{line.removeprefix('> ')}"
    return command, output


def is_like(expected: str, printed: str) -> bool:
    """Whether a command printed what a document says: ids, times, durations and compressed sizes change, and `...` stands for anything."""
    pattern = re.escape(_settled(expected)).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, _settled(printed), re.DOTALL) is not None


def _settled(text: str) -> str:
    for changing, name in _CHANGING:
        text = changing.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
