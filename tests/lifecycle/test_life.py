"""A notebook's life: create, start, save, restart, stop, status, history, delete, orphans, purge."""

from __future__ import annotations

import asyncio
import os
import platform
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lives import IDENTITY, REACH, Machine, World, crash, rows_of, state_of
from nbws.errors import AlreadyExists, Conflict, Fenced, InvalidState, NotFound
from nbws.lifecycle import FREE_BYTES
from nbws.marker import NAME as MARKER
from nbws.marker import read_marker

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Service

DAY = timedelta(days=1)


def begin(world: World, name: str = "one") -> Machine:
    machine = world.machine(name)
    REACH["RUNNING"](machine)
    return machine


def test_a_whole_life(world: World) -> None:
    machine = world.machine()
    notebooks = machine.notebooks()
    notebook = notebooks.create(
        name="demo", framework="pytorch", framework_version="2.13", editor="jupyterlab", labels={"team": "a"}
    )
    assert notebook.status().state == "STOPPED"
    assert notebook.status().info == "created"
    report = notebook.start(machine.workspace, machine.data)
    assert report.complete
    assert notebook.status().state == "RUNNING"
    marker = read_marker(machine.workspace)
    assert marker is not None
    assert (marker["notebook"], marker["framework"], marker["framework_version"]) == (notebook.id, "pytorch", "2.13")
    assert marker["python"] == platform.python_version()
    assert datetime.fromisoformat(marker["created"]) <= datetime.now(UTC)

    machine.write("a.ipynb", "{}")
    saved = notebook.save(comment="before the upgrade")
    assert notebook.backups()[-1].snapshot == saved.snapshot
    assert notebook.backups()[-1].comment == "before the upgrade"
    assert (notebook.backups()[-1].framework, notebook.backups()[-1].python) == (
        "pytorch 2.13",
        platform.python_version(),
    )
    machine.write("b.py", "print()")
    last = notebook.stop()
    assert last.complete
    status = notebook.status()
    assert (status.state, status.name, status.storage_free, status.writer) == ("STOPPED", "demo", FREE_BYTES, None)
    assert status.storage_used > 0
    assert status.stopped_at is not None

    other = world.machine("two")
    there = other.notebook(notebook.id)
    there.start(other.workspace)
    assert other.files() == {"a.ipynb": "{}", "b.py": "print()"}
    there.stop()
    there.delete()
    assert [orphan.id for orphan in notebooks.orphans()] == [notebook.id]
    assert notebook.workspace.snapshot().read("b.py") == b"print()"
    plan = notebooks.purge(notebook.id)
    assert not plan.applied
    assert plan.warnings == ("a purge can't be undone",)
    assert notebooks.purge(notebook.id, confirm=notebook.id).applied
    assert list(notebooks.orphans()) == []
    assert [row for row in rows_of(notebook.history()) if row is not None][-1] == ("purge", "DELETING", "DELETING")


def test_every_verb_has_a_twin(world: World) -> None:
    machine = world.machine()

    async def live() -> str:
        notebook = await machine.notebooks().create_async(id=IDENTITY)
        await notebook.start_async(machine.workspace, machine.data)
        machine.write("a.txt", "a")
        await notebook.save_async(comment="a")
        await notebook.comment_async("seen")
        await notebook.restart_async()
        await notebook.beat_async()
        await notebook.stop_async()
        state = (await notebook.status_async()).state
        assert len(await notebook.backups_async()) == 2
        assert len(await notebook.history_async()) > 8
        await notebook.delete_async()
        assert (await machine.notebooks().purge_async(IDENTITY, confirm=IDENTITY)).applied
        return state

    assert asyncio.run(live()) == "STOPPED"


