"""What the log of a repository holds: snapshots, rescues, totals, and what fills it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from nbws.calls import Call, twin, verb
from nbws.catalogue.categories import categories
from nbws.errors import InvalidInput, NotFound
from nbws.listing import Listing
from nbws.naming import is_time, select
from nbws.reports import SavedState
from nbws.snapshot import Rescue, Snapshot
from nbws.usage import Growth, Usage

if TYPE_CHECKING:
    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource

__all__ = ["History"]

_TOO_DEEP = 1 << 32

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def _sizes(operation: str, path: Path, depth: int, largest: int | None) -> dict[str, Any]:
    """Options of the engine; what is no count is refused here, by name."""
    for name, value in (("depth", depth), ("largest", largest)):
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_DEEP
        if not is_count and not (name == "largest" and value is None):
            raise InvalidInput(f"{name} is a number from 0 on, not {value!r}", operation=operation)
    return {"path": os.fspath(path), "depth": depth, "largest": largest, "categories": categories()}


class History:
    """The half of a `Workspace` that looks at what was saved."""

    def __init__(self, engine: _nbws.Workspace, exclusive: EpochSource | None) -> None:
        self._engine = engine
        self._exclusive = exclusive

    @verb
    def snapshots(self) -> Call[Listing[Snapshot]]:
        """Lists the snapshots, oldest first."""
        return Call.one(self._engine.snapshots, self._snapshots)

    snapshots_async = twin(snapshots)

    @verb
    def snapshot(self, selector: str | datetime = "latest") -> Call[Snapshot]:
        """Returns the snapshot that an id, a unique prefix, ``"latest"``, ``"latest~2"`` or a time names.

        A time names the newest snapshot that is not younger. Nothing of its content is fetched before something is read.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return Call.one(self._engine.snapshots, lambda listed: select(self._snapshots(listed), selector))

    snapshot_async = twin(snapshot)

    @verb
    def rescues(self) -> Call[Listing[Rescue]]:
        """Lists work that could not become the head and was kept, oldest first.

        A rescue can be browsed like a `Snapshot`, and restored by its snapshot id.
        """
        return Call.one(self._engine.rescues, self._rescues)

    rescues_async = twin(rescues)

    @verb
    def dismiss(self, rescue: str | Rescue) -> Call[None]:
        """Gives a rescue up: a later prune may remove its bytes.

        Raises:
            NotFound: there is no such rescue.
        """
        name = rescue.snapshot if isinstance(rescue, Rescue) else rescue
        return Call.one(lambda: self._engine.dismiss(name), lambda _: None, hold=self._exclusive)

    dismiss_async = twin(dismiss)

    @verb
    def rescue(self, selector: str = "latest") -> Call[Rescue]:
        """Returns the rescue that an id, a unique prefix or ``"latest"`` names.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return Call.one(self._engine.rescues, lambda listed: select(self._rescues(listed), selector))

    rescue_async = twin(rescue)

    @verb
    def find(self, selector: str | datetime = "latest") -> Call[Snapshot | Rescue]:
        """Returns what `snapshot` does, or the rescue whose id begins so if no snapshot has that name.

        Raises:
            NotFound: there is neither.
            InvalidInput: the prefix is ambiguous.
        """

        def steps() -> Steps[Snapshot | Rescue]:
            try:
                return select(self._snapshots((yield self._engine.snapshots())), selector)
            except NotFound:
                if isinstance(selector, datetime) or selector.startswith("latest") or is_time(selector):
                    raise
            return select(self._rescues((yield self._engine.rescues())), selector)

        return Call(steps)

    find_async = twin(find)

    @verb
    def usage(
        self,
        path: Path = "",
        snapshot: str | datetime | SavedState = "latest",
        depth: int = 1,
        largest: int | None = None,
    ) -> Call[Usage]:
        """Sums up what is stored, and what a path of one snapshot takes; by path and by category.

        Records, index and tree are read, and no file: about 100 bytes for each file at and below the path.

        Args:
            path: what is looked at, relative to the top of the workspace.
            snapshot: a `Snapshot` or `Rescue`, or what names one.
            depth: how many names below the path have rows of their own; 0 for the totals alone.
            largest: of each directory only so many rows, the largest ones.

        Raises:
            NotFound: there is no such snapshot or path. A repository without snapshots has an empty top.
            InvalidInput: a number is negative, or the path can't be one.
            Corrupt: what is read is damaged or gone.
        """
        options = _sizes("usage", path, depth, largest)

        def steps() -> Steps[Usage]:
            name = yield from self.named(snapshot)
            return Usage.from_engine((yield self._engine.usage({**options, "snapshot": name})))

        return Call(steps)

    usage_async = twin(usage)

    @verb
    def growth(
        self,
        before: str | datetime | SavedState,
        after: str | datetime | SavedState = "latest",
        path: Path = "",
        depth: int = 1,
        largest: int | None = None,
    ) -> Call[Growth]:
        """Tells by how much a path grew from one snapshot to another, and what made it grow.

        Reads the first tree, and of the second one what differs; no file.

        Args:
            before: a `Snapshot` or `Rescue`, or what names one.
            after: likewise; it may be the older one.
            path: what is looked at, relative to the top of the workspace.
            depth: how many names below the path have rows of their own; 0 for the totals alone.
            largest: of each directory only so many rows, those that changed most.

        Raises:
            NotFound: there is no such snapshot, or neither has the path.
            InvalidInput: a number is negative, or the path can't be one.
            Corrupt: what is read is damaged or gone.
        """
        options = _sizes("growth", path, depth, largest)

        def steps() -> Steps[Growth]:
            names = [(yield from self.named(before)), (yield from self.named(after))]
            found = yield self._engine.growth(names, options)
            return Growth.from_engine(found[0])

        return Call(steps)

    growth_async = twin(growth)

    @verb
    def growth_history(self, path: Path = "", depth: int = 1, largest: int | None = None) -> Call[tuple[Growth, ...]]:
        """Tells by how much a path grew from each snapshot to the next one, oldest first: one less than there are snapshots.

        Reads the first tree, and of every other one what differs from the one before; no file. Arguments and errors are those
        of `growth`; `NotFound` if no snapshot has the path.
        """
        options = _sizes("growth", path, depth, largest)
        return Call.one(lambda: self._engine.growth([], options), lambda found: tuple(map(Growth.from_engine, found)))

    growth_history_async = twin(growth_history)

    def _snapshots(self, listed: list[dict[str, Any]]) -> Listing[Snapshot]:
        return Listing(Snapshot, (Snapshot.from_engine(values).attach(self) for values in listed))

    def _rescues(self, listed: list[dict[str, Any]]) -> Listing[Rescue]:
        return Listing(Rescue, (Rescue.from_engine(values).attach(self) for values in listed))

    def named(self, snapshot: str | datetime | SavedState) -> Steps[str]:
        """Steps to the name by which the engine knows a snapshot: an id, a prefix or ``latest~n``; a time is found here."""
        if isinstance(snapshot, SavedState):
            return snapshot.snapshot
        if isinstance(snapshot, datetime) or is_time(snapshot):
            return select(self._snapshots((yield self._engine.snapshots())), snapshot).snapshot
        return snapshot

    def opened(self, snapshot: str | datetime | SavedState) -> Steps[_nbws.SnapshotReader]:
        """Steps to a snapshot or rescue that the engine has opened for reading."""
        name = yield from self.named(snapshot)
        reader: _nbws.SnapshotReader = yield self._engine.browse(name)
        return reader
