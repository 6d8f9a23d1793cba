"""Which files are open: what ``/proc`` tells of this process and of others that it may look at."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["InUse"]

_PROC = "/proc"
_DELETED = " (deleted)"
# address, rights, offset, device, inode, path
_MAP_FIELDS = 6


class InUse:
    """Files and directories that processes hold open, have mapped, run, or stand in.

    Attributes:
        unseen: processes that could not be looked at: those of other users.
    """

    def __init__(self, root: str) -> None:
        """Looks at all processes.

        Args:
            root: the directory that matters, without links in its path; mapped files are looked up below it.
        """
        self.unseen = 0
        self._below = root.rstrip("/") + "/"
        self._holders: dict[tuple[int, int], list[tuple[str, str]]] = {}
        try:
            processes = [entry.name for entry in Path(_PROC).iterdir() if entry.name.isdecimal()]
        except OSError:
            processes = []
        for pid in processes:
            self._look_at(pid)

    def holder(self, found: os.stat_result, path: str) -> str | None:
        """Returns which process has a file open under this path, or None.

        A file with several names is in use by the name under which it was opened, if that name is still there: the others can go
        without a trace for whoever has it open.
        """
        holders = self._holders.get((found.st_dev, found.st_ino))
        if holders is None:
            return None
        for pid, name in holders:
            if found.st_nlink == 1 or stat.S_ISDIR(found.st_mode) or name == path or not _is_same(name, found):
                return pid
        return None

    def _look_at(self, pid: str) -> None:
        try:
            descriptors = [entry.name for entry in Path(f"{_PROC}/{pid}/fd").iterdir()]
        except FileNotFoundError:
            return
        except OSError:
            self.unseen += 1
            return
        for link in (*(f"fd/{number}" for number in descriptors), "cwd", "exe", "root"):
            with suppress(OSError):
                place = Path(f"{_PROC}/{pid}/{link}")
                found = place.stat()
                if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                    self._add((found.st_dev, found.st_ino), pid, str(place.readlink()))
        for key, name in self._maps(pid):
            self._add(key, pid, name)

    def _add(self, key: tuple[int, int], pid: str, name: str) -> None:
        known = self._holders.setdefault(key, [])
        if (pid, name) not in known:
            known.append((pid, name))

    def _maps(self, pid: str) -> Iterator[tuple[tuple[int, int], str]]:
        """Yields identity and path of mapped files.

        The device there is that of the file system below where several are laid over each other: so the path is looked up, too.
        """
        try:
            with Path(f"{_PROC}/{pid}/maps").open("rb") as lines:
                found = {tuple(line.split(None, _MAP_FIELDS - 1)[3:]) for line in lines}
        except OSError:
            return
        for fields in found:
            if len(fields) < _MAP_FIELDS - 3 or fields[1] == b"0":
                continue
            name = os.fsdecode(fields[2].rstrip(b"\n").replace(b"\\012", b"\n"))
            major, _, minor = fields[0].partition(b":")
            yield (os.makedev(int(major, 16), int(minor, 16)), int(fields[1])), name
            if name.startswith(self._below):
                with suppress(OSError):
                    there = Path(name).lstat()
                    yield (there.st_dev, there.st_ino), name


def _is_same(name: str, found: os.stat_result) -> bool:
    """Whether a path still leads to the file that was opened by it."""
    if name.endswith(_DELETED):
        return False
    try:
        there = Path(name).lstat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
