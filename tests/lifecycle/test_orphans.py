"""What is left of deleted notebooks, and of forks and creations that failed; and how it goes for good."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lives import IDENTITY, REACH, Machine, World, end_at
from nbws.errors import AlreadyExists, Conflict, InvalidState, NbwsError, NotFound, Unavailable
from nbws.notebooks import Notebooks
from nbws.workspace import Workspace
from runs import Machine as Commands

if TYPE_CHECKING:
    from nbws.notebook import Notebook


def place_of(world: World, identity: str) -> Path:
    return Path(world.url.removeprefix("file://")) / "notebooks_workspace" / identity


def stored(place: Path) -> dict[str, int]:
    found = (path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.stat().st_size for path in found}


def has_objects(place: Path) -> bool:
    return bool(stored(place))


def lived(machine: Machine) -> Notebook:
    notebook = machine.notebooks().create(id=IDENTITY)
    notebook.start(machine.workspace)
    (machine.workspace / "data.bin").write_bytes(random.Random(3).randbytes(1_000_000))
    notebook.save()
    notebook.stop()
    return notebook


def test_a_purge_counts_what_really_goes(disk: World) -> None:
    machine = disk.machine()
    notebook = lived(machine)
    notebook.delete()
    place = place_of(disk, IDENTITY)
    before = stored(place)
    plan = machine.notebooks().purge(IDENTITY)
    assert stored(place) == before
    done = machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    after = stored(place)
    gone = {name: size for name, size in before.items() if name not in after}
    assert plan.bytes == done.bytes == sum(gone.values())
    assert {name.split("/")[0] for name in after} <= {"format", "log", "ledger", "hint"}
    assert {name for name in gone if name.startswith(("log/", "format"))} == set()
    again = machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    assert (again.bytes, again.snapshots, again.rescues) == (0, 0, 0)


def noted_fork(machine: Machine, notebook: Notebook, target: str, until: datetime) -> None:
    """What a fork has noted that is under way elsewhere, or died."""
    fork = {"snapshot": notebook.backups()[-1].snapshot, "target": target, "until": int(until.timestamp() * 1_000)}
    notebook._engine.set_setting("forks", json.dumps([fork])).wait()


def test_nothing_is_purged_while_it_is_forked(disk: World) -> None:
    machine = disk.machine()
    notebook = lived(machine)
    noted_fork(machine, notebook, "elsewhere", datetime.now(UTC) + timedelta(hours=5))
    assert notebook.backups()[-1].pinned
    notebook.delete()
    before = disk.objects()
    for confirm in (None, IDENTITY):
        with pytest.raises(InvalidState, match=r"fork elsewhere copies .* in (4 h 60|5 h 0|4 h 59) min"):
            machine.notebooks().purge(IDENTITY, confirm=confirm)
    assert disk.objects() == before
    noted_fork(machine, notebook, "elsewhere", datetime.now(UTC) - timedelta(seconds=1))
    assert machine.notebooks().purge(IDENTITY, confirm=IDENTITY).applied


def test_a_fork_keeps_what_it_copies_and_lets_go_of_it(world: World) -> None:
    machine = world.machine()
    notebook = lived(machine)
    first = notebook.backups()[0].snapshot
    before = len(notebook.history())
    for _ in range(3):
        notebook.fork(first)
    # One record before each copy, and one after it.
    assert [event.kind for event in notebook.history()[before:]] == ["settings"] * 6
    assert machine.notebook()._engine.setting("forks").wait() is None
    assert notebook.workspace.pins() == ()


def failed_fork(world: World, machine: Machine) -> tuple[Notebook, str]:
    """A notebook, and the id of a fork of it that died before its record."""
    notebook = lived(machine)
    url = f"{machine.notebooks().url}/copy"
    notebook._engine.fork("latest", url).wait()
    place = place_of(world, "copy")
    for record in (place / "log").iterdir():
        record.unlink()
    lost = next(iter(sorted((place / "packs").iterdir())))
    lost.unlink()
    return notebook, url


def test_a_fork_that_died_is_seen_and_finished_by_repeating_it(disk: World, tmp_path: Path) -> None:
    machine = disk.machine()
    notebook, url = failed_fork(disk, machine)
    (orphan,) = machine.notebooks().orphans()
    assert (orphan.id, orphan.name, orphan.reason, orphan.deleted_at) == ("copy", None, "unfinished", None)
    assert orphan.stored_bytes > 100
    assert 0 <= orphan.age_days < 0.1
    later = Notebooks(disk.url, clock=lambda: datetime.now(UTC) + timedelta(days=3))
    assert 2.9 < later.orphans()[0].age_days < 3.1
    before = Workspace.open(url).repository_id
    done = notebook._engine.fork("latest", url).wait()
    assert done["repository"] == before
    copy = Workspace.open(url)
    assert copy.check(read_data=True).ok
    copy.restore(tmp_path / "restored")
    assert (tmp_path / "restored" / "data.bin").read_bytes() == random.Random(3).randbytes(1_000_000)
    assert machine.notebooks().orphans() == []
    with pytest.raises(AlreadyExists):
        notebook._engine.fork("latest", url).wait()


def test_a_fork_that_died_is_purged(disk: World) -> None:
    machine = disk.machine()
    notebook, url = failed_fork(disk, machine)
    plan = machine.notebooks().purge("copy")
    assert (plan.applied, plan.snapshots) == (False, 0)
    assert plan.bytes == machine.notebooks().orphans()[0].stored_bytes
    done = machine.notebooks().purge("copy", confirm="copy")
    assert done.bytes == plan.bytes
    assert {name.split("/")[0] for name in stored(place_of(disk, "copy"))} == {"format", "log"}
    assert machine.notebooks().orphans() == []
    # Whoever would have finished it loses.
    with pytest.raises(AlreadyExists):
        notebook._engine.fork("latest", url).wait()
    machine.write("late.txt", "late")
    with pytest.raises(InvalidState, match="purged"):
        Workspace.open(url).save(machine.workspace)
    assert notebook.workspace.check(read_data=True).ok


def test_another_repository_is_not_taken_for_a_fork(disk: World) -> None:
    machine = disk.machine()
    notebook = lived(machine)
    url = f"{machine.notebooks().url}/plain"
    Workspace.open(url, create=True)
    with pytest.raises(AlreadyExists):
        notebook._engine.fork("latest", url).wait()
    assert notebook._engine.setting("forks").wait() is None, "it has ended"


def test_a_fork_that_fails_lets_go_of_the_source(cloud: World) -> None:
    # That service does not copy.
    notebook = lived(cloud.machine())
    with pytest.raises(Unavailable):
        notebook.fork("latest")
    assert notebook._engine.setting("forks").wait() is None
    (orphan,) = cloud.machine().notebooks().orphans()
    assert orphan.reason == "unfinished"


def test_a_creation_that_died_is_seen_finished_or_purged(disk: World) -> None:
    machine = disk.machine()
    notebooks = machine.notebooks()
    for identity in ("one", "two"):
        log = place_of(disk, identity) / "log"
        end_at(Notebooks.create, notebooks, id=identity, name=identity, when=partial(has_objects, log))
    assert [(found.id, found.name, found.reason) for found in notebooks.orphans()] == [
        ("one", "one", "unfinished"),
        ("two", "two", "unfinished"),
    ]
    assert notebooks.create(id="one", name="again").status().name == "again"
    assert notebooks.purge("two", confirm="two").applied
    assert notebooks.orphans() == []
    with pytest.raises(AlreadyExists):
        notebooks.create(id="two")


def test_what_somebody_saved_is_not_taken_for_unfinished(world: World) -> None:
    machine = world.machine()
    REACH["NONE"](machine)
    assert machine.notebooks().orphans() == []
    with pytest.raises(InvalidState, match="delete it first"):
        machine.notebooks().purge(IDENTITY)


@pytest.mark.parametrize("round_", range(5))
def test_of_two_creations_at_once_one_wins_with_its_own_settings(world: World, round_: int) -> None:
    names = [f"name-{number}" for number in range(6)]
    made: list[str] = []
    lost: list[NbwsError] = []
    ready = threading.Barrier(len(names))

    def create(name: str) -> None:
        notebooks = world.machine(name).notebooks()
        ready.wait()
        try:
            notebooks.create(id="same", name=name)
        except (AlreadyExists, Conflict) as error:
            lost.append(error)
        else:
            made.append(name)

    threads = [threading.Thread(target=create, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1, (made, lost)
    assert len(lost) == len(names) - 1
    assert world.machine().notebook("same").settings().name == made[0]


def test_settings_of_who_comes_in_between_do_not_stay(world: World) -> None:
    # The other one has written its settings and dies before it could lose.
    machine, other = world.machine(), world.machine("two")
    first = other.notebooks()
    call = Notebooks.create.__wrapped__(machine.notebooks(), id="same", name="mine")  # type: ignore[attr-defined]
    steps = call.steps()
    answer: Any = None
    interrupted = False
    try:
        while True:
            step = steps.send(answer)
            answer = step.work() if hasattr(step, "work") else step.wait()
            settings = None
            try:
                settings = other.notebook("same")._engine.setting("notebook").wait()
            except NotFound:
                continue
            if settings is not None and not interrupted:
                interrupted = True
                end_at(
                    Notebooks.create,
                    first,
                    id="same",
                    name="theirs",
                    when=lambda: "theirs" in (other.notebook("same")._engine.setting("notebook").wait() or ""),
                )
    except StopIteration:
        pass
    assert interrupted
    assert machine.notebook("same").settings().name == "mine"
    with pytest.raises(AlreadyExists):
        first.create(id="same", name="later")
    assert machine.notebook("same").settings().name == "mine"


def damage(world: World, identity: str) -> None:
    log = place_of(world, identity) / "log"
    newest = max(log.iterdir())
    newest.write_bytes(newest.read_bytes()[:-20] + b"x" * 20)


def test_one_damaged_log_hides_no_notebook(disk: World) -> None:
    machine = disk.machine()
    notebooks = machine.notebooks()
    for identity in ("a", "b", "c"):
        notebooks.create(id=identity, labels={"team": "blue"})
    notebooks.get("c").delete()
    damage(disk, "b")
    notebooks.create(id="d")
    for record in sorted((place_of(disk, "d") / "log").iterdir()):
        record.write_bytes(b"damaged")
    listed = notebooks.list()
    assert [(status.id, status.state) for status in listed] == [
        ("a", "STOPPED"),
        ("b", "UNKNOWN"),
        ("c", "DELETING"),
        ("d", "UNKNOWN"),
    ]
    assert listed[1].info is not None
    assert "log/" in listed[1].info
    assert notebooks.get("b").history()[-1].unread == listed[1].info
    # It may be what was asked for, so it is always there.
    assert [status.id for status in notebooks.list(state="RUNNING")] == ["b", "d"]
    assert [status.id for status in notebooks.list(labels={"team": "red"})] == ["b", "d"]
    assert [status.id for status in notebooks.list(limit=2)] == ["a", "b"]
    assert [orphan.id for orphan in notebooks.orphans()] == ["c"]


def test_the_command_lists_it_too(tmp_path: Path) -> None:
    here = Commands(tmp_path / "here", (tmp_path / "objects").as_uri())
    for identity in ("a", "b"):
        here.json("notebook", "create", "--id", identity)
    damage(World(tmp_path, here.store), "b")
    listed = here.json("notebook", "list")["notebooks"]
    assert [item["state"] for item in listed] == ["STOPPED", "UNKNOWN"]
    text = here.nbws("notebook", "list").stdout
    assert "UNKNOWN" in text
    assert "log/" in text
