"""Files of a snapshot as Python reads them, and where exports are written to."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol, Self

from nbws.calls import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from nbws._nbws import FileReader

__all__ = ["AsyncFile", "AsyncWriter", "SnapshotFile", "Writer", "write_all"]


class Writer(Protocol):
    """What an export writes to."""

    def write(self, piece: bytes, /) -> object:
        """Takes bytes."""


class AsyncWriter(Protocol):
    """What an awaited export can write to."""

    def write(self, piece: bytes, /) -> Awaitable[object]:
        """Takes bytes."""


class SnapshotFile(io.RawIOBase):
    """A file of a snapshot as a raw stream."""

    def __init__(self, file: FileReader, name: str) -> None:
        super().__init__()
        self.name = name
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position of the next read."""
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Moves the position of the next read; fetches nothing."""
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
        """Reads into a buffer; 0 at the end."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        found = self._take(len(view))
        view[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """Reads all that is left."""
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


class AsyncFile:
    """A file of a snapshot for event loops: reading is awaited and fetches only what is read.

    Closed by ``async with`` or `close`. One task at a time may read from it.
    """

    def __init__(self, file: FileReader, name: str) -> None:
        self._file = file
        self._raw = SnapshotFile(file, name)

    @property
    def name(self) -> str:
        """The path in the snapshot."""
        return self._raw.name

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._file.size

    def tell(self) -> int:
        """Returns the position of the next read."""
        return self._raw.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position of the next read, as files do; fetches nothing."""
        return self._raw.seek(offset, whence)

    async def read(self, size: int = -1) -> bytes:
        """Reads up to ``size`` bytes, or all to the end; empty at the end.

        Raises:
            ValueError: the file is closed.
            Corrupt: what is needed is damaged or gone.
        """
        at = self._raw.tell()
        rest = max(0, self._file.size - at)
        length = rest if size < 0 else min(size, rest)
        if length == 0:
            return b""
        found = await Call.one(lambda: self._file.read_at(at, length), bytes).wait_async()
        self._raw.seek(at + len(found))
        return found

    def close(self) -> None:
        """Forgets the file; nothing can be read afterwards."""
        self._raw.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_all(fileobj: Writer | AsyncWriter, piece: bytes) -> object:
    """Writes a piece as a whole; returns what the last write returned, which may have to be awaited."""
    rest = memoryview(piece)
    while True:
        written = fileobj.write(rest if len(rest) < len(piece) else piece)  # type: ignore[arg-type]
        # Raw files may take less than all; others say how much they took, or nothing.
        if not isinstance(written, int) or written >= len(rest):
            return written
        rest = rest[written:]
