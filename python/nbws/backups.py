"""The backups of one notebook: which snapshots are kept, and a new notebook from one of them."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any, Self

from nbws.aftercare import keep_room, note_prune
from nbws.calls import Call, started, twin, verb
from nbws.defaults import ContainerDefaults
from nbws.errors import Corrupt
from nbws.lifecycle import utc_now
from nbws.session import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource
    from nbws.listing import Listing
    from nbws.progress import ProgressTarget
    from nbws.retention import PruneReport, Retention
    from nbws.snapshot import Rescue, Snapshot
    from nbws.workspace import Workspace

__all__ = ["Backups"]


class Backups:
    """The half of a `Notebook` that looks after its snapshots."""

    def __init__(
        self,
        identity: str,
        workspace: Workspace,
        clock: Callable[[], datetime] = utc_now,
        defaults: ContainerDefaults | None = None,
    ) -> None:
        self.id = identity
        self.workspace = workspace
        self._engine: _nbws.Workspace = workspace._engine  # noqa: SLF001  # its lifecycle half
        self._exclusive: EpochSource | None = workspace._exclusive  # noqa: SLF001
        self._run = Sessions(identity, self._engine, clock)
        self._defaults = defaults or ContainerDefaults.beside(workspace)

    def __repr__(self) -> str:
        return f"Notebook({self.id!r}, {self.workspace.url!r})"

    @verb
    def backups(self) -> Call[Listing[Snapshot]]:
        """Lists the snapshots that are kept, oldest first; `Snapshot.eviction_date` says when the rules in force give one up.

        The rules are those of this notebook (`set_retention`), else those of its container (`Notebooks.set_defaults`).
        """

        def steps() -> Steps[Listing[Snapshot]]:
            try:
                rules = (yield from self._defaults.read()).retention
            except Corrupt:
                # Rules that can't be read give nothing up.
                rules = None
            listed = yield self._engine.snapshots(None if rules is None else rules.to_engine())
            return self.workspace._snapshots(listed)  # noqa: SLF001  # its other half

        return Call(steps)

    backups_async = twin(backups)

    @verb
    def fork(self, backup: str | datetime | Snapshot | Rescue, name: str | None = None) -> Call[Self]:
        """Makes an independent notebook that begins with a backup. The store copies the data itself.

        The backup is kept until the copy is verified and committed, and this notebook can't be purged meanwhile. The new notebook
        has an id of its own, the settings of this one, and no history. What a fork leaves that fails is among the container's
        `Notebooks.orphans`.

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
            fork = type(self)(identity, workspace, self._run.clock, self._defaults)
            new = dataclasses.replace(settings, name=name or settings.name, created=self._run.clock())
            engine = fork._engine  # noqa: SLF001  # of the same class
            yield engine.set_setting("notebook", json.dumps(new.to_setting()))
            yield engine.change_state(None, "stopped", None, f"forked from {self.id}")
            yield from keep_room(engine)
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

    @verb
    def prune(
        self,
        retention: Retention | None = None,
        *,
        apply: bool = False,
        force: bool = False,
        grace: float | str = "24h",
        repack: bool = True,
        progress: ProgressTarget = None,
    ) -> Call[PruneReport]:
        """Gives backups up by the rules and deletes what nothing needs; tells what it would do unless ``apply`` is True.

        As `Workspace.prune`, by the rules of this notebook, else those of its container. A `stop` does so once a week.

        Args:
            retention: rules instead of those.
            apply: do it.
            force: also if more than 20 % of the stored bytes would go.
            grace: time between mark and delete, in seconds or as text such as ``"24h"``.
            repack: copy what is needed out of packs that are mostly dead.
            progress: as for `Workspace.save`.

        Raises:
            InvalidState: so much would go that ``force`` is needed. Nothing was changed.
        """

        def steps() -> Steps[PruneReport]:
            rules = (yield from self._defaults.read()).retention
            call = started(
                self.workspace.prune,
                retention,
                apply=apply,
                force=force,
                grace=grace,
                default_retention=rules,
                repack=repack,
            )
            report = yield from call.steps()
            if apply:
                yield from note_prune(self._run)
            return report

        return Call(steps, progress=progress, label="prune", hold=self._exclusive if apply else None)

    prune_async = twin(prune)
