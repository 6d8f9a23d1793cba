"""What the log of a repository holds: snapshots, rescues, totals."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from nbws.calls import Call, twin, verb
from nbws.errors import NotFound
from nbws.listing import Listing
from nbws.naming import is_time, select
from nbws.reports import SavedState, Usage
from nbws.snapshot import Rescue, Snapshot

if TYPE_CHECKING:
    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource

__all__ = ["History"]


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
    def usage(self) -> Call[Usage]:
        """Sums up what is stored; reads metadata only."""
        return Call.one(self._engine.usage, Usage.from_engine)

    usage_async = twin(usage)

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
