"""The quota of a notebook: its own and its container's, in saves, stops and starts, and on the command line."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from lives import REACH, Machine, World, state_of
from nbws.errors import InvalidInput, QuotaExceeded
from nbws.quota import Quota
from runs import Machine as Shell

if TYPE_CHECKING:
    from pathlib import Path

REFUSE = Quota(hard_bytes=50_000, over="refuse")


def begin(world: World) -> Machine:
    machine = world.machine()
    REACH["RUNNING"](machine)
    (machine.workspace / "large.bin").write_bytes(random.Random(1).randbytes(200_000))
    machine.write("work.ipynb", "{}")
    return machine


def test_saves_and_autosaves_are_refused_and_the_last_save_is_not(disk: World) -> None:
    machine = begin(disk)
    notebook = machine.notebook()
    notebook.set_quota(REFUSE)
    assert machine.notebook().quota == REFUSE
    before = notebook.workspace.snapshots()
    for origin in ("save", "autosave"):
        with pytest.raises(QuotaExceeded):
            notebook.save(origin=origin)
    assert notebook.workspace.snapshots() == before
    assert any("refused" in warning for warning in notebook.preview().warnings)
    report = machine.notebook().stop()
    assert [(item.path, item.reason) for item in report.omitted] == [("large.bin", "quota")]
    # A quota is no failure of the store: the notebook is stopped, and its code is there.
    assert state_of(machine) == "STOPPED"
    assert notebook.workspace.snapshot().read("work.ipynb") == b"{}"
    # A start never fails because of it, here or elsewhere.
    machine.notebook().start(machine.workspace)
    assert (machine.workspace / "large.bin").exists()
    machine.notebook().stop()
    other = disk.machine("two")
    other.notebook().start(other.workspace)
    assert (other.workspace / "work.ipynb").read_text() == "{}"


def test_what_survived_a_crash_is_saved_whatever_the_quota_says(disk: World) -> None:
    machine = begin(disk)
    machine.notebook().set_quota(REFUSE)
    machine.write("late.py", "late")
    report = machine.notebook().start(machine.workspace, take_over=True)
    assert [warning for warning in report.warnings if "survived" in warning] != []
    assert machine.notebook().workspace.snapshot().read("late.py") == b"late"


def test_a_notebook_goes_before_its_container(disk: World) -> None:
    machine = begin(disk)
    notebooks = machine.notebooks()
    assert machine.notebook().quota == Quota()
    assert notebooks.set_defaults(quota=REFUSE).quota == REFUSE
    assert notebooks.defaults().quota == REFUSE
    assert machine.notebook().quota == REFUSE
    with pytest.raises(QuotaExceeded):
        machine.notebook().save()
    # As a whole: without limits there are none.
    machine.notebook().set_quota(Quota())
    assert machine.notebook().save().complete
    machine.notebook().set_quota(None)
    assert machine.notebook().quota == REFUSE
    notebooks.set_defaults(quota=None)
    assert machine.notebook().quota == Quota()
    with pytest.raises(InvalidInput, match="Quota"):
        machine.notebook().set_quota({"hard_bytes": 1})  # type: ignore[arg-type]


def test_on_the_command_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "one", (tmp_path / "objects").as_uri())
    shell.notebooks().create(id="demo")
    assert shell.nbws("quota", "demo").stdout == "quota: no limits (default)\n"
    shell.nbws("quota", "demo", "--hard-bytes", "50kB", "--over", "refuse")
    found = shell.json("quota", "demo")
    assert found["own"]
    assert found["quota"]["hard_bytes"] == 50_000
    assert found["quota"]["over"] == "refuse"
    shell.nbws("notebook", "start", "demo")
    (shell.workspace / "large.bin").write_bytes(random.Random(1).randbytes(200_000))
    assert shell.json("notebook", "save", "demo", code=5)["error"]["kind"] == "QuotaExceeded"
    shell.json("notebook", "stop", "demo", code=9)
    shell.nbws("quota", "demo", "--clear")
    shell.nbws("notebook", "defaults", "--soft-files", "7")
    assert shell.json("quota", "demo") == {"id": "demo", "own": False, "quota": Quota(soft_files=7).to_dict()}
    shell.nbws("notebook", "defaults", "--no-quota")
    assert shell.json("notebook", "defaults")["quota"] is None
    for words in (("--soft-bytes", "2GB", "--hard-bytes", "1GB"), ("--hard-bytes", "-1"), ("--over", "never")):
        shell.nbws("quota", "demo", *words, code=2)
    shell.nbws("quota", "demo", "--clear", "--hard-bytes", "1GB", code=2)
    shell.nbws("quota", "nobody", code=3)
