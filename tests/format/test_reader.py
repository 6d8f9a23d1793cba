"""The pure-Python reader against repositories that mini_writer makes, sound and damaged."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from canonical import check_encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mini_writer import (
    DIRECTORY,
    OMITTED,
    SYMLINK,
    Chunker,
    MiniRepository,
    Node,
    as_leader,
    canonical,
    cut_nodes,
    varint,
)
from nbws import reader

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = (
    st.binary(min_size=1, max_size=12)
    .map(lambda raw: bytes(b or 1 for b in raw).replace(b"/", b"_"))
    .filter(lambda name: name not in (b".", b".."))
)
times = st.tuples(st.integers(-(2**31) + 1, 2**32), st.integers(0, 999_999_999))
modes = st.integers(0o600, 0o777)


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Trees of directories, files, symlinks and hard link groups; parents first by construction."""
    directories, nodes = [b""], dict[bytes, Node]()
    for _ in range(draw(st.integers(0, 14))):
        above = draw(st.sampled_from(directories))
        path = above + b"/" + draw(names) if above else draw(names)
        if path in nodes:
            continue
        kind = draw(st.sampled_from(("directory", "file", "file", "zeros", "symlink", "omitted")))
        mode, mtime = draw(modes), draw(times)
        if kind == "directory":
            nodes[path] = Node(path, DIRECTORY, mode | 0o700, mtime)
            directories.append(path)
        elif kind == "symlink":
            nodes[path] = Node(path, SYMLINK, 0o777, mtime, target=draw(names))
        elif kind == "omitted":
            nodes[path] = Node(path, OMITTED, mode, mtime, size=draw(st.integers(0, 2**60)))
        elif kind == "zeros":
            pieces = ((bytes(16_384), draw(st.integers(1, 9))), (draw(st.binary(min_size=1, max_size=99)), 1))
            nodes[path] = Node(
                path, mode=mode, mtime=mtime, runs=pieces, holes=((0, 16_384),), flags=draw(st.integers(0, 3))
            )
        else:
            nodes[path] = Node(path, mode=mode, mtime=mtime, plain=draw(st.binary(max_size=300)))
    tops = sorted(path for path, node in nodes.items() if node.kind == 2 and node.leader is None)
    if len(tops) > 1 and draw(st.booleans()):
        for member in as_leader(nodes[tops[0]], *tops[1:3]):
            nodes[member.path] = member
    return list(nodes.values())


def plain_of(node: Node) -> bytes:
    return b"".join(piece * count for piece, count in node.runs) or node.plain


def compare(target: Path, nodes: list[Node]) -> None:
    """Compares a restored directory with what was saved: paths, bytes, modes, times, targets, links."""
    top, found, inodes = os.fsencode(target), set(), dict[bytes, int]()
    for folder, below, files in os.walk(top):
        found |= {(folder + b"/" + name)[len(top) + 1 :] for name in below + files}
    assert found == {node.path for node in nodes if node.kind != OMITTED}
    for node in sorted(nodes, key=lambda each: each.path):
        if node.kind == OMITTED:
            continue
        path = top + b"/" + node.path
        status = os.lstat(path)
        assert status.st_mtime_ns == node.mtime[0] * 10**9 + node.mtime[1]
        if node.kind == SYMLINK:
            assert os.readlink(path) == node.target
            continue
        assert stat.S_IMODE(status.st_mode) == node.mode
        assert stat.S_ISDIR(status.st_mode) == (node.kind == DIRECTORY)
        if node.kind != DIRECTORY:
            assert Path(os.fsdecode(path)).read_bytes() == plain_of(node)
            inodes[node.path] = status.st_ino
            assert not node.leader or inodes[node.leader] == status.st_ino


def restore(store: Path, target: Path, wanted: str = "latest", *, rebuild: bool = False) -> reader.Restored:
    repository = reader.Repository(store)
    if rebuild:
        repository.rebuild_index()
    return reader.restore(repository, repository.snapshot(repository.resolve(wanted)), target)


