"""What may be cleaned, and what never is: data in ``cleanable.toml``, read and checked here.

An entry says what it is (``name``, ``title``, ``category``), where it lies (``patterns`` in gitignore syntax, relative to the top of a
workspace or to the home directory; ``environment``: variables that place it elsewhere), what proves that something found there is
of that kind (``requires``), why it can go (``why_safe``), how it comes back (``comes_back``), at what price (``price``), and where
that is written (``source``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

from nbws.catalogue.patterns import Pattern
from nbws.errors import InvalidInput
from nbws.values import Report

__all__ = ["Catalogue", "Cleanable", "Protected", "Requirement", "load", "parse"]

_OPERATION = "read catalogue"
_TEXTS = ("name", "title", "category", "why_safe", "comes_back", "price", "source")
_FORMATS = {"elf-core", "vim-swap", "checkpoint", "torch-weights"}


@dataclass(frozen=True, slots=True)
class Requirement(Report):
    """What proves that a path is of a kind; all that is said must hold.

    What proves a directory (its tag, what it ``holds``) goes last, so that a cleaning that was interrupted can go on.

    Attributes:
        tag: a directory has a valid ``CACHEDIR.TAG``.
        holds: a directory has an entry for each of these patterns.
        only: a directory has no entry but for these patterns.
        hashes: every entry of a directory is named by a hash: 20 letters, digits, ``-`` or ``_`` at least.
        beside: one of these names lies in the directory that has the path as an entry.
        says: a file has one of these texts in its first 4 KiB.
        format: what a file is: ``elf-core``; ``vim-swap`` without unsaved text, of an editor that is gone; ``torch-weights``; or
            ``checkpoint``, whose original is still there.
    """

    tag: bool = False
    holds: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    hashes: bool = False
    beside: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Cleanable(Report):
    """One kind of thing that may be cleaned.

    Attributes:
        patterns: in gitignore syntax, relative to the workspace or the home directory; one that ends with a slash names directories.
        environment: variables that say where it lies instead, such as ``"PIP_CACHE_DIR"``, or with a pattern below,
            ``"XDG_CACHE_HOME/pip"``; used only where the result lies inside the workspace.
        requires: what proves it.
        together: whether its parts depend on each other: if one has to stay, all of it stays.
        moved: whether it was moved there: then its age counts from the move, too.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requires": Requirement}

    name: str
    title: str
    category: str
    patterns: tuple[str, ...]
    environment: tuple[str, ...]
    requires: Requirement
    together: bool
    moved: bool
    why_safe: str
    comes_back: str
    price: str
    source: str


@dataclass(frozen=True, slots=True)
class Protected(Report):
    """Something that is never cleaned, wherever the catalogue would find it."""

    patterns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Catalogue(Report):
    """What may be cleaned, in order, and what never is."""

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"cleanable": Cleanable, "protected": Protected}

    cleanable: tuple[Cleanable, ...]
    protected: tuple[Protected, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all entries."""
        return tuple(entry.name for entry in self.cleanable)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, in the order in which they first occur."""
        return tuple(dict.fromkeys(entry.category for entry in self.cleanable))


def load() -> Catalogue:
    """Returns the catalogue that nbws comes with."""
    return _shipped()


def _read_shipped() -> Catalogue:
    return parse(files("nbws.catalogue").joinpath("cleanable.toml").read_text("utf-8"))


_shipped = cache(_read_shipped)


def parse(text: str) -> Catalogue:
    """Reads a catalogue.

    Raises:
        InvalidInput: it is not TOML, or an entry has a key too many, too few, or one that can't be used; the message names both.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"the catalogue is not TOML: {error}", operation=_OPERATION) from error
    if unknown := sorted(tables.keys() - {"cleanable", "protected"}):
        raise InvalidInput(f"the catalogue has no tables {unknown}", operation=_OPERATION)
    cleanable = tuple(_cleanable(table) for table in tables.get("cleanable", ()))
    protected = tuple(_protected(table) for table in tables.get("protected", ()))
    names = [entry.name for entry in cleanable]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"the catalogue has entries of one name: {twice}", operation=_OPERATION)
    return Catalogue(cleanable, protected)


def _cleanable(table: dict[str, Any]) -> Cleanable:
    where = f"entry {table.get('name')!r}"
    optional: dict[str, Any] = {"environment": [], "together": False, "moved": False}
    given = optional | table
    _check_keys(where, given, {*_TEXTS, "patterns", "requires", *optional})
    for key in _TEXTS:
        if not isinstance(given[key], str) or not given[key]:
            raise InvalidInput(f"{where}: {key} is text, not {given[key]!r}", operation=_OPERATION)
    for key in ("together", "moved"):
        if not isinstance(given[key], bool):
            raise InvalidInput(f"{where}: {key} is true or false, not {given[key]!r}", operation=_OPERATION)
    patterns = _strings(where, "patterns", given["patterns"])
    environment = _strings(where, "environment", given["environment"])
    for text in [*patterns, *(text.partition("/")[2] or "x" for text in environment)]:
        _check_pattern(where, text)
    if not patterns:
        raise InvalidInput(f"{where}: has no patterns", operation=_OPERATION)
    values = {
        **given,
        "patterns": patterns,
        "environment": environment,
        "requires": _requirement(where, given["requires"]),
    }
    return Cleanable(**values)


def _requirement(where: str, table: Any) -> Requirement:
    defaults = Requirement().to_dict()
    if not isinstance(table, dict) or not table:
        raise InvalidInput(f"{where}: requires says what proves it", operation=_OPERATION)
    _check_keys(f"{where}: requires", {**defaults, **table}, set(defaults))
    lists = {key: _strings(where, key, value) for key, value in table.items() if isinstance(value, list)}
    found = Requirement(**{**table, **lists})
    if found.format is not None and found.format not in _FORMATS:
        raise InvalidInput(f"{where}: there is no format {found.format!r}", operation=_OPERATION)
    for text in (*found.holds, *found.only):
        _check_pattern(where, text)
    return found


def _protected(table: dict[str, Any]) -> Protected:
    where = f"protected {table.get('patterns')!r}"
    _check_keys(where, table, {"patterns", "why"})
    patterns = _strings(where, "patterns", table["patterns"])
    for text in patterns:
        _check_pattern(where, text)
    return Protected(patterns, str(table["why"]))


def _check_keys(where: str, table: dict[str, Any], wanted: set[str]) -> None:
    if missing := sorted(wanted - table.keys()):
        raise InvalidInput(f"{where}: {', '.join(missing)} is missing", operation=_OPERATION)
    if unknown := sorted(table.keys() - wanted):
        raise InvalidInput(f"{where}: there is no key {', '.join(unknown)}", operation=_OPERATION)


def _check_pattern(where: str, text: str) -> None:
    try:
        Pattern.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}", operation=_OPERATION) from error


def _strings(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{where}: {key} is a list of text, not {value!r}", operation=_OPERATION)
    return tuple(value)
