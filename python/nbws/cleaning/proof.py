"""Whether something is what its name says: the checks behind ``requires`` in the catalogue.

Everything is looked at through a descriptor of its directory, no link is followed, and nothing is changed; access times are left
alone where the system allows it.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nbws.catalogue.patterns import Matcher, Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbws.catalogue.cleanable import Requirement

__all__ = ["DIRECTORY", "EMPTY", "is_proof", "names_in", "objection", "opened"]

EMPTY = "is empty"
"""Said of a directory that is nothing by its content: there is nothing to gain either."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
_SAID_BYTES = 4096
_HASH = re.compile(r"[0-9A-Za-z_-]{20,}")

_ELF_TYPE = slice(16, 18)
_ET_CORE = 4

# The first block of a swap file: who edits what, and whether something is not in the file yet.
_VIM_BYTES = 1008
_VIM_PID = slice(24, 28)
_VIM_HOST = slice(68, 108)
_VIM_UNSAVED = 0x55

_CHECKPOINT = re.compile(r"(.+)-checkpoint(\..*)?", re.DOTALL)
# A zip file, or the pickle of the magic number with which torch.save once began.
_TENSORS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")


@contextmanager
def opened(name: str, parent: int, flags: int = DIRECTORY) -> Iterator[int]:
    """Yields a descriptor of an entry, opened without a trace in its access time where that is allowed."""
    try:
        found = os.open(name, flags | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        found = os.open(name, flags, dir_fd=parent)
    try:
        yield found
    finally:
        os.close(found)


def is_proof(requires: Requirement, name: str) -> bool:
    """Whether an entry of a directory is part of what proves the directory."""
    return (requires.tag and name == "CACHEDIR.TAG") or not _others(requires.holds, [name])


def names_in(directory: int) -> list[str]:
    """Returns the names in an open directory."""
    return os.listdir(directory)


def objection(requires: Requirement, parent: int, name: str, *, is_directory: bool) -> str | None:
    """Returns why an entry of a directory is not what is required, or None if it is.

    Raises:
        OSError: it can't be looked at.
    """
    if requires.beside and not any(_exists(parent, other) for other in requires.beside):
        return f"nothing beside it proves what it is: {_listed(requires.beside)}"
    if is_directory:
        with opened(name, parent) as directory:
            return _of_directory(requires, directory, names_in(directory))
    if not (requires.says or requires.format):
        return None
    with opened(name, parent, _FILE) as file:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return "is not a file"
        return _of_file(requires, file, parent, name)


def _of_directory(requires: Requirement, directory: int, names: list[str]) -> str | None:
    if requires.tag and not _is_tagged(directory):
        return "has no valid CACHEDIR.TAG"
    missing = [text for text in requires.holds if len(_others((text,), names)) == len(names)]
    if missing:
        return f"does not hold {_listed(missing)}"
    if (requires.only or requires.hashes) and not names:
        return EMPTY
    if requires.only and (others := _others(requires.only, names)):
        return f"holds what does not belong there: {_listed(others)}"
    if requires.hashes and (others := sorted(name for name in names if not _HASH.fullmatch(name))):
        return f"holds what does not belong there: {_listed(others)}"
    return None


def _of_file(requires: Requirement, file: int, parent: int, name: str) -> str | None:
    head = os.pread(file, _SAID_BYTES, 0)
    if requires.says and not any(text.encode() in head for text in requires.says):
        return f"does not say {_listed(requires.says)}"
    if requires.format == "elf-core" and not _is_core(head):
        return "is not a core dump"
    if requires.format == "torch-weights" and not head.startswith(_TENSORS):
        return "is not a file of tensors"
    if requires.format == "vim-swap":
        return _of_swap(head)
    if requires.format == "checkpoint":
        return _of_checkpoint(parent, name)
    return None


def _exists(directory: int, name: str) -> bool:
    with suppress(OSError):
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        return True
    return False


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    most = 3
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _others(patterns: Iterable[str], names: list[str]) -> list[str]:
    """Returns the names that fit no pattern."""
    place = Matcher([(Pattern.parse(text), None) for text in patterns]).start()
    return sorted(name for name in names if not place.matches(name, True))


def _is_tagged(directory: int) -> bool:
    with suppress(OSError), opened("CACHEDIR.TAG", directory, _FILE) as file:
        return stat.S_ISREG(os.fstat(file).st_mode) and os.pread(file, len(_TAG), 0) == _TAG
    return False


def _is_core(head: bytes) -> bool:
    if len(head) < _ELF_TYPE.stop or not head.startswith(b"\x7fELF"):
        return False
    order = {1: "little", 2: "big"}.get(head[5])
    return order is not None and int.from_bytes(head[_ELF_TYPE], "little" if order == "little" else "big") == _ET_CORE


def _of_swap(head: bytes) -> str | None:
    if len(head) < _VIM_BYTES or not head.startswith(b"b0VIM "):
        return "is not a swap file of Vim"
    if head[_VIM_BYTES - 1] == _VIM_UNSAVED:
        return "holds text that was not saved: recover it with vim -r"
    pid = int.from_bytes(head[_VIM_PID], "little")
    host = head[_VIM_HOST].split(b"\0", 1)[0]
    if host == os.fsencode(socket.gethostname())[: len(host)] and pid and Path(f"/proc/{pid}").exists():
        return f"is in use: process {pid}"
    return None


def _of_checkpoint(parent: int, name: str) -> str | None:
    match = _CHECKPOINT.fullmatch(name)
    if match is None:
        return "is not named as checkpoints are"
    original = match[1] + (match[2] or "")
    with opened("..", parent) as above:
        return None if _exists(above, original) else f"may be the last copy of {original}, which is gone"