@CHECKS
@given(trees(), trees(), st.booleans())
def test_restores_what_was_saved(first: list[Node], second: list[Node], rebuild: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory, "store")
        writer = MiniRepository(store)
        one, two = writer.save(first), writer.save(second)
        writer.append("state", {"comment": "✓ \x7f\n", "info": None}, state="stopped")
        restore(store, Path(directory, "latest"), rebuild=rebuild)
        compare(Path(directory, "latest"), second)
        restore(store, Path(directory, "one"), one, rebuild=rebuild)
        compare(Path(directory, "one"), first)
        repository = reader.Repository(store)
        log = repository.log()
        assert [record.body["snapshot"] for record in log.snapshots()] == [one, two]
        for record in log.snapshots():
            root = repository.snapshot(repository.resolve(str(record.body["snapshot"])))
            repository.check_against_record(root, record)
            check_encoding(repository, root)
            assert root.tree_root.hex() == record.body["tree_root"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Node]]:
    """A small repository that has every kind of object and entry, and its newest tree."""
    store = tmp_path_factory.mktemp("sample")
    writer = MiniRepository(store)
    data = bytes(range(256)) * 5
    nodes = [
        Node(b"a", DIRECTORY, 0o500, (5, 6)),
        Node(b"a/empty", DIRECTORY, 0o750),
        Node(b"a-b", plain=b"between a and a/ in byte order"),
        Node(b"a/\xff\xfe", plain=data, mode=0o400, mtime=(-3, 999_999_999)),
        Node(b"a/link", SYMLINK, 0o777, target=b"../../outside"),
        Node(b"later", OMITTED, size=10, reason=2),
        Node(b"many", runs=tuple((bytes((number & 255, number >> 8)), 1) for number in range(2_500))),
        Node(b"nothing"),
        Node(b"tagged", plain=b"x", xattrs=((b"user.a", b""), (b"user.b", b"value"))),
        *as_leader(Node(b"b", plain=b"shared"), b"c", b"d"),
    ]
    writer.save([Node(b"old", plain=b"old")])
    writer.save([Node(b"kept", plain=b"rescued")], rescue=True)
    writer.append("settings", {"attachment": writer.records[1]["index"]}, settings=writer.records[1]["index"])
    writer.save(nodes)
    return store, nodes


def snapshots_of(store: Path) -> dict[str, str]:
    """Every snapshot and rescue with its tree_root: what damage must not change silently."""
    repository = reader.Repository(store)
    log, roots = repository.log(), {}
    repository.read_index()
    for record in log.snapshots() + log.rescues():
        root = repository.snapshot(repository.resolve(str(record.body["snapshot"])))
        repository.check_against_record(root, record)
        repository.check_tree(root)
        for entry in repository.entries(root):
            if entry.kind == reader.FILE:
                assert sum(map(len, repository.read(entry))) == entry.size
        roots[root.snapshot.hex()] = root.tree_root.hex()
    for name in repository.packs():
        repository.directory(name)
    return roots


def test_sample(sample: tuple[Path, list[Node]], tmp_path: Path) -> None:
    store, nodes = sample
    restored = restore(store, tmp_path / "out")
    compare(tmp_path / "out", nodes)
    assert restored.files == 9
    repository = reader.Repository(store)
    check_encoding(repository, repository.snapshot(repository.resolve("latest")))
    assert len(snapshots_of(store)) == 3
    assert [warning for warning in restored.warnings if "later" in warning]
    if os.listxattr(tmp_path / "out" / "tagged"):
        assert os.getxattr(tmp_path / "out" / "tagged", "user.b") == b"value"


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_is_format_error(sample: tuple[Path, list[Node]], data: st.DataObject) -> None:
    source, _ = sample
    sound = snapshots_of(source)
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory, "store")
        shutil.copytree(source, store)
        objects = sorted(path for path in store.rglob("*") if path.is_file())
        victim = data.draw(st.sampled_from(objects), label="object")
        octets = bytearray(victim.read_bytes())
        position = data.draw(st.integers(0, len(octets) - 1), label="position")
        if data.draw(st.booleans(), label="truncate"):
            victim.write_bytes(octets[:position])
        else:
            octets[position] ^= 1 << data.draw(st.integers(0, 7), label="bit")
            victim.write_bytes(octets)
        try:
            found = snapshots_of(store)
        except reader.FormatError:
            return
        assert victim.parent.name != "packs" or found == sound
        assert set(found.values()) <= set(sound.values())


DECODERS: list[Callable[[bytes], object]] = [
    reader.decode_segment,
    reader.decode_node,
    reader.decode_list,
    reader.decode_snapshot_root,
    reader.decode_index_root,
    reader.IndexPart,
    reader.decode_format,
    lambda octets: reader.decode_record(octets, 1),
    lambda octets: reader.decode_frame(octets, 1, 10, "frame"),
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_decoders_raise_nothing_else(sample: tuple[Path, list[Node]], data: st.DataObject) -> None:
    chunks = st.sampled_from(decodable(sample[0]))
    octets = data.draw(st.one_of(st.binary(max_size=200), chunks))
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(octets)))
        octets = (
            octets[:position] + data.draw(st.binary(max_size=3)) + octets[position + data.draw(st.integers(0, 3)) :]
        )
    for decode in DECODERS:
        try:
            decode(octets)
        except reader.FormatError:
            continue


