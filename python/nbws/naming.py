"""How snapshots are named: an id, a unique prefix of one, ``latest``, ``latest~2``, or a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from nbws.errors import InvalidInput, NotFound
from nbws.reports import SavedState

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["is_time", "names_snapshot", "select"]

_State = TypeVar("_State", bound=SavedState)

_LATEST = re.compile(r"latest(?:~(\d{1,9}))?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{4,32}", re.ASCII)


def select(snapshots: Sequence[_State], selector: str | datetime) -> _State:
    """Returns the one of ``snapshots`` (oldest first) that an id, prefix, ``latest~n`` or time names.

    Raises:
        NotFound: none does.
        InvalidInput: several do, or the text is none of these.
    """
    if isinstance(selector, datetime):
        return _at(snapshots, selector)
    if match := _LATEST.fullmatch(selector):
        back = int(match.group(1) or 0)
        if back >= len(snapshots):
            raise _absent(selector, f"there are {len(snapshots)} snapshots")
        return snapshots[-1 - back]
    if _ID.fullmatch(selector):
        found = [snapshot for snapshot in snapshots if snapshot.snapshot.startswith(selector)]
        if len(found) > 1:
            raise InvalidInput(
                f"snapshot {selector} is ambiguous: it names {len(found)} snapshots; give more digits",
                operation="find snapshot",
                path=selector,
            )
        if not found:
            raise _absent(selector, "no id starts with it")
        return found[0]
    if is_time(selector):
        return _at(snapshots, datetime.fromisoformat(selector))
    raise InvalidInput(
        f"{selector!r} names no snapshot: give an id, at least 4 digits of one, latest, latest~2 or a time such as "
        "2026-11-22T18:00",
        operation="find snapshot",
        path=selector,
    )


def is_time(selector: str) -> bool:
    """Returns whether text is a time in ISO 8601; digits alone are the prefix of an id."""
    if _ID.fullmatch(selector):
        return False
    try:
        datetime.fromisoformat(selector)
    except ValueError:
        return False
    return True


def names_snapshot(text: str) -> bool:
    """Returns whether text is written like the name of a snapshot; there may be none."""
    return bool(_LATEST.fullmatch(text) or _ID.fullmatch(text)) or is_time(text)


def _at(snapshots: Sequence[_State], time: datetime) -> _State:
    moment = time.astimezone(UTC)  # a time without a zone is local time
    for snapshot in reversed(snapshots):
        if snapshot.time <= moment:
            return snapshot
    raise _absent(time.isoformat(), "all snapshots are younger")


def _absent(selector: str, why: str) -> NotFound:
    return NotFound(f"no snapshot {selector}: {why}", operation="find snapshot", path=selector)
