"""What the log of a repository holds: snapshots, rescues, totals."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbws.calls import Call, twin, verb
from nbws.errors import NotFound
from nbws.reports import Usage
from nbws.snapshot import Rescue, Snapshot, is_time, select

if TYPE_CHECKING:
    from nbws import _nbws
    from nbws.exclusive import EpochSource

__all__ = ["History"]


class History:
    """The half of a `Workspace` that looks at what was saved."""

    def __init__(self, engine: _nbws.Workspace, exclusive: EpochSource | None) -> None:
        self._engine = engine
        self._exclusive = exclusive

    @verb
    def snapshots(self) -> Call[list[Snapshot]]:
        """Lists the snapshots, oldest first."""
        return Call(self._engine.snapshots, self._snapshots)

    snapshots_async = twin(snapshots)

    @verb
    def snapshot(self, selector: str | datetime = "latest") -> Call[Snapshot]:
        """Returns the snapshot that an id, a unique prefix, ``"latest"``, ``"latest~2"`` or a time names.

        A time names the newest snapshot that is not younger. Index and snapshot root are fetched too: what is read from
        the snapshot then costs what it holds. `snapshots` fetches neither before something is read.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return Call(self._engine.snapshots, lambda listed: select(self._snapshots(listed), selector))

    snapshot_async = twin(snapshot)

    @verb
    def rescues(self) -> Call[list[Rescue]]:
        """Lists work that could not become the head and was kept, oldest first.

        A rescue can be browsed like a `Snapshot`, and restored by its snapshot id.
        """
        return Call(self._engine.rescues, self._rescues)

    rescues_async = twin(rescues)

    @verb
    def dismiss(self, rescue: str | Rescue) -> Call[None]:
        """Gives a rescue up: a later prune may remove its bytes.

        Raises:
            NotFound: there is no such rescue.
        """
        name = rescue.snapshot if isinstance(rescue, Rescue) else rescue
        return Call(lambda: self._engine.dismiss(name), lambda _: None, hold=self._exclusive)

    dismiss_async = twin(dismiss)

    @verb
    def rescue(self, selector: str = "latest") -> Call[Rescue]:
        """Returns the rescue that an id, a unique prefix or ``"latest"`` names.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return Call(self._engine.rescues, lambda listed: select(self._rescues(listed), selector))

    rescue_async = twin(rescue)

    def find(self, selector: str | datetime = "latest") -> Snapshot | Rescue:
        """Returns what `snapshot` does, or the rescue whose id begins so if no snapshot has that name.

        Raises:
            NotFound: there is neither.
            InvalidInput: the prefix is ambiguous.
        """
        try:
            return self.snapshot(selector)
        except NotFound:
            if isinstance(selector, datetime) or selector.startswith("latest") or is_time(selector):
                raise
            return self.rescue(selector)

    def browse(self, snapshot: str | datetime | Snapshot | Rescue) -> _nbws.SnapshotReader:
        """Opens a snapshot or rescue by any of its names; `Snapshot` and `Rescue` wrap what this returns."""
        reader: _nbws.SnapshotReader = self._engine.browse(self._selector(snapshot)).wait()
        return reader

    @verb
    def usage(self) -> Call[Usage]:
        """Sums up what is stored; reads metadata only."""
        return Call(self._engine.usage, Usage.from_engine)

    usage_async = twin(usage)

    def _snapshots(self, listed: list[dict[str, Any]]) -> list[Snapshot]:
        return [Snapshot.from_engine(values).attach(self) for values in listed]

    def _rescues(self, listed: list[dict[str, Any]]) -> list[Rescue]:
        return [Rescue.from_engine(values).attach(self) for values in listed]

    def _selector(self, snapshot: str | datetime | Snapshot | Rescue) -> str:
        # The engine knows ids, prefixes and latest~n; a time is found here.
        if isinstance(snapshot, Snapshot | Rescue):
            return snapshot.snapshot
        if isinstance(snapshot, datetime) or is_time(snapshot):
            return select(self.snapshots(), snapshot).snapshot
        return snapshot
