"""Rules for all notebooks of a container: who follows them, who does not, and what they do to the backups."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws.defaults import DEFAULTS, Defaults, container_rules
from nbws.errors import InvalidInput
from nbws.retention import Retention
from runs import Machine as Commands

if TYPE_CHECKING:
    from pathlib import Path

    from lives import Machine, World

TWO = Retention(retained_number=2)


def lived(machine: Machine, identity: str, saves: int = 5) -> nbws.Notebook:
    """A notebook with so many backups that people made, and that of its start."""
    notebook = machine.notebooks().create(id=identity)
    place = machine.root / identity
    notebook.start(place)
    for number in range(saves):
        (place / "work.txt").write_text(str(number))
        notebook.save()
    return notebook


def test_what_is_set_is_there_for_everybody(world: World) -> None:
    notebooks, others = world.machine().notebooks(), world.machine("two").notebooks()
    assert notebooks.defaults() == Defaults()
    assert notebooks.ids() == []
    rules = Retention(retained_number=7, lifetime_in_days=30, lifetime_eviction_threshold=2, keep_within=1.5)
    assert notebooks.set_defaults(retention=rules) == Defaults(rules)
    assert others.defaults() == notebooks.defaults() == Defaults(rules)
    # What is not given stays.
    assert others.set_defaults() == Defaults(rules)
    assert others.set_defaults(retention=None) == Defaults()
    assert notebooks.defaults() == Defaults()
    assert asyncio.run(notebooks.set_defaults_async(retention=TWO)) == asyncio.run(others.defaults_async())


def test_where_they_lie_is_no_notebook(disk: World) -> None:
    notebooks = disk.machine().notebooks()
    notebooks.defaults()
    assert not disk.objects(), "asking makes nothing"
    notebooks.set_defaults(retention=TWO)
    assert notebooks.ids() == []
    assert notebooks.list() == []
    assert notebooks.list(state="NONE") == []
    assert notebooks.orphans() == []
    for call in (notebooks.get, notebooks.purge):
        with pytest.raises(InvalidInput):
            call(DEFAULTS)
    with pytest.raises(InvalidInput):
        notebooks.create(id=DEFAULTS)


def test_backups_say_when_the_rules_give_them_up(world: World) -> None:
    machine = world.machine()
    notebook = lived(machine, "one")
    assert all(backup.eviction_date is None for backup in notebook.backups())
    machine.notebooks().set_defaults(retention=TWO)
    listed = list(notebook.backups())
    # The head and the one before stay; of the others each went when the second after it came.
    assert [backup.eviction_date for backup in listed[-2:]] == [None, None]
    assert [backup.eviction_date for backup in listed[:-2]] == [backup.time for backup in listed[2:]]
    notebook.pin(listed[0])
    until = datetime(2099, 1, 1, tzinfo=UTC)
    notebook.pin(listed[1], until=until)
    dates = [backup.eviction_date for backup in notebook.backups()]
    assert dates[:2] == [None, until]
    assert dates[2:] == [backup.eviction_date for backup in listed[2:]]
    # Its own rules stand before those of the container.
    notebook.set_retention(Retention(lifetime_in_days=10))
    listed = list(notebook.backups())
    assert listed[2].eviction_date == listed[2].time + timedelta(days=10)
    assert listed[1].eviction_date == until
    assert listed[-1].eviction_date is None
    notebook.set_retention(None)
    assert [backup.eviction_date for backup in notebook.backups()] == dates
    assert asyncio.run(notebook.backups_async()) == notebook.backups()


def test_prune_follows_them(world: World) -> None:
    machine = world.machine()
    machine.notebooks().set_defaults(retention=TWO)
    one, own = lived(machine, "one"), lived(machine, "own")
    own.set_retention(Retention(retained_number=4))
    given_up = {backup.snapshot for backup in one.backups() if backup.eviction_date is not None}
    plan = one.prune()
    assert {snapshot.snapshot for snapshot in plan.forgotten} == given_up
    assert (len(plan.forgotten), len(own.prune().forgotten)) == (4, 2)
    assert len(one.prune(Retention(retained_number=5)).forgotten) == 1
    done = one.prune(apply=True, force=True)
    assert done.mark is not None
    assert len(one.backups()) == 2
    assert len(own.backups()) == 6
    # A plain repository has no container.
    assert container_rules(one.workspace) == TWO
    assert one.workspace.prune().forgotten == ()


def test_changes_at_once_are_changes_one_after_the_other(world: World) -> None:
    # Twelve writers of a setting each, and of the rules: nobody's change takes another one's away.
    machines = [world.machine(f"m{number}") for number in range(12)]
    errors: list[BaseException] = []

    def change(number: int) -> None:
        try:
            notebooks = machines[number].notebooks()
            notebooks.set_defaults(retention=Retention(retained_number=number))
            workspace = nbws.Workspace.open(f"{notebooks.url}/{DEFAULTS}", store=machines[number].options)
            workspace._engine.set_setting(f"of-{number}", json.dumps(number)).wait()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=change, args=[number]) for number in range(len(machines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    notebooks = machines[0].notebooks()
    rules = notebooks.defaults().retention
    assert rules is not None
    assert rules.retained_number in range(12)
    workspace = nbws.Workspace.open(f"{notebooks.url}/{DEFAULTS}", store=machines[0].options)
    assert [workspace._engine.setting(f"of-{number}").wait() for number in range(12)] == [str(n) for n in range(12)]


def test_forks_follow_them_too(world: World) -> None:
    machine = world.machine()
    machine.notebooks().set_defaults(retention=Retention(lifetime_in_days=3))
    notebook = lived(machine, "one", 2)
    fork = notebook.fork("latest")
    fork.start(machine.root / "fork")
    (machine.root / "fork" / "own.txt").write_text("own")
    fork.save()
    first = fork.backups()[0]
    assert first.eviction_date == first.time + timedelta(days=3)


def test_from_the_command_line(tmp_path: Path) -> None:
    here = Commands(tmp_path / "here", (tmp_path / "objects").as_uri())
    assert here.json("notebook", "defaults")["retention"] is None
    assert "all backups are kept" in here.nbws("notebook", "defaults").stdout
    words = ("--retained-number", 1, "--keep-within", "1h")
    given = here.json("notebook", "defaults", *words)["retention"]
    assert (given["retained_number"], given["keep_within"], given["keep_daily"]) == (1, 3600.0, None)
    assert "retained_number 1, keep_within 3600" in here.nbws("notebook", "defaults").stdout
    here.nbws("notebook", "defaults", *words, "--no-retention", code=2)

    identity = here.json("notebook", "create", "--id", "demo")["id"]
    found = here.json("notebook", "retention", identity)
    assert (found["own"], found["retention"]) == (False, given)
    here.json("notebook", "start", identity)
    for number in range(3):
        (here.workspace / "work.txt").write_text(str(number))
        here.json("notebook", "save", identity)
    url = f"{here.store}/notebooks_workspace/{identity}"
    assert here.json("prune", url)["forgotten"] == [], "an hour has not passed"
    here.json("notebook", "defaults", "--retained-number", 1)
    assert len(here.json("prune", url)["forgotten"]) == 3
    backups = here.json("notebook", "backups", identity)["backups"]
    assert [backup["eviction_date"] is None for backup in backups] == [False, False, False, True]
    assert here.nbws("notebook", "backups", identity).stdout.count("(until the next prune)") == 3
    own = here.json("notebook", "retention", identity, "--lifetime-in-days", 9)
    assert (own["own"], own["retention"]["lifetime_in_days"]) == (True, 9)
    backups = here.json("notebook", "backups", identity)["backups"]
    date = f"(until {datetime.fromisoformat(backups[0]['eviction_date']):%Y-%m-%d})"
    assert here.nbws("notebook", "backups", identity).stdout.count(date) >= 1
    assert here.json("prune", url)["forgotten"] == []
    assert here.json("notebook", "retention", identity, "--default")["own"] is False
    assert here.json("notebook", "defaults", "--no-retention")["retention"] is None
    assert here.json("prune", url)["forgotten"] == []
