"""The hidden file that marks a workspace as set up. It can be lost; a notebook does not stand or fall with it."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbws.errors import LocalIo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["NAME", "ensure_marker", "read_marker"]

NAME = ".workspace.initialized"

_MAX_BYTES = 64 * 1024
_MODE = 0o644
# A link is no marker, and nobody waits for the writer of a pipe.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_marker(workspace: Path) -> dict[str, Any] | None:
    """Returns what the marker says; None if it is missing, is not a marker, or can't be read."""
    try:
        opened = os.open(workspace / NAME, _OPEN)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        text = os.read(opened, _MAX_BYTES + 1)
        found = json.loads(text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(opened)
    return found if isinstance(found, dict) and isinstance(found.get("notebook"), str) else None


def ensure_marker(workspace: Path, wanted: Mapping[str, Any]) -> str | None:
    """Makes sure that the marker says what it should; returns what had to be done for it, or None.

    Only the notebook must be right: versions in it are those of the day it was made. A directory in its place is somebody's work:
    it is moved aside.

    Raises:
        LocalIo: it can't be written.
    """
    found = read_marker(workspace)
    if found is not None and found["notebook"] == wanted["notebook"]:
        return None
    path = workspace / NAME
    try:
        done = f"{NAME} was missing or damaged; it was made anew"
        if path.is_dir() and not path.is_symlink():
            done = f"{NAME} was a directory; it is now called {_move_aside(path)}, and the marker was made anew"
        _replace(path, json.dumps(dict(wanted), indent=2, sort_keys=True) + "\n")
    except OSError as cause:
        raise LocalIo(
            f"{NAME} can't be written: {cause.strerror}",
            operation="repair marker",
            path=str(path),
            os_error=cause.errno,
        ) from cause
    return done


def _move_aside(path: Path) -> str:
    for number in range(1, 1000):
        other = path.with_name(f"{NAME}.directory-{number}")
        if not os.path.lexists(other):
            path.rename(other)
            return other.name
    raise FileExistsError(f"too many directories called {NAME}.directory-...")


def _replace(path: Path, text: str) -> None:
    opened, temporary = tempfile.mkstemp(prefix=f"{NAME}.", dir=path.parent)
    try:
        with open(opened, "w") as file:  # noqa: PTH123  # of a descriptor
            file.write(text)
            os.fchmod(opened, _MODE)
        os.replace(temporary, path)  # noqa: PTH105  # pathlib's replace says less
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
