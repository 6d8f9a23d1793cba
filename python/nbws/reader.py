"""Reads an nbws repository without the engine: the format's second implementation.

Written from ``docs/format.md`` alone (the section numbers below are its own). It needs the standard
library, ``blake3`` and ``zstandard``, imports nothing else of nbws and works as a single file::

    python reader.py DIR-OF-STORE                       # lists snapshots and rescues
    python reader.py DIR-OF-STORE SNAPSHOT TARGET       # restores one into a new or empty directory

``DIR-OF-STORE`` is a local copy of the repository's objects. ``SNAPSHOT`` is an id, a unique prefix of one,
or ``latest``. Everything that is wrong with a repository is a `FormatError`; a failure of the local disk
while restoring is an `OSError`.
"""

from __future__ import annotations

import argparse
import bisect
import errno
import json
import os
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn, TextIO, cast

import zstandard
from blake3 import blake3

# --- bounds (section 10)

MAX_CHUNK: Final = 1 << 20
MAX_FRAME_PLAIN: Final = {1: 4 << 20, 2: 256 << 20, 3: 64 << 20, 5: 64 << 20}
MAX_CONTAINER: Final = 1 << 30
MAX_PATH: Final = 65_535
MAX_COMPONENT: Final = 255
MAX_XATTRS: Final = 1_024
MAX_XATTR_NAME: Final = 255
MAX_XATTR_VALUES: Final = 262_144
MAX_SEGMENT_ENTRIES: Final = 2_048
MAX_REFS: Final = 65_536
MAX_INLINE_RUNS: Final = 1_024
MAX_LIST_RUNS: Final = 4_096
MAX_LEVEL_0_REFS: Final = 1_024
MAX_INDEX_PARTS: Final = 64
MAX_RECORD: Final = 4_096
MAX_LEDGER: Final = 64 << 20
MAX_COMMENT: Final = 1_024
MAX_FORMAT: Final = 65_536
MAX_SETTINGS: Final = 65_536
MAX_FILE_SIZE: Final = (1 << 63) - 1
MAX_JSON_INTEGER: Final = (1 << 53) - 1
U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1

HEADER_BYTES: Final = 64
FRAME_HEADER_BYTES: Final = 24
TRAILER_BYTES: Final = 48
CHUNKS, INDEX_PART, INDEX_ROOT, DELTA, ATTACHMENT = 1, 2, 3, 4, 5
DIRECTORY, FILE, SYMLINK, OMITTED = 1, 2, 3, 4
STALE, UNSTABLE, XATTRS, LINK, HOLES, ALL_FLAGS = 1, 2, 4, 8, 16, 31
STATES: Final = frozenset(
    (
        "none",
        "starting",
        "running",
        "stopping",
        "stopped",
        "failed",
        "error",
        "sync_failed",
        "restarting",
        "deleting",
    )
)

Kind = str
CORRUPT, UNSUPPORTED, NOT_FOUND, INVALID_INPUT = "Corrupt", "Unsupported", "NotFound", "InvalidInput"


class FormatError(Exception):
    """Says why a repository, or a request to it, can't be read.

    `kind` is ``Corrupt``, ``Unsupported`` (a later version or feature), ``NotFound`` or ``InvalidInput``.
    """

    def __init__(self, message: str, kind: Kind = CORRUPT) -> None:
        super().__init__(message)
        self.kind = kind


def _fail(message: str, kind: Kind = CORRUPT) -> NoReturn:
    raise FormatError(message, kind)


# --- primitives (section 1)


class _Cursor:
    """Takes values off a byte string; every length is checked before it is used."""

    __slots__ = ("_bytes", "_position", "_what")

    def __init__(self, encoded: bytes, what: str, tag: bytes = b"") -> None:
        self._bytes, self._position, self._what = encoded, 0, what
        if tag and self.take(1) != tag:
            self.fail("has another tag")

    def fail(self, problem: str) -> NoReturn:
        _fail(f"{self._what}: {problem} (byte {self._position})")

    def remaining(self) -> int:
        return len(self._bytes) - self._position

    def take(self, length: int) -> bytes:
        if length > self.remaining():
            self.fail(f"ends early, {length} bytes wanted, {self.remaining()} left")
        taken = self._bytes[self._position : self._position + length]
        self._position += length
        return taken

    def end(self) -> None:
        if self.remaining():
            self.fail(f"has {self.remaining()} trailing bytes")

    def u8(self) -> int:
        return self.take(1)[0]

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def varint(self, most: int = U64, least: int = 0) -> int:
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
            shift += 7
            if shift > 9 * 7:
                self.fail("has a varint of more than 10 bytes")
        if byte == 0 and shift:
            self.fail("has a varint that is not minimal")
        if not least <= value <= most:
            self.fail(f"has {value} where {least} to {most} is allowed")
        return value

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def count(self, most: int, item_bytes: int, least: int = 0) -> int:
        """Takes the length of a list whose items have at least `item_bytes` bytes each."""
        value = self.varint(most, least)
        if value * item_bytes > self.remaining():
            self.fail(f"announces {value} items, more than its bytes can hold")
        return value

    def octets(self, most: int, least: int = 0) -> bytes:
        return self.take(self.varint(most, least))

    def text(self, most: int) -> str:
        try:
            return self.octets(most).decode("utf-8")
        except UnicodeDecodeError:
            self.fail("has text that is not UTF-8")


def encode_varint(value: int) -> bytes:
    """Encodes an unsigned integer as minimal LEB128."""
    out = bytearray()
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _prefixed(octets: bytes) -> bytes:
    return encode_varint(len(octets)) + octets


def hash32(plain: bytes) -> bytes:
    """Returns BLAKE3 of `plain`, 32 bytes: the name of a chunk."""
    return blake3(plain).digest()


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) > MAX_JSON_INTEGER:
        raise ValueError(digits)
    return value


def _no_fraction(digits: str) -> NoReturn:
    raise ValueError(digits)


def parse_canonical_json(encoded: bytes, most: int, what: str) -> dict[str, object]:
    """Decodes an object in canonical JSON; refuses what would not be encoded to the same bytes again."""
    if len(encoded) > most:
        _fail(f"{what}: has {len(encoded)} bytes, {most} are allowed")
    try:
        value = json.loads(
            encoded.decode("utf-8"), parse_int=_integer, parse_float=_no_fraction, parse_constant=_no_fraction
        )
        again = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: is not canonical JSON ({type(error).__name__})") from error
    if again != encoded:
        _fail(f"{what}: is not canonical JSON (another encoding of the same value)")
    if not isinstance(value, dict):
        _fail(f"{what}: is not a JSON object")
    return cast("dict[str, object]", value)


