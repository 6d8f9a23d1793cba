"""What fills a workspace and what made it grow, against sums of their own over what the independent reader finds."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from arro3.core import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbws import reader
from nbws.catalogue.categories import categories, parse
from nbws.errors import InvalidInput, InvalidState, NotFound
from nbws.testing.strategies import trees
from nbws.testing.trees import Dir, File, make_tree
from nbws.usage import PathGrowth, PathUsage
from nbws.usage_page import growth_page, usage_page

if TYPE_CHECKING:
    from nbws.testing.trees import Node, Tree

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
FIGURES = ("logical_bytes", "files", "unique_bytes", "stored_bytes")


def share(at: reader.Location) -> int:
    """A chunk's part of its frame, as docs/guides/what-fills-it.md defines it."""

    def before(plain: int) -> int:
        return at.stored_length * plain // at.plain_length

    return before(at.chunk_offset + at.chunk_length) - before(at.chunk_offset)


def is_within(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(top + "/")


class Oracle:
    """One snapshot as the second reader sees it: paths in order, sizes, and the chunks of each."""

    def __init__(self, objects: Path, snapshot: str) -> None:
        repository = reader.Repository(objects)
        index = repository.read_index()
        root = repository.snapshot(repository.resolve(snapshot))
        self.places: dict[bytes, reader.Location] = {}
        self.entries: list[tuple[str, int, int, list[bytes]]] = []
        for entry in repository.entries(root):
            runs = list(repository.runs(entry)) if entry.kind == reader.FILE else []
            for run in runs:
                self.places[run.id] = next(index.locations(run.id))
            is_file = int(entry.kind in (reader.FILE, reader.SYMLINK))
            size = entry.size if entry.kind == reader.FILE else 0
            self.entries.append((os.fsdecode(entry.path), is_file, size, [run.id for run in runs]))

    def chunks(self, top: str) -> set[bytes]:
        return {chunk for path, _, _, chunks in self.entries if is_within(path, top) for chunk in chunks}

    def rows(self, top: str, depth: int) -> dict[str, Counter[str]]:
        """Sums at and below each path down to a depth; the top's own is under None's place, the empty key ``"."``."""
        found: dict[str, Counter[str]] = {".": Counter()}
        seen: set[bytes] = set()
        for path, is_file, size, chunks in self.entries:
            if not is_within(path, top):
                continue
            parts = path.removeprefix(top).strip("/").split("/") if path != top else [""]
            own = Counter({"files": is_file, "logical_bytes": size})
            for chunk in dict.fromkeys(chunks):
                if chunk not in seen:
                    seen.add(chunk)
                    at = self.places[chunk]
                    own["unique_bytes"] += at.chunk_length
                    own["stored_bytes"] += share(at)
            found["."].update(own)
            for level in range(1, min(depth, len(parts)) + 1):
                key = "/".join(part for part in (top, *parts[:level]) if part)
                if key != top or is_file:
                    found.setdefault(key, Counter()).update(own)
        return found


def same(row: Any, expected: Counter[str]) -> bool:
    return all(getattr(row, figure) == expected[figure] for figure in FIGURES)


def check_usage(usage: nbws.Usage, oracle: Oracle, top: str, depth: int) -> None:
    expected = oracle.rows(top, depth)
    assert same(usage.total, expected.pop("."))
    assert [row.path for row in usage.by_path] == sorted(expected, key=os.fsencode)
    for row in usage.by_path:
        assert same(row, expected[row.path]), row
    for figure in FIGURES:
        assert sum(getattr(row, figure) for row in usage.by_category) == getattr(usage.total, figure)
    parts = usage.total.stored_bytes + usage.metadata_bytes + usage.other_bytes + usage.overhead_bytes
    assert parts == usage.stored_bytes
    check_siblings(usage.by_path, usage.total, top, depth)


def check_siblings(rows: tuple[PathUsage, ...], total: PathUsage, top: str, depth: int) -> None:
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        sums.setdefault(row.path.rpartition("/")[0], Counter()).update({f: getattr(row, f) for f in FIGURES})
    if depth and rows and rows[0].path != top:
        assert same(total, sums[top])
    for row in rows:
        if row.path in sums:
            assert same(row, sums[row.path]), row


def directories(tree: Tree) -> list[str]:
    return sorted({os.fsdecode(path).rpartition("/")[0] for path in tree})


@EXAMPLES
@given(tree=trees(), data=st.data())
def test_any_tree_adds_up_at_any_depth(tree: Tree, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        workspace = nbws.Workspace.open((place / "objects").as_uri(), create=True, state_dir=place / "state")
        workspace.save(make_tree(tree, place / "work"))
        oracle = Oracle(place / "objects", "latest")
        for depth in (0, 1, 2, 9):
            check_usage(workspace.usage(depth=depth), oracle, "", depth)
        top = data.draw(st.sampled_from([os.fsdecode(path) for path in tree] or [""]))
        check_usage(workspace.usage(top, depth=2), oracle, top, 2)
        assert workspace.usage(top).by_path == tuple(workspace.snapshot().du(top))


@EXAMPLES
@given(before=trees(), after=trees(), keeps=st.booleans(), data=st.data())
def test_growth_of_any_two_trees_is_their_difference(
    before: Tree, after: Tree, keeps: bool, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        workspace = nbws.Workspace.open((place / "objects").as_uri(), create=True, state_dir=place / "state")
        one = workspace.save(make_tree(before, place / "one")).snapshot
        if keeps:
            # A copy of it all besides: chunks that both have.
            copies = {
                b"kept/" + path: node for path, node in before.items() if b"/" not in path and isinstance(node, File)
            }
            after = {b"kept": Dir(), **{path: node for path, node in after.items() if path[:4] != b"kept"}, **copies}
        two = workspace.save(make_tree(after, place / "two"), take_over=True).snapshot
        first, second = Oracle(place / "objects", one), Oracle(place / "objects", two)
        tops = [os.fsdecode(path) for path in {**before, **after}]
        for top in ("", data.draw(st.sampled_from(tops or [""]))):
            check_growth(workspace.growth(one, two, path=top, depth=2), first, second, top)
        steps = workspace.growth_history()
        assert [(step.before, step.after) for step in steps] == ([(one, two)] if one != two else [])


def check_growth(growth: nbws.Growth, first: Oracle, second: Oracle, top: str) -> None:
    was, now = first.chunks(top), second.chunks(top)
    new = sum(share(second.places[chunk]) for chunk in now - was)
    gone = sum(share(first.places[chunk]) for chunk in was - now)
    assert (growth.total.new_stored_bytes, growth.total.gone_stored_bytes) == (new, gone)
    differences = Counter(second.rows(top, 0)["."])
    differences.subtract(first.rows(top, 0)["."])
    assert same(growth.total, differences)
    ours, theirs = second.rows(top, 2), first.rows(top, 2)
    for key in ours.keys() | theirs.keys() - {"."}:
        expected = ours.get(key, Counter())["logical_bytes"] - theirs.get(key, Counter())["logical_bytes"]
        found = [row.logical_bytes for row in growth.by_path if row.path == key]
        assert found in ([expected], [] if expected == 0 or key == "." else [expected])
    for row in growth.by_path:
        assert row.stored_bytes == row.new_stored_bytes - row.gone_stored_bytes
    outermost = [row for row in growth.by_path if "/" not in row.path.removeprefix(top).strip("/")]
    for figure in (*FIGURES, "new_stored_bytes", "gone_stored_bytes"):
        whole = getattr(growth.total, figure)
        assert sum(getattr(row, figure) for row in outermost) == whole
        assert sum(getattr(row, figure) for row in growth.by_category) == whole


@pytest.fixture
def filled(file_url: str, tmp_path: Path) -> nbws.Workspace:
    tree: Tree = {
        b".venv/lib/a.py": File.of(b"import b\n" * 3_000),
        b".venv/lib/__pycache__/a.pyc": File.of(bytes(range(250)) * 40),
        b".git/objects/aa": File.of(b"blob" * 100),
        b".local/share/Trash/files/old": File.of(b"old" * 50),
        b"n.ipynb": File.of(b"{}\n" * 20),
        b".ipynb_checkpoints/n-checkpoint.ipynb": File.of(b"{}\n" * 20),
        b"data/a.csv": File.of(b"1,2\n" * 500),
        b"src/a.py": File.of(b"print()\n" * 10),
        b"what-is-it": File.of(b"?"),
    }
    with_directories: dict[bytes, Node] = {}
    for path, node in tree.items():
        for at, byte in enumerate(path):
            if byte == ord("/"):
                with_directories.setdefault(path[:at], Dir())
        with_directories[path] = node
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(make_tree(with_directories, tmp_path / "work"))
    return workspace


def test_categories(filled: nbws.Workspace) -> None:
    sums = {row.category: row.logical_bytes for row in filled.usage().by_category}
    assert list(sums) == [*(name for name, _ in categories()), "other"]
    assert sums == {
        "trash": 150,
        "checkpoints": 60,
        "caches": 10_000,
        "vcs": 400,
        "environment": 27_000,
        "notebooks": 60,
        "code": 80,
        "data": 2_000,
        "other": 1,
    }


def test_categories_are_data() -> None:
    text = '[[category]]\nname = "a"\ncleanable = true\npatterns = ["x/"]\n[[category]]\nname = "b"\npatterns = []\n'
    cleanable = '[[cleanable]]\nname = "q"\ncategory = "a"\npatterns = ["x/", "y"]\n[[cleanable]]\ncategory = "b"\npatterns = ["z"]\n'
    assert parse(text) == [("a", ["x/"]), ("b", [])]
    assert parse(text, cleanable) == [("a", ["x/", "y"]), ("b", [])]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[category]", "TOML"),
        ("category = 1", "list of tables"),
        ("[[category]]\npatterns = []", "None"),
        ('[[category]]\nname = "other"\npatterns = []', "other"),
        ('[[category]]\nname = "a"\npatterns = []\n[[category]]\nname = "a"\npatterns = []', "'a'"),
        ('[[category]]\nname = "a"\npatterns = [""]', "'a'"),
        ('[[category]]\nname = "a"\npatterns = ["x"]\ncolour = 1', "colour"),
        ('[[category]]\nname = "a"\npatterns = ["x"]\ncleanable = "yes"', "cleanable"),
    ],
)
def test_bad_categories_are_named(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse(text)


def test_growth_says_what_made_it_grow(filled: nbws.Workspace, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "data/b.bin").write_bytes(os.urandom(200_000))
    (work / ".venv").rename(work / "venv")
    shutil.rmtree(work / ".git")
    filled.save(work)
    growth = filled.snapshot().growth("latest~1")
    assert [row.path for row in growth.by_path[:2]] == ["data", ".git"]
    rows = {row.path: row for row in growth.by_path}
    assert rows["data"].new_stored_bytes > 200_000 > rows["data"].gone_stored_bytes == 0
    assert rows[".git"].gone_stored_bytes > 0 == rows[".git"].new_stored_bytes
    assert rows["venv"].logical_bytes == 37_000
    assert rows["venv"].stored_bytes == 0, "it only moved"
    again = filled.growth("latest~1", "latest")
    assert growth == dataclasses.replace(again, requests=growth.requests)
    assert filled.growth("latest", "latest~1").total.stored_bytes == -growth.total.stored_bytes
    assert [row.category for row in growth.by_category] == ["data", "vcs"]
    first, second = (filled.usage(snapshot=name) for name in ("latest~1", "latest"))
    assert growth.metadata_bytes == second.metadata_bytes - first.metadata_bytes
    for figure in FIGURES:
        assert getattr(growth.total, figure) == getattr(second.total, figure) - getattr(first.total, figure)
    assert filled.growth("latest", "latest").by_path == ()
    assert filled.growth("latest~1", path="data", largest=0).by_path == ()
    assert pickle.loads(pickle.dumps(growth)) == growth


def test_of_each_directory_the_largest(filled: nbws.Workspace) -> None:
    usage = filled.usage(depth=3, largest=1)
    assert [row.path for row in usage.by_path] == [".venv", ".venv/lib", ".venv/lib/a.py"]
    assert usage.total == filled.usage(depth=0).total


def test_rows_as_arrow(filled: nbws.Workspace) -> None:
    usage = filled.usage()
    table = Table.from_arrow(nbws.Listing(PathUsage, usage.by_path))
    assert table.column("stored_bytes").to_pylist() == [row.stored_bytes for row in usage.by_path]
    assert table.column_names == [field.name for field in dataclasses.fields(PathUsage)]
    growth = filled.growth("latest", "latest")
    assert Table.from_arrow(nbws.Listing(PathGrowth, growth.by_path)).num_rows == 0


@pytest.mark.parametrize("bad", [{"depth": -1}, {"depth": "2"}, {"depth": True}, {"largest": -1}, {"largest": 1 << 40}])
def test_numbers_that_are_none(filled: nbws.Workspace, bad: dict[str, Any]) -> None:
    for verb in (filled.usage, filled.snapshot().usage, filled.growth_history):
        with pytest.raises(InvalidInput, match=next(iter(bad))):
            verb(**bad)


def test_paths_and_snapshots_that_are_not_there(filled: nbws.Workspace) -> None:
    for verb in (filled.usage, filled.snapshot().usage, filled.growth_history):
        with pytest.raises(NotFound):
            verb("nowhere")
        with pytest.raises(InvalidInput):
            verb("../up")
    with pytest.raises(NotFound):
        filled.usage(snapshot="abcd")
    with pytest.raises(NotFound):
        filled.growth("latest~7")
    with pytest.raises(NotFound):
        filled.usage(snapshot="2001-01-01T00:00:00Z")
    with pytest.raises(InvalidState):
        dataclasses.replace(filled.snapshot()).usage()


def test_a_repository_without_snapshots(url: str) -> None:
    workspace = nbws.Workspace.open(url, create=True)
    usage = workspace.usage()
    assert (usage.snapshot, usage.total.files, usage.by_path) == (None, 0, ())
    assert workspace.growth_history() == ()
    with pytest.raises(NotFound):
        workspace.usage("data")


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "data", "action"}]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_need_nothing_and_escape_names(file_url: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    rude = "<script>alert(1)<b>&\"'\x1b[31m\u202e"
    (work / rude).mkdir(parents=True)
    (work / rude / "a'b\"><img src=x>").write_bytes(os.urandom(40_000))
    (work / os.fsdecode(b"\xff")).write_bytes(os.urandom(20_000))
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(work)
    (work / "more").write_bytes(os.urandom(30_000))
    workspace.save(work)
    pages = [
        usage_page(workspace.usage(depth=4, largest=60)),
        growth_page(workspace.growth("latest~1", depth=4)),
        "<p>" + workspace.usage(depth=2)._repr_html_(),
        "<p>" + workspace.growth("latest~1")._repr_html_(),
    ]
    for page in pages:
        found = Page(page)
        assert found.links == []
        assert not found.tags.keys() & {"script", "img", "link", "iframe", "object"}
        assert not set(page) & {"\x1b", "\u202e"}
        page.encode("utf-8")
    assert "<script>alert(1)" in Page(pages[0]).text
    assert "\\xff" in Page(pages[0]).text
    assert Page(pages[0]).tags["svg"] == 2
    assert Page(pages[2]).tags["svg"] == 1
