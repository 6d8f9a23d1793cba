"""What the newest snapshot has of what would go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbws.calls import started
from nbws.cleaning.reports import StoreShare
from nbws.errors import NotFound
from nbws.snapshot import Browsable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbws.calls import Steps
    from nbws.cleaning.found import Unit
    from nbws.entries import Entry
    from nbws.log import History

__all__ = ["store_share"]

# For more finds than this the tree is listed once and whole, and what is stored is not added up.
_MANY = 64


def store_share(source: History | Browsable, units: Sequence[Unit]) -> Steps[StoreShare | None]:
    """Returns what the newest snapshot of a workspace, or a given one, has of it; None if there is no snapshot."""
    try:
        snapshot = source if isinstance(source, Browsable) else (yield from started(source.snapshot).steps())
    except NotFound:
        return None
    wanted = {path for unit in units for path in unit.every_file()}
    files = size = 0
    for top in [""] if len(units) > _MANY else [unit.path for unit in units]:
        try:
            listed: Iterable[Entry] = yield from started(snapshot.ls, top, recursive=True).steps()
        except NotFound:
            continue
        for entry in listed:
            if entry.kind in {"file", "symlink"} and entry.path in wanted:
                files += 1
                size += entry.size
    return StoreShare(snapshot.snapshot, files, size, (yield from _stored_bytes(snapshot, units)))


def _stored_bytes(snapshot: Browsable, units: Sequence[Unit]) -> Steps[int | None]:
    """Returns what the paths take in the store, each for itself."""
    paths = [path for unit in units for path in unit.paths()]
    if len(paths) > _MANY:
        return None
    total = 0
    for path in paths:
        try:
            usage = yield from started(snapshot.usage, path, depth=0).steps()
        except NotFound:
            continue
        total += usage.total.stored_bytes
    return total