_Check = Callable[[object], bool]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_positive(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_bool(value: object) -> bool:
    return type(value) is bool


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_comment(value: object) -> bool:
    return value is None or (type(value) is str and len(value.encode("utf-8")) <= MAX_COMMENT)


def _is_id16(value: object) -> bool:
    return type(value) is str and re.fullmatch(r"[0-9a-f]{32}", value) is not None


def _is_id32(value: object) -> bool:
    return type(value) is str and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_seqs(value: object) -> bool:
    return isinstance(value, list) and all(_is_positive(seq) for seq in value) and _increasing(value)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _increasing(values: Sequence[object]) -> bool:
    items = cast("Sequence[int]", values)
    return all(before < after for before, after in pairwise(items))


def _nullable(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _is_shape(shape: Mapping[str, _Check]) -> _Check:
    return lambda value: (
        isinstance(value, dict)
        and value.keys() == shape.keys()
        and all(check(value[key]) for key, check in shape.items())
    )


def _require(value: Mapping[str, object], shape: Mapping[str, _Check], what: str) -> None:
    if value.keys() != shape.keys():
        _fail(f"{what}: has other keys than expected: {sorted(value.keys() ^ shape.keys())}")
    for key, check in shape.items():
        if not check(value[key]):
            _fail(f"{what}: the value of {key!r} is not valid")


# --- containers (sections 2 to 4)

_CONTAINER_NAME: Final = re.compile(r"(packs|index)/([0-9a-f]{16})-([0-9a-f]{32})")
_OBJECT_KINDS: Final = {"packs": 1, "index": 2}


def container_name(kind: int, epoch: int, random: bytes) -> str:
    """Returns the object name of a pack (kind 1) or an index object (kind 2)."""
    return f"{'packs' if kind == 1 else 'index'}/{epoch:016x}-{random.hex()}"


def check_header(header: bytes, repositories: Collection[bytes], name: str) -> None:
    """Compares a container's first 64 bytes with the name that was asked for and the repositories that it may belong to."""
    match = _CONTAINER_NAME.fullmatch(name)
    if match is None:
        _fail(f"{name!r} is not the name of a pack or an index object")
    if len(header) != HEADER_BYTES or header[:4] != b"nbws":
        _fail(f"{name}: is not a container of nbws")
    if header[4:6] != b"\0\0":
        _fail(f"{name}: has format version {int.from_bytes(header[4:6], 'little')}", UNSUPPORTED)
    if header[7] or any(header[24:40]):
        _fail(f"{name}: is encrypted", UNSUPPORTED)
    expected = struct.pack("<16xQ16s", int(match[2], 16), bytes.fromhex(match[3]))
    if header[6] != _OBJECT_KINDS[match[1]] or header[8:24] not in repositories or header[24:] != expected:
        _fail(f"{name}: is another object than its name says")


def decode_frame(stored: bytes, kind: int, plain_length: int, what: str) -> bytes:
    """Decodes a frame (24 bytes of header, then the payload) of a kind to exactly `plain_length` bytes."""
    if len(stored) < FRAME_HEADER_BYTES or stored[:4] != b"NBfr":
        _fail(f"{what}: is not a frame")
    found, codec, depth, zero, plain, payload_length = struct.unpack_from("<BBBBII", stored, 4)
    if found == DELTA or depth:
        _fail(f"{what}: is a delta frame", UNSUPPORTED)
    payload = stored[FRAME_HEADER_BYTES:]
    if found != kind or zero or plain != plain_length or payload_length != len(payload):
        _fail(f"{what}: its header differs from what refers to it")
    if plain > MAX_FRAME_PLAIN[kind]:
        _fail(f"{what}: has {plain} bytes, {MAX_FRAME_PLAIN[kind]} are allowed")
    if hash32(stored[:16] + payload)[:8] != stored[16:FRAME_HEADER_BYTES]:
        _fail(f"{what}: checksum mismatch")
    return _decode_payload(codec, payload, plain, what)


def _decode_payload(codec: int, payload: bytes, plain: int, what: str) -> bytes:
    if codec == 0:
        if len(payload) != plain:
            _fail(f"{what}: raw payload of another length")
        return payload
    if codec != 1:
        _fail(f"{what}: unknown codec {codec}")
    try:
        if zstandard.frame_content_size(payload) != plain:
            _fail(f"{what}: zstd frame of another content size")
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_FRAME_PLAIN[INDEX_PART])
        unpacked = unpacker.decompress(payload, max_output_size=plain, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"{what}: {error}") from error
    if len(unpacked) != plain:
        _fail(f"{what}: zstd frame of another length")
    return unpacked


@dataclass(frozen=True, slots=True)
class FrameSlot:
    """One line of a container's directory; `chunks` are (id, length) in their order in the plain bytes."""

    kind: int
    codec: int
    offset: int
    stored_length: int
    plain_length: int
    chunks: tuple[tuple[bytes, int], ...]


def decode_directory(
    header: bytes, directory: bytes, trailer: bytes, container_length: int, what: str
) -> list[FrameSlot]:
    """Decodes a container's directory; frames must fill the container without gaps."""
    directory_length, frame_count = struct.unpack_from("<II", trailer)
    if trailer[40:] != b"nbws-end" or directory_length != len(directory):
        _fail(f"{what}: has no valid trailer")
    if hash32(header + directory) != trailer[8:40]:
        _fail(f"{what}: the directory's hash differs")
    cursor, slots, offset = _Cursor(directory, f"{what}, directory"), [], HEADER_BYTES
    if cursor.count(U32, 5) != frame_count:
        _fail(f"{what}: directory and trailer disagree")
    for _ in range(frame_count):
        kind, codec = cursor.u8(), cursor.u8()
        if (
            kind not in MAX_FRAME_PLAIN
            or codec > 1
            or (header[6] == _OBJECT_KINDS["index"] and kind not in (INDEX_PART, INDEX_ROOT))
        ):
            cursor.fail(f"has a frame of kind {kind}, codec {codec}")
        payload_length, plain_length = cursor.varint(MAX_CONTAINER), cursor.varint(MAX_FRAME_PLAIN[kind])
        count = cursor.count(plain_length if kind == CHUNKS else 0, 33, 1 if kind == CHUNKS else 0)
        chunks = tuple((cursor.take(32), cursor.varint(MAX_CHUNK, 1)) for _ in range(count))
        if (kind == CHUNKS and sum(length for _, length in chunks) != plain_length) or (
            codec == 0 and payload_length != plain_length
        ):
            cursor.fail("has a frame whose lengths do not add up")
        slots.append(FrameSlot(kind, codec, offset, FRAME_HEADER_BYTES + payload_length, plain_length, chunks))
        offset += FRAME_HEADER_BYTES + payload_length
    cursor.end()
    if offset + len(directory) + TRAILER_BYTES != container_length:
        _fail(f"{what}: its frames do not fill it")
    return slots


# --- index (section 9)


@dataclass(frozen=True, slots=True)
class Location:
    """Where one chunk lies: a frame of a pack, and the range in the frame's plain bytes."""

    pack: str
    offset: int
    stored_length: int
    plain_length: int
    chunk_offset: int
    chunk_length: int


class IndexPart:
    """One index part, searched in its encoded form (44 bytes a chunk)."""

    _HEAD_BYTES = 13

    def __init__(self, plain: bytes) -> None:
        if len(plain) < self._HEAD_BYTES or plain[:1] != b"I":
            _fail("index part: has another tag or ends early")
        packs, frames, chunks = struct.unpack_from("<III", plain, 1)
        self._chunks: int = chunks
        if len(plain) != 13 + 24 * packs + 16 * frames + 44 * self._chunks:
            _fail("index part: its length differs from its counts")
        view, at_frames = memoryview(plain)[13:], 24 * packs
        at_ids = at_frames + 16 * frames
        self._packs = list(struct.iter_unpack("<Q16s", view[:at_frames]))
        self._frames = list(struct.iter_unpack("<IIII", view[at_frames:at_ids]))
        self._ids = bytes(view[at_ids : at_ids + 32 * self._chunks])
        self._spans = view[at_ids + 32 * self._chunks :]
        self._check()

    def _check(self) -> None:
        if not _increasing(self._packs) or not _increasing([frame[:2] for frame in self._frames]):
            _fail("index part: packs or frames are not in order")
        for pack, offset, stored_length, plain_length in self._frames:
            if (
                pack >= len(self._packs)
                or offset < HEADER_BYTES
                or stored_length <= FRAME_HEADER_BYTES
                or offset + stored_length > MAX_CONTAINER
                or not 1 <= plain_length <= MAX_FRAME_PLAIN[CHUNKS]
            ):
                _fail("index part: a frame is out of bounds")
        previous = b""
        for position, (frame, start, length) in enumerate(struct.iter_unpack("<III", self._spans)):
            found = self._id(position)
            if found <= previous:
                _fail("index part: chunk ids are not in order")
            if frame >= len(self._frames) or not 1 <= length <= MAX_CHUNK or start + length > self._frames[frame][3]:
                _fail("index part: a chunk is out of bounds")
            previous = found

    def _id(self, position: int) -> bytes:
        return self._ids[32 * position : 32 * position + 32]

    def __len__(self) -> int:
        """Returns the number of chunks."""
        return self._chunks

    def find(self, chunk: bytes) -> Location | None:
        """Returns the location of a chunk, or None."""
        position = bisect.bisect_left(range(self._chunks), chunk, key=self._id)
        if position == self._chunks or self._id(position) != chunk:
            return None
        frame, start, length = struct.unpack_from("<III", self._spans, 12 * position)
        pack, offset, stored_length, plain_length = self._frames[frame]
        epoch, random = self._packs[pack]
        return Location(container_name(1, epoch, random), offset, stored_length, plain_length, start, length)


@dataclass(frozen=True, slots=True)
class PartRef:
    """Names one index part: its place, the hash of its plain bytes and its number of chunks."""

    name: str
    offset: int
    stored_length: int
    plain_length: int
    hash: bytes
    chunks: int


def decode_index_root(plain: bytes) -> list[PartRef]:
    """Decodes an index root: the live parts, oldest first."""
    cursor, parts = _Cursor(plain, "index root", b"R"), []
    for _ in range(cursor.count(MAX_INDEX_PARTS, 61)):
        kind = cursor.u8()
        if kind not in _OBJECT_KINDS.values():
            cursor.fail(f"has a part in an object of kind {kind}")
        name = container_name(kind, cursor.u64(), cursor.take(16))
        offset, stored_length = (
            cursor.varint(MAX_CONTAINER, HEADER_BYTES),
            cursor.varint(MAX_CONTAINER, FRAME_HEADER_BYTES),
        )
        plain_length = cursor.varint(MAX_FRAME_PLAIN[INDEX_PART])
        parts.append(PartRef(name, offset, stored_length, plain_length, cursor.take(32), cursor.varint(U32)))
    cursor.end()
    return parts


class Index:
    """Finds chunks: the parts of an index root, or a table that was rebuilt from the packs' directories."""

    def __init__(
        self, parts: Sequence[IndexPart] = (), rebuilt: Mapping[bytes, Sequence[Location]] | None = None
    ) -> None:
        self._parts, self._rebuilt = tuple(reversed(parts)), rebuilt or {}

    def locations(self, chunk: bytes) -> Iterator[Location]:
        """Yields every known location of a chunk, newest part first; any of them is right."""
        yield from self._rebuilt.get(chunk, ())
        for part in self._parts:
            found = part.find(chunk)
            if found is not None:
                yield found


# --- tree (section 6)


@dataclass(frozen=True, slots=True)
class Run:
    """`count` repetitions of one chunk of `length` bytes."""

    id: bytes
    length: int
    count: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a file consists of: runs, or (more than 1,024 of them) references (id, length) to chunk lists."""

    runs: tuple[Run, ...] = ()
    run_count: int = 0
    lists: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree.

    `kind` is DIRECTORY, FILE, SYMLINK or OMITTED; `leader` is None outside hard link groups and empty in a
    leader.
    """

    path: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime_seconds: int
    mtime_nanos: int
    stale: bool
    unstable: bool
    xattrs: tuple[tuple[bytes, bytes], ...]
    leader: bytes | None
    size: int = 0
    content: Content = Content()
    holes: tuple[tuple[int, int], ...] = ()
    target: bytes = b""
    reason: int = 0

    @property
    def mtime_ns(self) -> int:
        """Returns the modification time in nanoseconds since 1970 UTC."""
        return self.mtime_seconds * 1_000_000_000 + self.mtime_nanos


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """Refers to a segment, or at level 1 to a node of references."""

    first_path: bytes
    entries: int
    id: bytes
    length: int


def check_path(path: bytes) -> None:
    """Refuses a path that is absolute, empty, unnormalised, too long or leads out of the tree."""
    if not 1 <= len(path) <= MAX_PATH or b"\0" in path:
        _fail(f"unsafe path {path[:80]!r}")
    if any(component in (b"", b".", b"..") or len(component) > MAX_COMPONENT for component in path.split(b"/")):
        _fail(f"unsafe path {path[:80]!r}")


def _decode_runs(cursor: _Cursor, count: int) -> tuple[Run, ...]:
    runs: list[Run] = []
    for _ in range(count):
        run = Run(cursor.take(32), cursor.varint(MAX_CHUNK, 1), cursor.varint(U64, 1))
        if runs and (runs[-1].id, runs[-1].length) == (run.id, run.length):
            cursor.fail("has neighbouring runs that should be one")
        runs.append(run)
    return tuple(runs)


def runs_bytes(runs: Iterable[Run]) -> int:
    """Returns the bytes that runs stand for."""
    return sum(run.length * run.count for run in runs)


def _decode_content(cursor: _Cursor, size: int) -> Content:
    if size == 0:
        return Content()
    run_count = cursor.count(MAX_INLINE_RUNS, 34)
    if run_count:
        runs = _decode_runs(cursor, run_count)
        if runs_bytes(runs) != size:
            cursor.fail("has runs that do not add up to the size")
        return Content(runs, run_count)
    run_count = cursor.varint(U64, MAX_INLINE_RUNS + 1)
    list_count = cursor.count(run_count, 33, 1)
    if run_count > list_count * MAX_LIST_RUNS:
        cursor.fail("has too few chunk lists for its runs")
    lists = tuple((cursor.take(32), cursor.varint(MAX_CHUNK, 1)) for _ in range(list_count))
    return Content((), run_count, lists)


def decode_list(plain: bytes) -> tuple[Run, ...]:
    """Decodes a chunk list."""
    cursor = _Cursor(plain, "chunk list", b"L")
    runs = _decode_runs(cursor, cursor.count(MAX_LIST_RUNS, 34, 1))
    cursor.end()
    return runs


def _decode_xattrs(cursor: _Cursor) -> tuple[tuple[bytes, bytes], ...]:
    xattrs: list[tuple[bytes, bytes]] = []
    room = MAX_XATTR_VALUES
    for _ in range(cursor.count(MAX_XATTRS, 2, 1)):
        name, value = cursor.octets(MAX_XATTR_NAME, 1), cursor.octets(room)
        if not name.startswith(b"user.") or b"\0" in name or (xattrs and name <= xattrs[-1][0]):
            cursor.fail(f"has an attribute name that is unsafe or not in order: {name!r}")
        room -= len(value)
        xattrs.append((name, value))
    return tuple(xattrs)


def _decode_holes(cursor: _Cursor, size: int) -> tuple[tuple[int, int], ...]:
    holes: list[tuple[int, int]] = []
    end = 0
    for _ in range(cursor.count(U64, 2, 1)):
        start = end + cursor.varint(U64, 1 if holes else 0)
        length = cursor.varint(U64, 1)
        end = start + length
        if end > size:
            cursor.fail("has a hole that reaches past the file")
        holes.append((start, length))
    return tuple(holes)


def _decode_entry(cursor: _Cursor, previous: bytes) -> Entry:
    shared = cursor.varint(len(previous))
    suffix = cursor.octets(MAX_PATH - shared)
    path = previous[:shared] + suffix
    check_path(path)
    if path <= previous or (shared < len(previous) and suffix[0] == previous[shared]):
        cursor.fail(f"has paths out of order or a prefix that is not the longest: {path[:80]!r}")
    kind, flags = cursor.u8(), cursor.u8()
    if not DIRECTORY <= kind <= OMITTED or flags & ~ALL_FLAGS or (kind != FILE and flags & (LINK | HOLES)):
        cursor.fail(f"has an entry of kind {kind} with flags {flags}")
    mode, uid, gid = cursor.varint(0o7777), cursor.varint(U32), cursor.varint(U32)
    seconds, nanos = cursor.zigzag(), cursor.varint(999_999_999)
    xattrs = _decode_xattrs(cursor) if flags & XATTRS else ()
    leader = cursor.octets(MAX_PATH) if flags & LINK else None
    holes: tuple[tuple[int, int], ...] = ()
    size, content, target, reason = 0, Content(), b"", 0
    if kind == FILE:
        size = cursor.varint(MAX_FILE_SIZE)
        content = _decode_content(cursor, size)
        holes = _decode_holes(cursor, size) if flags & HOLES else ()
    elif kind == SYMLINK:
        target = cursor.octets(MAX_PATH, 1)
        if b"\0" in target:
            cursor.fail("has a symlink target with a NUL byte")
    elif kind == OMITTED:
        size, reason = cursor.varint(), cursor.u8()
        if reason not in (1, 2):
            cursor.fail(f"has the unknown reason {reason}")
    return Entry(
        path,
        kind,
        mode,
        uid,
        gid,
        seconds,
        nanos,
        bool(flags & STALE),
        bool(flags & UNSTABLE),
        xattrs,
        leader,
        size,
        content,
        holes,
        target,
        reason,
    )


def decode_segment(plain: bytes) -> list[Entry]:
    """Decodes a tree segment; paths are safe and strictly increasing."""
    cursor = _Cursor(plain, "tree segment", b"T")
    entries: list[Entry] = []
    previous = b""
    for _ in range(cursor.count(MAX_SEGMENT_ENTRIES, 9, 1)):
        entries.append(_decode_entry(cursor, previous))
        previous = entries[-1].path
    cursor.end()
    return entries


def _decode_refs(cursor: _Cursor, count: int) -> tuple[SegmentRef, ...]:
    refs: list[SegmentRef] = []
    for _ in range(count):
        ref = SegmentRef(
            cursor.octets(MAX_PATH, 1), cursor.varint(U64, 1), cursor.take(32), cursor.varint(MAX_CHUNK, 1)
        )
        if refs and ref.first_path <= refs[-1].first_path:
            cursor.fail("has references out of order")
        refs.append(ref)
    return tuple(refs)


def decode_node(plain: bytes) -> tuple[SegmentRef, ...]:
    """Decodes a node: references to segments."""
    cursor = _Cursor(plain, "tree node", b"N")
    refs = _decode_refs(cursor, cursor.count(MAX_REFS, 35, 1))
    cursor.end()
    return refs


def _encode_content(content: Content) -> bytes:
    if content.lists:
        head = b"\0" + encode_varint(content.run_count) + encode_varint(len(content.lists))
        return head + b"".join(chunk + encode_varint(length) for chunk, length in content.lists)
    runs = (run.id + encode_varint(run.length) + encode_varint(run.count) for run in content.runs)
    return encode_varint(len(content.runs)) + b"".join(runs)


def encode_for_root(entry: Entry) -> bytes:
    """Encodes what of an entry enters `tree_root` (section 6.4)."""
    seconds = entry.mtime_seconds
    parts = [
        _prefixed(entry.path),
        bytes((entry.kind,)),
        encode_varint(entry.mode),
        encode_varint(((seconds << 1) ^ (seconds >> 63)) & U64),
        encode_varint(entry.mtime_nanos),
        encode_varint(len(entry.xattrs)),
        *(_prefixed(name) + _prefixed(value) for name, value in entry.xattrs),
    ]
    if entry.kind == FILE:
        parts += [encode_varint(entry.size), _encode_content(entry.content) if entry.size else b""]
    elif entry.kind == SYMLINK:
        parts.append(_prefixed(entry.target))
    return b"".join(parts)


# --- snapshot (section 7)


@dataclass(frozen=True, slots=True)
class SnapshotRoot:
    """The root of one snapshot. `base` is None for a first snapshot; ids are raw bytes."""

    repository: bytes
    snapshot: bytes
    base: bytes | None
    writer: bytes
    epoch: int
    time_ms: int
    partial: bool
    tree_root: bytes
    files: int
    directories: int
    bytes: int
    omitted: int
    root_mode: int
    comment: str
    origin: str
    framework: str
    python: str
    level: int
    refs: tuple[SegmentRef, ...]


def decode_snapshot_root(plain: bytes) -> SnapshotRoot:
    """Decodes a snapshot root."""
    cursor = _Cursor(plain, "snapshot root", b"S")
    repository, snapshot, base, writer = (cursor.take(16) for _ in range(4))
    epoch, time_ms, flags = cursor.varint(U64, 1), cursor.varint(), cursor.u8()
    if flags > 1:
        cursor.fail(f"has unknown flags {flags}")
    tree_root = cursor.take(32)
    files, directories, total, omitted, root_mode = (
        *(cursor.varint() for _ in range(4)),
        cursor.varint(0o7777),
    )
    comment = cursor.text(MAX_COMMENT)
    origin, framework, python = (cursor.text(MAX_CHUNK) for _ in range(3))
    level = cursor.u8()
    if level > 1:
        cursor.fail(f"has the unknown level {level}")
    refs = _decode_refs(cursor, cursor.count(MAX_REFS if level else MAX_LEVEL_0_REFS, 35, level))
    cursor.end()
    return SnapshotRoot(
        repository,
        snapshot,
        base if any(base) else None,
        writer,
        epoch,
        time_ms,
        bool(flags),
        tree_root,
        files,
        directories,
        total,
        omitted,
        root_mode,
        comment,
        origin,
        framework,
        python,
        level,
        refs,
    )


class TreeCheck:
    """Follows a tree entry by entry: order, parents, hard link groups, counts and `tree_root`.

    The parent of an entry that `push` accepts is a directory that came before: restoring it can't leave the
    target.
    """

    def __init__(self) -> None:
        self._previous, self._directories = b"", {b""}
        self._leaders: dict[bytes, tuple[int, Content]] = {}
        self._hash = blake3()
        self._files = self._bytes = self._omitted = 0

    def push(self, entry: Entry) -> None:
        """Takes the next entry in; raises `FormatError` if the tree would not be consistent."""
        name = entry.path[:80]
        if entry.path <= self._previous:
            _fail(f"{name!r}: out of order")
        if entry.path.rpartition(b"/")[0] not in self._directories:
            _fail(f"{name!r}: its parent is not a directory of the tree")
        self._previous = entry.path
        if entry.leader == b"":
            self._leaders[entry.path] = (entry.size, entry.content)
        elif entry.leader is not None and self._leaders.get(entry.leader) != (entry.size, entry.content):
            _fail(f"{name!r}: is linked to an entry that is missing, no leader, or has other content")
        if entry.kind == DIRECTORY:
            self._directories.add(entry.path)
        elif entry.kind == OMITTED:
            self._omitted += 1
            return
        else:
            self._files += 1
            self._bytes += entry.size
        self._hash.update(encode_for_root(entry))

    def tree_root(self) -> bytes:
        """Returns the root of the entries so far."""
        return self._hash.digest()

    def compare(self, root: SnapshotRoot) -> None:
        """Compares the counts and the root with what the snapshot says."""
        found = (self._files, len(self._directories) - 1, self._bytes, self._omitted)
        if found != (root.files, root.directories, root.bytes, root.omitted):
            _fail(f"snapshot {root.snapshot.hex()}: its counts differ from its tree")
        if self.tree_root() != root.tree_root:
            _fail(f"snapshot {root.snapshot.hex()}: tree_root differs from its tree")


# --- log (section 8)


@dataclass(frozen=True, slots=True)
class Place:
    """A frame of a container: position, stored and plain length, and BLAKE3 of its plain bytes."""

    object: str
    offset: int
    length: int
    plain: int
    hash: bytes


def _is_place(value: object) -> bool:
    return _is_shape(_PLACE)(value)


def _place(value: object) -> Place | None:
    if value is None:
        return None
    fields = cast("dict[str, object]", value)
    offset, length, plain = (cast("int", fields[key]) for key in ("offset", "length", "plain"))
    return Place(cast("str", fields["object"]), offset, length, plain, bytes.fromhex(cast("str", fields["hash"])))


_PLACE: Final[dict[str, _Check]] = {
    "hash": _is_id32,
    "length": lambda value: type(value) is int and FRAME_HEADER_BYTES <= value <= MAX_CONTAINER,
    "object": lambda value: type(value) is str and _CONTAINER_NAME.fullmatch(value) is not None,
    "offset": lambda value: type(value) is int and HEADER_BYTES <= value <= MAX_CONTAINER,
    "plain": lambda value: type(value) is int and 0 <= value <= MAX_FRAME_PLAIN[INDEX_PART],
}
_WORK: Final[dict[str, _Check]] = {
    "base": _nullable(_is_id16),
    "bytes": _is_count,
    "comment": _is_comment,
    "files": _is_count,
    "framework": _nullable(_is_text),
    "origin": _is_text,
    "partial": _is_bool,
    "python": _nullable(_is_text),
    "root": _is_place,
    "snapshot": _is_id16,
    "tree_root": _is_id32,
}
_BODIES: Final[dict[str, dict[str, _Check]]] = {
    "claim": {"resident": _is_bool, "take_over": _is_bool},
    "state": {"comment": _is_comment, "info": _nullable(_is_text)},
    "snapshot": {**_WORK, "one_shot": _is_bool, "pin_base_until": _nullable(_is_count)},
    "rescue": {**_WORK, "reason": _is_text},
    "dismiss": {"rescue": _is_id16},
    "settings": {"attachment": _is_place},
    "repack": {"count": _is_count, "packs": _is_place},
    "mark": {"attachment": _is_place, "bytes": _is_count, "packs": _is_count, "snapshots": _is_count},
    "cancel": {"mark": _is_positive},
    "sweep": {"marks": _is_seqs},
    "swept": {"freed_bytes": _is_count, "marks": _is_seqs},
    "tombstone": {"purge": _is_bool},
}
_RECORD: Final[dict[str, _Check]] = {
    "body": _is_object,
    "commit": _is_id16,
    "epoch": _is_positive,
    "head": _nullable(_is_shape({"root": _is_place, "snapshot": _is_id16})),
    "index": _nullable(_is_place),
    "kind": lambda value: type(value) is str and value in _BODIES,
    "mac": lambda value: value is None,
    "parent": _nullable(_is_id16),
    "repository": _is_id16,
    "seq": _is_positive,
    "settings": _nullable(_is_place),
    "state": lambda value: type(value) is str and value in STATES,
    "time": _is_count,
    "usage": _is_shape(dict.fromkeys(("bytes", "files", "objects", "stored_bytes"), _is_count)),
    "version": lambda value: type(value) is int and value == 0,
    "writer": _is_id16,
}
_PAST: Final[dict[str, _Check]] = {
    "comment": _is_comment,
    "epoch": _is_positive,
    "info": _nullable(_is_text),
    "kind": _RECORD["kind"],
    "seq": _is_positive,
    "state": _RECORD["state"],
    "time": _is_count,
    "usage": _RECORD["usage"],
    "writer": _is_id16,
}
_LEDGER: Final[dict[str, _Check]] = {
    "history": lambda value: isinstance(value, list) and all(map(_is_object, value)),
    "kept": lambda value: isinstance(value, list) and all(map(_is_object, value)),
    "last": _is_object,
    "version": _is_count,
}
_DOOMED: Final[dict[str, _Check]] = {
    "objects": lambda value: isinstance(value, list) and all(map(_is_object, value)),
    "snapshots": lambda value: isinstance(value, list) and all(map(_is_id16, value)),
}
_DOOMED_OBJECT: Final[dict[str, _Check]] = {"bytes": _is_count, "name": _PLACE["object"]}
_FORMAT: Final[dict[str, _Check]] = {
    "chunker": lambda value: isinstance(value, dict) and _is_text(value.get("kind")),
    "created": _is_count,
    "encryption": _is_text,
    "features": lambda value: isinstance(value, list) and all(map(_is_text, value)) and _increasing(value),
    "frame": _is_shape({"target": _is_positive}),
    "hash": _is_text,
    "numeric_ids": _is_bool,
    "probe": _nullable(_is_object),
    "repository": _is_id16,
    "version": _is_count,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log. Ids are lowercase hex; `body` has the keys that section 8.2 gives for `kind`."""

    seq: int
    kind: str
    commit: str
    parent: str | None
    repository: str
    epoch: int
    writer: str
    state: str
    time: int
    head: Work | None
    index: Place | None
    settings: Place | None
    usage: Mapping[str, int]
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Work:
    """A snapshot that can be restored: its id and the place of its root."""

    snapshot: str
    root: Place


def _work(value: object) -> Work | None:
    if value is None:
        return None
    fields = cast("dict[str, object]", value)
    return Work(cast("str", fields["snapshot"]), cast("Place", _place(fields["root"])))


def decode_record(encoded: bytes, seq: int) -> Record:
    """Decodes the record in slot `seq`: canonical JSON with exactly the keys and types of section 8."""
    return _record(parse_canonical_json(encoded, MAX_RECORD, f"record {seq}"), seq)


def _record(fields: dict[str, object], seq: int) -> Record:
    what = f"record {seq}"
    if _is_count(fields.get("version")) and fields["version"] != 0:
        _fail(f"{what}: has version {fields['version']}", UNSUPPORTED)
    _require(fields, _RECORD, what)
    body = cast("dict[str, object]", fields["body"])
    _require(body, _BODIES[cast("str", fields["kind"])], f"{what}, body")
    if fields["seq"] != seq or (fields["parent"] is None) != (seq == 1):
        _fail(f"{what}: belongs elsewhere in the log")
    kind, commit, repository, writer, state = (
        cast("str", fields[key]) for key in ("kind", "commit", "repository", "writer", "state")
    )
    epoch, time = cast("int", fields["epoch"]), cast("int", fields["time"])
    parent, usage = cast("str | None", fields["parent"]), cast("dict[str, int]", fields["usage"])
    head, index, settings = _work(fields["head"]), _place(fields["index"]), _place(fields["settings"])
    return Record(seq, kind, commit, parent, repository, epoch, writer, state, time, head, index, settings, usage, body)


def _check_carried(record: Record, before: Record | None) -> None:
    head, settings = (before.head, before.settings) if before else (None, None)
    if record.kind == "snapshot":
        head = _work(record.body)
    if record.kind == "settings":
        settings = _place(record.body["attachment"])
    if record.kind == "tombstone" and record.body["purge"]:
        head = settings = None
    if (record.head, record.settings) != (head, settings):
        _fail(f"record {record.seq}: its head or settings are not those of the chain")


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is known of the records up to and including the last one, which were removed (section 8.4)."""

    history: tuple[Mapping[str, object], ...]
    kept: tuple[Record, ...]
    last: Record


def decode_ledger(encoded: bytes, seq: int) -> Ledger:
    """Decodes the ledger that ends with record `seq`."""
    what = f"ledger {seq}"
    fields = parse_canonical_json(encoded, MAX_LEDGER, what)
    if _is_count(fields.get("version")) and fields["version"] != 0:
        _fail(f"{what}: has version {fields['version']}", UNSUPPORTED)
    _require(fields, _LEDGER, what)
    history, kept = cast("list[dict[str, object]]", fields["history"]), cast("list[dict[str, object]]", fields["kept"])
    for past in history:
        _require(past, _PAST, f"{what}, history")
    if [past["seq"] for past in history] != list(range(1, seq + 1)):
        _fail(f"{what}: its history has gaps")
    seqs = [record.get("seq") for record in kept] + [seq]
    if not all(map(_is_positive, seqs)) or not _increasing(seqs):
        _fail(f"{what}: kept records are not increasing")
    records = tuple(_record(record, cast("int", record["seq"])) for record in kept)
    return Ledger(tuple(history), records, _record(cast("dict[str, object]", fields["last"]), seq))


def decode_doomed(encoded: bytes) -> tuple[list[str], list[str]]:
    """Decodes the list of a mark (section 8.6): names of containers, ids of snapshots."""
    fields = parse_canonical_json(encoded, MAX_FRAME_PLAIN[ATTACHMENT], "list of a mark")
    _require(fields, _DOOMED, "list of a mark")
    objects = cast("list[dict[str, object]]", fields["objects"])
    for each in objects:
        _require(each, _DOOMED_OBJECT, "list of a mark")
    names, snapshots = [cast("str", each["name"]) for each in objects], cast("list[str]", fields["snapshots"])
    if not _increasing(names) or not _increasing(snapshots):
        _fail("list of a mark: not strictly increasing")
    return names, snapshots


def counting_marks(records: Sequence[Record]) -> dict[int, str]:
    """Returns the marks among records, oldest first, and how far each has come; cancelled ones are left out."""
    phases: dict[int, str] = {}
    for record in records:
        marks = cast("list[int]", record.body.get("marks", []))
        if record.kind == "mark":
            phases[record.seq] = "marked"
        elif record.kind == "cancel" and phases.get(cast("int", record.body["mark"])) == "marked":
            del phases[cast("int", record.body["mark"])]
        elif record.kind == "sweep":
            phases |= {seq: "sweeping" for seq in marks if phases.get(seq) == "marked"}
        elif record.kind == "swept":
            phases |= {seq: "swept" for seq in marks if phases.get(seq) == "sweeping"}
    return phases


@dataclass(frozen=True, slots=True)
class Log:
    """The chain of records, oldest first (section 8.3); those before a ledger's last one only as far as it carries them on.

    Attributes:
        records: the records.
        forgotten: ids of the snapshots that marks have forgotten.
        history: what a ledger tells of removed records.
    """

    records: tuple[Record, ...]
    forgotten: frozenset[str] = frozenset()
    history: tuple[Mapping[str, object], ...] = ()

    def snapshots(self) -> list[Record]:
        """Returns the records of the snapshots that are kept, oldest first; the workspace head always is."""
        head = self.records[-1].head if self.records else None
        return [
            record
            for record in self.records
            if record.kind == "snapshot"
            and (record.body["snapshot"] not in self.forgotten or (head and head.snapshot == record.body["snapshot"]))
        ]

    def rescues(self) -> list[Record]:
        """Returns the rescue records that were not dismissed, oldest first."""
        dismissed = {record.body["rescue"] for record in self.records if record.kind == "dismiss"}
        return [
            record for record in self.records if record.kind == "rescue" and record.body["snapshot"] not in dismissed
        ]


# --- repository


@dataclass(frozen=True, slots=True)
class Format:
    """The object `format`: what never changes in a repository."""

    repository: bytes
    created: int
    numeric_ids: bool
    chunker: Mapping[str, object]
    origins: tuple[bytes, ...]

    def accepted(self) -> tuple[bytes, ...]:
        """Returns whose containers and snapshot roots may be here: its own, and those of the repositories it was forked from."""
        return (self.repository, *self.origins)


def decode_format(encoded: bytes) -> Format:
    """Decodes `format`; another version, an unknown feature, hash or encryption is ``Unsupported``."""
    fields = parse_canonical_json(encoded, MAX_FORMAT, "format")
    if _is_count(fields.get("version")) and fields["version"] != 0:
        _fail(f"the repository has format version {fields['version']}", UNSUPPORTED)
    origins = _origins(fields.pop("origins")) if "origins" in fields else ()
    _require(fields, _FORMAT, "format")
    if fields["features"] or fields["encryption"] != "none" or fields["hash"] != "blake3":
        _fail(
            f"the repository needs features {fields['features']}, encryption {fields['encryption']!r}",
            UNSUPPORTED,
        )
    chunker = cast("dict[str, object]", fields["chunker"])
    if chunker["kind"] == "gear-threshold":
        sizes = dict.fromkeys(("average", "maximum", "minimum", "whole"), _is_positive)
        _require(chunker, {**sizes, "kind": _is_text}, "format, chunker")
    return Format(
        bytes.fromhex(cast("str", fields["repository"])),
        cast("int", fields["created"]),
        cast("bool", fields["numeric_ids"]),
        chunker,
        origins,
    )


def _origins(value: object) -> tuple[bytes, ...]:
    """The repositories that a fork was made from; a repository that is no fork has no such key."""
    if not isinstance(value, list) or not value or not all(map(_is_id16, value)) or not _increasing(value):
        _fail("format: its origins are missing, no ids, or not increasing")
    return tuple(bytes.fromhex(cast("str", origin)) for origin in value)


class Repository:
    """A local copy of a repository's objects, opened for reading.

    Raises `FormatError` if `format` is missing, damaged or of another version. Methods read lazily and verify
    what they read.
    """

    _CACHED_FRAMES = 8

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self.format = decode_format(self._object("format", MAX_FORMAT))
        self._index: Index | None = None
        self._verified: set[str] = set()
        self._frames: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()

    # -- objects

    def _object(self, name: str, most: int) -> bytes:
        return self._read(name, 0, most, whole=True)

    def _read(self, name: str, offset: int, length: int, *, whole: bool = False) -> bytes:
        try:
            with (self._directory / name).open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if (size > length) if whole else (offset + length > size):
                    _fail(f"{name}: has {size} bytes, not {'up to' if whole else 'at least'} {offset + length}")
                stream.seek(offset)
                return stream.read(size if whole else length)
        except FileNotFoundError:
            _fail(f"{name}: there is no such object", NOT_FOUND)
        except OSError as error:
            raise FormatError(f"{name}: {error.strerror}") from error

    def _names(self, folder: str, pattern: str) -> list[str]:
        try:
            return sorted(
                each.name for each in (self._directory / folder).iterdir() if re.fullmatch(pattern, each.name)
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FormatError(f"{folder}: {error.strerror}") from error

    def _frame(self, name: str, offset: int, stored_length: int, plain_length: int, kind: int) -> bytes:
        key = (name, offset, kind)
        if key in self._frames:
            self._frames.move_to_end(key)
            plain = self._frames[key]
            if len(plain) != plain_length:
                _fail(f"{name}: two references to one frame disagree")
            return plain
        if plain_length > MAX_FRAME_PLAIN[kind]:
            _fail(f"{name}: a frame of {plain_length} bytes is announced")
        if name not in self._verified:
            check_header(self._read(name, 0, HEADER_BYTES), self.format.accepted(), name)
            self._verified.add(name)
        plain = decode_frame(self._read(name, offset, stored_length), kind, plain_length, f"{name}, frame at {offset}")
        if kind == CHUNKS:
            self._frames[key] = plain
            if len(self._frames) > self._CACHED_FRAMES:
                self._frames.popitem(last=False)
        return plain

    def placed(self, place: Place, kind: int) -> bytes:
        """Reads the frame at a place and verifies the hash of its plain bytes."""
        plain = self._frame(place.object, place.offset, place.length, place.plain, kind)
        if hash32(plain) != place.hash:
            _fail(f"{place.object}, frame at {place.offset}: hash mismatch")
        return plain

    def directory(self, name: str) -> list[FrameSlot]:
        """Reads the directory of a pack or an index object."""
        size = self._size(name)
        if not HEADER_BYTES + TRAILER_BYTES < size <= MAX_CONTAINER:
            _fail(f"{name}: has {size} bytes")
        header, trailer = (
            self._read(name, 0, HEADER_BYTES),
            self._read(name, size - TRAILER_BYTES, TRAILER_BYTES),
        )
        check_header(header, self.format.accepted(), name)
        length = int.from_bytes(trailer[:4], "little")
        start = size - TRAILER_BYTES - length
        if start < HEADER_BYTES:
            _fail(f"{name}: has no valid trailer")
        return decode_directory(header, self._read(name, start, length), trailer, size, name)

    def _size(self, name: str) -> int:
        try:
            return (self._directory / name).stat().st_size
        except OSError as error:
            raise FormatError(f"{name}: {error.strerror}", NOT_FOUND) from error

    def packs(self) -> list[str]:
        """Returns the names of all packs, sorted."""
        return [f"packs/{name}" for name in self._names("packs", r"[0-9a-f]{16}-[0-9a-f]{32}")]

    # -- log

    def _slots(self) -> list[int]:
        return [int(name) for name in self._names("log", r"[0-9]{20}")]

    def _record(self, seq: int) -> Record:
        record = decode_record(self._object(f"log/{seq:020}", MAX_RECORD), seq)
        if record.repository != self.format.repository.hex():
            _fail(f"record {seq}: belongs to another repository")
        return record

    def newest(self) -> Record:
        """Reads the newest record: it alone says what the workspace head and the index are."""
        slots = self._slots()
        if not slots:
            _fail("the log is empty", NOT_FOUND)
        return self._record(slots[-1])

    def log(self) -> Log:
        """Reads the chain: from the newest record down through matching parents.

        It must reach record 1, or the last record of the newest ledger: older records were removed, and what the ledger
        carries on stands in their place. What marks forget is read from their lists.
        """
        slots, chain, ledger = set(self._slots()), [self.newest()], self.ledger()
        end = ledger.last.seq if ledger else 0
        while chain[-1].seq - 1 in slots and chain[-1].seq - 1 > end:
            before = self._record(chain[-1].seq - 1)
            if before.commit != chain[-1].parent:
                break
            chain.append(before)
        first = chain[-1].seq
        if first != end + 1 or (ledger and chain[-1].parent != ledger.last.commit):
            _fail(f"the chain ends at record {first}: {first - 1} is not there or not its parent, and no ledger")
        chain.reverse()
        for before_or_none, record in zip([ledger.last if ledger else None, *chain], chain, strict=False):
            _check_carried(record, before_or_none)
        records = (*ledger.kept, ledger.last, *chain) if ledger else tuple(chain)
        forgotten: set[str] = set()
        for seq in counting_marks(records):
            mark = next(record for record in records if record.seq == seq)
            attachment = cast("Place", _place(mark.body["attachment"]))
            forgotten.update(decode_doomed(self.placed(attachment, ATTACHMENT))[1])
        return Log(records, frozenset(forgotten), ledger.history if ledger else ())

    def ledger(self) -> Ledger | None:
        """Reads the newest ledger, if there is one."""
        names = self._names("ledger", r"[0-9]{20}")
        if not names:
            return None
        ledger = decode_ledger(self._object(f"ledger/{names[-1]}", MAX_LEDGER), int(names[-1]))
        if any(record.repository != self.format.repository.hex() for record in (*ledger.kept, ledger.last)):
            _fail(f"ledger {names[-1]}: belongs to another repository")
        return ledger

    def settings(self) -> dict[str, object]:
        """Reads the settings in force after the newest record; empty before the first settings record."""
        place = self.newest().settings
        if place is None:
            return {}
        settings = parse_canonical_json(self.placed(place, ATTACHMENT), MAX_SETTINGS, "settings")
        if "probe" in settings and not _is_object(settings["probe"]):
            _fail("settings: the value of 'probe' is not an object")
        return settings

    def resolve(self, wanted: str) -> Work:
        """Finds a snapshot or rescue by id, unique prefix, or ``latest``: the workspace head."""
        if wanted == "latest":
            head = self.newest().head
            if head is None:
                _fail("the repository has no snapshot", NOT_FOUND)
            return head
        if not re.fullmatch(r"[0-9a-f]{1,32}", wanted):
            _fail(f"{wanted!r} is neither 'latest' nor the beginning of an id", INVALID_INPUT)
        log = self.log()
        works = (cast("Work", _work(record.body)) for record in log.snapshots() + log.rescues())
        found = {work.snapshot: work for work in works if work.snapshot.startswith(wanted)}
        if len(found) != 1:
            _fail(f"{len(found)} snapshots begin with {wanted}", INVALID_INPUT if found else NOT_FOUND)
        return found.popitem()[1]

    # -- index and chunks

    def read_index(self) -> Index:
        """Reads the index root and the parts that the newest record names, and uses them from now on."""
        place = self.newest().index
        refs = decode_index_root(self.placed(place, INDEX_ROOT)) if place else []
        parts = []
        for ref in refs:
            plain = self.placed(Place(ref.name, ref.offset, ref.stored_length, ref.plain_length, ref.hash), INDEX_PART)
            parts.append(IndexPart(plain))
            if len(parts[-1]) != ref.chunks:
                _fail(f"{ref.name}: an index part has another number of chunks than its root says")
        self._index = Index(parts)
        return self._index

    def rebuild_index(self, *, skipped: list[str] | None = None) -> Index:
        """Builds the index from the directories of all packs instead, and uses it from now on.

        A damaged pack raises `FormatError`, unless a list is given: then the problem is appended to it and
        the pack left out.
        """
        table: dict[bytes, list[Location]] = {}
        for name in self.packs():
            try:
                slots = self.directory(name)
            except FormatError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
                continue
            for slot in slots:
                start = 0
                for chunk, length in slot.chunks:
                    found = Location(name, slot.offset, slot.stored_length, slot.plain_length, start, length)
                    table.setdefault(chunk, []).append(found)
                    start += length
        self._index = Index((), table)
        return self._index

    def chunk(self, chunk: bytes, length: int) -> bytes:
        """Reads a chunk and verifies its id; other copies are tried when one can't be read."""
        index = self._index or self.read_index()
        problem = FormatError(f"chunk {chunk.hex()}: is not in the index")
        for at in index.locations(chunk):
            try:
                plain = self._frame(at.pack, at.offset, at.stored_length, at.plain_length, CHUNKS)
                plain = plain[at.chunk_offset : at.chunk_offset + at.chunk_length]
                if len(plain) == length and hash32(plain) == chunk:
                    return plain
                problem = FormatError(f"chunk {chunk.hex()}: {at.pack} holds other bytes")
            except FormatError as error:
                problem = error
        raise problem

    # -- snapshots and files

    def snapshot(self, work: Work) -> SnapshotRoot:
        """Reads a snapshot's root at its place or, if that is gone, by its chunk id through the index."""
        try:
            plain = self.placed(work.root, CHUNKS)
        except FormatError:
            plain = self.chunk(work.root.hash, work.root.plain)
        if len(plain) > MAX_CHUNK:
            _fail(f"the root of snapshot {work.snapshot} is larger than a chunk")
        root = decode_snapshot_root(plain)
        if root.repository not in self.format.accepted() or root.snapshot.hex() != work.snapshot:
            _fail(f"the root of snapshot {work.snapshot} belongs to another one")
        return root

    def check_against_record(self, root: SnapshotRoot, record: Record) -> None:
        """Compares what a snapshot or rescue record repeats of its root."""
        said = tuple(record.body[key] for key in ("base", "bytes", "files", "partial", "snapshot", "tree_root"))
        base = root.base.hex() if root.base else None
        if said != (base, root.bytes, root.files, root.partial, root.snapshot.hex(), root.tree_root.hex()):
            _fail(f"record {record.seq}: differs from the root of its snapshot")

    def segment_refs(self, root: SnapshotRoot) -> Iterator[SegmentRef]:
        """Yields the references to a snapshot's segments, through the nodes if there are any."""
        if root.level == 0:
            yield from root.refs
            return
        for ref in root.refs:
            refs = decode_node(self.chunk(ref.id, ref.length))
            if refs[0].first_path != ref.first_path or sum(each.entries for each in refs) != ref.entries:
                _fail("a tree node differs from the reference to it")
            yield from refs

    def entries(self, root: SnapshotRoot) -> Iterator[Entry]:
        """Yields a snapshot's entries in order; each is safe by itself, `check_tree` checks them together."""
        for ref in self.segment_refs(root):
            entries = decode_segment(self.chunk(ref.id, ref.length))
            if entries[0].path != ref.first_path or len(entries) != ref.entries:
                _fail("a tree segment differs from the reference to it")
            yield from entries

    def check_tree(self, root: SnapshotRoot) -> None:
        """Reads a snapshot's tree, not its files, and checks order, parents, links, counts and tree_root."""
        check = TreeCheck()
        for entry in self.entries(root):
            check.push(entry)
        check.compare(root)

    def runs(self, entry: Entry) -> Iterator[Run]:
        """Yields the runs of a file, through its chunk lists if there are any."""
        if not entry.content.lists:
            yield from entry.content.runs
            return
        count = total = 0
        last: Run | None = None
        for chunk, length in entry.content.lists:
            for run in decode_list(self.chunk(chunk, length)):
                if last is not None and (last.id, last.length) == (run.id, run.length):
                    _fail(f"{entry.path[:80]!r}: has neighbouring runs that should be one")
                count, total, last = count + 1, total + run.length * run.count, run
                yield run
        if (count, total) != (entry.content.run_count, entry.size):
            _fail(f"{entry.path[:80]!r}: its chunk lists do not add up")

    def read(self, entry: Entry) -> Iterator[bytes]:
        """Yields a file's bytes chunk by chunk; every chunk's id is verified."""
        for run in self.runs(entry):
            plain = self.chunk(run.id, run.length)
            for _ in range(run.count):
                yield plain


# --- restore

_PAGE: Final = 4_096
_ZEROS: Final = bytes(_PAGE)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote; `warnings` names attributes that the file system refused, and omitted entries."""

    files: int
    directories: int
    bytes: int
    tree_root: str
    warnings: tuple[str, ...]


class _Target:
    """The directory that is restored into: every step is relative to a descriptor and follows no symlink."""

    def __init__(self, path: str | os.PathLike[str], *, special_modes: bool) -> None:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: tuple[bytes, int] = (b"", self._root)
        self._special_modes = special_modes
        self.warnings: list[str] = []
        if os.listdir(self._root):
            os.close(self._root)
            _fail(f"{os.fspath(path)!r} is not empty", INVALID_INPUT)

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        if self._open[1] != self._root:
            os.close(self._open[1])
        self._open = (b"", self._root)

    def _directory(self, path: bytes) -> int:
        """Opens a directory component by component, from the last one that was used if that is above it."""
        current, descriptor = self._open
        if path == current:
            return descriptor
        if not path.startswith(current + b"/") and descriptor != self._root:
            self._forget()
            current = b""
        rest = path[len(current) + 1 :] if current else path
        for component in filter(None, rest.split(b"/")):
            below = os.open(
                component, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._open[1]
            )
            grown = self._open[0] + b"/" + component if self._open[0] else component
            self._forget()
            self._open = (grown, below)
        return self._open[1]

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._directory(above), name

    def make_directory(self, path: bytes) -> None:
        parent, name = self._parent(path)
        os.mkdir(name, 0o700, dir_fd=parent)

    def make_file(self, entry: Entry, repository: Repository) -> None:
        parent, name = self._parent(entry.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            _write_content(descriptor, repository, entry)
            special = 0 if self._special_modes else 0o6000
            self._set_metadata(descriptor, entry, entry.mode & ~special)
        finally:
            os.close(descriptor)

    def make_link(self, entry: Entry, leader: bytes) -> None:
        above, _, leader_name = leader.rpartition(b"/")
        source = os.dup(self._directory(above))
        try:
            parent, name = self._parent(entry.path)
            os.link(leader_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def make_symlink(self, entry: Entry) -> None:
        parent, name = self._parent(entry.path)
        os.symlink(entry.target, name, dir_fd=parent)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        if entry.xattrs:
            self.warnings.append(f"{os.fsdecode(entry.path)}: attributes of a symlink can't be set")

    def finish_directory(self, entry: Entry) -> None:
        self._set_metadata(self._directory(entry.path), entry, entry.mode)

    def finish_root(self, mode: int) -> None:
        os.fchmod(self._root, mode)

    def _set_metadata(self, descriptor: int, entry: Entry, mode: int) -> None:
        for name, value in entry.xattrs:
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG):
                    raise
                self.warnings.append(f"{os.fsdecode(entry.path)}: {os.fsdecode(name)}: {error.strerror}")
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def _write_content(descriptor: int, repository: Repository, entry: Entry) -> None:
    offset = 0
    for run in repository.runs(entry):
        plain = repository.chunk(run.id, run.length)
        total = run.length * run.count
        if offset + total > entry.size:
            _fail(f"{entry.path[:80]!r}: its runs pass its size")
        if total >= _PAGE and plain.count(0) == run.length:
            offset += total
            continue
        for _ in range(run.count):
            _write_sparsely(descriptor, plain, offset)
            offset += run.length
    os.ftruncate(descriptor, entry.size)


def _write_sparsely(descriptor: int, plain: bytes, offset: int) -> None:
    """Writes bytes, but leaves whole pages of zeros out."""
    if _ZEROS not in plain:
        _write_all(descriptor, memoryview(plain), offset)
        return
    start, position = 0, 0
    while position < len(plain):
        end = min(len(plain), position + _PAGE - (offset + position) % _PAGE)
        if end - position == _PAGE and plain.startswith(_ZEROS, position):
            _write_all(descriptor, memoryview(plain)[start:position], offset + start)
            start = end
        position = end
    _write_all(descriptor, memoryview(plain)[start:], offset + start)


def _write_all(descriptor: int, plain: memoryview, offset: int) -> None:
    while plain:
        written = os.pwrite(descriptor, plain, offset)
        plain, offset = plain[written:], offset + written


def restore(
    repository: Repository, root: SnapshotRoot, target: str | os.PathLike[str], *, special_modes: bool = False
) -> Restored:
    """Restores a whole snapshot into a new or empty directory.

    The tree is checked as a whole before anything is written. Owners are those of the caller; set-id bits of
    files are left out unless `special_modes` is true; directories get their modes and times last. A restore
    that raises leaves an unfinished target.
    """
    repository.check_tree(root)
    place = _Target(target, special_modes=special_modes)
    check, directories = TreeCheck(), list[Entry]()
    try:
        for entry in repository.entries(root):
            check.push(entry)
            if entry.kind == DIRECTORY:
                place.make_directory(entry.path)
                directories.append(entry)
            elif entry.kind == SYMLINK:
                place.make_symlink(entry)
            elif entry.kind == OMITTED:
                place.warnings.append(f"{os.fsdecode(entry.path)}: was left out of the snapshot")
            elif entry.leader:
                place.make_link(entry, entry.leader)
            else:
                place.make_file(entry, repository)
        for entry in reversed(directories):
            place.finish_directory(entry)
        place.finish_root(root.root_mode)
    finally:
        place.close()
    return Restored(root.files, root.directories, root.bytes, root.tree_root.hex(), tuple(place.warnings))


# --- command line

_EXIT_CODES: Final = {CORRUPT: 7, UNSUPPORTED: 8, NOT_FOUND: 3, INVALID_INPUT: 2}
_EXIT_LOCAL_IO: Final = 10


def _say(line: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(line + "\n")


def _list(repository: Repository) -> None:
    log = repository.log()
    for record in log.snapshots() + log.rescues():
        body = record.body
        _say(
            f"{body['snapshot']}  {record.kind:8}  seq {record.seq}  time {record.time}"
            f"  {body['files']} files  {body['bytes']} bytes"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="nbws.reader", description="Restores a snapshot from a local copy of the objects."
    )
    parser.add_argument("store", metavar="DIR-OF-STORE", help="directory that holds 'format', 'log' and 'packs'")
    parser.add_argument(
        "snapshot", metavar="SNAPSHOT", nargs="?", help="id, unique prefix, or 'latest'; without it: list"
    )
    parser.add_argument("target", metavar="TARGET", nargs="?", help="new or empty directory")
    parser.add_argument("--rebuild-index", action="store_true", help="read the packs' directories instead of the index")
    parser.add_argument("--special-modes", action="store_true", help="keep set-user-id and set-group-id bits of files")
    options = parser.parse_args(arguments)
    if options.snapshot is not None and options.target is None:
        parser.error("TARGET is missing")
    try:
        repository = Repository(options.store)
        if options.snapshot is None:
            _list(repository)
            return 0
        skipped: list[str] = []
        if options.rebuild_index:
            repository.rebuild_index(skipped=skipped)
        root = repository.snapshot(repository.resolve(options.snapshot))
        restored = restore(repository, root, options.target, special_modes=options.special_modes)
    except FormatError as error:
        _say(f"nbws.reader: {error.kind}: {error}", sys.stderr)
        return _EXIT_CODES[error.kind]
    except OSError as error:
        _say(f"nbws.reader: LocalIo: {error}", sys.stderr)
        return _EXIT_LOCAL_IO
    for warning in (*skipped, *restored.warnings):
        _say(f"nbws.reader: warning: {warning}", sys.stderr)
    _say(f"{root.snapshot.hex()}: {restored.files} files, {restored.directories} directories, {restored.bytes} bytes")
    _say(f"tree_root {restored.tree_root}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
