"""The directory into which things are moved instead of being removed."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nbws.cleaning.found import Folder
from nbws.cleaning.proof import DIRECTORY
from nbws.errors import InvalidInput, LocalIo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbws.cleaning.found import Unit

__all__ = ["opened_trash"]

_OPERATION = "open trash"
_MODE = 0o700


@contextmanager
def opened_trash(trash: str | os.PathLike[str] | None, root: str, units: Sequence[Unit]) -> Iterator[int | None]:
    """Yields a descriptor of the trash, or None if there is to be none; makes the directory if it is missing.

    Raises:
        InvalidInput: it is no directory, lies in what is to go, is the directory that is cleaned, or is on another file system.
        LocalIo: it can't be made or opened.
    """
    if trash is None:
        yield None
        return
    path = os.path.realpath(os.fsdecode(trash))
    try:
        Path(path).mkdir(mode=_MODE, parents=True, exist_ok=True)
        directory = os.open(path, DIRECTORY)
    except (FileExistsError, NotADirectoryError) as cause:
        raise InvalidInput("is not a directory", operation=_OPERATION, path=path) from cause
    except OSError as cause:
        hint = "; on a full disk, name a directory that exists" if cause.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        raise LocalIo(
            f"can't be used as trash: {cause.strerror}{hint}", operation=_OPERATION, path=path, os_error=cause.errno
        ) from cause
    try:
        _check(path, os.fstat(directory), root, units)
        yield directory
    finally:
        os.close(directory)


def _check(path: str, found: os.stat_result, root: str, units: Sequence[Unit]) -> None:
    top = Path(root).lstat()
    if (found.st_dev, found.st_ino) == (top.st_dev, top.st_ino):
        raise InvalidInput("is the directory that is cleaned; name another one", operation=_OPERATION, path=path)
    if found.st_dev != top.st_dev:
        raise InvalidInput(
            "lies on another file system, where things can't be moved without a copy; name a directory on this one, "
            "or clean without a trash",
            operation=_OPERATION,
            path=path,
        )
    above = _above(path)
    for unit in units:
        if isinstance(unit.what, Folder) and unit.what.key in above:
            raise InvalidInput(
                f"lies in {unit.path}, which is to be cleaned; name a directory elsewhere",
                operation=_OPERATION,
                path=path,
            )


def _above(path: str) -> set[tuple[int, int]]:
    """Returns what a directory and those above it are known by."""
    places = [Path(path), *Path(path).parents]
    return {(found.st_dev, found.st_ino) for found in (place.stat() for place in places)}
