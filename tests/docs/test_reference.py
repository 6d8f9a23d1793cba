"""What is public is documented, and has a place in the reference that the site is built from."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from typing import Any

import click
import nbws
import pytest
from documents import ROOT
from nbws import (
    accounts,
    billing,
    cleaning,
    entries,
    errors,
    exclusive,
    files,
    fs,
    listing,
    progress,
    reports,
    snapshot,
    upkeep,
    usage,
    workspace,
)
from nbws.catalogue import cleanable
from nbws.cli.main import EXIT_CODES, cli
from nbws.cli.output import INCOMPLETE

REFERENCE = ROOT / "docs" / "reference"
SITE = tomllib.loads((ROOT / "docs" / "site" / "zensical.toml").read_text())["project"]
OPTIONS = SITE["plugins"]["mkdocstrings"]["handlers"]["python"]["options"]
HIDDEN = [re.compile(pattern.removeprefix("!")) for pattern in OPTIONS["filters"]]
MODULES = [
    accounts,
    billing,
    cleaning,
    cleanable,
    entries,
    errors,
    exclusive,
    files,
    fs,
    listing,
    progress,
    reports,
    snapshot,
    upkeep,
    usage,
    workspace,
]
PUBLIC = [name for name in nbws.__all__ if not name.startswith("__")]


def public_members(cls: type) -> dict[str, Any]:
    """What classes of nbws define themselves; what a builtin gives them has its own documentation."""
    owners = [owner for owner in cls.__mro__ if owner.__module__.partition(".")[0] == "nbws"]
    members = {name: value for owner in owners for name, value in vars(owner).items()}
    return {name: value for name, value in members.items() if not any(hide.search(name) for hide in HIDDEN)}


def is_documentable(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)


def test_every_public_object_has_a_docstring() -> None:
    named = {name: getattr(nbws, name) for name in PUBLIC}
    named |= {f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__}
    bare = [name for name, value in named.items() if is_documentable(value) and not inspect.getdoc(value)]
    for name, value in named.items():
        if inspect.isclass(value):
            members = public_members(value).items()
            bare += [
                f"{name}.{member}" for member, item in members if is_documentable(item) and not inspect.getdoc(item)
            ]
    assert bare == []


def test_every_public_name_has_a_place_in_the_reference() -> None:
    directives = re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in REFERENCE.glob("*.md")), re.MULTILINE)
    missing = []
    for name in PUBLIC:
        home = getattr(nbws, name).__module__
        if not {f"nbws.{name}", f"{home}.{name}", home} & set(directives):
            missing.append(name)
    assert missing == []
    # A page that lists members by hand would not show new ones.
    assert "members" not in OPTIONS
    assert not any(re.search(r"^ +members: *(\[|$)", page.read_text(), re.MULTILINE) for page in REFERENCE.glob("*.md"))


def test_every_page_is_in_a_menu() -> None:
    menu = str(SITE["nav"])
    pages = [path.relative_to(ROOT) for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]]
    assert [str(page) for page in pages if f"'{page}'" not in menu] == []


ROOT_CONTEXT = click.Context(cli)


@pytest.mark.parametrize("name", cli.list_commands(ROOT_CONTEXT))
def test_every_command_says_what_it_does(name: str) -> None:
    command = cli.get_command(ROOT_CONTEXT, name)
    assert command is not None
    check_help(command, ROOT_CONTEXT)


def check_help(command: click.Command, parent: click.Context) -> None:
    assert command.help
    if isinstance(command, click.Group):
        context = click.Context(command, parent=parent)
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            assert verb is not None
            check_help(verb, context)
    assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_exit_codes_are_those_of_the_guide() -> None:
    guide = (ROOT / "docs" / "guides" / "figures.md").read_text()
    section = guide.split("## Exit codes", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (\d+) \| .* \|(.*)\|$", section, re.MULTILINE)
    told = {kind: int(code) for code, kinds in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert told == EXIT_CODES
    assert {int(code) for code, _ in rows} == {0, INCOMPLETE, *EXIT_CODES.values()}


@pytest.mark.parametrize(
    "report",
    [
        reports.SaveReport,
        reports.RestoreReport,
        reports.Usage,
        snapshot.Snapshot,
        reports.CheckReport,
        reports.DoctorReport,
    ],
)
def test_the_guide_explains_every_figure(report: type[reports.Report]) -> None:
    guide = (ROOT / "docs" / "guides" / "figures.md").read_text()
    assert [field.name for field in dataclasses.fields(report) if f"`{field.name}`" not in guide] == []
