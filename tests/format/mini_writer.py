"""Writes small repositories in pure Python, after docs/format.md: input for readers."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import zstandard
from blake3 import blake3

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY, FILE, SYMLINK, OMITTED = 1, 2, 3, 4
Run = tuple[bytes, int, int]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes((*out, value))


def zigzag(value: int) -> bytes:
    return varint(2 * value if value >= 0 else -2 * value - 1)


def prefixed(octets: bytes) -> bytes:
    return varint(len(octets)) + octets


def digest(octets: bytes) -> bytes:
    return blake3(octets).digest()


def canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Chunker:
    """Cuts files by content (section 5.1)."""

    average: int = 65_536
    minimum: int = 32_768
    maximum: int = 262_144
    whole: int = 65_536

    @staticmethod
    def table() -> tuple[int, ...]:
        seed = blake3(b"", derive_key_context="nbws 2026-11-22 gear table v0").digest(length=2_048)
        return struct.unpack("<256Q", seed)

    def cut(self, plain: bytes) -> list[bytes]:
        if len(plain) <= self.whole:
            return [plain] if plain else []
        gear, threshold, chunks, start = self.table(), (1 << 64) // (self.average - self.minimum), [], 0
        while start < len(plain):
            value, end = 0, min(start + self.maximum, len(plain))
            for position in range(start + self.minimum - 64, end):
                value = ((value << 1) + gear[plain[position]]) & ((1 << 64) - 1)
                if position + 1 >= start + self.minimum and value < threshold:
                    end = position + 1
                    break
            chunks.append(plain[start:end])
            start = end
        return chunks


@dataclass(frozen=True)
class Node:
    """One entry to write; `runs`, pairs of chunk and count, overrules `plain`."""

    path: bytes
    kind: int = FILE
    mode: int = 0o644
    mtime: tuple[int, int] = (1_700_000_000, 0)
    plain: bytes = b""
    runs: tuple[tuple[bytes, int], ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    leader: bytes | None = None
    flags: int = 0
    size: int = 0
    reason: int = 1
    owner: tuple[int, int] = (1_000, 1_000)


def join(runs: list[Run]) -> list[Run]:
    joined: list[Run] = []
    for chunk, length, count in runs:
        if joined and joined[-1][:2] == (chunk, length):
            joined[-1] = (chunk, length, joined[-1][2] + count)
        else:
            joined.append((chunk, length, count))
    return joined


def encode_runs(runs: list[Run]) -> bytes:
    return b"".join(chunk + varint(length) + varint(count) for chunk, length, count in runs)


def cut_lists(runs: list[Run]) -> list[bytes]:
    lists, start = [], 0
    for position, (chunk, _, _) in enumerate(runs, 1):
        count = position - start
        if (
            (count >= 512 and not int.from_bytes(chunk[:2], "little") & 1_023)
            or count == 4_096
            or position == len(runs)
        ):
            lists.append(b"L" + varint(count) + encode_runs(runs[start:position]))
            start = position
    return lists


def entry_body(node: Node, size: int, content: bytes) -> bytes:
    if node.kind == FILE:
        gaps, end = [], 0
        for start, length in node.holes:
            gaps.append(varint(start - end) + varint(length))
            end = start + length
        return varint(size) + content + (varint(len(gaps)) + b"".join(gaps) if gaps else b"")
    if node.kind == SYMLINK:
        return prefixed(node.target)
    return varint(node.size) + bytes((node.reason,)) if node.kind == OMITTED else b""


def encode_entry(node: Node, previous: bytes, size: int, content: bytes) -> bytes:
    shared = next(
        (at for at, pair in enumerate(zip(previous, node.path, strict=False)) if pair[0] != pair[1]),
        len(previous),
    )
    flags = node.flags | 4 * bool(node.xattrs) | 8 * (node.leader is not None) | 16 * bool(node.holes)
    pairs = b"".join(prefixed(name) + prefixed(value) for name, value in node.xattrs)
    return b"".join(
        (
            varint(shared),
            prefixed(node.path[shared:]),
            bytes((node.kind, flags)),
            varint(node.mode),
            varint(node.owner[0]),
            varint(node.owner[1]),
            zigzag(node.mtime[0]),
            varint(node.mtime[1]),
            varint(len(node.xattrs)) + pairs if node.xattrs else b"",
            b"" if node.leader is None else prefixed(node.leader),
            entry_body(node, size, content),
        )
    )


def root_entry(node: Node, size: int, content: bytes) -> bytes:
    """What enters tree_root (section 6.4)."""
    pairs = b"".join(prefixed(name) + prefixed(value) for name, value in node.xattrs)
    body = varint(size) + content if node.kind == FILE else prefixed(node.target) if node.kind == SYMLINK else b""
    head = prefixed(node.path) + bytes((node.kind,)) + varint(node.mode) + zigzag(node.mtime[0]) + varint(node.mtime[1])
    return head + varint(len(node.xattrs)) + pairs + body


def cut_segments(nodes: list[Node], bodies: dict[bytes, tuple[int, bytes]]) -> list[tuple[bytes, int, bytes]]:
    """Cuts sorted entries into segments: (first path, entries, bytes) (section 6.1)."""
    segments, opened, first, previous = [], list[bytes](), b"", b""
    for position, node in enumerate(nodes, 1):
        first = first if opened else node.path
        opened.append(encode_entry(node, previous if opened else b"", *bodies.get(node.path, (0, b""))))
        previous, count = node.path, len(opened)
        cut = count >= 64 and digest(node.path)[0] == 0
        if cut or count == 2_048 or sum(map(len, opened)) >= 131_072 or position == len(nodes):
            segments.append((first, count, b"T" + varint(count) + b"".join(opened)))
            opened = []
    return segments


def encode_ref(first: bytes, entries: int, plain: bytes) -> bytes:
    return prefixed(first) + varint(entries) + digest(plain) + varint(len(plain))


def cut_nodes(segments: list[tuple[bytes, int, bytes]]) -> list[tuple[bytes, int, bytes]]:
    """Cuts references to segments into nodes: (first path, entries, bytes) (section 6.3)."""
    nodes, start = [], 0
    for position, (first, _, _) in enumerate(segments, 1):
        count = position - start
        if (count >= 64 and not digest(first)[0] & 127) or count == 1_024 or position == len(segments):
            taken = segments[start:position]
            refs = b"".join(encode_ref(*segment) for segment in taken)
            nodes.append((taken[0][0], sum(entries for _, entries, _ in taken), b"N" + varint(count) + refs))
            start = position
    return nodes


@dataclass
class Pack:
    """One container that is being built."""

    name: str
    header: bytes
    frames: list[tuple[int, int, int, int, list[tuple[bytes, int]], bytes]] = field(default_factory=list)
    length: int = 64

    def push(self, kind: int, plain: bytes, chunks: list[tuple[bytes, int]], *, pack: bool = True) -> dict[str, Any]:
        """Adds a frame and returns its place."""
        packed = zstandard.ZstdCompressor(level=3).compress(plain) if pack else plain
        codec = int(pack and len(packed) < len(plain))
        payload = packed if codec else plain
        head = struct.pack("<4sBBBBII", b"NBfr", kind, codec, 0, 0, len(plain), len(payload))
        stored = head + digest(head + payload)[:8] + payload
        place = {
            "hash": digest(plain).hex(),
            "length": len(stored),
            "object": self.name,
            "offset": self.length,
            "plain": len(plain),
        }
        self.frames.append((kind, codec, len(payload), len(plain), chunks, stored))
        self.length += len(stored)
        return place

    def seal(self) -> bytes:
        lines = [varint(len(self.frames))]
        for kind, codec, payload, plain, chunks, _ in self.frames:
            names = b"".join(chunk + varint(length) for chunk, length in chunks)
            lines.append(bytes((kind, codec)) + varint(payload) + varint(plain) + varint(len(chunks)) + names)
        directory = b"".join(lines)
        trailer = struct.pack("<II", len(directory), len(self.frames)) + digest(self.header + directory) + b"nbws-end"
        return b"".join((self.header, *(frame[5] for frame in self.frames), directory, trailer))


def encode_part(located: dict[bytes, tuple[tuple[int, bytes], int, int, int, int, int]]) -> bytes:
    """Encodes an index part; values are (pack, offset, stored, plain, offset in frame, length)."""
    packs = sorted({at[0] for at in located.values()})
    frames = sorted({(packs.index(at[0]), *at[1:4]) for at in located.values()})
    ids = sorted(located)
    spans = [(frames.index((packs.index(located[i][0]), *located[i][1:4])), *located[i][4:]) for i in ids]
    return b"".join(
        (
            b"I",
            struct.pack("<III", len(packs), len(frames), len(ids)),
            *(struct.pack("<Q16s", *pack) for pack in packs),
            *(struct.pack("<IIII", *frame) for frame in frames),
            *ids,
            *(struct.pack("<III", *span) for span in spans),
        )
    )


class MiniRepository:
    """A repository below a directory; every `save` appends one pack and one snapshot (or rescue) record."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory, self._random = directory, random.Random(seed)
        self.id, self.writer = self._random.randbytes(16), self._random.randbytes(16)
        self.records: list[dict[str, Any]] = []
        self._parts: list[bytes] = []
        self.put(
            "format",
            canonical(
                {
                    "chunker": {
                        "average": 65_536,
                        "kind": "gear-threshold",
                        "maximum": 262_144,
                        "minimum": 32_768,
                        "whole": 65_536,
                    },
                    "created": 1_795_392_000_000,
                    "encryption": "none",
                    "features": [],
                    "frame": {"target": 1_048_576},
                    "hash": "blake3",
                    "numeric_ids": False,
                    "probe": None,
                    "repository": self.id.hex(),
                    "version": 0,
                }
            ),
        )
        self.append("claim", {"resident": False, "take_over": False}, epoch=1)

    def put(self, name: str, octets: bytes) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)

    def append(self, kind: str, body: dict[str, Any], *, epoch: int | None = None, **changed: Any) -> dict[str, Any]:
        """Appends a record; what is not said is carried on from the newest one."""
        before = self.records[-1] if self.records else None
        usage = {"bytes": 0, "files": 0, "objects": 1, "stored_bytes": 0}
        carried = {key: before[key] if before else None for key in ("head", "index", "settings")}
        record = {
            **carried,
            "body": body,
            "commit": self._random.randbytes(16).hex(),
            "epoch": epoch or (before["epoch"] if before else 1),
            "kind": kind,
            "mac": None,
            "parent": before["commit"] if before else None,
            "repository": self.id.hex(),
            "seq": len(self.records) + 1,
            "state": "running",
            "time": 1_795_392_000_000 + len(self.records),
            "usage": usage,
            "version": 0,
            "writer": self.writer.hex(),
            **changed,
        }
        self.records.append(record)
        self.put(f"log/{record['seq']:020}", canonical(record))
        return record

    def _content(self, node: Node, chunks: dict[bytes, bytes], lists: dict[bytes, bytes]) -> tuple[int, bytes]:
        pieces = node.runs or tuple((piece, 1) for piece in Chunker().cut(node.plain))
        chunks.update((digest(piece), piece) for piece, _ in pieces)
        runs = join([(digest(piece), len(piece), count) for piece, count in pieces])
        size = sum(length * count for _, length, count in runs)
        if len(runs) <= 1_024:
            return size, varint(len(runs)) + encode_runs(runs) if runs else b""
        cut = cut_lists(runs)
        lists.update((digest(each), each) for each in cut)
        refs = b"".join(digest(each) + varint(len(each)) for each in cut)
        return size, b"\0" + varint(len(runs)) + varint(len(cut)) + refs

    def save(self, nodes: list[Node], *, rescue: bool = False, root_mode: int = 0o755) -> str:
        """Writes a snapshot of the given entries and returns its id."""
        nodes = sorted(nodes, key=lambda node: node.path)
        chunks: dict[bytes, bytes] = {}
        trees: dict[bytes, bytes] = {}
        bodies = {node.path: self._content(node, chunks, trees) for node in nodes if node.kind == FILE}
        segments = cut_segments(nodes, bodies)
        level = int(len(segments) > 1_024)
        top = cut_nodes(segments) if level else segments
        trees.update((digest(plain), plain) for _, _, plain in segments + top)
        hasher = blake3()
        for node in nodes:
            if node.kind != OMITTED:
                hasher.update(root_entry(node, *bodies.get(node.path, (0, b""))))
        kinds = [node.kind for node in nodes]
        files, total = kinds.count(FILE) + kinds.count(SYMLINK), sum(size for size, _ in bodies.values())
        snapshot, epoch = self._random.randbytes(16), self.records[-1]["epoch"]
        head = self.records[-1]["head"]
        base = bytes.fromhex(head["snapshot"]) if head else bytes(16)
        root = b"".join(
            (
                b"S",
                self.id,
                snapshot,
                base,
                self.writer,
                varint(epoch),
                varint(1_795_392_000_000),
                bytes((int(OMITTED in kinds),)),
                hasher.digest(),
                varint(files),
                varint(kinds.count(DIRECTORY)),
                varint(total),
                varint(kinds.count(OMITTED)),
                varint(root_mode),
                prefixed(b""),
                prefixed(b"test"),
                prefixed(b""),
                prefixed(b""),
                bytes((level,)),
                varint(len(top)),
                *(encode_ref(*ref) for ref in top),
            )
        )
        place, index = self._write_pack(epoch, chunks, trees, root)
        body = {
            "base": base.hex() if head else None,
            "bytes": total,
            "comment": None,
            "files": files,
            "framework": None,
            "origin": "test",
            "partial": OMITTED in kinds,
            "python": None,
            "root": place,
            "snapshot": snapshot.hex(),
            "tree_root": hasher.digest().hex(),
        }
        if rescue:
            self.append("rescue", {**body, "reason": "fenced"}, index=index)
        else:
            new_head = {"root": place, "snapshot": snapshot.hex()}
            self.append("snapshot", {**body, "one_shot": False, "pin_base_until": None}, head=new_head, index=index)
        return snapshot.hex()

    def _write_pack(
        self, epoch: int, chunks: dict[bytes, bytes], trees: dict[bytes, bytes], root: bytes
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        own = self._random.randbytes(16)
        name = f"packs/{epoch:016x}-{own.hex()}"
        header = struct.pack("<4sHBB16s16xQ16s", b"nbws", 0, 1, 0, self.id, epoch, own)
        pack = Pack(name, header)
        located: dict[bytes, tuple[tuple[int, bytes], int, int, int, int, int]] = {}

        def frame(group: list[bytes]) -> dict[str, Any]:
            place = pack.push(
                1,
                b"".join(group),
                [(digest(chunk), len(chunk)) for chunk in group],
                pack=len(pack.frames) % 2 == 0,
            )
            start = 0
            for chunk in group:
                located[digest(chunk)] = (
                    (epoch, own),
                    place["offset"],
                    place["length"],
                    place["plain"],
                    start,
                    len(chunk),
                )
                start += len(chunk)
            return place

        group: list[bytes] = []
        for chunk in [*chunks.values(), *(plain for each, plain in trees.items() if each not in chunks)]:
            if group and sum(map(len, group)) + len(chunk) > 1_048_576:
                frame(group)
                group = []
            group.append(chunk)
        if group:
            frame(group)
        place = frame([root])
        plain = encode_part(located)
        part = pack.push(2, plain, [])
        self._parts.append(
            bytes((1,))
            + struct.pack("<Q16s", epoch, own)
            + varint(part["offset"])
            + varint(part["length"])
            + varint(part["plain"])
            + digest(plain)
            + varint(len(located))
        )
        index = pack.push(3, b"R" + varint(len(self._parts)) + b"".join(self._parts), [])
        self.put(name, pack.seal())
        return place, index


def as_leader(node: Node, *paths: bytes) -> list[Node]:
    """Returns a hard link group: `node`, which must have the smallest path, and members at `paths`."""
    return [replace(node, leader=b""), *(replace(node, path=path, leader=node.path) for path in paths)]
