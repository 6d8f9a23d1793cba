"""Every state is reached, every change of state that the table allows is driven, and every other one is refused before anything is sent.

What is driven is generated from the table in the core: a row that no test knows of fails here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lives import IDENTITY, REACH, ROWS, STATES, Machine, Row, World, end_at, rows_of, state_of
from nbws.errors import Conflict, Fenced, InvalidState, NbwsError, NotFound
from nbws.lifecycle import LIVE_STATES
from nbws.lifecycle import STATES as NINE
from nbws.marker import NAME as MARKER

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = (InvalidState, Fenced, Conflict)
RESTING = ["STOPPED", "FAILED", "ERROR", "SYNC_FAILED"]


def test_the_states_are_those_of_the_table() -> None:
    named = {state for _, before, after in ROWS for state in (before, after)}
    assert named == set(STATES) == {"NONE", *NINE}


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_reached(state: str, world: World) -> None:
    machine = world.machine()
    REACH[state](machine)
    assert state_of(machine) == state


# How each row is driven, from the state before it.


def start_here(machine: Machine, world: World) -> None:
    machine.notebook().start(machine.workspace, machine.data)


def start_elsewhere(machine: Machine, world: World) -> None:
    other = world.machine("two")
    other.notebook().start(other.workspace, take_over=True)


def claim_unmanaged(machine: Machine, world: World) -> None:
    engine = machine.notebook()._engine
    hold = engine.hold(machine.workspace).wait()
    engine.claim(hold, {"take_over": False, "resident": False}).wait()


def comment(machine: Machine, world: World) -> None:
    machine.notebook().comment("seen")


def fail_to_start(machine: Machine, world: World) -> None:
    # The template goes away between create and start.
    template = machine.root / "template"
    template.mkdir()
    notebook = machine.notebooks().create(id="templated", template=template)
    template.rmdir()
    with pytest.raises(NbwsError):
        notebook.start(machine.workspace)


def start_without_marker(machine: Machine, world: World) -> None:
    REACH["ERROR"](machine)


def stop(machine: Machine, world: World) -> None:
    machine.notebook().stop()


def stop_interrupted(machine: Machine, world: World) -> None:
    notebook = machine.notebook()
    end_at(type(notebook).stop, notebook, when=lambda: state_of(machine) == "STOPPING")


def stop_without_time(machine: Machine, world: World) -> None:
    machine.write("large.bin", "large" * 50_000)
    machine.notebook().stop(deadline=0.0)


def stop_failed(machine: Machine, world: World) -> None:
    machine.notebook().stop(failed="the program ended with 1")


def restart(machine: Machine, world: World) -> None:
    machine.notebook().restart()


def save(machine: Machine, world: World) -> None:
    machine.write("more.txt", "more")
    machine.notebook().save()


def save_in_session(machine: Machine, world: World) -> None:
    machine.write("more.txt", "more")
    machine.notebook().workspace.save(machine.workspace)


def save_over(machine: Machine, world: World) -> None:
    other = world.machine("two")
    other.write("other.txt", "from elsewhere")
    other.notebook().workspace.save(other.workspace, take_over=True)


def save_over_in_part(machine: Machine, world: World) -> None:
    other = world.machine("two")
    other.write("large.bin", "large" * 50_000)
    other.notebook().workspace.save(other.workspace, take_over=True, deadline=0.0)


def create(machine: Machine, world: World) -> None:
    machine.notebooks().create(id="created")


def delete(machine: Machine, world: World) -> None:
    machine.notebook().delete(force=True)


def purge(machine: Machine, world: World) -> None:
    machine.notebooks().purge(IDENTITY, confirm=IDENTITY)


def platform_says(state: str) -> Callable[[Machine, World], None]:
    """No verb of this package says it: a platform does, through the engine."""

    def say(machine: Machine, world: World) -> None:
        machine.notebook()._engine.change_state(machine.workspace, state, None, "the machine is broken").wait()

    return say


Drive = tuple["Callable[[Machine, World], None]", ...]
DRIVES: dict[Row, Drive] = {
    **{
        ("claim", state, "STARTING"): (start_here, start_elsewhere)
        for state in STATES
        if state not in {"NONE", "DELETING"}
    },
    **{("state", state, state): (comment,) for state in STATES if state != "DELETING"},
    **{("delete", state, "DELETING"): (delete,) for state in STATES if state != "DELETING"},
    **{("one-shot save", state, "STOPPED"): (save_over,) for state in [*sorted(LIVE_STATES), "STOPPED", "SYNC_FAILED"]},
    **{("one-shot save", state, state): (save_over,) for state in ("NONE", "STOPPED", "FAILED", "ERROR")},
    ("one-shot save", "SYNC_FAILED", "SYNC_FAILED"): (save_over_in_part,),
    ("state", "NONE", "STOPPED"): (create,),
    ("state", "STARTING", "RUNNING"): (start_here,),
    ("state", "STARTING", "FAILED"): (fail_to_start,),
    ("state", "STARTING", "ERROR"): (start_without_marker,),
    ("state", "RUNNING", "STOPPING"): (stop, stop_interrupted),
    ("state", "RUNNING", "RESTARTING"): (restart,),
    ("state", "STOPPING", "STOPPED"): (stop,),
    ("state", "STOPPING", "SYNC_FAILED"): (stop_without_time,),
    ("state", "STOPPING", "FAILED"): (stop_failed,),
    ("state", "SYNC_FAILED", "STOPPED"): (save, stop),
    ("state", "RESTARTING", "RUNNING"): (restart,),
    ("state", "RESTARTING", "STOPPING"): (stop,),
    ("session save", "STARTING", "STARTING"): (start_here,),
    ("session save", "RUNNING", "RUNNING"): (save,),
    ("session save", "STOPPING", "STOPPING"): (stop,),
    ("session save", "SYNC_FAILED", "SYNC_FAILED"): (save,),
    ("session save", "RESTARTING", "RESTARTING"): (save_in_session,),
    ("purge", "DELETING", "DELETING"): (purge,),
}
# The public API has no verb for these: who runs the machines says so through the engine's binding.
BY_PLATFORM: dict[Row, Drive] = {
    ("claim", "NONE", "STARTING"): (claim_unmanaged,),
    **{("state", state, "FAILED"): (platform_says("failed"),) for state in ("RUNNING", "RESTARTING")},
    **{("state", state, "ERROR"): (platform_says("error"),) for state in ("RUNNING", "RESTARTING", "STOPPING")},
}
# These make a notebook of their own, of this id.
WHOLE: dict[Callable[[Machine, World], None], str] = {
    create: "created",
    fail_to_start: "templated",
    start_without_marker: IDENTITY,
}


def test_every_row_is_driven_by_one_way() -> None:
    assert set(DRIVES) | set(BY_PLATFORM) == set(ROWS)
    assert not set(DRIVES) & set(BY_PLATFORM)


def drives(by: dict[Row, Drive]) -> list[Any]:
    return [
        pytest.param(row, drive, id=f"{'-'.join(row)}-{drive.__name__}".replace(" ", "-"))
        for row, found in by.items()
        for drive in found
    ]


@pytest.mark.parametrize(("row", "drive"), [*drives(DRIVES), *drives(BY_PLATFORM)])
def test_a_legal_change(row: Row, drive: Callable[[Machine, World], None], world: World) -> None:
    step, before, _after = row
    machine = world.machine()
    identity, written = WHOLE.get(drive, IDENTITY), 0
    if drive not in WHOLE:
        # The first save of a start comes from a start at rest: nothing is saved by one that resumes.
        REACH["STOPPED" if (step, before) == ("session save", "STARTING") else before](machine)
        written = len(machine.notebook().history())
    drive(machine, world)
    rows = rows_of(machine.notebook(identity).history())[written:]
    assert row in rows, f"{row} was not written: {rows}"


def test_a_history_is_made_of_rows_only(world: World) -> None:
    machine = world.machine()
    for drive in (REACH["SYNC_FAILED"], save_once, REACH_AGAIN, stop_once):
        drive(machine)
    rows = [row for row in rows_of(machine.notebook().history()) if row is not None]
    assert set(rows) <= set(ROWS)
    assert len(rows) > 10


def save_once(machine: Machine) -> None:
    machine.notebook().save()


def REACH_AGAIN(machine: Machine) -> None:  # noqa: N802  # reads like the constants beside it
    machine.notebook().start(machine.workspace, machine.data)


def stop_once(machine: Machine) -> None:
    machine.notebook().stop()


# What is refused.


ILLEGAL_CHANGES = [(before, after) for before in STATES for after in STATES if ("state", before, after) not in ROWS]


@pytest.mark.parametrize(("before", "after"), ILLEGAL_CHANGES)
def test_an_illegal_change_of_state(before: str, after: str, disk: World) -> None:
    machine = disk.machine()
    REACH[before](machine)
    notebook = machine.notebook()
    found = notebook._engine.session().wait()
    place = machine.workspace if found is not None and found["owns_epoch"] else None
    stored = disk.objects()
    with pytest.raises(REFUSED):
        notebook._engine.change_state(place, after.lower()).wait()
    assert disk.objects() == stored


def refused_starts() -> list[str]:
    return [state for state in STATES if ("claim", state, "STARTING") not in ROWS]


@pytest.mark.parametrize("state", refused_starts())
def test_an_illegal_claim(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState):
        machine.notebook().start(machine.workspace, take_over=True)
    assert disk.objects() == stored


def test_a_start_of_what_was_never_created(disk: World) -> None:
    machine = disk.machine()
    REACH["NONE"](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState, match="never made a notebook"):
        machine.notebook().start(machine.workspace)
    with pytest.raises(NotFound):
        machine.notebook("another")
    assert disk.objects() == stored


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_a_claim_of_a_live_notebook_must_say_take_over(state: str, disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH[state](machine)
    stored = {name: found for name, found in disk.objects().items() if "/hb/" not in name}
    with pytest.raises(Conflict, match="take over") as refused:
        other.notebook().start(other.workspace)
    # The message names who runs it and since when nothing was heard; a sign of life of one's own carries no safety.
    status = machine.notebook().status()
    assert status.writer is not None
    assert status.writer.id in str(refused.value)
    assert " s " in str(refused.value)
    assert {name: found for name, found in disk.objects().items() if "/hb/" not in name} == stored


@pytest.mark.parametrize("state", [state for state in STATES if ("session save", state, state) not in ROWS])
def test_an_illegal_save_of_a_run(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState):
        machine.notebook().save()
    assert disk.objects() == stored


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_an_illegal_save_beside_a_run(state: str, disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH[state](machine)
    other.write("other.txt", "from elsewhere")
    stored = disk.objects()
    with pytest.raises(InvalidState, match="take over"):
        other.notebook().workspace.save(other.workspace)
    assert disk.objects() == stored


def test_a_save_of_a_deleted_notebook_is_kept_beside_it(world: World) -> None:
    machine = world.machine()
    REACH["RUNNING"](machine)
    machine.write("late.txt", "not saved yet")
    world.machine("two").notebook().delete(force=True)
    before = len(machine.notebook().history())
    with pytest.raises(REFUSED) as refused:
        machine.notebook().workspace.save(machine.workspace)
    # No snapshot follows a deletion; the work itself is not thrown away.
    added = machine.notebook().history()[before:]
    assert {event.kind for event in added} <= {"rescue"}
    assert refused.value.rescue is not None
    assert machine.notebook().workspace.rescue(refused.value.rescue).read("late.txt") == b"not saved yet"


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"RUNNING", "RESTARTING"}])
def test_an_illegal_restart(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState):
        machine.notebook().restart()
    assert disk.objects() == stored


STOPPABLE = {"RUNNING", "RESTARTING", "STOPPING", "SYNC_FAILED"}


@pytest.mark.parametrize("state", [state for state in STATES if state not in STOPPABLE])
def test_an_illegal_stop(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    if state in {"STOPPED", "FAILED"}:
        report = machine.notebook().stop()
        assert report.warnings == (f"the notebook is {state} already; nothing was done",)
    else:
        with pytest.raises(InvalidState):
            machine.notebook().stop()
    assert disk.objects() == stored


@pytest.mark.parametrize("state", sorted(LIVE_STATES))
def test_an_illegal_delete(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState, match="force"):
        machine.notebook().delete()
    assert disk.objects() == stored


def test_a_second_delete_changes_nothing(disk: World) -> None:
    machine = disk.machine()
    REACH["DELETING"](machine)
    stored = disk.objects()
    machine.notebook().delete()
    assert disk.objects() == stored


@pytest.mark.parametrize("state", [state for state in STATES if ("purge", state, "DELETING") not in ROWS])
def test_an_illegal_purge(state: str, disk: World) -> None:
    machine = disk.machine()
    REACH[state](machine)
    stored = disk.objects()
    with pytest.raises(InvalidState, match="delete it first"):
        machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    with pytest.raises(InvalidState, match="delete it first"):
        machine.notebook()._engine.purge().wait()
    assert disk.objects() == stored


def test_nothing_follows_a_purge(disk: World) -> None:
    machine = disk.machine()
    REACH["DELETING"](machine)
    machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    machine.write("late.txt", "late")
    stored = disk.objects()
    notebook = machine.notebook()
    for verb in (
        lambda: notebook.start(machine.workspace),
        notebook.save,
        notebook.stop,
        notebook.restart,
        lambda: notebook.comment("late"),
        lambda: notebook.workspace.save(machine.workspace),
        lambda: machine.notebooks().create(id=IDENTITY),
    ):
        with pytest.raises(NbwsError) as refused:
            verb()
        assert refused.value.kind in {"InvalidState", "AlreadyExists"}
    assert disk.objects() == stored


def test_a_writer_of_an_older_epoch_changes_no_state(disk: World) -> None:
    machine, other = disk.machine(), disk.machine("two")
    REACH["RUNNING"](machine)
    old = machine.notebook()
    other.notebook().start(other.workspace, take_over=True)
    stored = disk.objects()
    for verb in (old.restart, old.stop):
        with pytest.raises(Fenced):
            verb()
    with pytest.raises(Fenced):
        old._engine.change_state(machine.workspace, "error").wait()
    assert disk.objects() == stored
    assert state_of(other) == "RUNNING"


def test_the_marker_of_a_machine_is_no_state(world: World) -> None:
    # A state lives in the log alone: files that look like one change nothing.
    machine = world.machine()
    REACH["STOPPED"](machine)
    machine.write(MARKER, '{"notebook": "demo", "state": "RUNNING"}')
    assert state_of(machine) == "STOPPED"
