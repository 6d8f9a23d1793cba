"""Directory trees as values: make one on disk, read one, and compare two down to the nanosecond."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Dir",
    "File",
    "Hardlink",
    "Node",
    "Symlink",
    "Tree",
    "compare_trees",
    "make_tree",
    "walk",
]

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; ``data`` maps offsets to bytes, everything else up to ``size`` is a hole."""

    data: Mapping[int, bytes] = field(default_factory=dict)
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_000_000_000
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        content: bytes,
        *,
        mode: int = 0o644,
        mtime_ns: int = 1_700_000_000_000_000_000,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> File:
        """A file without holes."""
        return cls({0: content} if content else {}, len(content), mode, mtime_ns, xattrs or {})


@dataclass(frozen=True, slots=True)
class Dir:
    """A directory; its entries are the paths below it."""

    mode: int = 0o755
    mtime_ns: int = 1_700_000_000_000_000_000
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link with any target, also none that exists."""

    target: bytes
    mtime_ns: int = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Hardlink:
    """One more name of a file of the same tree."""

    to: bytes


Node: TypeAlias = File | Dir | Symlink | Hardlink
Tree: TypeAlias = Mapping[bytes, Node]
"""Relative paths as bytes to what lies there; missing parents are directories with default metadata."""


def make_tree(spec: Tree, directory: str | os.PathLike[str]) -> Path:
    """Makes the tree below ``directory``, which is created, and returns it. Metadata is set deepest first."""
    top = Path(directory)
    root = os.fsencode(top)
    top.mkdir(parents=True, exist_ok=True)
    for path, node in sorted(spec.items()):
        full = os.path.join(root, path)
        os.makedirs(full if isinstance(node, Dir) else os.path.dirname(full), exist_ok=True)
        if isinstance(node, File):
            _write(full, node)
        elif isinstance(node, Symlink):
            os.symlink(node.target, full)
    for path, node in sorted(spec.items()):
        if isinstance(node, Hardlink):
            os.link(os.path.join(root, node.to), os.path.join(root, path))
    for path, node in sorted(spec.items(), reverse=True):
        _set_metadata(os.path.join(root, path), node)
    return top


def _write(full: bytes, node: File) -> None:
    descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for offset, content in node.data.items():
            os.pwrite(descriptor, content, offset)
        os.ftruncate(descriptor, node.size)
    finally:
        os.close(descriptor)


def _set_metadata(full: bytes, node: Node) -> None:
    if isinstance(node, Hardlink):
        return
    if not isinstance(node, Symlink):
        for name, value in node.xattrs.items():
            os.setxattr(full, name, value)
        os.chmod(full, node.mode)
    os.utime(full, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def walk(directory: str | os.PathLike[str]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yields every path below ``directory``, relative and as bytes, with its lstat, in no particular order."""
    top = os.fsencode(os.fspath(directory))
    pending = [b""]
    while pending:
        relative = pending.pop()
        with os.scandir(os.path.join(top, relative) if relative else top) as entries:
            for entry in entries:
                path = os.path.join(relative, entry.name) if relative else entry.name
                status = entry.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)


def compare_trees(
    left: str | os.PathLike[str],
    right: str | os.PathLike[str],
    *,
    owners: bool = False,
    mtimes: bool = True,
    ignore: frozenset[bytes] = frozenset(),
) -> list[str]:
    """Returns every difference of two trees as one line; an empty list means that they are equal.

    Compared are kinds, modes, mtimes in nanoseconds, sizes, contents, link targets, hard link groups, user xattrs and,
    on request, owners; not inode numbers, ctimes and where holes lie. The two top directories themselves are compared
    by mode only. ``ignore`` names relative paths that are left out with what lies below.
    """
    sides = []
    for top in (left, right):
        found = {path: status for path, status in walk(top) if not _ignored(path, ignore)}
        sides.append((os.fsencode(os.fspath(top)), found))
    (left_top, left_found), (right_top, right_found) = sides
    differences = [f"{_show(path)}: only in {os.fsdecode(left_top)}" for path in left_found.keys() - right_found.keys()]
    differences += [
        f"{_show(path)}: only in {os.fsdecode(right_top)}" for path in right_found.keys() - left_found.keys()
    ]
    left_groups, right_groups = _link_groups(left_found), _link_groups(right_found)
    for path in left_found.keys() & right_found.keys():
        pair = (
            (os.path.join(left_top, path), left_found[path]),
            (os.path.join(right_top, path), right_found[path]),
        )
        differences += [f"{_show(path)}: {text}" for text in _differences(*pair, owners=owners, mtimes=mtimes)]
        if left_groups.get(path) != right_groups.get(path):
            differences.append(f"{_show(path)}: hard links differ")
    if stat.S_IMODE(os.stat(left_top).st_mode) != stat.S_IMODE(os.stat(right_top).st_mode):
        differences.append(".: mode of the top directory differs")
    return sorted(differences)


def _ignored(path: bytes, ignore: frozenset[bytes]) -> bool:
    return any(path == name or path.startswith(name + b"/") for name in ignore)


def _show(path: bytes) -> str:
    return ascii(os.fsdecode(path))


def _link_groups(found: Mapping[bytes, os.stat_result]) -> dict[bytes, frozenset[bytes]]:
    by_inode: dict[tuple[int, int], set[bytes]] = {}
    for path, status in found.items():
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            by_inode.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return {path: frozenset(group) for group in by_inode.values() if len(group) > 1 for path in group}


def _differences(
    left: tuple[bytes, os.stat_result], right: tuple[bytes, os.stat_result], *, owners: bool, mtimes: bool
) -> Iterator[str]:
    (left_path, a), (right_path, b) = left, right
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        yield "kinds differ"
        return
    if mtimes and a.st_mtime_ns != b.st_mtime_ns:
        yield f"mtime {a.st_mtime_ns} and {b.st_mtime_ns}"
    if owners and (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        yield f"owner {a.st_uid}:{a.st_gid} and {b.st_uid}:{b.st_gid}"
    if stat.S_ISLNK(a.st_mode):
        if os.readlink(left_path) != os.readlink(right_path):
            yield "link targets differ"
        return
    if stat.S_IMODE(a.st_mode) != stat.S_IMODE(b.st_mode):
        yield f"mode {stat.S_IMODE(a.st_mode):o} and {stat.S_IMODE(b.st_mode):o}"
    if _xattrs(left_path) != _xattrs(right_path):
        yield "xattrs differ"
    if stat.S_ISREG(a.st_mode):
        yield from _content_differences(left, right)


def _content_differences(left: tuple[bytes, os.stat_result], right: tuple[bytes, os.stat_result]) -> Iterator[str]:
    (left_path, a), (right_path, b) = left, right
    if a.st_size != b.st_size:
        yield f"size {a.st_size} and {b.st_size}"
    elif (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) and _digest(left_path) != _digest(right_path):
        yield "contents differ"


def _xattrs(path: bytes) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if name.startswith("user.")}


def _digest(path: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.digest()