def test_an_id_is_used_once(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    with pytest.raises(AlreadyExists):
        machine.notebooks().create(id=IDENTITY)
    machine.notebook().delete()
    with pytest.raises(AlreadyExists):
        machine.notebooks().create(id=IDENTITY)
    machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    with pytest.raises(AlreadyExists):
        machine.notebooks().create(id=IDENTITY)


def test_a_create_that_was_interrupted_is_finished_by_repeating_it(world: World) -> None:
    machine = world.machine()
    create = type(machine.notebooks()).create
    steps = create.__wrapped__(machine.notebooks(), id=IDENTITY, name="first").steps()  # type: ignore[attr-defined]
    answer = None
    for _ in range(3):  # opened, read the log, wrote the settings
        answer = steps.send(answer).wait()
    steps.close()
    assert machine.notebook().status().state == "NONE"
    machine.notebooks().create(id=IDENTITY, name="second")
    assert (machine.notebook().status().name, machine.notebook().status().state) == ("second", "STOPPED")


def test_a_list_by_state_and_label_and_page(world: World) -> None:
    machine = world.machine()
    notebooks = machine.notebooks()
    for number in range(5):
        notebooks.create(id=f"n{number}", labels={"parity": str(number % 2), "kind": "test"})
    notebooks.get("n3").delete()
    REACH["NONE"](machine)
    assert [status.id for status in notebooks.list()] == ["demo", "n0", "n1", "n2", "n3", "n4"]
    assert [status.id for status in notebooks.list(state="STOPPED")] == ["n0", "n1", "n2", "n4"]
    assert [status.id for status in notebooks.list(state=["DELETING", "NONE"])] == ["demo", "n3"]
    assert [status.id for status in notebooks.list(labels={"parity": "1"})] == ["n1", "n3"]
    assert [status.id for status in notebooks.list(labels={"parity": "1", "kind": "other"})] == []
    first = notebooks.list(limit=2)
    assert [status.id for status in first] == ["demo", "n0"]
    assert [status.id for status in notebooks.list(limit=2, after=first[-1].id)] == ["n1", "n2"]
    assert [status.id for status in notebooks.list(state="STOPPED", limit=1, after="n1")] == ["n2"]


def test_a_template_is_copied_once_and_replaces_nothing(world: World, tmp_path: Path) -> None:
    template = tmp_path / "template"
    (template / "examples" / "deep").mkdir(parents=True)
    (template / "examples" / "deep" / "a.py").write_text("print('a')")
    (template / "readme.md").write_text("from the image")
    (template / "link").symlink_to("readme.md")
    (template / "folder-link").symlink_to("examples")
    (template / "empty").mkdir()
    os.mkfifo(template / "pipe")
    machine = world.machine()
    notebook = machine.notebooks().create(id=IDENTITY, template=template)
    machine.write("readme.md", "mine")
    report = notebook.start(machine.workspace)
    assert machine.files()["readme.md"] == "mine"
    assert machine.files()["examples/deep/a.py"] == "print('a')"
    assert (machine.workspace / "link").readlink().name == "readme.md"
    assert (machine.workspace / "folder-link").readlink().name == "examples"
    assert (machine.workspace / "empty").is_dir()
    assert not (machine.workspace / "pipe").exists()
    assert report.files_written == 4  # a.py, both links, the marker
    # What a person removes stays removed.
    (machine.workspace / "examples" / "deep" / "a.py").unlink()
    notebook.stop()
    notebook.start(machine.workspace)
    assert "examples/deep/a.py" not in machine.files()


def test_a_template_that_is_gone_fails_the_start_and_bricks_nothing(world: World, tmp_path: Path) -> None:
    machine = world.machine()
    (tmp_path / "template").mkdir()
    notebook = machine.notebooks().create(id=IDENTITY, template=tmp_path / "template")
    (tmp_path / "template").rmdir()
    with pytest.raises(Exception, match="template"):
        notebook.start(machine.workspace)
    assert notebook.status().state == "FAILED"
    assert "template" in (notebook.status().info or "")
    (tmp_path / "template").mkdir()
    notebook.start(machine.workspace)
    assert notebook.status().state == "RUNNING"


def with_versions(machine: Machine, framework: str, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has changed since the newest snapshot."""
    notebook = machine.notebook()
    settings = notebook._engine.setting("notebook").wait()
    assert settings is not None
    notebook._engine.set_setting("notebook", settings.replace('"2.13"', f'"{framework}"')).wait()
    monkeypatch.setattr(platform, "python_version", lambda: python)


def test_other_versions_are_a_warning_or_with_strict_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = begin(world)
    machine.notebook().stop()
    quiet = machine.notebook().start(machine.workspace)
    assert quiet.warnings == ()
    machine.notebook().stop()
    with_versions(machine, "3.0", "3.99.1", monkeypatch)
    written = len(machine.notebook().history())
    with pytest.raises(InvalidState, match=r"pytorch 2\.13.*pytorch 3\.0.*3\.99\.1"):
        machine.notebook().start(machine.workspace, strict=True)
    assert len(machine.notebook().history()) == written
    report = machine.notebook().start(machine.workspace)
    assert len(report.warnings) == 2
    assert all("compiled packages" in warning for warning in report.warnings)
    # The next snapshot is of the new versions: the warning is gone.
    machine.write("a.txt", "a")
    machine.notebook().stop()
    assert machine.notebook().start(machine.workspace, strict=True).warnings == ()


def test_a_restart_moves_no_data_and_resets_the_clock(cloud: World, service: Service) -> None:
    machine = cloud.machine()
    REACH["STOPPED"](machine)
    # Nothing is stored yet but what was said of the notebook.
    settings = {key for key in service.objects if "/packs/" in key}
    machine.notebook().start(machine.workspace)
    machine.write("a.txt", "a")
    before = machine.notebook().status()
    service.requests.clear()
    status = machine.notebook().restart()
    moved = [key for _, key in service.requests if "/packs/" in key or "/index/" in key]
    assert set(moved) <= settings
    assert service.count("put") == 2  # two records
    assert status.state == "RUNNING"
    assert status.expires_at is not None
    assert before.expires_at is not None
    assert status.expires_at > before.expires_at
    assert machine.files() == {"a.txt": "a"}


def test_a_save_costs_no_more_as_the_history_grows(cloud: World, service: Service) -> None:
    machine = begin(cloud)
    notebook = machine.notebook()
    costs = []
    for number in range(24):
        machine.write("a.txt", f"edit {number}")
        service.requests.clear()
        notebook.save()
        costs.append(service.count("get", "list", "head", "put"))
    assert max(costs[12:]) <= max(costs[1:6]) + 2, costs


def test_the_run_has_a_clock(world: World) -> None:
    machine = world.machine()
    now = datetime.now(UTC)
    notebooks = machine.notebooks(clock=lambda: now)
    notebook = notebooks.create(id=IDENTITY, run_limit="36h", at_limit="restart")
    assert notebook.status().expires_at is None
    notebook.start(machine.workspace)
    status = notebook.status()
    assert status.started_at is not None
    assert status.expires_at == status.started_at + timedelta(hours=36)
    assert machine.notebooks().create(id="other").status().expires_at is None
    second = world.machine("two")
    second.notebook("other").start(second.workspace)
    status = second.notebook("other").status()
    assert status.started_at is not None
    assert status.expires_at == status.started_at + timedelta(days=7)
    notebook.stop()
    assert notebook.status().expires_at is None


@pytest.mark.parametrize("jump", [-DAY, DAY], ids=["back", "forth"])
@pytest.mark.parametrize("resident", [False, True])
def test_a_clock_that_jumps_a_day_decides_nothing(jump: timedelta, resident: bool, world: World) -> None:
    machine, other = world.machine(), world.machine("two")
    REACH["STOPPED"](machine)
    offset = [timedelta(0)]
    jumped: dict[str, Any] = {"clock": lambda: datetime.now(UTC) + offset[0]}
    notebook = machine.notebooks(**jumped).get(IDENTITY)
    notebook.start(machine.workspace, resident=resident)
    offset[0] = jump
    there = other.notebooks(**jumped).get(IDENTITY)
    # What is shown may be off; who may write is not.
    assert there.status().state == "RUNNING"
    assert (there.status().rpo_seconds or 0.0) >= 0.0
    with pytest.raises(Conflict):
        there.start(other.workspace)
    machine.write("a.txt", "a")
    notebook.save()
    notebook.restart()
    notebook.stop()
    there.start(other.workspace)
    assert other.files() == {"a.txt": "a"}
    with pytest.raises(InvalidState):
        notebook.save()
    there.stop()
    assert [orphan.age_days >= 0 for orphan in deleted(there, other, jumped)] == [True]


def deleted(notebook: Any, machine: Machine, options: dict[str, Any]) -> Any:
    notebook.delete()
    return machine.notebooks(**options).orphans()


def test_status_says_what_a_crash_could_cost(world: World) -> None:
    machine = begin(world)
    later = machine.notebooks(clock=lambda: datetime.now(UTC) + timedelta(seconds=90)).get(IDENTITY)
    assert later.status().rpo_seconds == pytest.approx(90, abs=30)
    machine.notebook().stop()
    assert later.status().rpo_seconds is None


def test_history_and_comments(world: World) -> None:
    machine = begin(world)
    notebook = machine.notebook()
    notebook.comment("while it runs")
    notebook.stop()
    notebook.comment("at rest")
    world.machine("two").notebook().comment("from elsewhere")
    history = notebook.history()
    assert [event.seq for event in history] == list(range(1, len(history) + 1))
    assert [event.comment for event in history if event.comment] == ["while it runs", "at rest", "from elsewhere"]
    assert state_of(machine) == "STOPPED"
    assert history[-1].state == "STOPPED"


def test_a_forced_delete_keeps_data_and_fences_the_run(world: World) -> None:
    machine = begin(world)
    machine.write("saved.txt", "saved")
    notebook = machine.notebook()
    notebook.save()
    machine.write("late.txt", "late")
    world.machine("two").notebook().delete(force=True)
    with pytest.raises(Fenced) as refused:
        notebook.save()
    assert refused.value.rescue is not None
    assert notebook.workspace.rescue(refused.value.rescue).read("late.txt") == b"late"
    assert notebook.workspace.snapshot().read("saved.txt") == b"saved"
    assert state_of(machine) == "DELETING"
    plan = machine.notebooks().purge(IDENTITY)
    assert (plan.rescues, plan.snapshots) == (1, 2)


def test_a_purge_that_was_interrupted_is_repeated(cloud: World, service: Service) -> None:
    machine = begin(cloud)
    machine.notebook().stop()
    machine.notebook().delete()
    service.requests.clear()
    # What has the ballast's name is removed first; then the tombstone is written.
    service.fault = lambda verb, _: 403 if verb == "delete" and service.count("put") else None
    with pytest.raises(Exception, match="refuses"):
        machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    # The tombstone came first: whoever finds data gone finds out why.
    assert machine.notebook().history()[-1].purge
    service.fault = lambda _verb, _key: None
    report = machine.notebooks().purge(IDENTITY, confirm=IDENTITY)
    assert report.applied
    assert report.bytes > 0
    assert [key for key in service.objects if "/packs/" in key] == []
    assert [key for key in service.objects if key.endswith("/format")] != []
    assert machine.notebooks().purge(IDENTITY, confirm=IDENTITY).bytes == 0


def test_one_process_runs_a_notebook_once(world: World) -> None:
    machine = world.machine()
    REACH["STOPPED"](machine)
    notebook = machine.notebook()
    notebook.start(machine.workspace)
    with pytest.raises(Conflict, match="stop it first"):
        notebook.start(machine.workspace)
    with pytest.raises(Conflict, match="another process"):
        machine.notebook().start(machine.workspace, take_over=True)
    # Fenced by another machine, the same object can start again.
    other = world.machine("two")
    other.notebook().start(other.workspace, take_over=True)
    with pytest.raises(Fenced):
        notebook.save()
    notebook.start(machine.workspace, take_over=True)
    assert notebook.status().state == "RUNNING"
    crash(notebook)


def test_what_was_never_there(world: World) -> None:
    machine = world.machine()
    with pytest.raises(NotFound, match="no notebook"):
        machine.notebook("unknown")
    with pytest.raises(NotFound):
        machine.notebooks().purge("unknown")
    assert list(machine.notebooks().list()) == []
    assert list(machine.notebooks().orphans()) == []


def test_the_marker_is_part_of_the_workspace(world: World) -> None:
    machine = begin(world)
    machine.notebook().stop()
    assert MARKER in [entry.path for entry in machine.notebook().workspace.snapshot().ls()]
