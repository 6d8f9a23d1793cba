"""The workspace repository: save a directory, restore it, look at what is stored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict, Unpack

from nbws import _nbws
from nbws.calls import Call, twin, verb
from nbws.config import parse_size
from nbws.errors import InvalidInput
from nbws.log import History
from nbws.pruning import Pruning
from nbws.quota import Quota
from nbws.reports import CheckReport, Preview, RestoreReport, SaveReport
from nbws.store import locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from nbws.billing import Tariff
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource
    from nbws.progress import ProgressTarget
    from nbws.snapshot import Rescue, Snapshot
    from nbws.store import StoreLike

__all__ = ["Workspace"]

Path: TypeAlias = str | os.PathLike[str]

_DELETE = {"auto": "auto", True: "yes", False: "no"}


class OpenOptions(TypedDict, total=False):
    """What `Workspace.open` takes beside the URL."""

    prefix: str | None
    create: bool
    floor: int | None
    numeric_ids: bool
    state_dir: Path | None
    store: Mapping[str, str] | None
    exclusive: EpochSource | None


class Workspace(Pruning, History):
    """One workspace repository in one prefix of a store.

    Every verb has a twin for event loops with the suffix ``_async``: the same arguments and answer, awaited.

    Handles pickle: the other side opens the repository again. A process forked after nbws was used gets
    `InvalidState`; start workers with the spawn or forkserver method.
    """

    def __init__(
        self, engine: _nbws.Workspace, reopen: tuple[str, dict[str, Any]], exclusive: EpochSource | None = None
    ) -> None:
        super().__init__(engine, exclusive)
        self._reopen = reopen

    @classmethod
    def open(
        cls,
        url: StoreLike,
        *,
        prefix: str | None = None,
        create: bool = False,
        floor: int | None = None,
        numeric_ids: bool = False,
        state_dir: Path | None = None,
        store: Mapping[str, str] | None = None,
        exclusive: EpochSource | None = None,
    ) -> Self:
        """Opens the repository at ``url``.

        Args:
            url: ``file:///dir/prefix``, ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``,
                ``memory:///name``, or a store of ``obstore``, of which the configuration is taken.
            prefix: for a store of ``obstore``: where the repository lies below it.
            create: make the repository if the prefix has none; without it a typo can't look like an empty workspace.
                The store is measured first, once per bucket and process (see `nbws.doctor`).
            floor: number of a log record known to have been committed; a shorter log raises `RollbackDetected`.
            numeric_ids: for a new repository, compare uid and gid like any other metadata.
            state_dir: where disposable local state lies; default ``NBWS_STATE``, else the user's state directory.
            store: options of the store in obstore's key names, such as ``{"endpoint": "http://localhost:9000"}``, over the
                environment's.
            exclusive: who sees to it that there is one writer at a time, for a store whose conditional PUT is not atomic:
                a `LockFile`, or anything that acquires and releases like one. It is held while a verb writes.

        Raises:
            NotFound: there is no repository and ``create`` is false.
            InvalidInput: the URL can't be used.
            Unavailable, Denied: the store can't be reached, or refuses.
            Unsupported: the repository has another format version; or ``create`` without ``exclusive`` on a store where
                several writers could win at once. Verbs that write raise it there, too.
        """
        options: OpenOptions = {
            "prefix": prefix,
            "create": create,
            "floor": floor,
            "numeric_ids": numeric_ids,
            "state_dir": state_dir,
            "store": store,
            "exclusive": exclusive,
        }
        return cls._open(url, options).wait()

    @classmethod
    async def open_async(cls, url: StoreLike, **options: Unpack[OpenOptions]) -> Self:
        """Awaits `open`: same arguments, answer and errors."""
        return await cls._open(url, options).wait_async()

    @classmethod
    def _open(cls, url: StoreLike, options: OpenOptions) -> Call[Self]:
        place, store_options = locate(url, options.get("prefix"), options.get("store"))
        state_dir, exclusive = options.get("state_dir"), options.get("exclusive")
        plain: dict[str, Any] = {
            "create": options.get("create", False),
            "floor": options.get("floor"),
            "numeric_ids": options.get("numeric_ids", False),
            "state_dir": None if state_dir is None else os.fspath(state_dir),
            "store": store_options,
        }
        reopen = (place, {**plain, "create": False, "exclusive": exclusive})
        return Call.one(
            lambda: _nbws.Workspace.open(place, {**plain, "exclusive": exclusive is not None}),
            lambda engine: cls(engine, reopen, exclusive),
            hold=exclusive if plain["create"] else None,
        )

    @property
    def repository_id(self) -> str:
        """The repository's id, 32 hex digits."""
        return self._engine.repository_id

    @property
    def url(self) -> str:
        """Where the repository lies, without secrets."""
        return self._engine.describe()

    @verb
    def save(
        self,
        directory: Path,
        *,
        comment: str | None = None,
        exclude: Iterable[str] | None = None,
        quota: Quota | None = None,
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
    ) -> Call[SaveReport]:
        """Saves a directory as the new workspace head.

        Atomic: readers see the previous head until the log record of this save is acknowledged, then the new one.
        Interrupted or failed, it changes nothing; what was uploaded is reused by the next save.

        Args:
            directory: the workspace.
            comment: a note of at most 1,024 bytes that the snapshot carries.
            exclude: patterns in gitignore syntax, besides the ``.nbwsignore`` files of the tree.
            quota: limits on bytes and files, and what happens above them.
            deadline: seconds after which nothing is sent but the last pack, with the tree: what is in the store by then is saved
                as a partial snapshot, notebooks and code first. Every file in it is whole.
            level: ``"auto"``, ``"fast"`` or a zstd level from 1 to 19.
            reread: read every file, whatever its times say.
            take_over: save although another writer holds the claim or this target was not restored from here.
            cachedir_tag: leave out directories that a ``CACHEDIR.TAG`` marks.
            hard_bytes: short for ``quota=Quota(hard_bytes=...)``: large files that would pass it are left out, and the save is
                partial. Notebooks, code and small files are always stored.
            limit_rate: upload at most so many bytes a second.
            memory: memory to use; default from the memory limit of the machine or container.
            threads: threads to use; default one for each core.
            progress: called with a `Progress` about ten times a second; True shows a bar. If it raises, the save is
                cancelled and the exception comes out of this call.

        Raises:
            NotFound: the directory does not exist.
            Conflict: the epoch source gave no turn in time, or a prune kept getting in the way. Another save or restore of
                this directory is waited for.
            Fenced: a newer writer took over; ``rescue`` names the snapshot that keeps this work.
            CommitUnknown: the store did not say whether the save landed; the next one finds out.
            InvalidState: it is not proven that the directory holds the present head; ``rescue`` names what was kept.
            QuotaExceeded: the quota says that such a save is refused, or the store is full. Nothing has changed.
        """
        options = {
            "comment": comment,
            "exclude": _strings("exclude", exclude),
            "cachedir_tag": cachedir_tag,
            "quota": _limits(quota, hard_bytes),
            "deadline": deadline,
            "level": str(level),
            "reread": reread,
            "take_over": take_over,
            "threads": threads,
            "memory_bytes": _size(memory),
            "limit_rate": _size(limit_rate),
        }
        return Call.one(
            lambda: self._engine.save(directory, options),
            SaveReport.from_engine,
            progress=progress,
            label="save",
            hold=self._exclusive,
        )

    save_async = twin(save)

    @verb
    def preview(
        self,
        directory: Path,
        *,
        exclude: Iterable[str] | None = None,
        level: Literal["auto", "fast"] | int = "auto",
        reread: bool = False,
        take_over: bool = False,
        cachedir_tag: bool = False,
        quota: Quota | None = None,
        hard_bytes: int | str | None = None,
        estimate: bool = False,
        tariff: Tariff | None = None,
        memory: int | str | None = None,
        threads: int | None = None,
        progress: ProgressTarget = None,
    ) -> Call[Preview]:
        """Tells what a save would read and send; sends nothing and leaves no trace.

        Args:
            directory: the workspace.
            exclude: as for `save`, like all that follows but ``estimate`` and ``tariff``.
            level: the compression level.
            reread: read every file, whatever its times say.
            take_over: preview a save that takes over.
            cachedir_tag: leave out directories that a ``CACHEDIR.TAG`` marks.
            quota: limits; the preview says what they would leave out, or that the save would be refused.
            hard_bytes: as for `save`.
            estimate: look at names, times and sizes only, in the time of a save without changes. Otherwise everything is
                read, cut, hashed and compressed, and the answer is exact as long as the directory stays as it is.
            tariff: rules by which ``Preview.cost`` says what the save would cost; reads the log, too.
            memory: memory to use.
            threads: threads to use.
            progress: as for `save`.

        Raises:
            NotFound: the directory does not exist.
        """
        options = {
            "exclude": _strings("exclude", exclude),
            "cachedir_tag": cachedir_tag,
            "quota": _limits(quota, hard_bytes),
            "level": str(level),
            "reread": reread,
            "take_over": take_over,
            "threads": threads,
            "memory_bytes": _size(memory),
        }
        if tariff is not None:
            from nbws.costs import previewed  # noqa: PLC0415  # needs the rules of bills

            return Call(
                lambda: previewed(self._engine, directory, options, estimate, tariff),
                progress=progress,
                label="preview",
            )
        return Call.one(
            lambda: self._engine.preview(directory, options, estimate),
            Preview.from_engine,
            progress=progress,
            label="preview",
        )

    preview_async = twin(preview)

    @verb
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
    ) -> Call[RestoreReport]:
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
            "paths": None if paths is None else [_path(path) for path in _several("paths", paths)],
            "delete": _DELETE[delete],
            "verify": verify,
            "numeric_ids": numeric_ids,
            "discard_changes": discard_changes,
            "threads": threads,
            "memory_bytes": _size(memory),
        }

        def steps() -> Steps[RestoreReport]:
            name = yield from self.named(snapshot)
            return RestoreReport.from_engine((yield self._engine.restore(directory, {**options, "snapshot": name})))

        return Call(steps, progress=progress, label="restore", hold=self._exclusive)

    restore_async = twin(restore)

    @verb
    def check(self, *, read_data: bool | float = False, progress: ProgressTarget = None) -> Call[CheckReport]:
        """Checks that everything the snapshots and rescues need is there and is what was written.

        Args:
            read_data: also read and verify the packs: False, True, or a fraction from 0 to 1 taken at random.
            progress: as for `save`.
        """
        fraction = float(read_data)
        if not 0.0 <= fraction <= 1.0:
            raise InvalidInput(f"read_data is True, False or a fraction from 0 to 1, not {read_data!r}")
        return Call.one(
            lambda: self._engine.check({"read_data": fraction}),
            CheckReport.from_engine,
            progress=progress,
            label="check",
        )

    check_async = twin(check)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open_again, self._reopen)

    def __repr__(self) -> str:
        return f"Workspace({self.url!r}, repository_id={self.repository_id!r})"


def _open_again(url: str, options: dict[str, Any]) -> Workspace:
    return Workspace.open(url, **options)


def _size(value: int | str | None) -> int | None:
    return None if value is None else parse_size(value)


def _limits(quota: Quota | None, hard_bytes: int | str | None) -> dict[str, Any] | None:
    if quota is None:
        return None if hard_bytes is None else {"hard_bytes": parse_size(hard_bytes)}
    if hard_bytes is not None:
        raise InvalidInput("give quota or hard_bytes, which is short for a quota, not both")
    if not isinstance(quota, Quota):
        raise InvalidInput(f"quota is a nbws.Quota, not {type(quota).__name__}")
    return quota.to_setting()


def _several(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str | bytes | os.PathLike):
        raise InvalidInput(f"{name} is a list, not one {type(values).__name__}")
    return list(values)


def _strings(name: str, values: Iterable[str] | None) -> list[str]:
    return [] if values is None else [str(value) for value in _several(name, values)]


def _path(path: Path | bytes) -> str | bytes:
    return os.fspath(path)
