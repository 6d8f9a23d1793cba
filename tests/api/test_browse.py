"""Snapshots read without a restore: compared with the real tree, byte by byte."""

from __future__ import annotations

import copy
import io
import os
import pickle
import random
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws import errors
from nbws.testing.trees import Dir, File, Hardlink, Symlink, Tree, compare_trees, make_tree, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbws.entries import Entry

KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}


@pytest.fixture
def workspace(url: str, tree: Path) -> nbws.Workspace:
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(tree)
    return workspace


def facts(entry: Entry) -> tuple[object, ...]:
    return (entry.kind, entry.size, entry.mtime_ns, entry.mode if entry.kind != "symlink" else 0, entry.target)


def facts_on_disk(top: Path, path: bytes, status: os.stat_result) -> tuple[object, ...]:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    target = os.fsdecode(os.readlink(os.path.join(os.fsencode(top), path))) if kind == "symlink" else None
    size = status.st_size if kind == "file" else 0
    mode = stat.S_IMODE(status.st_mode) if kind != "symlink" else 0
    return (kind, size, status.st_mtime_ns, mode, target)


def test_ls_is_what_lies_on_disk(workspace: nbws.Workspace, tree: Path) -> None:
    snapshot = workspace.snapshot()
    expected = {os.fsdecode(path): facts_on_disk(tree, path, status) for path, status in walk(tree)}
    everything = snapshot.ls(recursive=True)
    assert {entry.path: facts(entry) for entry in everything} == expected
    assert [os.fsencode(entry.path) for entry in everything] == sorted(os.fsencode(path) for path in expected)
    top = snapshot.ls()
    assert {entry.path for entry in top} == {path for path in expected if "/" not in path}
    assert {entry.path for entry in snapshot.ls("src")} == {"src/a.py", "src/b.py", "src/b-again.py"}
    for spelled in ("/src/", "./src", b"src", "src//"):
        assert snapshot.ls(spelled) == snapshot.ls("src")
    assert snapshot.ls("hollow") == []
    (again,) = snapshot.ls("src/b.py")
    assert (again, again.link, again.xattrs) == (snapshot.stat("src/b.py"), "src/b-again.py", ("user.kind",))


def test_what_is_not_there(workspace: nbws.Workspace) -> None:
    snapshot = workspace.snapshot()
    for call in (snapshot.ls, snapshot.stat, snapshot.read, snapshot.open_file, snapshot.du):
        for path in ("nowhere", "src/nowhere", "notebook.ipynb/below", "sr"):
            with pytest.raises(errors.NotFound) as caught:
                call(path)
            assert isinstance(caught.value, FileNotFoundError)
        with pytest.raises(errors.InvalidInput):
            call("../outside")
        with pytest.raises(errors.InvalidInput):
            call("a\0b")
    for path in ("src", "latest", ""):
        with pytest.raises(errors.InvalidInput):
            snapshot.read(path)
    with pytest.raises(errors.NotFound):
        snapshot.export(io.BytesIO(), ["nowhere"])
    with pytest.raises(errors.InvalidInput):
        snapshot.export(io.BytesIO(), "src")


def test_every_file_reads_as_on_disk(workspace: nbws.Workspace, tree: Path) -> None:
    snapshot = workspace.snapshot()
    for path, status in walk(tree):
        if stat.S_ISREG(status.st_mode):
            with open(os.path.join(os.fsencode(tree), path), "rb") as file:
                content = file.read()
            assert snapshot.read(path) == content, path
            with snapshot.open_file(path) as opened:
                assert opened.read() == content


