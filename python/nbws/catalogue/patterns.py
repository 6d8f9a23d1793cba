"""Patterns in gitignore syntax, matched while a tree is walked: a directory hands on what its entries can still match.

Differences from git: there is no ``!``, since what is cleaned or protected must not depend on the order of lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from nbws.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Matcher", "Pattern", "Place"]

Owner = TypeVar("Owner")

_ANY_DEPTH = "**"
_SPECIAL = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, cut at its slashes.

    Attributes:
        parts: a name, a regular expression for names, or ``"**"`` for any number of directories.
        directories_only: whether it matches directories only.
    """

    parts: tuple[str | re.Pattern[str], ...]
    directories_only: bool

    @classmethod
    def parse(cls, text: str, below: tuple[str, ...] = ()) -> Pattern:
        """Reads a pattern that is relative to the directory whose names are ``below``.

        Raises:
            InvalidInput: it is empty, begins with ``!``, has ``.`` or ``..`` as a part, or has brackets that don't end.
        """
        body = text.rstrip(" ") if not text.endswith("\\ ") else text
        directories_only = body.endswith("/")
        body = body.rstrip("/")
        anchored = "/" in body
        names = body.lstrip("/").split("/")
        if not body or body.startswith(("!", "#")) or "\0" in body or {"", ".", ".."} & set(names):
            raise InvalidInput(f"not a pattern in gitignore syntax (without '!'): {text!r}")
        if names[-1] == _ANY_DEPTH:
            # All that lies inside: one name more, of any kind.
            names.append("*")
        parts = tuple(name if name == _ANY_DEPTH else _part(name, text) for name in names)
        return cls((*below, *(() if anchored else (_ANY_DEPTH,)), *parts), directories_only)


def _part(name: str, whole: str) -> str | re.Pattern[str]:
    if not _SPECIAL.search(name):
        return name
    try:
        return re.compile(_expression(name), re.DOTALL)
    except (re.error, IndexError) as error:
        raise InvalidInput(f"not a pattern in gitignore syntax: {whole!r}") from error


def _expression(name: str) -> str:
    """Returns a part of a pattern as a regular expression."""
    found: list[str] = []
    at = 0
    while at < len(name):
        char = name[at]
        at += 1
        if char == "*":
            found.append(".*")
        elif char == "?":
            found.append(".")
        elif char == "\\":
            found.append(re.escape(name[at]))
            at += 1
        elif char == "[":
            end = name.index("]", at + 2 if name[at : at + 1] in {"!", "^"} else at + 1) if "]" in name[at:] else -1
            if end < 0:
                raise IndexError
            body = name[at:end].replace("\\", "\\\\").replace("[", "\\[")
            found.append(f"[^{body[1:]}]" if body[0] in "!^" else f"[{body}]")
            at = end + 1
        else:
            found.append(re.escape(char))
    return "".join(found)


# A pattern's number, and how much of it has been matched on the way down.
_Point: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class Place(Generic[Owner]):
    """What the entries of a directory can match."""

    matcher: Matcher[Owner]
    names: dict[str, list[_Point]] = field(default_factory=dict)
    expressions: list[tuple[re.Pattern[str], _Point]] = field(default_factory=list)
    lasting: list[_Point] = field(default_factory=list)
    quick: re.Pattern[str] | None = None

    def matches(self, name: str, is_directory: bool) -> list[Owner]:
        """Returns whose patterns match an entry, in the order in which they were given."""
        if name not in self.names and (self.quick is None or self.quick.fullmatch(name) is None):
            return []
        found = sorted({number for number, at in self._steps(name) if self.matcher.ends(number, at, is_directory)})
        return [self.matcher.owners[number] for number in found]

    def enter(self, name: str) -> Place[Owner]:
        """Returns what the entries of the directory of that name can match."""
        following = {(number, at + 1) for number, at in self._steps(name) if not self.matcher.is_last(number, at)}
        return self.matcher.place(frozenset({*following, *self.lasting}))

    def _steps(self, name: str) -> list[_Point]:
        return [*self.names.get(name, ()), *(point for what, point in self.expressions if what.fullmatch(name))]


class Matcher(Generic[Owner]):
    """Many patterns, each with an owner."""

    def __init__(self, patterns: Iterable[tuple[Pattern, Owner]]) -> None:
        given = list(patterns)
        self.owners = [owner for _, owner in given]
        self._patterns = [pattern for pattern, _ in given]
        self._places: dict[frozenset[_Point], Place[Owner]] = {}

    def start(self) -> Place[Owner]:
        """Returns what the entries of the top directory can match."""
        return self.place(frozenset((number, 0) for number in range(len(self._patterns))))

    def is_last(self, number: int, at: int) -> bool:
        """Whether a part is the last of its pattern."""
        return at + 1 == len(self._patterns[number].parts)

    def ends(self, number: int, at: int, is_directory: bool) -> bool:
        """Whether an entry that matches a part matches the pattern."""
        return self.is_last(number, at) and (is_directory or not self._patterns[number].directories_only)

    def place(self, points: frozenset[_Point]) -> Place[Owner]:
        """Returns the place where these parts are next; most directories of a tree share one."""
        known = self._places.get(points)
        if known is None:
            known = self._places[points] = self._made(points)
        return known

    def _made(self, points: frozenset[_Point]) -> Place[Owner]:
        place = Place(self)
        for number, first in sorted(points):
            at, parts = first, self._patterns[number].parts
            while parts[at] == _ANY_DEPTH:
                # As many directories as there are: it stays, and what follows may begin right here.
                place.lasting.append((number, at))
                at += 1
            part = parts[at]
            if isinstance(part, str):
                place.names.setdefault(part, []).append((number, at))
            else:
                place.expressions.append((part, (number, at)))
        if place.expressions:
            every = "|".join(f"(?:{what.pattern})" for what, _ in place.expressions)
            place.quick = re.compile(every, re.DOTALL)
        return place
