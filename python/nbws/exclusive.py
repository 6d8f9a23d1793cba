"""One writer at a time, by a lock outside the store: for stores whose conditional PUT is not atomic.

`nbws.doctor` tells which these are. A repository on one is opened with ``exclusive=``, an `EpochSource`: it is asked
before every verb that writes, and held until that verb has ended. Reading asks nobody.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from nbws.errors import Conflict, InvalidState, LocalIo

__all__ = ["EpochSource", "LockFile"]

_POLL_S = 0.05


@runtime_checkable
class EpochSource(Protocol):
    """Says who may write: a lock file, a row of a database, a lease of Kubernetes.

    At most one holder at a time, on all machines that write to the repository; and a holder that died may be
    followed only when none of its requests can still be under way.
    """

    def acquire(self) -> int:
        """Waits for the right to write and returns its epoch, greater than every earlier one.

        Raises:
            Conflict: somebody else holds it for too long.
        """

    def release(self) -> None:
        """Gives the right back; the epoch is over."""


class LockFile:
    """An `EpochSource` for the writers of one machine: a lock on a local file, which also counts the epochs.

    The kernel gives the lock back when its holder dies. The next one then waits ``settle_s`` seconds, so that a request
    that was under way has landed or is lost. All writers must name the same file, on a local file system.

    Args:
        path: the file; made if it does not exist, never removed.
        patience_s: seconds to wait for another writer before `Conflict`.
        settle_s: seconds to wait after a writer that died.
    """

    def __init__(self, path: str | os.PathLike[str], *, patience_s: float = 60.0, settle_s: float = 30.0) -> None:
        self._path = Path(path)
        self._patience_s = patience_s
        self._settle_s = settle_s
        self._file: int | None = None

    def acquire(self) -> int:
        """Waits for the lock and returns the next epoch.

        Raises:
            Conflict: another writer holds the lock for longer than ``patience_s``.
            InvalidState: this object holds it already.
            LocalIo: the file can't be used.
        """
        if self._file is not None:
            raise InvalidState("this lock is held already; every writer needs an object of its own", operation="lock")
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as cause:
            raise LocalIo(f"the lock file can't be opened: {cause.strerror}", operation="lock") from cause
        try:
            self._lock(file)
            epoch, is_clean = _read(file)
            if not is_clean:
                time.sleep(self._settle_s)
            _write(file, epoch + 1, is_clean=False)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return epoch + 1

    def release(self) -> None:
        """Gives the lock back; without one, does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                _write(file, _read(file)[0], is_clean=True)
            finally:
                os.close(file)

    def _lock(self, file: int) -> None:
        end = time.monotonic() + self._patience_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Conflict(
                        f"another writer of this machine has held the lock for {self._patience_s:.0f} s",
                        operation="lock",
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[object, ...]:
        return (_lock_file, (os.fspath(self._path), self._patience_s, self._settle_s))


def _lock_file(path: str, patience_s: float, settle_s: float) -> LockFile:
    return LockFile(path, patience_s=patience_s, settle_s=settle_s)


def _read(file: int) -> tuple[int, bool]:
    text = os.pread(file, 64, 0).decode("ascii", errors="replace").split()
    if not text:
        return 0, True
    if len(text) == 2 and text[0].isdecimal() and text[1] in {"free", "held"}:  # noqa: PLR2004  number and word
        return int(text[0]), text[1] == "free"
    raise InvalidState("the lock file holds something else; name another one", operation="lock")


def _write(file: int, epoch: int, *, is_clean: bool) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"{epoch} {'free' if is_clean else 'held'}\n".encode(), 0)
    os.fsync(file)