def test_an_open_file_reads_like_a_file(workspace: nbws.Workspace, tree: Path) -> None:
    draw = random.Random(7)
    for name in ("model.bin", "sparse.bin"):
        content = (tree / name).read_bytes()
        real = io.BytesIO(content)
        with workspace.snapshot().open_file(name) as file:
            assert file.seekable()
            assert file.readable()
            assert not file.writable()
            assert (file.seek(0, os.SEEK_END), file.read(10)) == (len(content), b"")
            for _ in range(200):
                at, length = draw.randrange(len(content) + 100), draw.choice([0, 1, 100, 70_000, 1_500_000])
                assert file.seek(at) == real.seek(at)
                assert file.read(length) == real.read(length)
                assert file.tell() == real.tell()
            assert file.seek(-5, os.SEEK_END) == len(content) - 5
            assert file.read() == content[-5:]
            with pytest.raises(ValueError, match="negative"):
                file.seek(-1)
            file.seek(1 << 62)
            assert file.read(1) == b""
        with pytest.raises(ValueError, match="closed"):
            file.read()


def test_du_adds_up(workspace: nbws.Workspace, tree: Path) -> None:
    snapshot = workspace.snapshot()
    sums = {usage.path: (usage.files, usage.logical_bytes) for usage in snapshot.du()}
    assert sum(files for files, _ in sums.values()) == snapshot.files
    assert sum(size for _, size in sums.values()) == snapshot.bytes
    assert sums["src"] == (3, 3 * len("print('a')\n"))
    assert sums["hollow"] == (0, 0)
    assert [usage.path for usage in snapshot.du("src")] == ["src/a.py", "src/b-again.py", "src/b.py"]
    (own,) = snapshot.du("model.bin")
    assert (own.files, own.logical_bytes) == (1, 512_000)
    assert list(workspace.usage().by_path) == snapshot.du()


HARD: Tree = {
    b"deep/" + b"n" * 200 + b"/" + b"m" * 250: File.of(b"a path of over 450 bytes"),
    b"long-link": Symlink(b"t" * 300),
    b"caf\xc3\xa9.txt": File.of(
        b"utf-8", xattrs={"user.empty": b"", "user.binary": bytes(range(256)), "user.a=b%c": b"x"}
    ),
    b"\xff\xfe/\xfd": File.of(b"not utf-8"),
    b"to-\xff": Symlink(b"\xff\xfe/\xfd"),
    b"\xff again": Hardlink(b"\xff\xfe/\xfd"),
    b"\xfd" * 150: File.of(b"long and not utf-8"),
    b"ancient": File.of(b"before 1970", mtime_ns=-1_500_000_000),
    b"exact": File.of(b"to the nanosecond", mtime_ns=1_600_000_000_000_000_001),
    b"set": Dir(0o1777),
    b"holes": File({5 << 20: b"end"}, (5 << 20) + 3),
    b"large": File.of(random.Random(3).randbytes(20_000_001)),
    b"aligned": File.of(b"x" * 1024),
    b"a": Dir(xattrs={"user.on": b"a directory"}),
    b"a-b": File.of(b"sorts between a and its entries"),
    b"a/c": File.of(b""),
}


def unpack(tar: bytes, directory: Path, *, locale: str = "C.UTF-8") -> None:
    directory.mkdir()
    result = subprocess.run(
        ["tar", "-x", "--xattrs", "--same-permissions", "-C", str(directory)],
        input=tar,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": locale},
    )
    assert result.returncode == 0
    # Old times and the standard's word for names that are no text are said, and honoured.
    expected = (b"implausibly old time stamp", b"unknown extended header keyword 'hdrcharset'")
    said = [line for line in result.stderr.splitlines() if not any(words in line for words in expected)]
    assert said == []


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_gnu_tar_opens_an_export(tree: Path, file_url: str, tmp_path: Path, locale: str) -> None:
    make_tree(HARD, tree)
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    out = io.BytesIO()
    report = workspace.snapshot().export(out)
    assert report.complete
    assert (report.bytes, report.files) == (len(out.getvalue()), workspace.snapshot().files)
    assert report.bytes % 10_240 == 0
    unpack(out.getvalue(), tmp_path / "unpacked", locale=locale)
    os.chmod(tmp_path / "unpacked", stat.S_IMODE(tree.stat().st_mode))
    assert compare_trees(tree, tmp_path / "unpacked", owners=os.geteuid() == 0) == []


