"""Tree maps: areas in proportion, nothing overlaps, nothing reaches out of the box."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbws.rendering import legible
from nbws.treemap import Node, Rectangle, squarify, tree_of
from nbws.treemap_svg import render_treemap

sizes = st.lists(
    st.one_of(st.integers(0, 10), st.integers(0, 1 << 62), st.floats(0, 1e15), st.integers(-5, 0)), max_size=40
)
boxes = st.builds(Rectangle, st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 2_000), st.floats(1, 2_000))


@settings(max_examples=300)
@given(sizes=sizes, box=boxes)
def test_areas_are_in_proportion_and_fill_the_box(sizes: list[float], box: Rectangle) -> None:
    found = squarify(sizes, box)
    assert len(found) == len(sizes)
    whole = sum(size for size in sizes if size > 0)
    near = 1e-6 * (1 + max(box.width, box.height))
    for size, rectangle in zip(sizes, found, strict=True):
        share = max(size, 0) / whole if whole else 0.0
        assert rectangle.area == pytest.approx(share * box.area, rel=1e-6, abs=1e-6 * box.area)
        assert rectangle.x >= box.x - near
        assert rectangle.y >= box.y - near
        assert rectangle.x + rectangle.width <= box.x + box.width + near
        assert rectangle.y + rectangle.height <= box.y + box.height + near
    assert sum(rectangle.area for rectangle in found) == pytest.approx(box.area if whole else 0.0)
    for one, other in itertools.combinations(found, 2):
        width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
        height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
        assert min(width, height) <= near


def test_the_example_of_the_paper() -> None:
    found = squarify([6, 6, 4, 3, 2, 2, 1], Rectangle(0, 0, 6, 4))
    assert [(round(r.width, 2), round(r.height, 2)) for r in found[:2]] == [(3, 2), (3, 2)]
    assert max(max(r.width / r.height, r.height / r.width) for r in found) < 3
    # In the order of the sizes that were given, whatever that is.
    turned = squarify([1, 2, 2, 3, 4, 6, 6], Rectangle(0, 0, 6, 4))
    assert sorted(r.area for r in turned) == pytest.approx(sorted(r.area for r in found))
    assert turned[0].area == pytest.approx(1)


@pytest.mark.parametrize("nothing", [[], [0], [0, 0, -3]])
def test_nothing_takes_no_room(nothing: list[float]) -> None:
    assert all(rectangle.area == 0 for rectangle in squarify(nothing, Rectangle(0, 0, 5, 5)))


def test_trees_of_rows() -> None:
    rows = [("a/b", 3), ("c", 1), ("a", 5), ("a/d", 2), ("x/y", 4)]
    top = tree_of(rows)
    assert [(child.path, child.name, child.size) for child in top.children] == [
        ("a", "a", 5), ("x/y", "y", 4), ("c", "c", 1),
    ]  # fmt: skip
    assert [child.path for child in top.children[0].children] == ["a/b", "a/d"]
    assert top.size == 10
    assert tree_of(rows, "up", 12).size == 12


def drawn(svg: str) -> list[ET.Element]:
    top = ET.fromstring(svg)  # made here
    box = [float(part) for part in top.attrib["viewBox"].split()]
    found = list(top.iter("{http://www.w3.org/2000/svg}rect"))
    for rect in found:
        x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= -0.1
        assert y >= -0.1
        assert x + width <= box[2] + 0.2
        assert y + height <= box[3] + 0.2
    return found


@given(
    names=st.lists(st.text(max_size=12), min_size=1, max_size=12, unique=True),
    sizes=st.lists(st.integers(0, 1 << 50), min_size=12, max_size=12),
)
def test_any_names_make_valid_svg(names: list[str], sizes: list[int]) -> None:
    rows = [(name, size) for name, size in zip(names, sizes, strict=False)]
    rows += [(f"{name}/{name}", size // 2) for name, size in rows]
    svg = render_treemap(tree_of(rows), 300, 200)
    drawn(svg)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", svg)


def test_chains_and_what_is_too_small() -> None:
    deep = [("a", 100), ("a/b", 100), ("a/b/c", 60), ("a/b/d", 40)]
    svg = render_treemap(tree_of(deep), 400, 300)
    assert "a/b" in svg
    assert len(drawn(svg)) == 3
    crowd = [("big", 1_000_000), *((f"small-{n}", 100) for n in range(500))]
    found = drawn(render_treemap(tree_of(crowd), 400, 300))
    assert len(found) == 2
    assert len(drawn(render_treemap(Node("", "", 0), 400, 300))) == 0
    assert "500 smaller" in render_treemap(tree_of(crowd), 400, 300)


def test_text_that_drives_terminals_is_escaped() -> None:
    assert legible("a\x1b[31m\u202eb\udcff") == "a\\x1b[31m\\u202eb\\xff"
