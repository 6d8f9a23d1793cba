"""What a plan goes by: the catalogue, what is chosen of it, where variables place things, and what is protected."""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbws.catalogue import cleanable
from nbws.catalogue.patterns import Matcher, Pattern
from nbws.cleaning.found import Kind
from nbws.cleaning.in_use import InUse
from nbws.cleaning.survey import Rules
from nbws.ephemeral import mount_points
from nbws.errors import InvalidInput, LocalIo, NotFound
from nbws.run_config import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nbws.catalogue.cleanable import Cleanable

__all__ = ["Choice", "moment_before", "mounts_below", "rules_of", "several", "top_of"]

_OPERATION = "plan cleaning"
_CONFIG = "nbws.toml"
_CONFIG_BYTES = 1 << 20
_LISTS = re.compile(rf"[,{re.escape(os.pathsep)}]")


def top_of(directory: str | os.PathLike[str]) -> str:
    """Returns the directory's path without links.

    Raises:
        InvalidInput: it is not a directory, or the whole file system.
        NotFound: it is not there.
        LocalIo: it can't be looked at.
    """
    path = os.path.realpath(os.fsdecode(directory))
    try:
        found = Path(path).stat()
    except FileNotFoundError as cause:
        raise NotFound("there is no such directory", operation=_OPERATION, path=path) from cause
    except OSError as cause:
        raise LocalIo(
            f"can't be read: {cause.strerror}", operation=_OPERATION, path=path, os_error=cause.errno
        ) from cause
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidInput("is not a directory", operation=_OPERATION, path=path)
    if path == "/":
        raise InvalidInput("is the whole file system; name a workspace", operation=_OPERATION, path=path)
    return path


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the catalogue is wanted, and what is left alone besides."""

    categories: Sequence[str] | None
    only: Sequence[str] | None
    protect: Sequence[str]
    min_age_s: float | None


def several(name: str, values: Iterable[str]) -> list[str]:
    """Returns a list of text.

    Raises:
        InvalidInput: it is one text, or has something else in it.
    """
    found = None if isinstance(values, str) else list(values)
    if found is None or not all(isinstance(value, str) for value in found):
        raise InvalidInput(f"{name} is a list of text, not {values!r}", operation=_OPERATION)
    return found


def rules_of(root: str, environment: Mapping[str, str], choice: Choice) -> Rules:
    """Returns what a look at the tree goes by.

    Raises:
        InvalidInput: a name or pattern is unknown, or ``nbws.toml`` can't be read.
    """
    known = cleanable.load()
    categories = _chosen("category", choice.categories, known.categories)
    names = _chosen("entry", choice.only, known.names)
    entries = [entry for entry in known.cleanable if entry.category in categories and entry.name in names]
    homes = {(), *_inside(environment.get("HOME", ""), root)}
    wanted = [item for entry in entries for item in _patterns(entry, homes, environment, root)]
    protected = [
        (Pattern.parse(text, home), item.why) for item in known.protected for text in item.patterns for home in homes
    ]
    protected += [(Pattern.parse(text), "protected by the caller") for text in choice.protect]
    protected += [(Pattern.parse(text), f"protected by {_CONFIG}") for text in _protect_of(root)]
    return Rules(Matcher(wanted), Matcher(protected), InUse(root), mounts_below(root), moment_before(choice.min_age_s))


def moment_before(span_s: float | None) -> int | None:
    """Returns the moment so many seconds ago, in nanoseconds since 1970."""
    return None if span_s is None else time.time_ns() - round(span_s * 1e9)


def mounts_below(root: str) -> frozenset[str]:
    """Returns where below a directory something is mounted."""
    return frozenset(path for path in mount_points() if path.startswith(root.rstrip("/") + "/"))


def _chosen(what: str, given: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    if given is None:
        return known
    if unknown := [name for name in given if name not in known]:
        raise InvalidInput(f"there is no {what} {unknown[0]!r}; known are {', '.join(known)}", operation=_OPERATION)
    return given


def _patterns(
    entry: Cleanable, homes: Iterable[tuple[str, ...]], environment: Mapping[str, str], root: str
) -> Iterator[tuple[Pattern, Kind]]:
    for text in entry.patterns:
        for home in homes:
            yield Pattern.parse(text, home), Kind(entry, text.endswith("/"))
    for text in entry.environment:
        variable, _, rest = text.partition("/")
        for value in _LISTS.split(environment.get(variable, "")):
            for names in _inside(value, root):
                if rest:
                    yield Pattern.parse(f"/{rest}", names), Kind(entry, rest.endswith("/"))
                elif names:
                    yield Pattern(names, directories_only=True), Kind(entry, of_directories=True)


def _inside(path: str, root: str) -> Iterator[tuple[str, ...]]:
    """Yields the names that lead from the top to a path, if it is absolute and lies inside or is the top."""
    if not path.startswith("/") or "\0" in path:
        return
    real = os.path.realpath(path)
    if real == root:
        yield ()
    elif real.startswith(root + "/"):
        names = tuple(real[len(root) + 1 :].split("/"))
        if "**" not in names:
            yield names


def _protect_of(root: str) -> Sequence[str]:
    """Returns what the directory's own ``nbws.toml`` protects."""
    path = f"{root}/{_CONFIG}"
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return ()
    except OSError as cause:
        raise InvalidInput(
            f"can't be read, so what it protects is not known: {cause.strerror}", operation=_OPERATION, path=path
        ) from cause
    try:
        text = os.read(file, _CONFIG_BYTES + 1) if stat.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)
    if text is None or len(text) > _CONFIG_BYTES:
        raise InvalidInput(
            "is not a file of settings, so what it protects is not known", operation=_OPERATION, path=path
        )
    try:
        return read_settings(text.decode(), path, {}, {}).protect
    except UnicodeDecodeError as cause:
        raise InvalidInput("is not UTF-8 text", operation=_OPERATION, path=path) from cause