def test_python_opens_an_export(workspace: nbws.Workspace, tree: Path) -> None:
    make_tree(HARD, tree)
    workspace.save(tree)
    out = io.BytesIO()
    workspace.snapshot().export(out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        members = {member.name: member for member in archive}
        expected = {os.fsdecode(path) for path, _ in walk(tree)}
        assert set(members) == expected
        assert members["to-\udcff"].linkname == "\udcff\udcfe/\udcfd"
        content = archive.extractfile(members["large"])
        assert content is not None
        assert content.read() == (tree / "large").read_bytes()


def test_an_export_of_some_paths(workspace: nbws.Workspace, tree: Path, tmp_path: Path) -> None:
    snapshot, out = workspace.snapshot(), io.BytesIO()
    # The leader of the hard link group is not wanted: the content comes with the one that is.
    report = snapshot.export(out, ["src/b.py", "hollow/"])
    assert report.files == 1
    unpack(out.getvalue(), tmp_path / "some")
    assert sorted(path for path, _ in walk(tmp_path / "some")) == [b"hollow", b"src", b"src/b.py"]
    assert (tmp_path / "some/src/b.py").read_bytes() == (tree / "src/b.py").read_bytes()


def test_an_export_goes_where_little_is_taken_at_once(workspace: nbws.Workspace, tmp_path: Path) -> None:
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, piece: object, /) -> int:
            some = bytes(memoryview(piece)[:100_000])  # type: ignore[arg-type]
            self.taken += some
            return len(some)

    slow, whole = Slow(), io.BytesIO()
    workspace.snapshot().export(slow)
    workspace.snapshot().export(whole)
    assert slow.taken == whole.getvalue()


def test_a_failing_writer_stops_an_export(workspace: nbws.Workspace) -> None:
    class Full:
        def write(self, piece: bytes) -> None:
            raise OSError(28, "no space left on device")

    with pytest.raises(OSError, match="no space left"):
        workspace.snapshot().export(Full())


def change(tree: Path) -> None:
    (tree / "model.bin").write_bytes(bytes(reversed(range(256))) * 2_000)
    os.utime(tree / "model.bin", ns=(0, 1_650_000_000_123_456_789))
    (tree / "notebook.ipynb").write_bytes(b"{}")
    os.chmod(tree / "src/a.py", 0o600)
    os.utime(tree / "empty", ns=(0, 5))
    (tree / "src/b-again.py").unlink()
    (tree / "latest").unlink()
    (tree / "latest").symlink_to("elsewhere")
    (tree / "hollow").rmdir()
    (tree / "hollow").write_bytes(b"now a file")
    (tree / "new").mkdir()
    (tree / "new/file").write_bytes(b"12345")
    os.setxattr(tree / "sparse.bin", "user.more", b"1")


def named(found: nbws.Diff) -> tuple[set[str], dict[str, set[str]], set[str]]:
    changed = {item.path: set(item.what) for item in found.changed}
    return {item.path for item in found.added}, changed, {item.path for item in found.removed}


CHANGES = (
    {"new", "new/file"},
    {
        "model.bin": {"content"},
        "notebook.ipynb": {"content", "mtime"},
        "src/a.py": {"mode"},
        "empty": {"mtime"},
        "latest": {"target", "mtime"},
        "hollow": {"kind"},
        "sparse.bin": {"xattrs"},
        "src/b.py": {"link"},  # its other name is gone
    },
    {"src/b-again.py"},
)


