"""`nbws notebook` and the settings of `nbws run`: what is printed, and with which exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from nbws.errors import InvalidInput
from nbws.run_config import Settings, read_settings
from runs import NBWS, Machine

if TYPE_CHECKING:
    from pathlib import Path


def test_a_life_in_json(tmp_path: Path) -> None:
    here = Machine(tmp_path / "here", (tmp_path / "objects").as_uri())
    made = here.json("notebook", "create", "--name", "first", "--label", "team=blue", "--framework", "pytorch")
    identity = made["id"]
    assert made["state"] == "STOPPED"
    assert made["url"] == f"{here.store}/notebooks_workspace/{identity}"
    other = here.json("notebook", "create", "--id", "zz", "--run-limit", "2h", "--at-limit", "restart")["id"]
    listed = here.json("notebook", "list")["notebooks"]
    assert [item["id"] for item in listed] == sorted([identity, other])
    assert [item["id"] for item in here.json("notebook", "list", "--label", "team=blue")["notebooks"]] == [identity]
    assert len(here.json("notebook", "list", "--limit", "1")["notebooks"]) == 1
    assert here.json("notebook", "list", "--after", "zy", "--state", "stopped")["notebooks"][0]["id"] == "zz"

    started = here.json("notebook", "start", identity)
    assert started["complete"] is True
    (here.workspace / "a.txt").write_text("a")
    saved = here.json("notebook", "save", identity, "--comment", "by hand")
    assert saved["files_new"] == 1
    shown = here.json("notebook", "show", identity)
    assert (shown["state"], shown["name"], shown["writer"]["stale"]) == ("RUNNING", "first", None)
    again = here.json("notebook", "restart", identity)
    assert again["started_at"] > shown["started_at"]
    assert here.json("notebook", "stop", identity)["snapshot"] == saved["snapshot"]
    assert here.json("notebook", "stop", identity)["warnings"] == ["the notebook is STOPPED already; nothing was done"]
    assert here.json("notebook", "backups", identity)["backups"][-1]["comment"] == "by hand"
    kinds = [event["kind"] for event in here.json("notebook", "history", identity)["events"]]
    assert kinds[:3] == ["settings", "state", "claim"]

    assert here.json("notebook", "orphans") == {"orphans": []}
    assert here.json("notebook", "delete", identity)["state"] == "DELETING"
    (orphan,) = here.json("notebook", "orphans")["orphans"]
    assert (orphan["id"], orphan["name"]) == (identity, "first")
    plan = here.json("notebook", "purge", identity, "--dry-run")
    assert (plan["applied"], plan["snapshots"]) == (False, 2)
    assert here.json("notebook", "purge", identity, "--yes")["applied"] is True
    assert here.json("notebook", "orphans") == {"orphans": []}


def test_what_people_see(here: Machine) -> None:
    assert "next       nbws notebook start demo" in here.nbws("notebook", "show", "demo").stdout
    assert "demo is RUNNING in" in here.nbws("notebook", "start", "demo").stdout
    listed = here.nbws("notebook", "list").stdout
    assert [line.split()[:2] for line in listed.splitlines()] == [["id", "state"], ["demo", "RUNNING"]]
    assert re.search(r"expires    in (7 d|6 d 23 h)\n", here.nbws("notebook", "show", "demo").stdout)
    assert "demo is STOPPED" in here.nbws("notebook", "stop", "demo").stdout
    assert here.nbws("notebook", "stop", "demo").stdout.startswith("the notebook is STOPPED already")
    assert "STARTING" in here.nbws("notebook", "history", "demo").stdout
    assert "--snapshot S" in here.nbws("notebook", "backups", "demo").stdout
    assert here.nbws("notebook", "orphans").stdout.startswith("no orphans")
    assert "Deleted demo" in here.nbws("notebook", "delete", "demo").stdout
    assert "A purge would remove" in here.nbws("notebook", "purge", "demo", "--dry-run").stdout
    assert "Purged" in here.nbws("notebook", "purge", "demo", "--yes").stdout


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["notebook", "show", "nobody"], 3, "NotFound"),
        (["notebook", "show", "../demo"], 2, "InvalidInput"),
        (["notebook", "create", "--id", "demo"], 4, "AlreadyExists"),
        (["notebook", "create", "--id", "a.b"], 2, "InvalidInput"),
        (["notebook", "create", "--name", "x" * 257], 2, "InvalidInput"),
        (["notebook", "create", "--label", "nothing"], 2, "Usage"),
        (["notebook", "create", "--run-limit", "soon"], 2, "Usage"),
        (["notebook", "start", "demo", "--workspace", "/tmp/x", "--data", "/tmp/x/y"], 2, "InvalidInput"),
        (["notebook", "save", "demo"], 8, "InvalidState"),
        (["notebook", "restart", "demo"], 8, "InvalidState"),
        (["notebook", "clear-latch", "demo"], 8, "InvalidState"),
        (["notebook", "purge", "demo", "--yes"], 8, "InvalidState"),
        (["notebook", "list", "--state", "SLEEPING"], 2, "Usage"),
    ],
)
def test_exit_codes(here: Machine, words: list[str], code: int, kind: str) -> None:
    assert here.json(*words, code=code)["error"]["kind"] == kind


def test_a_running_notebook_is_left_alone(here: Machine, there: Machine) -> None:
    here.nbws("notebook", "start", "demo")
    refused = there.json("notebook", "start", "demo", code=4)["error"]
    assert refused["kind"] == "Conflict"
    writer = here.json("notebook", "show", "demo")["writer"]["id"]
    assert writer in refused["message"]
    assert here.json("notebook", "delete", "demo", code=8)["error"]["kind"] == "InvalidState"
    there.nbws("notebook", "start", "demo", "--take-over")
    (here.workspace / "late").write_text("late")
    fenced = here.json("notebook", "stop", "demo", code=4)["error"]
    assert fenced["kind"] == "Fenced"
    assert here.json("notebook", "show", "demo")["rescues"] == [fenced["rescue"]]
    there.nbws("notebook", "stop", "demo")


def test_work_of_a_displaced_run_is_kept_after_the_other_one_stopped(here: Machine, there: Machine) -> None:
    here.nbws("notebook", "start", "demo")
    (here.workspace / "late").write_text("late")
    there.nbws("notebook", "start", "demo", "--take-over")
    there.nbws("notebook", "stop", "demo")
    rescue = here.json("notebook", "stop", "demo", code=4)["error"]["rescue"]
    assert here.notebook().workspace.find(rescue).read("late") == b"late"


def test_purge_asks_on_a_terminal_and_only_there(here: Machine) -> None:
    here.nbws("notebook", "delete", "demo")
    refused = here.nbws("notebook", "purge", "demo", code=2)
    assert "add --yes" in refused.stderr
    for answer, is_purged in ((b"n\n", False), (b"y\n", True)):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(here.environment)
            os.execv(NBWS, ["nbws", "notebook", "purge", "demo"])
        os.write(terminal, answer)
        output = b""
        try:
            while piece := os.read(terminal, 4096):
                output += piece
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == (0 if is_purged else 130), output
        assert b"can't be undone" in output
        assert (here.json("notebook", "orphans")["orphans"] == []) is is_purged


def test_no_store_is_named(here: Machine) -> None:
    here.extra["NBWS_STORE"] = ""
    assert "--store URL" in here.nbws("notebook", "list", code=2).stderr
    (here.directory / "nbws.toml").write_text(f'[store]\nurl = "{here.store}"\n')
    assert len(here.json("notebook", "list")["notebooks"]) == 1
    (here.directory / "nbws.toml").rename(here.directory / "other.toml")
    here.extra["NBWS_CONFIG"] = "other.toml"
    assert len(here.json("notebook", "list")["notebooks"]) == 1
    here.extra["NBWS_CONFIG"] = "missing.toml"
    assert here.nbws("notebook", "list", code=10).returncode == 10


def test_completion(here: Machine) -> None:
    def offered(words: str, position: int) -> list[str]:
        done = subprocess.run(
            [NBWS],
            env={
                **here.environment,
                "_NBWS_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(position),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert {"notebook", "run"} <= set(offered("nbws ", 1))
    assert offered("nbws notebook st", 2) == ["start", "stop"]
    assert "--take-over" in offered("nbws notebook start --", 3)


FILE = """
[run]
notebook = "of-file"
workspace = "/file"
autosave = "10m"
stop_budget = 40
limit_rate = "5 MB"
on_restore_error = "continue"
[store]
url = "file:///file"
options = { endpoint = "http://localhost", allow_http = true }
"""


def test_settings_of_the_file_then_the_environment_then_options() -> None:
    assert read_settings("", "nbws.toml", {}, {}) == Settings()
    found = read_settings(FILE, "nbws.toml", {}, {})
    assert (found.notebook, found.autosave, found.stop_budget, found.limit_rate) == ("of-file", 600, 40, 5_000_000)
    assert found.store_options == {"endpoint": "http://localhost", "allow_http": "true"}
    environment = {"NBWS_STORE": "file:///env", "NBWS_STOP_BUDGET": "90", "NBWS_WORKSPACE": "/env", "NBWS_DATA": ""}
    found = read_settings(FILE, "nbws.toml", environment, {"workspace": "/option", "autosave": 0, "data": None})
    assert (found.store, found.stop_budget, found.workspace) == ("file:///env", 90, "/option")
    assert (found.autosave, found.data) == (0, None)


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("[run]\nautosav = 1\n", {}, ["nbws.toml", "autosav", "autosave"]),
        ("[walk]\nspeed = 1\n", {}, ["nbws.toml", "walk", "run, store"]),
        ("run = 1\n", {}, ["nbws.toml", "run"]),
        ("[run\n", {}, ["nbws.toml", "TOML"]),
        ("[run]\nautosave = 'soon'\n", {}, ["nbws.toml", "autosave in [run]"]),
        ("[run]\nstop_budget = 0\n", {}, ["stop_budget", "a second at least"]),
        ("[run]\nworkspace = 3\n", {}, ["workspace", "text"]),
        ("[run]\non_restore_error = 'ignore'\n", {}, ["on_restore_error", "stop or continue"]),
        ("[store]\noptions = ['a']\n", {}, ["options", "table"]),
        ("", {"NBWS_STOP_BUDGET": "long"}, ["NBWS_STOP_BUDGET", "span of time"]),
        ("", {"NBWS_LIMIT_RATE": "0"}, ["NBWS_LIMIT_RATE", "at least"]),
    ],
)
def test_bad_settings_say_where(text: str, environment: dict[str, str], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings(text, "nbws.toml", environment, {})
    for word in words:
        assert word in str(caught.value)


def test_the_command_line_of_run(here: Machine) -> None:
    assert "after --" in here.nbws("run", "demo", code=2).stderr
    assert "name the notebook" in here.nbws("run", "--", "true", code=2).stderr
    assert (
        "no key 'autosav'" in with_file(here, "[run]\nautosav = 1\n").nbws("run", "demo", "--", "true", code=2).stderr
    )
    with_file(here, '[run]\nnotebook = "demo"\n')
    # What stands after the first -- is the program's, another -- and --help too.
    program = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", "--", "--help", "-h"]
    assert json.loads(here.nbws("run", "--autosave", "0", "--", *program).stdout) == ["--", "--help", "-h"]


def with_file(machine: Machine, text: str) -> Machine:
    (machine.directory / "nbws.toml").write_text(text)
    return machine
