"""The fast directory that does not outlive a run, such as ``/data``.

It carries a marker with the notebook's id and epoch. A directory without that marker is never wiped, and one that is not empty
is never adopted: a wrong path must not cost anybody's files.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from nbws.errors import InvalidInput, LocalIo

__all__ = [
    "MARKER",
    "check_ephemeral",
    "ephemeral_bytes",
    "mount_point",
    "mount_points",
    "prepare_ephemeral",
    "wipe_ephemeral",
]

MARKER = ".nbws-ephemeral"

_OPERATION = "prepare ephemeral directory"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_ephemeral(path: Path, notebook: str) -> None:
    """Makes sure that a directory may be used: it is missing, empty, or marked as this notebook's.

    Raises:
        InvalidInput: it holds something else, or is no directory.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InvalidInput("is not a directory of its own", operation=_OPERATION, path=str(path))
    owner = _owner(path)
    if owner is not None and owner != notebook:
        raise InvalidInput(
            f"belongs to notebook {owner}; give this one a directory of its own", operation=_OPERATION, path=str(path)
        )
    # A marker that a crash cut off is all that lies there: nothing is lost with it.
    if owner is None and path.exists() and any(entry.name != MARKER or not _is_file(entry) for entry in path.iterdir()):
        raise InvalidInput(
            "holds files that did not come from this notebook; empty it yourself, or name another directory",
            operation=_OPERATION,
            path=str(path),
        )


def prepare_ephemeral(path: Path, notebook: str, epoch: int) -> list[str]:
    """Makes the directory, empty and marked; returns what of an earlier run could not be removed, and why.

    Raises:
        InvalidInput: as for `check_ephemeral`.
        LocalIo: it can't be made or written.
    """
    check_ephemeral(path, notebook)
    left: list[str] = []
    try:
        path.mkdir(parents=True, exist_ok=True)
        if _owner(path) is not None:
            left = wipe_ephemeral(path, notebook)
        (path / MARKER).write_text(json.dumps({"notebook": notebook, "epoch": epoch}) + "\n")
    except OSError as cause:
        raise LocalIo(
            f"can't be made: {cause.strerror}", operation=_OPERATION, path=str(path), os_error=cause.errno
        ) from cause
    return left


def wipe_ephemeral(path: Path, notebook: str) -> list[str]:
    """Removes all that lies in the directory, the marker last; returns what was left alone, and why.

    Works by descriptors, follows no link and enters no mount. Does nothing without this notebook's marker.
    """
    if _owner(path) != notebook:
        return [f"{path}: is not marked as this notebook's"] if path.exists() else []
    try:
        root = os.open(path, _DIRECTORY)
    except OSError as cause:
        return [f"{path}: {cause.strerror}"]
    try:
        wipe = _Wipe(os.fstat(root).st_dev, mount_points())
        wipe.empty(root, os.path.realpath(path), keep=MARKER)
        if not wipe.left:
            os.unlink(MARKER, dir_fd=root)
    finally:
        os.close(root)
    return wipe.left


def ephemeral_bytes(path: Path) -> int:
    """Returns the bytes that the files in the directory take on disk; what can't be looked at counts nothing."""
    total = 0
    pending = [path]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _owner(path: Path) -> str | None:
    """The notebook whose marker lies in the directory."""
    try:
        file = os.open(path / MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = json.loads(os.read(file, 4096)) if stat.S_ISREG(os.fstat(file).st_mode) else None
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(file)
    owner = found.get("notebook") if isinstance(found, dict) else None
    return owner if isinstance(owner, str) else None


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


class _Wipe:
    def __init__(self, device: int, mounts: frozenset[str]) -> None:
        self.left: list[str] = []
        self._device = device
        self._mounts = mounts

    def empty(self, directory: int, name: str, keep: str | None = None) -> None:
        """Removes what lies in an open directory."""
        for entry in sorted(os.listdir(directory)):
            if entry == keep:
                continue
            path = f"{name}/{entry}"
            try:
                found = os.stat(entry, dir_fd=directory, follow_symlinks=False)
                if found.st_dev != self._device or path in self._mounts:
                    self.left.append(f"{path}: another file system is mounted there")
                elif stat.S_ISDIR(found.st_mode):
                    self._remove(directory, entry, path)
                else:
                    os.unlink(entry, dir_fd=directory)
            except OSError as cause:
                self.left.append(f"{path}: {cause.strerror}")

    def _remove(self, parent: int, entry: str, path: str) -> None:
        with suppress(PermissionError):
            os.chmod(entry, 0o700, dir_fd=parent)
        inner = os.open(entry, _DIRECTORY, dir_fd=parent)
        before = len(self.left)
        try:
            self.empty(inner, path)
        finally:
            os.close(inner)
        if len(self.left) == before:
            os.rmdir(entry, dir_fd=parent)


def mount_points() -> frozenset[str]:
    """Returns the mount points of this process; a bind mount has the device of what it shows."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    return frozenset(mount_point(line) for line in lines)


def mount_point(line: bytes) -> str:
    """Returns where a line of ``/proc/self/mountinfo`` says that something is mounted; odd bytes stand there as octal numbers."""
    written = line.split(b" ")[4]
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), written))
