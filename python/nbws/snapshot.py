"""One saved state of a workspace: what is known of it, and reading it without a restore."""

from __future__ import annotations

import dataclasses
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from nbws.calls import Call, Elsewhere, started, twin, verb
from nbws.entries import Diff, Entry, ExportReport
from nbws.errors import InvalidInput, InvalidState
from nbws.files import AsyncFile, SnapshotFile, write_all
from nbws.listing import Listing
from nbws.naming import names_snapshot
from nbws.reports import PathUsage, SavedState, time_from_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nbws._nbws import FileReader, SnapshotReader, TarReader
    from nbws.calls import Job, Steps
    from nbws.files import AsyncWriter, Writer
    from nbws.log import History
    from nbws.usage import Growth, Usage

__all__ = ["Browsable", "Rescue", "Snapshot"]

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

Result = TypeVar("Result")

_BUFFER_BYTES = 1 << 20

# Not fields: they are neither compared nor printed.
_HANDLES = ("_opened", "_workspace")
# What the engine says of pins and rules.
_DATES = ("pinned_until_ms", "eviction_ms")


class Browsable(SavedState):
    """A saved state that can be read without a restore.

    Paths are relative to the top of the workspace, which is ``""``. What is read was verified against its hashes. The first
    call opens the snapshot: newest record, index and snapshot root. After that a small file costs at most three requests
    that wait for each other. Symbolic links are not followed.

    All calls raise `Corrupt` if what they need is damaged or gone, and `InvalidState` on an object that did not come from
    a `Workspace`.
    """

    __slots__ = _HANDLES

    if TYPE_CHECKING:  # who looks the types of fields up must not meet these
        _workspace: History
        _opened: SnapshotReader

    def attach(self, workspace: History) -> Self:
        """Ties it to the repository that it is read from."""
        object.__setattr__(self, "_workspace", workspace)
        return self

    @verb
    def ls(self, path: Path = "", recursive: bool = False) -> Call[Listing[Entry]]:
        """Lists the entries of a directory, sorted by path bytes; of anything else its own entry.

        Args:
            path: the directory.
            recursive: list everything below it.

        Raises:
            NotFound: there is no such path.
        """
        return self._reading(
            lambda reader: reader.list(os.fspath(path), recursive),
            lambda listed: Listing(Entry, map(Entry.from_engine, listed)),
        )

    ls_async = twin(ls)

    @verb
    def stat(self, path: Path) -> Call[Entry]:
        """Returns the entry at a path.

        Raises:
            NotFound: there is none; the top of the workspace has none.
        """
        return self._reading(lambda reader: reader.stat(os.fspath(path)), Entry.from_engine)

    stat_async = twin(stat)

    @verb
    def read(self, path: Path) -> Call[bytes]:
        """Returns the whole content of a file.

        Raises:
            NotFound: there is no such path.
            InvalidInput: it is no file, or does not fit into memory.
        """

        def steps() -> Steps[bytes]:
            reader = yield from self._opening()
            file: FileReader = yield reader.open_file(os.fspath(path))
            content: bytes = yield file.read_at(0, file.size)
            return content

        return Call(steps)

    read_async = twin(read)

    def open_file(self, path: Path) -> io.BufferedReader:
        """Opens a file for reading in binary mode; it can seek, and fetches only what is read.

        Raises:
            NotFound: there is no such path.
            InvalidInput: it is no file.
        """
        raw = SnapshotFile(self._opening_file(path).wait(), os.fsdecode(path))
        return io.BufferedReader(raw, _BUFFER_BYTES)

    async def open_file_async(self, path: Path) -> AsyncFile:
        """Opens a file for an event loop: its ``read`` is awaited; arguments and errors are those of `open_file`."""
        return AsyncFile(await self._opening_file(path).wait_async(), os.fsdecode(path))

    @verb
    def diff(self, other: Browsable | str | datetime | os.PathLike[str], exclude: Iterable[str] = ()) -> Call[Diff]:
        """Returns what changes from this snapshot to another one or to a directory.

        Of two snapshots only the parts of the trees that differ are read, and no file. Of a directory every file whose size
        is the same is read and compared with its hashes.

        Args:
            other: a `Snapshot` or `Rescue`, what names one (id, unique prefix, ``"latest~2"``, a time), or a directory; text
                that could name a snapshot does: write ``"./latest"`` or a `pathlib.Path` for a directory of that name.
            exclude: for a directory, patterns in gitignore syntax besides its ``.nbwsignore`` files.

        Raises:
            NotFound: there is no such snapshot or directory.
        """
        patterns = [str(pattern) for pattern in exclude]

        def steps() -> Steps[Diff]:
            reader = yield from self._opening()
            if isinstance(other, Browsable):
                job = reader.diff((yield from other._opening()))  # noqa: SLF001  # of the same class
            elif isinstance(other, datetime) or (isinstance(other, str) and not _is_directory(other)):
                # The workspace knows how a snapshot is named.
                job = reader.diff((yield from self._workspace.opened(other)))
            else:
                job = reader.diff_directory(os.fspath(other), patterns)
            return Diff.from_engine((yield job))

        return Call(steps)

    diff_async = twin(diff)

    @verb
    def du(self, path: Path = "") -> Call[Listing[PathUsage]]:
        """Sums up files and their bytes below each entry of a directory, sorted by path; of anything else its own.

        Every name of a hard link group counts for files and logical bytes; `PathUsage` says what counts where.

        Raises:
            NotFound: there is no such path.
        """
        return self._reading(
            lambda reader: reader.usage(os.fspath(path)),
            lambda summed: Listing(PathUsage, map(PathUsage.from_engine, summed)),
        )

    du_async = twin(du)

    @verb
    def usage(self, path: Path = "", depth: int = 1, largest: int | None = None) -> Call[Usage]:
        """Sums up what a path takes; does what `Workspace.usage` does for this snapshot.

        Raises:
            NotFound: there is no such path.
            InvalidInput: a number is negative, or the path can't be one.
        """
        return started(self._tied().usage, path, self, depth, largest)

    usage_async = twin(usage)

    @verb
    def growth(
        self, since: Browsable | str | datetime, path: Path = "", depth: int = 1, largest: int | None = None
    ) -> Call[Growth]:
        """Tells by how much a path grew since another snapshot; does what `Workspace.growth` does up to this one.

        Raises:
            NotFound: there is no such snapshot, or neither has the path.
            InvalidInput: a number is negative, or the path can't be one.
        """
        return started(self._tied().growth, since, self, path, depth, largest)

    growth_async = twin(growth)

    @verb
    def export(self, fileobj: Writer | AsyncWriter, paths: Iterable[Path] | None = None) -> Call[ExportReport]:
        """Writes a tar stream (POSIX pax) that GNU tar and others open.

        Kept are modes, owners, times to the nanosecond, symbolic and hard links, extended attributes (``tar --xattrs``) and
        names of any bytes; holes are written as zeros. The tree is checked as a whole before the first byte is written. If
        an error is raised later, the stream has no end marks and tar says so.

        Args:
            fileobj: has a method ``write`` that takes bytes. ``export_async`` calls it on another thread and awaits what it
                returns if that can be awaited.
            paths: only these paths and what lies below them.

        Raises:
            NotFound: one of ``paths`` is not there.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise InvalidInput(f"paths is a list, not one {type(paths).__name__}", operation="export")
        chosen = None if paths is None else [os.fspath(path) for path in paths]

        def steps() -> Steps[ExportReport]:
            reader = yield from self._opening()
            stream: TarReader = yield reader.export(chosen)
            while piece := (yield stream.next()):
                yield Elsewhere(partial(write_all, fileobj, piece))
            return ExportReport.from_engine(stream.report())

        return Call(steps)

    export_async = twin(export)

    def _reading(self, start: Callable[[SnapshotReader], Job], read: Callable[[Any], Result]) -> Call[Result]:
        def steps() -> Steps[Result]:
            reader = yield from self._opening()
            answer = yield start(reader)
            # A directory of many thousands of entries takes a while to turn into objects.
            result: Result = yield Elsewhere(lambda: read(answer))
            return result

        return Call(steps)

    def _opening_file(self, path: Path) -> Call[FileReader]:
        def steps() -> Steps[FileReader]:
            reader = yield from self._opening()
            file: FileReader = yield reader.open_file(os.fspath(path))
            return file

        return Call(steps)

    def _opening(self) -> Steps[SnapshotReader]:
        try:
            return self._opened
        except AttributeError:
            pass
        reader = yield from self._tied().opened(self.snapshot)
        object.__setattr__(self, "_opened", reader)
        return reader

    def _tied(self) -> History:
        try:
            return self._workspace
        except AttributeError:
            raise InvalidState(
                "this object is not tied to a workspace; take it from Workspace.snapshot() or Workspace.rescues()",
                operation="browse",
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return (_again, (type(self), values, getattr(self, "_workspace", None)))


def _again(cls: type[Browsable], values: dict[str, Any], workspace: History | None) -> Browsable:
    state = cls(**values)
    return state if workspace is None else state.attach(workspace)


@dataclass(frozen=True)  # mypy counts inherited slots twice
class Snapshot(Browsable):
    """The immutable state of the whole tree at one save, and its files: `Browsable` says how to read them.

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
        eviction_date: from when on it may be dropped, by the rules in force and its pins, if no other snapshot is made; in the
            past, if the next prune drops it; None if time alone never does.
    """

    pinned: bool = False
    eviction_date: datetime | None = None

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the snapshot from the dict that the engine returned; the reason belongs to rescues."""
        until, dated = time_from_ms(values["pinned_until_ms"]), time_from_ms(values["eviction_ms"])
        kept = {key: value for key, value in values.items() if key not in _DATES and key != "reason"}
        pinned = until is not None and until > datetime.now(UTC)
        return super().from_engine({**kept, "pinned": pinned, "eviction_date": dated})


@dataclass(frozen=True)  # mypy counts inherited slots twice
class Rescue(Browsable):
    """Work that could not become the workspace head and was kept beside it; ``reason`` says why."""

    reason: str

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the rescue from the dict that the engine returned; pins belong to snapshots."""
        return super().from_engine({key: value for key, value in values.items() if key not in _DATES})


def _is_directory(text: str) -> bool:
    if names_snapshot(text):
        return False
    return "/" in text or text in {".", ".."} or os.path.isdir(text)  # noqa: PTH112  # text of any kind
