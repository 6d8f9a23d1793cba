"""Notebooks on several machines, brought into any state by the public API, and ended at any step of a verb as by a crash."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbws
from nbws import _nbws, lifecycle
from nbws.errors import InvalidState, NbwsError
from nbws.marker import NAME as MARKER
from nbws.notebooks import Notebooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nbws.lifecycle import Event
    from nbws.notebook import Notebook

_numbers = itertools.count()

IDENTITY = "demo"
# Step, state before it, state after it.
Row = tuple[str, str, str]
ROWS: dict[Row, str] = {
    (step, before.upper(), after.upper()): cause for step, before, after, cause in _nbws.transitions()
}
STATES = ["NONE", *lifecycle.STATES]


@dataclass(frozen=True)
class Machine:
    """A machine of its own: local state, workspace and fast disk."""

    root: Path
    url: str
    options: Mapping[str, str]

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def notebooks(self, **options: Any) -> Notebooks:
        return Notebooks(self.url, options=self.options, state_dir=self.root / "state", **options)

    def notebook(self, identity: str = IDENTITY) -> Notebook:
        """A handle as a new process has it: nothing is remembered but what lies on this machine's disk."""
        return self.notebooks().get(identity)

    def write(self, name: str, content: str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def files(self) -> dict[str, str]:
        """What lies in the workspace, without what nbws itself has put there."""
        return {
            str(path.relative_to(self.workspace)): path.read_text()
            for path in sorted(self.workspace.rglob("*"))
            if path.is_file() and path.name not in {MARKER, ".nbws-restoring"}
        }


class World:
    """One store and the machines around it."""

    def __init__(self, root: Path, url: str | None = None, options: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.url = url or f"memory:///lives-{next(_numbers)}"
        self.options = dict(options or {})

    def machine(self, name: str = "one") -> Machine:
        root = self.root / name
        root.mkdir(exist_ok=True)
        return Machine(root, self.url, self.options)

    def objects(self) -> dict[str, tuple[int, int]]:
        """Every object of a ``file:`` store with its size and the time of its last write."""
        top = Path(self.url.removeprefix("file://"))
        found = (path for path in top.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def end_at(verb: Callable[..., Any], *arguments: Any, when: Callable[[], bool], **options: Any) -> None:
    """Runs a verb step by step and drops it as soon as ``when`` holds: as a crash between two steps would."""
    call = verb.__wrapped__(*arguments, **options)  # type: ignore[attr-defined]
    steps = call.steps()
    answer: Any = None
    error: NbwsError | None = None
    try:
        while True:
            step = steps.send(answer) if error is None else steps.throw(error)
            answer = error = None
            try:
                answer = step.work() if hasattr(step, "work") else step.wait()
            except NbwsError as failure:
                error = failure
            if when():
                return
    except StopIteration:
        raise AssertionError("the verb came to its end") from None
    finally:
        steps.close()


def state_of(machine: Machine) -> str:
    return str(machine.notebook().status().state)


def crash(notebook: Notebook) -> None:
    """What a dead process leaves: the lock of the run is free, everything else is as it was."""
    hold = notebook._run.hold
    if hold is not None:
        hold.release()
        notebook._run.hold = None


# How each state is reached, by the public API alone.


def none(machine: Machine) -> None:
    place = f"{machine.notebooks().url}/{IDENTITY}"
    workspace = nbws.Workspace.open(place, create=True, store=machine.options, state_dir=machine.root / "state")
    machine.write("plain.txt", "saved by hand")
    workspace.save(machine.workspace)


def stopped(machine: Machine) -> None:
    machine.notebooks().create(id=IDENTITY, name="demo", framework="pytorch", framework_version="2.13")


def running(machine: Machine) -> None:
    stopped(machine)
    machine.notebook().start(machine.workspace, machine.data)


def starting(machine: Machine) -> None:
    stopped(machine)
    notebook = machine.notebook()
    end_at(type(notebook).start, notebook, machine.workspace, when=lambda: state_of(machine) == "STARTING")


def stopping(machine: Machine) -> None:
    running(machine)
    machine.write("late.txt", "not saved yet")
    notebook = machine.notebook()
    end_at(type(notebook).stop, notebook, when=lambda: state_of(machine) == "STOPPING")


def failed(machine: Machine) -> None:
    running(machine)
    machine.notebook().stop(failed="the program ended with 3")


def error(machine: Machine) -> None:
    running(machine)
    machine.notebook().stop()
    (machine.workspace / MARKER).unlink()
    workspace = machine.notebook().workspace
    workspace.save(machine.workspace)
    with contextlib.suppress(InvalidState):
        machine.notebook().start(machine.workspace, strict_marker=True)


def sync_failed(machine: Machine) -> None:
    running(machine)
    machine.write("late.bin", "late" * 50_000)
    machine.notebook().stop(deadline=0.0)


def restarting(machine: Machine) -> None:
    running(machine)
    notebook = machine.notebook()
    end_at(type(notebook).restart, notebook, when=lambda: state_of(machine) == "RESTARTING")


def deleting(machine: Machine) -> None:
    stopped(machine)
    machine.notebook().delete()


REACH: dict[str, Callable[[Machine], None]] = {
    "NONE": none,
    "STARTING": starting,
    "RUNNING": running,
    "STOPPING": stopping,
    "STOPPED": stopped,
    "FAILED": failed,
    "ERROR": error,
    "SYNC_FAILED": sync_failed,
    "RESTARTING": restarting,
    "DELETING": deleting,
}


def step_of(before: Event | None, event: Event) -> str | None:
    """What the table calls the step that a record takes; None for the kinds that keep every state."""
    if event.kind == "snapshot":
        return "session save" if before is not None and before.epoch == event.epoch else "one-shot save"
    if event.kind == "tombstone":
        return "purge" if event.purge else "delete"
    return event.kind if event.kind in {"claim", "state"} else None


def rows_of(events: Iterable[Event]) -> list[Row | None]:
    """The changes of state that a history is made of."""
    listed = list(events)
    pairs = zip([None, *listed], listed, strict=False)
    rows: list[Row | None] = []
    for before, event in pairs:
        step = step_of(before, event)
        rows.append(None if step is None else (step, before.state if before else "NONE", event.state))
    return rows
