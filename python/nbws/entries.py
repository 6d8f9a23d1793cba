"""What browsing a snapshot returns: entries, differences, and what an export wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nbws.reports import Report, Skipped

__all__ = ["Changed", "Diff", "Entry", "ExportReport"]


@dataclass(frozen=True, slots=True)
class Entry(Report):
    """One path of a snapshot.

    Attributes:
        path: relative to the top of the workspace.
        kind: ``"directory"``, ``"file"``, ``"symlink"``, or ``"omitted"`` for what a partial save left out.
        size: bytes of a file, or those that an omitted one had; 0 for everything else.
        mode: the low 12 permission bits.
        uid, gid: the owner when it was saved.
        mtime_ns: modification time, nanoseconds since 1970 UTC.
        target: where a symbolic link points, else None.
        link: the first path of the hard link group that a file belongs to, else None.
        xattrs: names of the extended attributes.
    """

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: str | None
    link: str | None
    xattrs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind == "directory"


@dataclass(frozen=True, slots=True)
class Changed(Report):
    """A path that both sides of a diff have, and not alike.

    Attributes:
        what: which of ``kind content target link mode mtime xattrs owner`` differ.
        before: the entry as the snapshot has it.
        after: the entry as the other side has it.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"before": Entry, "after": Entry}

    path: str
    what: tuple[str, ...]
    before: Entry
    after: Entry


@dataclass(frozen=True, slots=True)
class Diff(Report):
    """What changes from a snapshot to another one or to a directory; each list is sorted by path bytes.

    Times of directories don't count, they move with every entry; owners count in repositories with numeric ids.

    Attributes:
        added: entries that only the other side has.
        changed: paths that both have, and what differs.
        removed: entries that only the snapshot has.
        skipped: paths of a directory that could not be compared, and why.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "added": Entry,
        "changed": Changed,
        "removed": Entry,
        "skipped": Skipped,
    }

    added: tuple[Entry, ...]
    changed: tuple[Changed, ...]
    removed: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs and everything could be compared."""
        return not (self.added or self.changed or self.removed or self.skipped)


@dataclass(frozen=True, slots=True)
class ExportReport(Report):
    """What an export wrote.

    Attributes:
        snapshot: id of the snapshot.
        complete: whether all that was asked for is in the stream.
        files: files and symbolic links in the stream.
        bytes: bytes of the stream.
        skipped: paths that are not in the stream, and why.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"skipped": Skipped}

    snapshot: str
    complete: bool
    files: int
    bytes: int
    skipped: tuple[Skipped, ...]
