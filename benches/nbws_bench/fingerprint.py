"""Whether a restored tree is the one that was saved: a hash of every file, and what tools may fail to keep."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import blake3

if TYPE_CHECKING:
    from pathlib import Path

_LARGE = 4 << 20
_READ_BYTES = 16 << 20


@dataclass(frozen=True)
class Mark:
    """One entry: ``content`` is its kind and the hash of its bytes or its link target."""

    content: str
    mode: int
    mtime_ns: int
    names: tuple[bytes, ...]
    has_holes: bool


Fingerprint = dict[bytes, Mark]


class DifferentTreeError(Exception):
    """A restored tree has other files, or other bytes in them."""


def fingerprint(top: Path) -> Fingerprint:
    """Hashes every file below ``top``."""
    found: dict[bytes, os.stat_result] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    root = os.fsencode(top)
    for place, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(place, name)  # noqa: PTH118  # names are bytes
            status = os.lstat(path)
            found[path[len(root) + 1 :]] = status
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                groups.setdefault((status.st_dev, status.st_ino), []).append(path[len(root) + 1 :])
    names = {key: tuple(sorted(group)) for key, group in groups.items()}
    return {path: _mark(root + b"/" + path, status, names) for path, status in found.items()}


def differences(saved: Fingerprint, restored: Fingerprint) -> dict[str, int]:
    """What a restore did not keep, by kind: how many entries.

    Raises:
        DifferentTreeError: entries are missing or more, or their content differs.
    """
    if saved.keys() != restored.keys():
        odd = sorted(saved.keys() ^ restored.keys())
        raise DifferentTreeError(f"{len(odd)} entries are on one side only: {odd[:3]}")
    lost: Counter[str] = Counter()
    for path, mark in saved.items():
        other = restored[path]
        if mark.content != other.content:
            raise DifferentTreeError(f"{path!r} differs: {mark.content} and {other.content}")
        kind = mark.content.split(":")[0]
        lost["modes"] += kind != "link" and mark.mode != other.mode
        lost[f"times of {kind}s"] += mark.mtime_ns != other.mtime_ns
        lost["hard links"] += mark.names != other.names
        lost["holes"] += mark.has_holes and not other.has_holes
    return {what: count for what, count in lost.items() if count}


def _mark(path: bytes, status: os.stat_result, names: dict[tuple[int, int], tuple[bytes, ...]]) -> Mark:
    if stat.S_ISDIR(status.st_mode):
        content = "folder:"
    elif stat.S_ISLNK(status.st_mode):
        content = f"link:{os.readlink(path)!r}"  # noqa: PTH115  # names are bytes
    else:
        content = f"file:{status.st_size}:{_digest(path, status.st_size)}"
    holes = stat.S_ISREG(status.st_mode) and status.st_blocks * 512 < status.st_size // 2
    group = names.get((status.st_dev, status.st_ino), ())
    return Mark(content, stat.S_IMODE(status.st_mode), status.st_mtime_ns, group, holes)


def _digest(path: bytes, size: int) -> str:
    hasher = blake3.blake3(max_threads=2 if size > _LARGE else 1)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # names are bytes
        while block := file.read(_READ_BYTES):
            hasher.update(block)
    return hasher.hexdigest()
