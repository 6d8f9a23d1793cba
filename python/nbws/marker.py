"""The hidden file that marks a workspace as set up. It can be lost; a notebook does not stand or fall with it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from nbws.errors import InvalidState, LocalIo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["NAME", "ensure_marker", "read_marker"]

NAME = ".workspace.initialized"

_MAX_BYTES = 64 * 1024


def read_marker(workspace: Path) -> dict[str, Any] | None:
    """Returns what the marker says; None if it is missing or is not a marker.

    Raises:
        LocalIo: it can't be read.
    """
    path = workspace / NAME
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError as cause:
        raise LocalIo(f"the marker can't be read: {cause.strerror}", operation="read marker", path=str(path)) from cause
    try:
        found = json.loads(text) if len(text) <= _MAX_BYTES else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("notebook"), str) else None


def ensure_marker(workspace: Path, wanted: Mapping[str, Any]) -> bool:
    """Makes sure that the marker says what it should; returns whether it had to be written.

    Only the notebook must be right: versions in it are those of the day it was made.

    Raises:
        InvalidState: something else lies in its place, and is no file.
        LocalIo: it can't be written.
    """
    found = read_marker(workspace)
    if found is not None and found["notebook"] == wanted["notebook"]:
        return False
    path, temporary = workspace / NAME, workspace / f"{NAME}.tmp"
    if path.is_dir() and not path.is_symlink():
        raise InvalidState(
            f"{NAME} is a directory; remove or rename it, then start again",
            operation="repair marker",
            path=str(path),
        )
    try:
        temporary.write_text(json.dumps(dict(wanted), indent=2, sort_keys=True) + "\n")
        os.replace(temporary, path)  # noqa: PTH105  # pathlib's replace says less
    except OSError as cause:
        raise LocalIo(
            f"the marker can't be written: {cause.strerror}", operation="repair marker", path=str(path)
        ) from cause
    return True