def decodable(store: Path) -> list[bytes]:
    """Plain bytes of frames and records, as a start for mutations that no hash protects."""
    repository = reader.Repository(store)
    found = [path.read_bytes() for path in sorted(store.glob("log/*"))] + [(store / "format").read_bytes()]
    for name in repository.packs():
        octets = (store / name).read_bytes()
        for slot in repository.directory(name):
            stored = octets[slot.offset : slot.offset + slot.stored_length]
            plain, start = reader.decode_frame(stored, slot.kind, slot.plain_length, name), 0
            found += [plain, stored]
            for _, length in slot.chunks:
                found.append(plain[start : start + length])
                start += length
    return [each for each in found if each[:1] in b"TNLSRIN{"]


@pytest.mark.parametrize("path", [b"/a", b"a/", b"a//b", b".", b"a/..", b"../a", b"a\0b", b"a/./b", b"x" * 256, b""])
def test_refuses_unsafe_paths(tmp_path: Path, path: bytes) -> None:
    writer = MiniRepository(tmp_path / "store")
    writer.save([Node(b"a", DIRECTORY), Node(path, plain=b"evil")])
    with pytest.raises(reader.FormatError):
        restore(tmp_path / "store", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "nodes",
    [
        [Node(b"a", SYMLINK, target=b"/etc"), Node(b"a/passwd", plain=b"evil")],
        [Node(b"a", plain=b"file"), Node(b"a/b", plain=b"below a file")],
        [Node(b"a/b", plain=b"no parent")],
        [Node(b"b", plain=b"x", leader=b"a")],
        [Node(b"a", plain=b"x", leader=b""), Node(b"b", plain=b"y", leader=b"a")],
        [Node(b"a", plain=b"x"), Node(b"b", plain=b"x", leader=b"a")],
        [Node(b"a", plain=b"1"), Node(b"a", plain=b"2")],
        [Node(b"a", DIRECTORY, leader=b"")],
        [Node(b"a", SYMLINK, target=b"")],
        [Node(b"a", SYMLINK, target=b"b\0c")],
        [Node(b"a", xattrs=((b"security.capability", b"x"),))],
        [Node(b"a", xattrs=((b"user.b", b""), (b"user.a", b"")))],
        [Node(b"a", mode=0o10000)],
        [Node(b"a", mtime=(0, 10**9))],
        [Node(b"a", flags=32)],
        [Node(b"a", plain=b"x", holes=((0, 2),))],
        [Node(b"a", OMITTED, reason=3)],
        [Node(b"a", kind=5)],
    ],
)
def test_refuses_inconsistent_trees(tmp_path: Path, nodes: list[Node]) -> None:
    MiniRepository(tmp_path / "store").save(nodes)
    with pytest.raises(reader.FormatError):
        restore(tmp_path / "store", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_long_zero_ranges_stay_holes(tmp_path: Path) -> None:
    zeros = bytes(262_144)
    node = Node(
        b"sparse",
        runs=((zeros, 2**22), (b"end" + bytes(70_000) + b"!", 1), (zeros, 2**20)),
        holes=((0, 2**40),),
    )
    MiniRepository(tmp_path / "store").save([node])
    restore(tmp_path / "store", tmp_path / "out")
    status = (tmp_path / "out" / "sparse").stat()
    assert status.st_size == 2**40 + 70_004 + 2**38
    assert status.st_blocks * 512 < 200_000
    with (tmp_path / "out" / "sparse").open("rb") as stream:
        stream.seek(2**40)
        assert stream.read(70_004) == b"end" + bytes(70_000) + b"!"


def test_extreme_times(tmp_path: Path) -> None:
    """The file system may clamp a time, but no time is an error."""
    nodes = [
        Node(b"a", mtime=(-(2**63), 0)),
        Node(b"b", mtime=(2**63 - 1, 999_999_999)),
        Node(b"c", SYMLINK, target=b"x"),
    ]
    MiniRepository(tmp_path / "store").save(nodes)
    assert restore(tmp_path / "store", tmp_path / "out").files == 3


def test_deep_paths_beyond_path_max(tmp_path: Path) -> None:
    paths = [b"/".join([b"d" * 200] * depth) for depth in range(1, 31)]
    nodes = [*(Node(path, DIRECTORY, 0o755) for path in paths), Node(paths[-1] + b"/f", plain=b"deep")]
    MiniRepository(tmp_path / "store").save(nodes)
    assert restore(tmp_path / "store", tmp_path / "out").files == 1
    command = f"cd {tmp_path}/out && find . -name f | wc -l"
    assert subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout.strip() == b"1"
    shutil.rmtree(tmp_path / "out")


def test_level_one_tree(tmp_path: Path) -> None:
    """A tree of more than 1,024 segments: a large attribute makes each entry a segment of its own."""
    xattrs = ((b"user.big", bytes(131_072)),)
    nodes = [Node(b"%04d" % number, xattrs=xattrs) for number in range(1_100)]
    store = tmp_path / "store"
    MiniRepository(store).save(nodes)
    repository = reader.Repository(store)
    root = repository.snapshot(repository.resolve("latest"))
    assert root.level == 1
    repository.check_tree(root)
    check_encoding(repository, root)
    assert sum(1 for _ in repository.entries(root)) == 1_100


def test_log_breaks(sample: tuple[Path, list[Node]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sample[0], store)
    (store / f"log/{2:020}").unlink()
    repository = reader.Repository(store)
    assert repository.newest().seq == 5
    assert repository.resolve("latest") is not None
    with pytest.raises(reader.FormatError):
        repository.log()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mac", "x"),
        ("version", 1),
        ("seq", 3),
        ("epoch", 0),
        ("time", -1),
        ("state", "gone"),
        ("kind", "merge"),
        ("parent", None),
        ("extra", 1),
        ("usage", {}),
        ("head", {}),
        ("writer", "AB" * 16),
        ("time", True),
        ("head", None),
    ],
)
def test_record_keys_and_types(sample: tuple[Path, list[Node]], tmp_path: Path, key: str, value: object) -> None:
    store = tmp_path / "store"
    shutil.copytree(sample[0], store)
    path = store / f"log/{5:020}"
    path.write_bytes(canonical({**json.loads(path.read_bytes()), key: value}))
    with pytest.raises(reader.FormatError):
        reader.Repository(store).log()


