"""Squarified tree maps: rectangles with areas in proportion to sizes, as square as possible.

The algorithm is that of Bruls, Huizing and van Wijk, *Squarified Treemaps* (2000). Pure numbers: `nbws.treemap_svg` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Node", "Rectangle", "squarify", "tree_of"]


_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A box: its upper left corner, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height

    def inset(self, left: float, top: float, right: float, bottom: float) -> Rectangle:
        """Returns what is left inside of margins; empty if they take all of it."""
        width, height = max(self.width - left - right, 0.0), max(self.height - top - bottom, 0.0)
        return Rectangle(self.x + left, self.y + top, width, height)


@dataclass(slots=True)
class Node:
    """A size with a name and, if it is known, what it consists of.

    Attributes:
        name: the last part of the path.
        path: the whole path.
        size: of all of it, not negative.
        children: what is known of it; they may be smaller than it together.
    """

    name: str
    path: str
    size: int
    children: list[Node] = field(default_factory=list)


def squarify(sizes: Sequence[float], box: Rectangle) -> list[Rectangle]:
    """Divides a box among sizes and returns a rectangle for each, in the order of the sizes.

    Areas are in proportion to sizes, rectangles fill the box and don't overlap. What has no size, or a negative one, gets an empty one.
    """
    whole = sum(size for size in sizes if size > 0)
    found = [Rectangle(box.x, box.y, 0.0, 0.0)] * len(sizes)
    if whole <= 0 or box.area <= 0:
        return found
    # As shares of the whole first: sums of sizes may be too large to multiply. What rounding would swallow is nothing.
    order = sorted((at for at, size in enumerate(sizes) if size / whole > _NOTHING), key=lambda at: -sizes[at])
    areas = [sizes[at] / whole * box.area for at in order]
    start, free = 0, box
    while start < len(areas):
        side = min(free.width, free.height)
        end, total = start + 1, areas[start]
        while end < len(areas) and _worst(areas[start], areas[end], total + areas[end], side) <= _worst(
            areas[start], areas[end - 1], total, side
        ):
            total += areas[end]
            end += 1
        placed, free = _row(areas[start:end], total, free, is_last=end == len(areas))
        for at, rectangle in zip(order[start:end], placed, strict=True):
            found[at] = rectangle
        start = end
    return found


def _worst(largest: float, smallest: float, total: float, side: float) -> float:
    """The most stretched rectangle of a row along a side: the longer edge over the shorter one."""
    if smallest <= 0 or side <= 0:
        return float("inf")
    return max(side * side * largest / (total * total), total * total / (side * side * smallest))


def _row(areas: Sequence[float], total: float, free: Rectangle, *, is_last: bool) -> tuple[list[Rectangle], Rectangle]:
    """Places a row along the shorter side; returns its rectangles and what stays free."""
    is_upright = free.width >= free.height
    side, other = (free.height, free.width) if is_upright else (free.width, free.height)
    # The last row takes what is left, so that rounding leaves no gap and reaches past no edge.
    depth = other if is_last or side <= 0 else min(total / side, other)
    placed, at = [], 0.0
    for number, area in enumerate(areas, start=1):
        length = side - at if number == len(areas) else min(area / total * side, side - at)
        if is_upright:
            placed.append(Rectangle(free.x, free.y + at, depth, length))
        else:
            placed.append(Rectangle(free.x + at, free.y, length, depth))
        at += length
    rest = free.inset(depth, 0, 0, 0) if is_upright else free.inset(0, depth, 0, 0)
    return placed, rest


def tree_of(rows: Iterable[tuple[str, int]], path: str = "", size: int | None = None) -> Node:
    """Makes a tree of rows of paths and sizes, of which each contains those below it; largest first.

    Args:
        rows: paths and sizes in any order. A path whose directory is not among them belongs to the top.
        path: the top.
        size: of the top; without it the sum of what lies directly in it.
    """
    top = Node(path or "/", path, 0)
    nodes = {row_path: Node(row_path.rpartition("/")[2], row_path, max(row_size, 0)) for row_path, row_size in rows}
    for node in sorted(nodes.values(), key=lambda node: (-node.size, node.path)):
        nodes.get(node.path.rpartition("/")[0], top).children.append(node)
    top.size = sum(child.size for child in top.children) if size is None else size
    return top
