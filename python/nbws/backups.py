"""The backups of one notebook: which snapshots are kept, and a new notebook from one of them."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any, Self

from nbws.calls import Call, started, twin, verb
from nbws.lifecycle import utc_now
from nbws.session import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource
    from nbws.listing import Listing
    from nbws.retention import Retention
    from nbws.snapshot import Rescue, Snapshot
    from nbws.workspace import Workspace

__all__ = ["Backups"]


class Backups:
    """The half of a `Notebook` that looks after its snapshots."""

    def __init__(self, identity: str, workspace: Workspace, clock: Callable[[], datetime] = utc_now) -> None:
        self.id = identity
        self.workspace = workspace
        self._engine: _nbws.Workspace = workspace._engine  # noqa: SLF001  # its lifecycle half
        self._exclusive: EpochSource | None = workspace._exclusive  # noqa: SLF001
        self._run = Sessions(identity, self._engine, clock)

    def __repr__(self) -> str:
        return f"Notebook({self.id!r}, {self.workspace.url!r})"

    @verb
    def backups(self) -> Call[Listing[Snapshot]]:
        """Lists the snapshots that are kept, oldest first; `Snapshot.eviction_date` says until when for sure."""
        return Call.one(self._engine.snapshots, self.workspace._snapshots)  # noqa: SLF001

    backups_async = twin(backups)

    @verb
    def fork(self, backup: str | datetime | Snapshot | Rescue, name: str | None = None) -> Call[Self]:
        """Makes an independent notebook that begins with a backup. The store copies the data itself.

        The backup is pinned until the copy is verified and committed. The new notebook has an id of its own, the settings of
        this one, and no history.

        Args:
            backup: a `Snapshot`, a `Rescue`, or what names one: id, unique prefix, ``"latest~2"``, a time.
            name: of the new notebook; this one's if None.

        Raises:
            NotFound: there is no such backup.
            Unsupported: the store can't copy objects.
        """
        identity = secrets.token_hex(8)
        url = f"{self.workspace.url.rstrip('/').rpartition('/')[0]}/{identity}"

        def steps() -> Steps[Self]:
            settings = yield from self._run.settings()
            wanted = yield from self.workspace.named(backup)
            yield self._engine.fork(wanted, url)
            options: Any = self.workspace._reopen[1]  # noqa: SLF001  # opened like this one
            workspace = yield from type(self.workspace)._open(url, options).steps()  # noqa: SLF001
            fork = type(self)(identity, workspace, self._run.clock)
            new = dataclasses.replace(settings, name=name or settings.name, created=self._run.clock())
            engine = fork._engine  # noqa: SLF001  # of the same class
            yield engine.set_setting("notebook", json.dumps(new.to_setting()))
            yield engine.change_state(None, "stopped", None, f"forked from {self.id}")
            return fork

        return Call(steps, hold=self._exclusive)

    fork_async = twin(fork)

    @verb
    def pin(
        self,
        snapshot: str | datetime | Snapshot | Rescue = "latest",
        *,
        until: datetime | None = None,
        comment: str | None = None,
    ) -> Call[str]:
        """Keeps a backup or rescue whatever the rules say, until a time or for good. Returns its id.

        Args:
            snapshot: a `Snapshot`, a `Rescue`, or what names one.
            until: when the pin ends; it must have a time zone.
            comment: a note of at most 1,024 bytes.

        Raises:
            NotFound: there is no such backup.
        """
        return started(self.workspace.pin, snapshot, until=until, comment=comment)

    pin_async = twin(pin)

    @verb
    def unpin(self, snapshot: str | Snapshot | Rescue) -> Call[None]:
        """Ends the pin of a backup, named by its id or a unique prefix of it.

        Raises:
            NotFound: no pin holds it.
        """
        return started(self.workspace.unpin, snapshot)

    unpin_async = twin(unpin)

    @verb
    def set_retention(self, retention: Retention | None) -> Call[None]:
        """Sets the rules by which backups are kept; None leaves it to those of the container again."""
        return started(self.workspace.set_retention, retention)

    set_retention_async = twin(set_retention)