@pytest.mark.parametrize(
    "octets",
    [
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":9007199254740992}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":-0}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[]",
        b"{}\n",
        b"[" * 4_000,
        b'{"a":NaN}',
        b'{"a":"\\u001F"}',
    ],
)
def test_json_must_be_canonical(octets: bytes) -> None:
    with pytest.raises(reader.FormatError):
        reader.parse_canonical_json(octets, 4_096, "test")


def test_json_that_is_canonical() -> None:
    octets = '{"\x7f":"\\u001f\\b\\t\\"\\\\/é\u2028","é":-9007199254740991}'.encode()
    assert reader.parse_canonical_json(octets, 4_096, "test")


@pytest.mark.parametrize("octets", [b"\x80\x00", b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\x80", b""])
def test_varints_are_minimal_and_bounded(octets: bytes) -> None:
    with pytest.raises(reader.FormatError):
        reader.decode_list(b"L" + octets + bytes(64))


def test_later_versions_and_features_are_unsupported(sample: tuple[Path, list[Node]], tmp_path: Path) -> None:
    for change in ({"version": 1, "unknown": True}, {"features": ["x"]}, {"encryption": "sealed"}):
        fields = {**json.loads((sample[0] / "format").read_bytes()), **change}
        (tmp_path / "format").write_bytes(canonical(fields))
        with pytest.raises(reader.FormatError) as caught:
            reader.Repository(tmp_path)
        assert caught.value.kind == reader.UNSUPPORTED


def test_swapped_packs_are_refused(sample: tuple[Path, list[Node]], tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sample[0], store)
    one, two, *_ = sorted((store / "packs").iterdir())
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(reader.FormatError):
        snapshots_of(store)


def test_command_line_alone(sample: tuple[Path, list[Node]], tmp_path: Path) -> None:
    """The one file works without the package around it."""
    copy = tmp_path / "reader.py"
    shutil.copyfile(reader.__file__, copy)
    command = [sys.executable, "-I", os.fspath(copy), os.fspath(sample[0])]
    done = subprocess.run(
        [*command, "latest", os.fspath(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    compare(tmp_path / "out", sample[1])
    assert (
        subprocess.run([*command, "latest", os.fspath(tmp_path / "out")], capture_output=True, check=False).returncode
        == 2
    )
    assert (
        subprocess.run([*command, "0" * 32, os.fspath(tmp_path / "new")], capture_output=True, check=False).returncode
        == 3
    )
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.count("\n") == 3


def test_zero_runs_are_cut_at_the_maximum() -> None:
    """Section 5.1: H of 64 zero bytes is not below T, so holes become repetitions of one chunk."""
    assert [len(chunk) for chunk in Chunker().cut(bytes(600_000))] == [262_144, 262_144, 75_712]
    assert len(Chunker.table()) == 256


def test_nodes_end_by_content() -> None:
    segments = [(b"%06d" % number, 1, b"x") for number in range(3_000)]
    nodes = cut_nodes(segments)
    assert sum(entries for _, entries, _ in nodes) == 3_000
    assert all(entries >= 64 for _, entries, _ in nodes[:-1])
    assert [reader.decode_node(plain)[0].first_path for _, _, plain in nodes] == [first for first, _, _ in nodes]
    assert blake3(varint(0)).digest()
