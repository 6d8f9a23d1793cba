"""Bad input: each a typed error or a notice, before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbws
import pytest
from lives import IDENTITY, REACH, World, state_of
from nbws.errors import Conflict, InvalidInput, InvalidState, NotFound

if TYPE_CHECKING:
    from pathlib import Path

BAD_IDS = ["", ".", "..", "a/b", "../a", "/a", "a\\b", "a.b", "-a", "_a", "a b", "a" * 64, "ä", "a\n", "a\0", "%2e%2e"]


@pytest.mark.parametrize("identity", BAD_IDS)
def test_ids_that_can_not_be_one(identity: str, disk: World) -> None:
    notebooks = disk.machine().notebooks()
    calls: list[Any] = [notebooks.get, notebooks.purge]
    if identity:  # an empty one asks for a random id
        calls.append(lambda name: notebooks.create(id=name))
    for call in calls:
        with pytest.raises(InvalidInput, match="no id of a notebook"):
            call(identity)
    assert disk.objects() == {}


@pytest.mark.parametrize("identity", ["a", "0", "A-b_c", "a" * 63])
def test_ids_that_can(identity: str, world: World) -> None:
    notebooks = world.machine().notebooks()
    assert notebooks.create(id=identity).id == notebooks.get(identity).id == identity


def test_an_unknown_id(world: World) -> None:
    notebooks = world.machine().notebooks()
    for call in (notebooks.get, notebooks.purge):
        with pytest.raises(NotFound, match="no notebook unknown"):
            call("unknown")


@pytest.mark.parametrize(
    "options",
    [
        {"name": "x" * 257},
        {"name": "ä" * 129},
        {"name": ""},
        {"name": "line\nbreak"},
        {"name": "\x1b[31m"},
        {"labels": {"": "x"}},
        {"labels": {str(number): "" for number in range(65)}},
        {"run_limit": 0},
        {"run_limit": -5},
        {"run_limit": "59s"},
        {"run_limit": "soon"},
        {"run_limit": float("nan")},
        {"run_limit": float("inf")},
        {"at_limit": "explode"},
    ],
)
def test_values_that_can_not_be_used(options: dict[str, Any], disk: World) -> None:
    with pytest.raises(InvalidInput):
        disk.machine().notebooks().create(id=IDENTITY, **options)
    assert disk.objects() == {}


def test_names_as_long_as_they_may_be(world: World) -> None:
    notebooks = world.machine().notebooks()
    assert notebooks.create(id="a", name="ä" * 128).status().name == "ä" * 128


@pytest.mark.parametrize("container", ["", "a/b", "/"])
def test_containers_that_can_not_be_one(container: str, world: World) -> None:
    with pytest.raises(InvalidInput):
        nbws_notebooks(world, container)


def nbws_notebooks(world: World, container: str) -> object:
    return type(world.machine().notebooks())(world.url, container=container)


def test_a_start_while_another_machine_runs_it(world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["RUNNING"](machine)
    running = machine.notebook().status().writer
    assert running is not None
    with pytest.raises(Conflict) as refused:
        other.notebook().start(other.workspace)
    for part in (running.id, "running elsewhere", " s old", "take over"):
        assert part in str(refused.value)
    assert state_of(machine) == "RUNNING"
    # A machine that has nothing to do with the run can't end it either.
    for verb in (other.notebook().save, other.notebook().stop, other.notebook().restart):
        with pytest.raises(InvalidState, match="does not run on this machine"):
            verb()
    assert state_of(machine) == "RUNNING"


def test_a_purge_of_a_running_one(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    with pytest.raises(InvalidState, match="RUNNING; delete it first"):
        machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    assert state_of(machine) == "RUNNING"


@pytest.mark.parametrize("confirm", ["", "yes", IDENTITY.upper(), f" {IDENTITY}"])
def test_a_purge_that_is_not_confirmed(confirm: str, disk: World) -> None:
    machine = disk.machine()
    REACH["DELETING"](machine)
    stored = disk.objects()
    with pytest.raises(InvalidInput, match="written out"):
        machine.notebooks().purge(IDENTITY, confirm=confirm)
    assert not machine.notebooks().purge(IDENTITY).applied
    assert disk.objects() == stored


def test_a_workspace_that_is_a_file(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    machine.workspace.write_text("a file")
    with pytest.raises(nbws.NbwsError) as refused:
        machine.notebook().start(machine.workspace)
    assert refused.value.kind in {"InvalidInput", "LocalIo"}
    assert state_of(machine) == "STOPPED"
    assert machine.workspace.read_text() == "a file"


def test_a_comment_that_is_too_long(disk: World) -> None:
    machine = disk.machine()
    REACH["STOPPED"](machine)
    stored = disk.objects()
    with pytest.raises(InvalidInput, match="1,024"):
        machine.notebook().comment("x" * 1_025)
    assert disk.objects() == stored


def test_a_latch_that_is_not_set(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    with pytest.raises(InvalidState, match="no latch"):
        machine.notebook().clear_latch()
    with pytest.raises(InvalidState):
        world.machine("two").notebook().clear_latch()


def test_states_that_do_not_exist(world: World) -> None:
    with pytest.raises(InvalidInput, match="no state"):
        world.machine().notebooks().list(state="SLEEPING")


def test_no_local_state_and_no_process_that_stays(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # HOME and state lie in the workspace, and so does the directory for temporary files.
    machine = world.machine()
    REACH["STOPPED"](machine)
    written = len(machine.notebook().history())
    inside = machine.workspace / ".state"
    monkeypatch.setenv("TMPDIR", str(machine.workspace))
    notebook = type(machine.notebooks())(machine.url, state_dir=inside).get(IDENTITY)
    with pytest.raises(nbws.NbwsError, match="NBWS_STATE") as refused:
        notebook.start(machine.workspace)
    assert refused.value.kind == "Unsupported"
    assert len(machine.notebook().history()) == written
    # A process that stays can: its proof lives in it.
    notebook.start(machine.workspace, resident=True)
    machine.write("a.txt", "a")
    assert notebook.status().state == "RUNNING"