def test_diff_of_snapshots_and_of_a_directory(workspace: nbws.Workspace, tree: Path) -> None:
    old = workspace.snapshot()
    assert old.diff(old).is_empty
    assert old.diff(tree).is_empty
    change(tree)
    added, changed, removed = CHANGES
    expected = (added, changed, removed)
    by_directory = old.diff(tree)
    assert named(by_directory) == expected
    assert by_directory.skipped == ()
    workspace.save(tree)
    new = workspace.snapshot()
    by_snapshot = old.diff(new)
    assert named(by_snapshot) == expected
    assert new.diff(str(tree)).is_empty
    for other in (new.snapshot, new.snapshot[:6], "latest", new.time):
        assert old.diff(other) == by_snapshot
    assert new.diff("latest~1") == new.diff(old)
    back_added, back_changed, back_removed = named(new.diff(old))
    assert (back_removed, back_changed, back_added) == expected
    (model,) = [item for item in by_snapshot.changed if item.path == "model.bin"]
    assert (model.before.size, model.after.size) == (512_000, 512_000)
    sizes = {item.path: item.size for item in by_snapshot.added}
    assert sizes == {"new": 0, "new/file": 5}
    with pytest.raises(errors.NotFound):
        old.diff("./nowhere")
    with pytest.raises(errors.InvalidInput):
        old.diff("no such thing")


def test_a_diff_says_what_it_could_not_read(workspace: nbws.Workspace, tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    found = workspace.snapshot().diff(tree, exclude=["*.bin"])
    assert [item.path for item in found.skipped] == ["pipe"]
    assert {item.path for item in found.removed} == {"model.bin", "sparse.bin"}
    assert not found.is_empty


def test_rescues_are_browsed_like_snapshots(
    file_url: str, tree: Path, tmp_path: Path, machine: Callable[[str, str], nbws.Workspace]
) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    other = machine(file_url, "other")
    stray = make_tree({b"stray": File.of(b"unproven work")}, tmp_path / "stray")
    with pytest.raises(errors.InvalidState) as caught:
        other.save(stray)
    (rescue,) = other.rescues()
    assert caught.value.rescue == rescue.snapshot
    assert rescue.read("stray") == b"unproven work"
    assert other.rescue(rescue.snapshot[:8]) == other.find(rescue.snapshot) == rescue
    assert rescue.diff(stray).is_empty
    assert [item.path for item in rescue.diff("latest").removed] == ["stray"]
    with pytest.raises(errors.NotFound):
        other.find("0123456789")


def test_handles_stay_values(workspace: nbws.Workspace, url: str) -> None:
    snapshot = workspace.snapshot()
    (listed,) = workspace.snapshots()
    assert snapshot == listed
    assert hash(snapshot) == hash(listed)
    fields = "snapshot seq time comment files bytes tree_root framework python partial origin pinned eviction_date"
    assert " ".join(snapshot.to_dict()) == fields
    with pytest.raises(AttributeError):
        snapshot.files = 0  # type: ignore[misc]
    for twin in (pickle.loads(pickle.dumps(snapshot)), copy.copy(snapshot), copy.deepcopy(snapshot)):
        assert twin == snapshot
        assert twin.read("src/a.py") == b"print('a')\n"
    loose = nbws.Snapshot(**{name: getattr(snapshot, name) for name in snapshot.to_dict()})
    assert loose == snapshot
    with pytest.raises(errors.InvalidState):
        loose.ls()


def test_older_snapshots_stay_readable(workspace: nbws.Workspace, tree: Path) -> None:
    for round_ in range(3):
        (tree / "src/a.py").write_text(f"round {round_}\n")
        workspace.save(tree)
    assert [workspace.snapshot(f"latest~{back}").read("src/a.py") for back in range(4)] == [
        b"round 2\n",
        b"round 1\n",
        b"round 0\n",
        b"print('a')\n",
    ]


def test_damage_is_said_and_names_the_file(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(tree)
    snapshot = workspace.snapshot()
    (pack,) = (tmp_path / "objects/packs").rglob("*")
    content = bytearray(pack.read_bytes())
    # Contents stand before the tree: this is within the first frame.
    content[100] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(content)
    damaged = {}
    for entry in snapshot.ls(recursive=True):
        try:
            if entry.kind == "file":
                snapshot.read(entry.path)
        except errors.Corrupt as error:
            damaged[entry.path] = error
    assert damaged
    with pytest.raises(errors.Corrupt):
        snapshot.export(io.BytesIO())
