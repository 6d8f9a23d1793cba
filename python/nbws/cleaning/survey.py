"""The look at the tree behind a plan. It changes nothing, follows no link and enters no other file system."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbws.cleaning.found import BLOCK_BYTES, Folder, Kind, Unit, age_stamp, identity
from nbws.cleaning.proof import DIRECTORY, EMPTY, objection
from nbws.errors import LocalIo
from nbws.reports import Skipped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from nbws.catalogue.cleanable import Cleanable
    from nbws.catalogue.patterns import Matcher, Place
    from nbws.cleaning.in_use import InUse

__all__ = ["TRASHED", "Rules", "Survey"]

TRASHED = ".nbws-trashed-"
"""How names begin in a trash: what lies there is not looked at again."""

# Deeper directories are left alone: each level holds a descriptor open.
_MAX_DEPTH = 200
_ELSEWHERE = "another file system is mounted there"
# History of versions: large, and nothing in it is called by a name of the catalogue by accident only.
_NOT_SEARCHED = frozenset({".git", ".hg", ".svn"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What is looked for, what is protected and why, and what stays for other reasons.

    Attributes:
        young_after_ns: what was used after this moment, in nanoseconds since 1970, stays; None: age does not count.
        mounts: paths at which something is mounted.
    """

    wanted: Matcher[Kind]
    protected: Matcher[str]
    in_use: InUse
    mounts: frozenset[str]
    young_after_ns: int | None


