"""Random lives on two machines: whatever they do, nothing that was acknowledged is lost, and no edit that survived on a disk either."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lives import IDENTITY, ROWS, Machine, World, crash, end_at, rows_of
from nbws.errors import Conflict, Fenced, InvalidInput, InvalidState, NbwsError
from nbws.lifecycle import LIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbws.notebook import Notebook

MACHINES = st.sampled_from(["one", "two"])
NAMES = st.sampled_from(["a.txt", "b.txt", "folder/c.txt"])


class Lives(RuleBasedStateMachine):
    """Two machines, one notebook. Every edit is a text of its own, so that it can be told where it went."""

    def __init__(self) -> None:
        super().__init__()
        # In memory if there is such a place: local state is synced to disk many thousand times.
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="nbws-lives-", dir=place))
        self.world = World(self.root)
        self.machines: dict[str, Machine] = {name: self.world.machine(name) for name in ("one", "two")}
        self.edits = itertools.count()
        self.handles: dict[str, Notebook] = {}
        # What a report has acknowledged: contents that a snapshot or a rescue must hold for ever.
        self.acknowledged: set[str] = set()

    @initialize()
    def create(self) -> None:
        self.machines["one"].notebooks().create(id=IDENTITY)

    def teardown(self) -> None:
        for handle in self.handles.values():
            crash(handle)
        shutil.rmtree(self.root, ignore_errors=True)

    # What happens.

    def handle(self, name: str) -> Notebook:
        if name not in self.handles:
            self.handles[name] = self.machines[name].notebook()
        return self.handles[name]

    def attempt(self, name: str, verb: Callable[[], object]) -> bool:
        """Whether a verb succeeded, or kept the work as a rescue; what it may say otherwise is known."""
        lies_there = set(self.machines[name].files().values())
        try:
            verb()
        except Fenced as fenced:
            if fenced.rescue is None:
                # It says that nothing was unsaved: then it was not.
                self.kept_somewhere(lies_there)
                return False
        except (Conflict, InvalidState, InvalidInput) as refused:
            if refused.rescue is None:
                return False
        self.acknowledged |= lies_there
        return True

    @rule(name=MACHINES, take_over=st.booleans())
    def start(self, name: str, take_over: bool) -> None:
        machine = self.machines[name]
        before = set(machine.files().values())
        state = self.state()
        try:
            self.handle(name).start(machine.workspace, machine.data, take_over=take_over)
        except Conflict:
            assert state in LIVE_STATES
            assert set(machine.files().values()) == before
            return
        except InvalidState:
            assert state == "DELETING"
            return
        except InvalidInput:
            # Files that no run has ever seen: refused and left alone; a person moves them away.
            assert set(machine.files().values()) == before
            assert not before & self.acknowledged
            shutil.rmtree(machine.workspace)
            return
        # What lay on this disk was saved as the head or as a rescue before anything was replaced.
        self.acknowledged |= before
        assert self.state() == "RUNNING"
        # What a save left out is unknown, not removed: such a file stays where it lies.
        head, left_out = self.head()
        assert {path: text for path, text in machine.files().items() if path not in left_out} == head

    @rule(name=MACHINES, file=NAMES)
    def work(self, name: str, file: str) -> None:
        """Most of what people do: run it here, whoever has it, and edit."""
        self.die(name)
        self.start(name, take_over=True)
        self.edit(name, file)

    @rule(name=MACHINES)
    def save(self, name: str) -> None:
        self.attempt(name, self.handle(name).save)

    @rule(name=MACHINES)
    def stop(self, name: str) -> None:
        state, handle = self.state(), self.handle(name)
        if state in {"STOPPED", "FAILED"}:
            with contextlib.suppress(Fenced):
                handle.stop()
            return
        self.attempt(name, handle.stop)

    @rule(name=MACHINES)
    def stop_without_time(self, name: str) -> None:
        with contextlib.suppress(Fenced, Conflict, InvalidState):
            self.handle(name).stop(deadline=0.0)

    @rule(name=MACHINES, steps=st.integers(1, 12))
    def stop_and_die(self, name: str, steps: int) -> None:
        self.die_in(name, "stop", steps)

    @rule(name=MACHINES, steps=st.integers(1, 14))
    def start_and_die(self, name: str, steps: int) -> None:
        self.die_in(name, "start", steps, self.machines[name].workspace, self.machines[name].data)

    @rule(name=MACHINES)
    def restart(self, name: str) -> None:
        with contextlib.suppress(Fenced, InvalidState):
            self.handle(name).restart()

    @rule(name=MACHINES, file=NAMES)
    def edit(self, name: str, file: str) -> None:
        if self.machines[name].workspace.exists():
            self.machines[name].write(file, f"edit {next(self.edits)} on {name}")

    @rule(name=MACHINES, file=NAMES)
    def remove(self, name: str, file: str) -> None:
        (self.machines[name].workspace / file).unlink(missing_ok=True)

    @rule(name=MACHINES)
    def die(self, name: str) -> None:
        """A crash: nothing is left of the process, everything on its disk."""
        if name in self.handles:
            crash(self.handles.pop(name))

    @rule(name=MACHINES)
    def lose_the_disk(self, name: str) -> None:
        """The machine is gone: its edits are, too; nobody had acknowledged them."""
        self.die(name)
        shutil.rmtree(self.machines[name].root)
        self.machines[name] = self.world.machine(name)

    @precondition(lambda self: self.state() not in LIVE_STATES)
    @rule(chance=st.integers(0, 19))
    def delete(self, chance: int) -> None:
        # Not often: little happens afterwards.
        if chance == 7:
            self.machines["one"].notebook().delete()

    def die_in(self, name: str, verb: str, steps: int, *arguments: object) -> None:
        handle, left = self.handle(name), itertools.count(1)
        with contextlib.suppress(NbwsError, AssertionError):
            end_at(getattr(type(handle), verb), handle, *arguments, when=lambda: next(left) >= steps)
        self.die(name)

    # What must hold.

    def state(self) -> str:
        return str(self.machines["one"].notebook().status().state)

    def head(self) -> tuple[dict[str, str], set[str]]:
        """What the newest snapshot holds, and the paths that it left out."""
        newest = self.machines["one"].notebook().backups()[-1]
        return contents(newest), {entry.path for entry in newest.ls(recursive=True) if entry.kind == "omitted"}

    def kept_somewhere(self, wanted: set[str]) -> None:
        workspace = self.machines["one"].notebook().workspace
        found: set[str] = set()
        for saved in [*workspace.snapshots(), *workspace.rescues()]:
            found |= set(contents(saved).values())
        assert wanted <= found, f"lost: {wanted - found}"

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        self.kept_somewhere(self.acknowledged)

    @invariant()
    def the_log_follows_the_table(self) -> None:
        if (notebook := self.notebook()) is None:
            return
        history = notebook.history()
        rows = [row for row in rows_of(history) if row is not None]
        assert set(rows) <= set(ROWS)
        epochs = [event.epoch for event in history]
        assert epochs == sorted(epochs)

    def notebook(self) -> Notebook | None:
        try:
            return self.machines["one"].notebook()
        except NbwsError:
            return None


def contents(saved: object) -> dict[str, str]:
    found = {}
    for entry in saved.ls(recursive=True):  # type: ignore[attr-defined]
        if entry.kind == "file" and not entry.path.startswith("."):
            found[entry.path] = saved.read(entry.path).decode()  # type: ignore[attr-defined]
    return found


def test_random_lives_lose_nothing() -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
