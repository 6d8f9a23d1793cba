"""The workspace repository: save a directory, restore it, look at what is stored."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from nbws import _nbws
from nbws.config import parse_size
from nbws.errors import InvalidInput, NotFound, Unsupported
from nbws.progress import sink_for
from nbws.reports import CheckReport, RestoreReport, SaveReport, Usage
from nbws.snapshot import Rescue, Snapshot, is_time, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbws.progress import ProgressTarget

__all__ = ["Workspace"]

Path: TypeAlias = str | os.PathLike[str]

_DELETE = {"auto": "auto", True: "yes", False: "no"}


class Workspace:
    """One workspace repository in one prefix of a store.

    Handles pickle: the other side opens the repository again. A process forked after nbws was used gets
    `InvalidState`; start workers with the spawn or forkserver method.
    """

    def __init__(self, engine: _nbws.Workspace, reopen: tuple[str, dict[str, Any]]) -> None:
        self._engine = engine
        self._reopen = reopen

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = False,
        floor: int | None = None,
        numeric_ids: bool = False,
        state_dir: Path | None = None,
        store: Mapping[str, str] | None = None,
    ) -> Self:
        """Opens the repository at ``url``.

        Args:
            url: ``file:///dir/prefix``, ``s3://bucket/prefix`` or ``memory:///name``.
            create: make the repository if the prefix has none; without it a typo can't look like an empty workspace.
            floor: number of a log record known to have been committed; a shorter log raises `RollbackDetected`.
            numeric_ids: for a new repository, compare uid and gid like any other metadata.
            state_dir: where disposable local state lies; default ``NBWS_STATE``, else the user's state directory.
            store: options of the store, such as ``{"endpoint": "http://localhost:9000"}``, over the environment's.

        Raises:
            NotFound: there is no repository and ``create`` is false.
            InvalidInput: the URL can't be used.
            Unavailable, Denied: the store can't be reached, or refuses.
            Unsupported: the repository has another format version.
        """
        if not isinstance(url, str):
            raise Unsupported(
                f"a store is named by a URL in this version, not by {type(url).__name__}; "
                "write file:///dir/prefix, s3://bucket/prefix or memory:///name",
                operation="open store",
            )
        options: dict[str, Any] = {
            "create": create,
            "floor": floor,
            "numeric_ids": numeric_ids,
            "state_dir": None if state_dir is None else os.fspath(state_dir),
            "store": dict(store or {}),
        }
        return cls(_nbws.Workspace.open(url, options), (url, {**options, "create": False}))

    @property
    def repository_id(self) -> str:
        """The repository's id, 32 hex digits."""
        return self._engine.repository_id

    @property
    def url(self) -> str:
        """Where the repository lies, without secrets."""
        return self._engine.describe()

    def save(
        self,
        directory: Path,
        *,
        comment: str | None = None,
        exclude: Iterable[str] | None = None,
        quota: object | None = None,
        deadline: float | None = None,
        level: Literal["auto", "fast"] | int = "auto",
        reread: bool = False,
        take_over: bool = False,
        cachedir_tag: bool = False,
        hard_bytes: int | str | None = None,
        limit_rate: int | str | None = None,
        memory: int | str | None = None,
        threads: int | None = None,
        progress: ProgressTarget = None,
    ) -> SaveReport:
        """Saves a directory as the new workspace head.

        Atomic: readers see the previous head until the log record of this save is acknowledged, then the new one.
        Interrupted or failed, it changes nothing; what was uploaded is reused by the next save.

        Args:
            directory: the workspace.
            comment: a note of at most 1,024 bytes that the snapshot carries.
            exclude: patterns in gitignore syntax, besides the ``.nbwsignore`` files of the tree.
            quota: reserved; limits are given as ``hard_bytes``.
            deadline: seconds after which what is complete is saved as a partial snapshot.
            level: ``"auto"``, ``"fast"`` or a zstd level from 1 to 19.
            reread: read every file, whatever its times say.
            take_over: save although another writer holds the claim or this target was not restored from here.
            cachedir_tag: leave out directories that a ``CACHEDIR.TAG`` marks.
            hard_bytes: the size of the workspace that must not be passed; more raises `QuotaExceeded`.
            limit_rate: upload at most so many bytes a second.
            memory: memory to use; default from the memory limit of the machine or container.
            threads: threads to use; default one for each core.
            progress: called with a `Progress` about ten times a second; True shows a bar. If it raises, the save is
                cancelled and the exception comes out of this call.

        Raises:
            NotFound: the directory does not exist.
            Conflict: another save of this directory is running, or another writer is at work.
            Fenced: a newer writer took over; ``rescue`` names the snapshot that keeps this work.
            CommitUnknown: the store did not say whether the save landed; the next one finds out.
            InvalidState: it is not proven that the directory holds the present head; ``rescue`` names what was kept.
            QuotaExceeded: ``hard_bytes`` would be passed.
        """
        if quota is not None:
            raise Unsupported(
                "quota objects come with notebooks in a later version; give the limit as hard_bytes",
                operation="save",
            )
        options = {
            "comment": comment,
            "exclude": _strings("exclude", exclude),
            "cachedir_tag": cachedir_tag,
            "hard_bytes": _size(hard_bytes),
            "deadline": deadline,
            "level": str(level),
            "reread": reread,
            "take_over": take_over,
            "threads": threads,
            "memory_bytes": _size(memory),
            "limit_rate": _size(limit_rate),
        }
        with sink_for(progress, "save") as sink:
            return SaveReport.from_engine(self._engine.save(directory, options, sink))

    def restore(
        self,
        directory: Path,
        *,
        snapshot: str | datetime | Snapshot | Rescue = "latest",
        paths: Iterable[Path | bytes] | None = None,
        delete: Literal["auto"] | bool = "auto",
        verify: bool = False,
        numeric_ids: bool = False,
        discard_changes: bool = False,
        memory: int | str | None = None,
        threads: int | None = None,
        progress: ProgressTarget = None,
    ) -> RestoreReport:
        """Makes a directory what a snapshot says, touching only what differs.

        Each file is replaced at once: it has its old or its new content, verified against its hashes. An interrupted
        restore is resumed by the next one, and a half-restored directory can't be saved as the head.

        Args:
            directory: the target; made if it does not exist.
            snapshot: id, unique prefix, ``"latest"``, ``"latest~2"``, a time, a `Snapshot` or a `Rescue`.
            paths: restore only these paths and what lies below them.
            delete: remove what the snapshot does not have: True, False, or ``"auto"``, which does so only where the
                target was empty or is known to come from this repository, and refuses otherwise.
            verify: read the written files once more and compare.
            numeric_ids: restore uid and gid as saved; otherwise the restoring user owns all.
            discard_changes: don't keep unsaved local work as a rescue first.
            memory: memory to use; default from the memory limit of the machine or container.
            threads: threads to use; default one for each core.
            progress: as for `save`.

        Raises:
            NotFound: there is no such snapshot.
            InvalidInput: the target is a file, the snapshot's prefix is ambiguous, or ``delete`` must be said.
            Corrupt: the log, the tree or the index is damaged. Damaged files alone are listed in ``skipped``, the others
                are restored.
            LocalIo: the target's file system refused.
        """
        if delete not in _DELETE:
            raise InvalidInput(f'delete is "auto", True or False, not {delete!r}', operation="restore")
        options = {
            "snapshot": self._selector(snapshot),
            "paths": None if paths is None else [_path(path) for path in _several("paths", paths)],
            "delete": _DELETE[delete],
            "verify": verify,
            "numeric_ids": numeric_ids,
            "discard_changes": discard_changes,
            "threads": threads,
            "memory_bytes": _size(memory),
        }
        with sink_for(progress, "restore") as sink:
            return RestoreReport.from_engine(self._engine.restore(directory, options, sink))

    def snapshots(self) -> list[Snapshot]:
        """Lists the snapshots, oldest first."""
        return [Snapshot.from_engine(values).attach(self) for values in self._engine.snapshots()]

    def snapshot(self, selector: str | datetime = "latest") -> Snapshot:
        """Returns the snapshot that an id, a unique prefix, ``"latest"``, ``"latest~2"`` or a time names, ready to be browsed.

        A time names the newest snapshot that is not younger. Index and snapshot root are fetched too: what is read from
        the snapshot then costs what it holds. `snapshots` fetches neither before something is read.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return select(self.snapshots(), selector).prepare()

    def rescues(self) -> list[Rescue]:
        """Lists work that could not become the head and was kept, oldest first.

        A rescue can be browsed like a `Snapshot`, and restored by its snapshot id.
        """
        return [Rescue.from_engine(values).attach(self) for values in self._engine.rescues()]

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
        return self._engine.browse(self._selector(snapshot))

    def dismiss(self, rescue: str | Rescue) -> None:
        """Gives a rescue up: a later prune may remove its bytes.

        Raises:
            NotFound: there is no such rescue.
        """
        self._engine.dismiss(rescue.snapshot if isinstance(rescue, Rescue) else rescue)

    def rescue(self, selector: str = "latest") -> Rescue:
        """Returns the rescue that an id, a unique prefix or ``"latest"`` names.

        Raises:
            NotFound: there is none.
            InvalidInput: the prefix is ambiguous.
        """
        return select(self.rescues(), selector).prepare()

    def usage(self) -> Usage:
        """Sums up what is stored; reads metadata only."""
        return Usage.from_engine(self._engine.usage())

    def check(self, *, read_data: bool | float = False, progress: ProgressTarget = None) -> CheckReport:
        """Checks that everything the snapshots and rescues need is there and is what was written.

        Args:
            read_data: also read and verify the packs: False, True, or a fraction from 0 to 1 taken at random.
            progress: as for `save`.
        """
        fraction = float(read_data)
        if not 0.0 <= fraction <= 1.0:
            raise InvalidInput(f"read_data is True, False or a fraction from 0 to 1, not {read_data!r}")
        with sink_for(progress, "check") as sink:
            return CheckReport.from_engine(self._engine.check({"read_data": fraction}, sink))

    def _selector(self, snapshot: str | datetime | Snapshot | Rescue) -> str:
        # The engine knows ids, prefixes and latest~n; a time is found here.
        if isinstance(snapshot, Snapshot | Rescue):
            return snapshot.snapshot
        if isinstance(snapshot, datetime) or is_time(snapshot):
            return select(self.snapshots(), snapshot).snapshot
        return snapshot

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open_again, self._reopen)

    def __repr__(self) -> str:
        return f"Workspace({self.url!r}, repository_id={self.repository_id!r})"


def _open_again(url: str, options: dict[str, Any]) -> Workspace:
    return Workspace.open(url, **options)


def _size(value: int | str | None) -> int | None:
    return None if value is None else parse_size(value)


def _several(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str | bytes | os.PathLike):
        raise InvalidInput(f"{name} is a list, not one {type(values).__name__}")
    return list(values)


def _strings(name: str, values: Iterable[str] | None) -> list[str]:
    return [] if values is None else [str(value) for value in _several(name, values)]


def _path(path: Path | bytes) -> str | bytes:
    return os.fspath(path)