@dataclass(slots=True)
class _Find:
    """A find while it is gathered: what of it goes, and why parts of it stay."""

    unit: Unit
    goes: list[os.stat_result] = field(default_factory=list)
    reasons: list[Skipped] = field(default_factory=list)
    protected: list[Skipped] = field(default_factory=list)
    young: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it stays."""
        return not (self.reasons or self.protected or self.young)


class Survey:
    """One look at a tree, in steps: each is a directory, so that whoever waits can show progress or give up."""

    def __init__(self, root: str, rules: Rules) -> None:
        self.units: list[Unit] = []
        self.protected: list[Skipped] = []
        self.skipped: list[Skipped] = []
        self.seen = 0
        self.root = root
        self.rules = rules
        self._device = 0
        # Device and inode: names that go, names that there are, bytes.
        self._linked: dict[tuple[int, int], list[int]] = {}

    def steps(self) -> Generator[None, None, None]:
        """Looks at everything.

        Raises:
            LocalIo: the top can't be read.
        """
        top = -1
        try:
            top = os.open(self.root, DIRECTORY)
            self._device = os.fstat(top).st_dev
            yield from self._search(top, (), self.rules.wanted.start(), self.rules.protected.start())
        except OSError as cause:
            raise LocalIo(
                f"can't be read: {cause.strerror}", operation="plan cleaning", path=self.root, os_error=cause.errno
            ) from cause
        finally:
            if top >= 0:
                os.close(top)

    def _search(
        self, directory: int, names: tuple[str, ...], wanted: Place[Kind], protected: Place[str]
    ) -> Iterator[None]:
        yield
        below: list[str] = []
        found: list[tuple[str, bool, bool, list[Kind]]] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                self.seen += 1
                is_directory = entry.is_dir(follow_symlinks=False)
                name = entry.name
                if why := protected.matches(name, is_directory):
                    self.protected.append(Skipped("/".join((*names, name)), why[0]))
                elif name.startswith(TRASHED) or name in _NOT_SEARCHED:
                    continue
                elif kinds := wanted.matches(name, True):
                    found.append((name, is_directory, entry.is_symlink(), kinds))
                elif is_directory:
                    below.append(name)
        # By name, so that equal trees give equal plans.
        for name, is_directory, is_link, kinds in sorted(found, key=lambda item: os.fsencode(item[0])):
            kind = self._proven(directory, names, name, kinds, is_directory=is_directory, is_link=is_link)
            if kind is not None:
                yield from self._take(directory, names, name, kind, protected)
            elif is_directory:
                below.append(name)
        for name in sorted(below, key=os.fsencode):
            yield from self._descend(directory, names, name, wanted, protected)

    def _descend(
        self, parent: int, names: tuple[str, ...], name: str, wanted: Place[Kind], protected: Place[str]
    ) -> Iterator[None]:
        path = "/".join((*names, name))
        try:
            directory = os.open(name, DIRECTORY, dir_fd=parent)
        except OSError as cause:
            self._skip(path, f"can't be read: {cause.strerror}")
            return
        try:
            if why := self._forbids(directory, path):
                self._skip(path, why)
            else:
                yield from self._search(directory, (*names, name), wanted.enter(name), protected.enter(name))
        except OSError as cause:
            self._skip(path, f"can't be read: {cause.strerror}")
        finally:
            os.close(directory)

    def _proven(
        self,
        parent: int,
        names: tuple[str, ...],
        name: str,
        kinds: list[Kind],
        *,
        is_directory: bool,
        is_link: bool,
    ) -> Cleanable | None:
        """Returns the first kind of thing that an entry is; says why it is none if it is called as one."""
        path = "/".join((*names, name))
        objections: list[str] = []
        for kind, of_directories in dict.fromkeys(kinds):
            if is_link and of_directories:
                objections.append("is a symbolic link, and not followed")
            elif of_directories == is_directory and not is_link:
                try:
                    against = objection(kind.requires, parent, name, is_directory=is_directory)
                except OSError as cause:
                    against = f"can't be read: {cause.strerror}"
                if against is None:
                    return kind
                if against != EMPTY:
                    objections.append(f"is not taken for {kind.title}: {against}")
        if objections:
            self._skip(path, objections[0])
        return None

    def _take(
        self, parent: int, names: tuple[str, ...], name: str, kind: Cleanable, protected: Place[str]
    ) -> Iterator[None]:
        """Notes what goes of a find."""
        unit = Unit(kind, names, name, Folder(name, (0, 0), whole=False))
        find = _Find(unit)
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as cause:
            self._skip(unit.path, f"can't be read: {cause.strerror}")
            return
        if stat.S_ISDIR(found.st_mode):
            unit.what = yield from self._gather(parent, unit.path, name, find, protected)
        elif not self._stays(found, unit.path, find):
            unit.what = identity(found)
            find.goes.append(found)
        self.protected += find.protected
        self.skipped += find.reasons
        if find.young:
            some = "1 entry was" if find.young == 1 else f"{find.young:,} entries were"
            self._skip(unit.path, f"{some} used too recently")
        if kind.together and not find.is_whole:
            self._skip(unit.path, "stays whole: its parts depend on each other")
        elif not (isinstance(unit.what, Folder) and unit.what.is_empty):
            unit.files = sum(not stat.S_ISDIR(gone.st_mode) for gone in find.goes)
            unit.bytes = sum(map(self._freed, find.goes))
            self.units.append(unit)

    def _gather(
        self, parent: int, path: str, name: str, find: _Find, protected: Place[str]
    ) -> Generator[None, None, Folder]:
        """Returns what goes of a directory."""
        yield
        folder = Folder(name, (0, 0))
        directory = -1
        try:
            directory = os.open(name, DIRECTORY, dir_fd=parent)
            own = os.fstat(directory)
            folder.key = (own.st_dev, own.st_ino)
            if why := self._forbids(directory, path):
                return _kept(folder, path, why, find)
            inside = protected.enter(name)
            for below in self._files_of(directory, folder, path, find, inside):
                found = yield from self._gather(directory, f"{path}/{below}", below, find, inside)
                if not found.is_empty:
                    folder.folders[below] = found
                folder.whole = folder.whole and found.whole
            if holder := self.rules.in_use.holder(own, self._full(path)):
                return _kept(folder, path, f"is in use: process {holder}", find)
            if not (folder.files or folder.folders) and folder.whole and self._is_young(own, find.unit.entry):
                find.young += 1
                folder.whole = False
            if folder.whole:
                find.goes.append(own)
        except OSError as cause:
            return _kept(folder, path, f"can't be read: {cause.strerror}", find)
        finally:
            if directory >= 0:
                os.close(directory)
        return folder

    def _files_of(self, directory: int, folder: Folder, path: str, find: _Find, protected: Place[str]) -> list[str]:
        """Notes which files of a directory go; returns its directories."""
        folders: list[str] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                self.seen += 1
                name, is_directory = entry.name, entry.is_dir(follow_symlinks=False)
                if why := protected.matches(name, is_directory):
                    find.protected.append(Skipped(f"{path}/{name}", why[0]))
                    folder.whole = False
                elif is_directory:
                    folders.append(name)
                else:
                    found = entry.stat(follow_symlinks=False)
                    if self._stays(found, f"{path}/{name}", find):
                        folder.whole = False
                    else:
                        folder.files[name] = identity(found)
                        find.goes.append(found)
        return sorted(folders, key=os.fsencode)

    def _stays(self, found: os.stat_result, path: str, find: _Find) -> bool:
        """Whether a file stays; notes why."""
        full = self._full(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            find.reasons.append(Skipped(path, "is neither a file nor a link"))
        elif found.st_dev != self._device or full in self.rules.mounts:
            find.reasons.append(Skipped(path, _ELSEWHERE))
        elif holder := self.rules.in_use.holder(found, full):
            find.reasons.append(Skipped(path, f"is in use: process {holder}"))
        elif self._is_young(found, find.unit.entry):
            find.young += 1
        else:
            return False
        return True

    def _is_young(self, found: os.stat_result, kind: Cleanable) -> bool:
        limit = self.rules.young_after_ns
        return limit is not None and age_stamp(found, moved=kind.moved) > limit

    def _forbids(self, directory: int, path: str) -> str | None:
        """Returns why a directory is not entered."""
        if os.fstat(directory).st_dev != self._device or self._full(path) in self.rules.mounts:
            return _ELSEWHERE
        return f"lies deeper than {_MAX_DEPTH} directories" if path.count("/") >= _MAX_DEPTH else None

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _freed(self, found: os.stat_result) -> int:
        """Returns the bytes that are freed when this name goes after all that were counted before."""
        size = found.st_blocks * BLOCK_BYTES
        if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
            return size
        names = self._linked.setdefault((found.st_dev, found.st_ino), [0, found.st_nlink])
        names[0] += 1
        return size if names[0] == names[1] else 0

    def _skip(self, path: str, why: str) -> None:
        self.skipped.append(Skipped(path, why))


def _kept(folder: Folder, path: str, why: str, find: _Find) -> Folder:
    """Notes that a directory stays."""
    find.reasons.append(Skipped(path, why))
    folder.whole = False
    return folder
