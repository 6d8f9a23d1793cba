"""`nbws clean`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from click.testing import CliRunner, Result
from nbws.cleaning import CleaningInterrupted, CleaningPlan
from nbws.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from junk import CleanWorkspace


@pytest.fixture(autouse=True)
def _home(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workspace.path))
    for variable in ("XDG_CACHE_HOME", "PIP_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)


def run(*words: str | os.PathLike[str]) -> Result:
    import click

    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def program(words: tuple[str, ...]) -> None:
        main(list(words))

    return CliRunner().invoke(program, ["--", *(os.fspath(word) for word in words)])


def test_it_shows_the_plan_and_removes_nothing(workspace: CleanWorkspace) -> None:
    workspace.fill("pip", "core-dumps")
    before = workspace.listing()
    done = run("clean", workspace.path)
    assert done.exit_code == 0
    for text in (
        "Would free",
        "pip",
        ".cache/pip",
        "why",
        "comes back",
        "price: download",
        "core.4711",
        "--apply",
        "nbws works by it",
    ):
        assert text in done.output or text == "why"
    assert "downloads and wheels built from them" in done.output
    assert workspace.listing() == before


def test_json_is_the_plan(workspace: CleanWorkspace) -> None:
    workspace.fill("pip", "npm", own=False)
    done = run("clean", workspace.path, "--json", "--only", "pip")
    shown = json.loads(done.stdout)
    assert (shown["paths"], shown["applied"], shown["files"]) == ([".cache/pip"], False, 2)
    assert shown["items"][0]["price"]


def test_apply_removes(workspace: CleanWorkspace) -> None:
    workspace.fill("pip", "npm", "trash")
    done = run("clean", workspace.path, "--apply", "--category", "trash", "--category", "checkpoints", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (report["applied"], report["complete"], report["files"]) == (True, True, 2)
    assert report["bytes_freed"] > 0
    assert not (workspace.path / ".local/share/Trash").exists()
    assert (workspace.path / ".cache/pip").exists()
    done = run("clean", workspace.path, "--apply")
    assert "Freed" in done.output
    assert not (workspace.path / ".cache/pip").exists()
    assert "Nothing to clean" in run("clean", workspace.path).output


def test_trash(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("pip")
    done = run("clean", workspace.path, "--apply", "--trash", tmp_path / "trash")
    assert done.exit_code == 0
    assert "Moved" in done.output
    assert len(os.listdir(tmp_path / "trash")) == 1
    workspace.fill("npm")
    done = run("clean", workspace.path, "--apply", "--trash", workspace.path / ".npm/_cacache/tmp", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["kind"] == "InvalidInput"


def test_what_could_not_be_removed_is_exit_code_9(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.fill("pip", own=False)

    def unlink(name: Any, *, dir_fd: int | None = None) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", unlink)
    done = run("clean", workspace.path, "--apply")
    assert done.exit_code == 9
    assert "could not be removed" in done.output
    assert "Permission denied" in done.output


def test_ctrl_c_is_exit_code_130_with_a_report(workspace: CleanWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.fill("pip", own=False)
    real = CleaningPlan.apply

    def interrupted(self: CleaningPlan, trash: Any = None, *, progress: Any = None) -> Any:
        raise CleaningInterrupted(real(self, trash, progress=progress))

    monkeypatch.setattr(CleaningPlan, "apply", interrupted)
    done = run("clean", workspace.path, "--apply", "--json")
    assert done.exit_code == 130
    assert json.loads(done.stdout)["files"] == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--only", "pypi"], 2),
        (["--category", "rubbish"], 2),
        (["--min-age", "soon"], 2),
        (["--protect", "!a"], 2),
        (["--repository", "file:///nowhere/at/all"], 3),
    ],
)
def test_wrong_words(workspace: CleanWorkspace, words: list[str], code: int) -> None:
    assert run("clean", workspace.path, *words).exit_code == code


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert run("clean", tmp_path / "missing").exit_code == 2


def test_age_and_protection(workspace: CleanWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.fill("pip", own=False, age_s=8 * 86_400)
    workspace.fill("npm", "pycache", own=False)
    (tmp_path / "nbws.toml").write_text('protect = [".npm/"]\n')
    shown = json.loads(run("clean", workspace.path, "--json").stdout)
    assert shown["paths"] == [".cache/pip", "src/__pycache__"]
    shown = json.loads(run("clean", workspace.path, "--json", "--min-age", "7d", "--protect", "src/").stdout)
    assert shown["paths"] == [".cache/pip"]
    assert shown["min_age_s"] == 7 * 86_400


def test_what_the_store_has(workspace: CleanWorkspace, tmp_path: Path) -> None:
    workspace.fill("pip")
    url = (tmp_path / "objects").as_uri()
    nbws.Workspace.open(url, create=True).save(workspace.path)
    done = run("clean", workspace.path, "--repository", url)
    assert "the newest snapshot has 2 files" in done.output
    assert json.loads(run("clean", workspace.path, "--repository", url, "--json").stdout)["store"]["files"] == 2


def test_rude_names_do_not_drive_the_terminal(workspace: CleanWorkspace) -> None:
    workspace.write("\x1b[31mred/__pycache__/a.pyc")
    assert "\x1b[31mred" not in run("clean", workspace.path).output
