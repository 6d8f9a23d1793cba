"""The catalogue is data: every entry is whole, finds what it is meant to find, and can't reach what is protected."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from junk import KINDS, OWN, CleanWorkspace
from nbws.catalogue import cleanable
from nbws.catalogue.patterns import Matcher, Pattern
from nbws.errors import InvalidInput

KNOWN = cleanable.load()
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "make-room.md"
KEYS = {"name", "title", "category", "patterns", "requires", "why_safe", "comes_back", "price", "source"}


def test_every_entry_has_all_keys() -> None:
    tables = tomllib.loads(files("nbws.catalogue").joinpath("cleanable.toml").read_text())
    assert len(tables["cleanable"]) == len(KNOWN.cleanable) > 25
    for table in tables["cleanable"]:
        assert table.keys() >= KEYS, table["name"]
        assert table["source"].startswith("https://"), table["name"]
        assert re.fullmatch(r"[a-z][a-z-]*", table["name"])


def test_every_entry_is_tried_here() -> None:
    assert set(KINDS) == set(KNOWN.names)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_finds_what_its_program_makes(workspace: CleanWorkspace, kind: str) -> None:
    workspace.fill(kind)
    before = workspace.listing()
    plan = workspace.plan(only=[kind])
    assert list(plan.paths) == KINDS[kind][1]
    assert plan.items[0].name == kind
    assert workspace.listing() == before
    report = plan.apply()
    assert report.complete
    assert report.bytes_freed == plan.bytes > 0
    assert not any((workspace.path / path).exists() for path in plan.paths)
    assert all((workspace.path / name).read_bytes() == content for name, content in OWN.items())
    assert workspace.plan(only=[kind]).paths == ()


def test_everything_at_once_leaves_what_is_the_users_own(workspace: CleanWorkspace) -> None:
    workspace.fill()
    before = workspace.listing()
    plan = workspace.plan()
    assert {item.name for item in plan.items} == set(KNOWN.names)
    assert sorted(plan.paths) == sorted(path for _, paths in KINDS.values() for path in paths)
    assert workspace.listing() == before
    assert plan.apply().complete
    assert workspace.plan().paths == ()
    after = workspace.listing()
    assert {name.encode() for name in OWN} <= after.keys()
    assert all(after[path] == before[path] for path in after)


# A name for each pattern of what is protected.
def example(pattern: str) -> str:
    return pattern.strip("/").replace("*", "default")


@pytest.mark.parametrize("text", [text for item in KNOWN.protected for text in item.patterns])
def test_no_pattern_reaches_what_is_protected(text: str) -> None:
    matcher = Matcher([(Pattern.parse(pattern), entry.name) for entry in KNOWN.cleanable for pattern in entry.patterns])
    place = matcher.start()
    for name in example(text).split("/"):
        assert place.matches(name, True) == [], f"{text} lies in what can be cleaned"
        place = place.enter(name)


@pytest.mark.parametrize("text", [text for item in KNOWN.protected for text in item.patterns])
def test_what_is_protected_stays_even_where_it_is_found(workspace: CleanWorkspace, text: str) -> None:
    """As if a program had put it into its cache, or a cache into it."""
    name = example(text)
    is_directory = text.endswith("/")
    inside = workspace.write(f"{name}/__pycache__/x.pyc" if is_directory else name, b"#\n")
    plan = workspace.plan()
    assert not any(path.startswith(name) for path in plan.paths)
    assert [item.path for item in plan.protected] == [name]
    plan.apply()
    assert inside.exists()


@pytest.mark.parametrize(
    ("text", "hits", "misses"),
    [
        ("a", ["a", "x/a", "x/y/a"], ["b", "ab"]),
        ("/a", ["a"], ["x/a"]),
        ("x/a", ["x/a"], ["a", "y/x/a"]),
        ("**/x/a", ["x/a", "y/x/a", "z/y/x/a"], ["a", "x/b/a"]),
        ("x/**/a", ["x/a", "x/y/a", "x/y/z/a"], ["a"]),
        ("x/**", ["x/a", "x/y/a"], ["x", "y/x/a"]),
        ("*.py[co]", ["a.pyc", "x/.pyo"], ["a.py", "a.pycc"]),
        ("core.[!0-9]", ["core.x"], ["core.1", "core."]),
        ("a?c", ["abc"], ["ac", "abbc"]),
        (r"a\*", ["a*"], ["ab"]),
        ("[a-c]x[]]", ["ax]"], ["dx]", "ax"]),
    ],
)
def test_patterns_mean_what_gitignore_says(text: str, hits: list[str], misses: list[str]) -> None:
    def found(path: str) -> bool:
        place = Matcher([(Pattern.parse(text), None)]).start()
        *above, name = path.split("/")
        for directory in above:
            place = place.enter(directory)
        return bool(place.matches(name, False))

    assert [path for path in hits if not found(path)] == []
    assert [path for path in misses if found(path)] == []


def test_a_pattern_for_directories_matches_no_file() -> None:
    place = Matcher([(Pattern.parse("a/"), None)]).start()
    assert place.matches("a", True)
    assert not place.matches("a", False)


@pytest.mark.parametrize("text", ["", "/", "!a", "a//b", "../a", "a/./b", "[a", "a\\", "#a", "a\0b"])
def test_patterns_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="gitignore"):
        Pattern.parse(text)


ENTRY = """
[[cleanable]]
name = "a"
title = "A"
category = "caches"
patterns = ["a/"]
requires.only = ["*.x"]
why_safe = "so"
comes_back = "so"
price = "none"
source = "https://example.com"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace('price = "none"\n', ""), "price is missing"),
        (ENTRY + 'colour = "red"\n', "no key colour"),
        (ENTRY.replace('["a/"]', '["[a"]'), "gitignore"),
        (ENTRY.replace('["a/"]', '"a/"'), "list of text"),
        (ENTRY.replace('["a/"]', "[]"), "no patterns"),
        (ENTRY.replace('requires.only = ["*.x"]', "requires = {}"), "says what proves it"),
        (ENTRY.replace("requires.only", "requires.colour"), "no key colour"),
        (ENTRY.replace('requires.only = ["*.x"]', 'requires.format = "elf"'), "no format"),
        (ENTRY.replace('price = "none"', "price = 3"), "price is text"),
        (ENTRY + "together = 1\n", "true or false"),
        (ENTRY + ENTRY, "one name"),
        ("[[clean]]\n", "no tables"),
        ("[[cleanable", "not TOML"),
        ('[[protected]]\npatterns = ["!a"]\nwhy = "so"\n', "gitignore"),
    ],
)
def test_a_catalogue_that_is_wrong_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        cleanable.parse(text)


def test_the_guide_has_the_catalogue_as_a_table() -> None:
    wanted = [
        f"| `{entry.name}` | {entry.title} | {entry.why_safe} | {entry.comes_back} | {entry.price} |".replace(
            "*", "\\*"
        )
        for entry in KNOWN.cleanable
    ]
    lines = GUIDE.read_text().splitlines()
    assert [line for line in lines if line.startswith("| `")][: len(wanted)] == wanted
