"""What a path of a workspace is: the categories of `categories.toml`, with what `cleanable.toml` knows of them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from nbws.errors import InvalidInput

__all__ = ["categories", "parse"]

_OPERATION = "read categories"
_REST = "other"


def categories() -> list[tuple[str, list[str]]]:
    """Returns the names of the categories and their patterns, in gitignore syntax relative to the workspace, in order.

    A path belongs to the first category with a pattern that matches the path or a directory above it, else to ``"other"``.
    """
    return [(name, list(patterns)) for name, patterns in _shipped()]


def _read_shipped() -> tuple[tuple[str, tuple[str, ...]], ...]:
    place = files("nbws.catalogue")
    known = place.joinpath("cleanable.toml").read_text("utf-8")
    found = parse(place.joinpath("categories.toml").read_text("utf-8"), known)
    return tuple((name, tuple(patterns)) for name, patterns in found)


_shipped = cache(_read_shipped)


def parse(text: str, cleanable: str = "") -> list[tuple[str, list[str]]]:
    """Reads categories.

    Args:
        text: a list of tables ``[[category]]`` with ``name``, ``patterns`` and, if what can be cleaned belongs to it, ``cleanable``.
        cleanable: a list of tables ``[[cleanable]]`` with ``category`` and ``patterns``, among others.

    Raises:
        InvalidInput: it is no TOML of this form; the message names the category.
    """
    found: list[tuple[str, list[str]]] = []
    more = _tables(cleanable, "cleanable")
    for table in _tables(text, "category"):
        if unknown := sorted(table.keys() - {"name", "patterns", "cleanable"}):
            raise InvalidInput(f"category {table.get('name')!r} has unknown keys: {unknown}", operation=_OPERATION)
        name = table.get("name")
        if not isinstance(name, str) or not name or name == _REST or name in dict(found):
            raise InvalidInput(f"a category needs a name of its own, not {name!r}", operation=_OPERATION)
        if not isinstance(table.get("cleanable", False), bool):
            raise InvalidInput(f"category {name!r}: cleanable is true or false", operation=_OPERATION)
        patterns = _patterns(name, table)
        if table.get("cleanable"):
            patterns += [p for item in more if item.get("category") == name for p in _patterns(name, item)]
        found.append((name, list(dict.fromkeys(patterns))))
    return found


def _tables(text: str, key: str) -> list[dict[str, Any]]:
    try:
        tables = tomllib.loads(text).get(key, [])
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{key} list is no TOML: {error}", operation=_OPERATION) from error
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidInput(f"{key} is a list of tables: [[{key}]]", operation=_OPERATION)
    return tables


def _patterns(name: str, table: dict[str, Any]) -> list[str]:
    patterns = table.get("patterns")
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise InvalidInput(f"category {name!r}: patterns is a list of text", operation=_OPERATION)
    return list(patterns)
