"""The work behind `CleaningPlan.apply`: removes or moves what was planned, and nothing else.

Every directory is opened by name below the one before it, without following links, and is compared with the plan; so is every entry
right before it goes. Nothing is written, so that it works on a disk that is full.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nbws.cleaning.found import BLOCK_BYTES, Folder, Identity, Unit, age_stamp, identity, same_folder
from nbws.cleaning.proof import DIRECTORY, is_proof, names_in
from nbws.cleaning.reports import CleanedItem
from nbws.cleaning.survey import TRASHED
from nbws.errors import LocalIo
from nbws.reports import Skipped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from nbws.cleaning.in_use import InUse

__all__ = ["Removal"]

_CHANGED = "is not what was planned: it changed since"
_ADDED = "holds something that came since the plan"
_MAX_NAME = 255
_STILL_THERE = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_OWNER = 0o700


class Removal:
    """One removal, in steps of one entry, and what it did so far."""

    def __init__(
        self,
        root: str,
        units: Sequence[Unit],
        in_use: InUse,
        mounts: frozenset[str],
        *,
        young_after_ns: int | None,
        trash: int | None,
    ) -> None:
        self.files = self.directories = self.bytes_freed = self.bytes_moved = 0
        self.left: list[Skipped] = []
        self.failed: list[Skipped] = []
        self._items: dict[str, list[int]] = {}
        self._root = root
        self._units = units
        self._in_use = in_use
        self._mounts = mounts
        self._young_after_ns = young_after_ns
        self._trash = trash
        self._device = 0
        self._counted: list[int] = [0, 0]
        # Names in a trash are this process's own.
        self._mark = f"{TRASHED}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        self._moved = 0

    def steps(self) -> Generator[None, None, None]:
        """Removes everything.

        Raises:
            LocalIo: the top can't be read.
        """
        try:
            top = os.open(self._root, DIRECTORY)
        except OSError as cause:
            raise LocalIo(
                f"can't be read: {cause.strerror}", operation="clean", path=self._root, os_error=cause.errno
            ) from cause
        try:
            self._device = os.fstat(top).st_dev
            for unit in self._units:
                self._counted = self._items.setdefault(unit.entry.name, [0, 0])
                yield from self._unit(top, unit)
        finally:
            os.close(top)

    def items(self) -> tuple[CleanedItem, ...]:
        """Returns what went, by entry of the catalogue."""
        entries = {unit.entry.name: unit.entry for unit in self._units}
        return tuple(
            CleanedItem(name, entries[name].title, entries[name].category, size, files)
            for name, (size, files) in self._items.items()
            if files or size
        )

    def _unit(self, top: int, unit: Unit) -> Iterator[None]:
        try:
            with _reached(top, unit.parent) as parent:
                if os.fstat(parent).st_dev != self._device:
                    self._leave(unit.path, _CHANGED)
                elif isinstance(unit.what, Folder):
                    yield from self._folder(parent, unit.path, unit.what, unit)
                else:
                    yield from self._file(parent, unit.path, unit.name, unit.what, unit)
        except FileNotFoundError:
            return
        except OSError as cause:
            if cause.errno in {errno.ELOOP, errno.ENOTDIR}:
                self._leave(unit.path, _CHANGED)
            else:
                self._fail(unit.path, cause)

    def _folder(self, parent: int, path: str, folder: Folder, unit: Unit) -> Iterator[None]:
        """Removes what goes of a directory."""
        try:
            with _opened_folder(parent, folder) as directory:
                own = os.fstat(directory)
                if not same_folder(folder, own) or own.st_dev != self._device or self._full(path) in self._mounts:
                    self._leave(path, _CHANGED)
                    return
                if self._trash is not None and folder.whole and self._is_as_planned(directory, path, folder, unit):
                    yield
                    self._move(parent, path, folder.name, (directory, folder))
                    return
                with _writable(directory, own, folder):
                    for name in _in_order(folder, unit):
                        below = f"{path}/{name}"
                        if name in folder.files:
                            yield from self._file(directory, below, name, folder.files[name], unit)
                        else:
                            yield from self._folder(directory, below, folder.folders[name], unit)
                if folder.whole:
                    self._remove_empty(parent, path, folder, own)
        except FileNotFoundError:
            return
        except OSError as cause:
            if cause.errno in {errno.ELOOP, errno.ENOTDIR}:
                self._leave(path, _CHANGED)
            else:
                self._fail(path, cause)

    def _file(self, directory: int, path: str, name: str, known: Identity, unit: Unit) -> Iterator[None]:
        """Removes one entry that is no directory."""
        yield
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if why := self._objection(found, path, known, unit):
                self._leave(path, why)
            elif self._trash is not None:
                self._move(directory, path, name, None)
            else:
                os.unlink(name, dir_fd=directory)
                self.files += 1
                self._counted[1] += 1
                if found.st_nlink == 1:
                    self._free(found)
        except FileNotFoundError:
            return
        except OSError as cause:
            self._fail(path, cause)

    def _objection(self, found: os.stat_result, path: str, known: Identity, unit: Unit) -> str | None:
        """Returns why a file must stay after all."""
        if identity(found) != known:
            return _CHANGED
        if holder := self._in_use.holder(found, self._full(path)):
            return f"is in use: process {holder}"
        if self._full(path) in self._mounts:
            return _CHANGED
        if self._young_after_ns is not None and age_stamp(found, moved=unit.entry.moved) > self._young_after_ns:
            return "was used since the plan"
        return None

    def _remove_empty(self, parent: int, path: str, folder: Folder, own: os.stat_result) -> None:
        """Removes a directory of which nothing stayed."""
        if self._in_use.holder(own, self._full(path)):
            self._leave(path, "is in use")
            return
        try:
            if not same_folder(folder, os.stat(folder.name, dir_fd=parent, follow_symlinks=False)):
                self._leave(path, _CHANGED)
                return
            os.rmdir(folder.name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as cause:
            if cause.errno not in _STILL_THERE:
                self._fail(path, cause)
            elif not self._is_known(path):
                self._leave(path, _ADDED)
            return
        self.directories += 1
        self._free(own)

    def _is_known(self, path: str) -> bool:
        """Whether something below a path is known to have stayed: that is reason enough."""
        below = f"{path}/"
        return any(item.path.startswith(below) for item in (*self.left, *self.failed))

    def _is_as_planned(self, directory: int, path: str, folder: Folder, unit: Unit) -> bool:
        """Whether a directory holds what was planned, and nothing else, so that it can be moved as it is."""
        try:
            if self._in_use.holder(os.fstat(directory), self._full(path)):
                return False
            if set(names_in(directory)) != {*folder.files, *folder.folders}:
                return False
            for name, known in folder.files.items():
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if self._objection(found, f"{path}/{name}", known, unit):
                    return False
            return all(self._is_inside_as_planned(directory, path, below, unit) for below in folder.folders.values())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _is_inside_as_planned(self, directory: int, path: str, below: Folder, unit: Unit) -> bool:
        inner_path = f"{path}/{below.name}"
        with _opened_folder(directory, below) as inner:
            is_known = same_folder(below, os.fstat(inner)) and self._full(inner_path) not in self._mounts
            return is_known and self._is_as_planned(inner, inner_path, below, unit)

    def _move(self, parent: int, path: str, name: str, folder: tuple[int, Folder] | None) -> None:
        """Moves an entry into the trash, under a name that tells where it was."""
        self._moved += 1
        prefix = f"{self._mark}-{self._moved:06}-"
        shown = os.fsencode(path.replace("%", "%25").replace("/", "%2F"))
        target = prefix + os.fsdecode(shown[-(_MAX_NAME - len(prefix)) :])
        size = _bytes_of(parent, name)
        if folder is None:
            os.rename(name, target, src_dir_fd=parent, dst_dir_fd=self._trash)
            count = 1
        else:
            # A directory that gets another parent must be writable.
            with _writable(folder[0], os.fstat(folder[0]), folder[1]):
                os.rename(name, target, src_dir_fd=parent, dst_dir_fd=self._trash)
            count = folder[1].count()
            self.directories += _directories(folder[1])
        self.bytes_moved += size
        self._counted[0] += size
        self.files += count
        self._counted[1] += count

    def _free(self, found: os.stat_result) -> None:
        size = found.st_blocks * BLOCK_BYTES
        self.bytes_freed += size
        self._counted[0] += size

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _leave(self, path: str, why: str) -> None:
        self.left.append(Skipped(path, why))

    def _fail(self, path: str, cause: OSError) -> None:
        self.failed.append(Skipped(path, cause.strerror or str(cause)))


def _in_order(folder: Folder, unit: Unit) -> list[str]:
    """Returns the names that go, those last that prove what the find is: what is left of it can still be cleaned."""
    names = [*folder.files, *folder.folders]
    if folder is not unit.what:
        return names
    return sorted(names, key=lambda name: is_proof(unit.entry.requires, name))


@contextmanager
def _reached(top: int, names: tuple[str, ...]) -> Iterator[int]:
    """Yields a descriptor of a directory, reached step by step without following a link."""
    at = os.dup(top)
    try:
        for name in names:
            following = os.open(name, DIRECTORY, dir_fd=at)
            os.close(at)
            at = following
        yield at
    finally:
        os.close(at)


@contextmanager
def _opened_folder(parent: int, folder: Folder) -> Iterator[int]:
    directory = os.open(folder.name, DIRECTORY, dir_fd=parent)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _writable(directory: int, own: os.stat_result, folder: Folder) -> Iterator[None]:
    """Makes a directory of the plan writable for its owner meanwhile, as the modules of Go need it."""
    if os.geteuid() == 0 or own.st_mode & _OWNER == _OWNER or folder.is_empty:
        yield
        return
    with suppress(OSError):
        os.fchmod(directory, stat.S_IMODE(own.st_mode) | _OWNER)
    try:
        yield
    finally:
        with suppress(OSError):
            os.fchmod(directory, stat.S_IMODE(own.st_mode))


def _bytes_of(parent: int, name: str) -> int:
    """Returns the bytes that an entry, and all in it, takes on disk."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    size = found.st_blocks * BLOCK_BYTES
    if stat.S_ISDIR(found.st_mode):
        directory = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            size += sum(_bytes_of(directory, inner) for inner in names_in(directory))
        finally:
            os.close(directory)
    return size


def _directories(folder: Folder) -> int:
    return 1 + sum(_directories(below) for below in folder.folders.values())
