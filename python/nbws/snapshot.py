"""One saved state of a workspace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from nbws.errors import InvalidInput, NotFound
from nbws.reports import SavedState, time_from_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Snapshot", "is_time", "select"]


@dataclass(frozen=True)  # mypy counts inherited slots twice
class Snapshot(SavedState):
    """The immutable state of the whole tree at one save.

    Attributes:
        snapshot: the id, 32 hex digits; any unique prefix names it too.
        seq: number of its log record.
        time: when it was taken, by the writer's clock.
        files: files and symbolic links.
        bytes: sum of the file sizes.
        tree_root: hash of the tree; equal trees have equal roots on any machine.
        partial: whether a deadline or quota left work out.
        origin: what made it, such as ``"save"``.
        pinned: whether nothing may drop it now.
        eviction_date: from when on it may be dropped, or None if nothing says.
    """

    pinned: bool = False
    eviction_date: datetime | None = None

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the snapshot from the dict that the engine returned; the reason belongs to rescues."""
        until = time_from_ms(values["pinned_until_ms"])
        kept = {key: value for key, value in values.items() if key not in {"reason", "pinned_until_ms"}}
        return super().from_engine(
            {**kept, "pinned": until is not None and until > datetime.now(UTC), "eviction_date": until}
        )


_LATEST = re.compile(r"latest(?:~(\d{1,9}))?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{4,32}", re.ASCII)


def select(snapshots: Sequence[Snapshot], selector: str | datetime) -> Snapshot:
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


def _at(snapshots: Sequence[Snapshot], time: datetime) -> Snapshot:
    moment = time.astimezone(UTC)  # a time without a zone is local time
    for snapshot in reversed(snapshots):
        if snapshot.time <= moment:
            return snapshot
    raise _absent(time.isoformat(), "all snapshots are younger")


def _absent(selector: str, why: str) -> NotFound:
    return NotFound(f"no snapshot {selector}: {why}", operation="find snapshot", path=selector)
