"""Machines for tests of `nbws run`: each has its own workspace, local state and environment, and all share one store."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nbws.notebooks import Notebooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbws.notebook import Notebook

NBWS = Path(sys.executable).with_name("nbws")
PATIENCE_S = 60.0


@dataclasses.dataclass
class Machine:
    """One machine: ``directory`` holds its state and workspace."""

    directory: Path
    store: str
    extra: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.directory / "workspace"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NBWS_")}
        return {
            **kept,
            "NBWS_STATE": str(self.directory / "state"),
            "NBWS_STORE": self.store,
            "NBWS_WORKSPACE": str(self.workspace),
            "NO_COLOR": "1",
            **self.extra,
        }

    def notebooks(self) -> Notebooks:
        return Notebooks(self.store, state_dir=self.directory / "state")

    def notebook(self, identity: str = "demo") -> Notebook:
        return self.notebooks().get(identity)

    def nbws(self, *words: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [str(NBWS), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            cwd=self.directory,
            timeout=PATIENCE_S * 2,
            **options,
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: object, code: int = 0) -> dict[str, Any]:
        value = json.loads(self.nbws(*words, "--json", code=code).stdout)
        assert isinstance(value, dict)
        return value

    def run(self, *words: object, identity: str = "demo", options: tuple[object, ...] = (), **popen: Any) -> Run:
        """Starts `nbws run` with a program."""
        return self.start([str(NBWS), "run", identity, *map(str, options), "--", *map(str, words)], **popen)

    def start(self, command: list[str], **popen: Any) -> Run:
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / f"log-{len(list(self.directory.glob('log-*')))}"
        environment = popen.pop("env", self.environment)
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=popen.pop("stdout", file),
                stderr=popen.pop("stderr", file),
                env=environment,
                cwd=popen.pop("cwd", self.directory),
                **popen,
            )
        return Run(process, log, self)


@dataclasses.dataclass
class Run:
    """`nbws run`, under way."""

    process: subprocess.Popen[bytes]
    log: Path
    machine: Machine

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout: float = PATIENCE_S) -> int:
        """Waits for the end; returns the exit code as a shell would say it."""
        try:
            code = self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            error.add_note(self.said())
            raise
        return 128 - code if code < 0 else code

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.end()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.said() or self.process.poll() is not None, f"{text!r} in\n{self.log}")
        assert text in self.said(), self.said()

    def wait_file(self, name: str) -> Path:
        path = self.machine.workspace / name
        wait_until(lambda: path.exists() or self.process.poll() is not None, name)
        assert path.exists(), self.said()
        return path


@pytest.fixture
def here(tmp_path: Path) -> Machine:
    """A machine, and a notebook ``demo`` in its store."""
    machine = Machine(tmp_path / "here", (tmp_path / "objects").as_uri())
    machine.notebooks().create(id="demo", name="a demo")
    return machine


@pytest.fixture
def there(tmp_path: Path, here: Machine) -> Machine:
    """Another machine with the same store."""
    return Machine(tmp_path / "there", here.store)


def wait_until(holds: Callable[[], object], what: str, patience: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"waited {patience:g} s for {what}"
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def events(machine: Machine, identity: str = "demo") -> list[tuple[str, str]]:
    return [(event.kind, event.state) for event in machine.notebook(identity).history()]


def python(source: str) -> tuple[str, str, str]:
    """A program of a few lines."""
    return (sys.executable, "-c", source)


def each_line(path: Path) -> Iterator[str]:
    yield from path.read_text().split()
