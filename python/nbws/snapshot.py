"""One saved state of a workspace: what is known of it, and reading it without a restore."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar

from nbws.entries import Diff, Entry, ExportReport
from nbws.errors import InvalidInput, InvalidState, NbwsError, NotFound
from nbws.reports import PathUsage, SavedState, time_from_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbws._nbws import FileReader, SnapshotReader
    from nbws.log import History

__all__ = ["Browsable", "Rescue", "Snapshot", "is_time", "select"]

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_BUFFER_BYTES = 1 << 20


class Writer(Protocol):
    """What an export writes to."""

    def write(self, piece: bytes, /) -> object:
        """Takes bytes."""


# Not fields: they are neither compared nor printed.
_HANDLES = ("_opened", "_workspace")


class Browsable(SavedState):
    """A saved state that can be read without a restore.

    Paths are relative to the top of the workspace, which is ``""``. What is read was verified against its hashes. The first
    call opens the snapshot: newest record, index and snapshot root. After that a small file costs at most three requests
    that wait for each other. Symbolic links are not followed.

    All calls raise `Corrupt` if what they need is damaged or gone, and `InvalidState` on an object that did not come from
    a `Workspace`.
    """

    __slots__ = _HANDLES

    _workspace: History
    _opened: SnapshotReader

    def attach(self, workspace: History) -> Self:
        """Ties it to the repository that it is read from."""
        object.__setattr__(self, "_workspace", workspace)
        return self

    def prepare(self) -> Self:
        """Opens it for reading now; what fails here fails again, and is raised, where it is needed."""
        with suppress(NbwsError):
            self._reader()
        return self

    def ls(self, path: Path = "", recursive: bool = False) -> list[Entry]:
        """Lists the entries of a directory, sorted by path bytes; of anything else its own entry.

        Args:
            path: the directory.
            recursive: list everything below it.

        Raises:
            NotFound: there is no such path.
        """
        return [Entry.from_engine(values) for values in self._reader().list(os.fspath(path), recursive).wait()]

    def stat(self, path: Path) -> Entry:
        """Returns the entry at a path.

        Raises:
            NotFound: there is none; the top of the workspace has none.
        """
        return Entry.from_engine(self._reader().stat(os.fspath(path)).wait())

    def read(self, path: Path) -> bytes:
        """Returns the whole content of a file.

        Raises:
            NotFound: there is no such path.
            InvalidInput: it is no file, or does not fit into memory.
        """
        file = self._reader().open_file(os.fspath(path)).wait()
        content: bytes = file.read_at(0, file.size).wait()
        return content

    def open_file(self, path: Path) -> io.BufferedReader:
        """Opens a file for reading in binary mode; it can seek, and fetches only what is read.

        Raises:
            NotFound: there is no such path.
            InvalidInput: it is no file.
        """
        raw = _SnapshotFile(self._reader().open_file(os.fspath(path)).wait(), os.fsdecode(path))
        return io.BufferedReader(raw, _BUFFER_BYTES)

    def diff(self, other: Browsable | str | datetime | os.PathLike[str], exclude: Iterable[str] = ()) -> Diff:
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
        reader = self._reader()
        if isinstance(other, Browsable):
            return Diff.from_engine(reader.diff(other._reader()).wait())  # noqa: SLF001  # of the same class
        if isinstance(other, datetime) or (isinstance(other, str) and not _is_directory(other)):
            # The workspace knows how a snapshot is named.
            return Diff.from_engine(reader.diff(self._workspace.browse(other)).wait())
        return Diff.from_engine(reader.diff_directory(os.fspath(other), [str(pattern) for pattern in exclude]).wait())

    def du(self, path: Path = "") -> list[PathUsage]:
        """Sums up files and their bytes below each entry of a directory, sorted by path; of anything else its own.

        Every name of a hard link group counts.

        Raises:
            NotFound: there is no such path.
        """
        return [PathUsage.from_engine(values) for values in self._reader().usage(os.fspath(path)).wait()]

    def export(self, fileobj: Writer, paths: Iterable[Path] | None = None) -> ExportReport:
        """Writes a tar stream (POSIX pax) that GNU tar and others open.

        Kept are modes, owners, times to the nanosecond, symbolic and hard links, extended attributes (``tar --xattrs``) and
        names of any bytes; holes are written as zeros. The tree is checked as a whole before the first byte is written. If
        an error is raised later, the stream has no end marks and tar says so.

        Args:
            fileobj: has a method ``write`` that takes bytes.
            paths: only these paths and what lies below them.

        Raises:
            NotFound: one of ``paths`` is not there.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise InvalidInput(f"paths is a list, not one {type(paths).__name__}", operation="export")
        stream = self._reader().export(None if paths is None else [os.fspath(path) for path in paths]).wait()
        while piece := stream.next().wait():
            _write_all(fileobj, piece)
        return ExportReport.from_engine(stream.report())

    def _reader(self) -> SnapshotReader:
        try:
            return self._opened
        except AttributeError:
            pass
        try:
            workspace = self._workspace
        except AttributeError:
            raise InvalidState(
                "this object is not tied to a workspace; take it from Workspace.snapshot() or Workspace.rescues()",
                operation="browse",
            ) from None
        object.__setattr__(self, "_opened", workspace.browse(self.snapshot))
        return self._opened

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


@dataclass(frozen=True)  # mypy counts inherited slots twice
class Rescue(Browsable):
    """Work that could not become the workspace head and was kept beside it; ``reason`` says why."""

    reason: str

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the rescue from the dict that the engine returned; pins belong to snapshots."""
        return super().from_engine({key: value for key, value in values.items() if key != "pinned_until_ms"})


class _SnapshotFile(io.RawIOBase):
    """A file of a snapshot as a raw stream."""

    def __init__(self, file: FileReader, name: str) -> None:
        super().__init__()
        self.name = name
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}
        if whence not in starts:
            raise ValueError(f"invalid whence: {whence}")
        at = starts[whence] + offset
        if at < 0:
            raise ValueError(f"negative seek position {at}")
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        found = self._take(len(view))
        view[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        self._check_open()
        return self._take(max(0, self._file.size - self._at))

    def _take(self, length: int) -> bytes:
        # Behind the end there is nothing to ask for, however far.
        found = self._file.read_at(self._at, length).wait() if self._at < self._file.size else b""
        self._at += len(found)
        return found

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _write_all(fileobj: Writer, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        written = fileobj.write(rest if len(rest) < len(piece) else piece)  # type: ignore[arg-type]
        # Raw files may take less than all; others say how much they took, or nothing.
        if not isinstance(written, int) or written >= len(rest):
            return
        rest = rest[written:]


def _is_directory(text: str) -> bool:
    if _LATEST.fullmatch(text) or _ID.fullmatch(text) or is_time(text):
        return False
    return "/" in text or text in {".", ".."} or os.path.isdir(text)  # noqa: PTH112  # text of any kind


_State = TypeVar("_State", bound=SavedState)

_LATEST = re.compile(r"latest(?:~(\d{1,9}))?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{4,32}", re.ASCII)


def select(snapshots: Sequence[_State], selector: str | datetime) -> _State:
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


def _at(snapshots: Sequence[_State], time: datetime) -> _State:
    moment = time.astimezone(UTC)  # a time without a zone is local time
    for snapshot in reversed(snapshots):
        if snapshot.time <= moment:
            return snapshot
    raise _absent(time.isoformat(), "all snapshots are younger")


def _absent(selector: str, why: str) -> NotFound:
    return NotFound(f"no snapshot {selector}: {why}", operation="find snapshot", path=selector)
