"""What a look at the tree found: directories with what would go of them, and how entries are known again."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from nbws.catalogue.cleanable import Cleanable

__all__ = ["Folder", "Identity", "Kind", "Unit", "age_stamp", "identity", "same_folder"]

BLOCK_BYTES = 512

# Device, inode, kind, size, modification time: what must be the same for an entry to be the one that was planned.
Identity: TypeAlias = tuple[int, int, int, int, int]


class Kind(NamedTuple):
    """What a pattern of the catalogue stands for."""

    entry: Cleanable
    of_directories: bool


def identity(found: os.stat_result) -> Identity:
    """Returns what an entry that is no directory is known by."""
    return (found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode), found.st_size, found.st_mtime_ns)


def age_stamp(found: os.stat_result, *, moved: bool) -> int:
    """Returns when something was last used, in nanoseconds since 1970.

    That is when it was written, or read since. An access time that is not after the last change of the inode tells of no reader:
    that is how files come from an archive or a restore. What was moved counts from then on.
    """
    stamps = [found.st_mtime_ns]
    if found.st_atime_ns > found.st_ctime_ns:
        stamps.append(found.st_atime_ns)
    if moved:
        stamps.append(found.st_ctime_ns)
    return max(stamps)


@dataclass(slots=True)
class Folder:
    """A directory, and what would go of it.

    Attributes:
        key: device and inode.
        files: entries that go and are no directories.
        folders: directories of which something goes.
        whole: whether nothing of it stays, so that it goes itself.
    """

    name: str
    key: tuple[int, int]
    files: dict[str, Identity] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=dict)
    whole: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether nothing would go: neither itself nor anything in it."""
        return not (self.whole or self.files or self.folders)

    def count(self) -> int:
        """Returns how many files go."""
        return len(self.files) + sum(folder.count() for folder in self.folders.values())

    def paths(self, below: str) -> Iterator[str]:
        """Yields the largest paths that go whole, in the order of names."""
        if self.whole:
            yield below
            return
        for name in sorted({*self.files, *self.folders}):
            path = f"{below}/{name}"
            if name in self.files:
                yield path
            else:
                yield from self.folders[name].paths(path)

    def every_file(self, below: str) -> Iterator[str]:
        """Yields the path of every file that goes."""
        for name in self.files:
            yield f"{below}/{name}"
        for name, folder in self.folders.items():
            yield from folder.every_file(f"{below}/{name}")


def same_folder(folder: Folder, found: os.stat_result) -> bool:
    """Whether an entry is the directory that was planned."""
    return stat.S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) == folder.key


@dataclass(slots=True)
class Unit:
    """One find: a file, or a directory with what would go of it.

    Attributes:
        entry: what the catalogue says of it.
        parent: names from the top to the directory that holds it.
        what: the file's identity, or the directory.
        bytes: bytes that are freed when it goes after the units before it.
    """

    entry: Cleanable
    parent: tuple[str, ...]
    name: str
    what: Identity | Folder
    files: int = 0
    bytes: int = 0

    @property
    def path(self) -> str:
        """Where it lies, relative to the directory that is cleaned."""
        return "/".join((*self.parent, self.name))

    def paths(self) -> Iterator[str]:
        """Yields the largest paths that go whole."""
        if isinstance(self.what, Folder):
            yield from self.what.paths(self.path)
        else:
            yield self.path

    def every_file(self) -> Iterator[str]:
        """Yields the path of every file that goes."""
        if isinstance(self.what, Folder):
            yield from self.what.every_file(self.path)
        else:
            yield self.path
