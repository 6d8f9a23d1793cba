"""Draws tree maps as SVG that needs nothing else: no script, no network, no font. Suits light and dark pages.

Colours are laid over whatever the page has as its background, and text takes the page's own colour.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from nbws.rendering import format_size, legible
from nbws.treemap import Node, Rectangle, squarify

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["render_treemap"]

# Hues that differ for people with any kind of colour vision (Okabe and Ito); lightness is left to the page.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
_CHARACTER = 6.6  # width of a character of 12 pixels, about
_LINE = 15.0
_HEAD = 17.0
_MARGIN = 2.0
_LEAST = 2.0
_LEAST_ROOM = 4
_FOLDED_BELOW = 0.002
_OPACITY = (0.34, 0.20, 0.16)


def render_treemap(root: Node, width: int = 960, height: int = 540, label: str = "Tree map") -> str:
    """Returns a tree map as an SVG element. What is smaller than a five-hundredth of its directory is drawn as one box.

    Args:
        root: what is drawn.
        width: in pixels; a page may show it smaller.
        height: in pixels.
        label: what it shows, for those who can't see it.
    """
    parts: list[str] = []
    children = _folded(root)
    boxes = squarify([child.size for child in children], Rectangle(0, 0, width, height))
    for number, (child, box) in enumerate(zip(children, boxes, strict=True)):
        _draw(parts, child, box, (_COLOURS[number % len(_COLOURS)], 0, root.size))
    if not parts:
        parts.append(f"<text x='8' y='20' fill='currentColor'>nothing here: {format_size(root.size)}</text>")
    style = f"width:100%;max-width:{width}px;height:auto;display:block;font:12px system-ui,sans-serif"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{html.escape(legible(label), quote=True)}' style='{style}'>{''.join(parts)}</svg>"
    )


def _folded(node: Node) -> list[Node]:
    """The children of a node that can be seen, and one for all others and for what is not known."""
    least = max(node.size, sum(child.size for child in node.children)) * _FOLDED_BELOW
    seen = [child for child in node.children if child.size > least]
    hidden = sum(1 for child in node.children if 0 < child.size <= least)
    rest = node.size - sum(child.size for child in seen)
    if rest > 0 and node.children:
        name = f"{hidden:,} smaller" if hidden else "rest"
        seen.append(Node(name, f"{node.path}/… ({name})" if node.path else f"… ({name})", rest))
    return seen


def _joined(node: Node) -> Node:
    """A directory that holds nothing but another one is shown as one: ``lib/python3.12/site-packages``."""
    while len(node.children) == 1 and node.children[0].size == node.size and node.children[0].children:
        only = node.children[0]
        node = Node(f"{node.name}/{only.name}", only.path, only.size, only.children)
    return node


def _draw(parts: list[str], node: Node, box: Rectangle, look: tuple[str, int, int]) -> None:
    node = _joined(node)
    colour, level, whole = look
    if box.width < _LEAST or box.height < _LEAST:
        return
    share = node.size / whole if whole else 0.0
    title = f"{legible(node.path)}\n{format_size(node.size)}, {share:.1%}"
    opacity = _OPACITY[min(level, len(_OPACITY) - 1)]
    parts.append(
        f"<g><title>{html.escape(title)}</title>"
        f"<rect x='{box.x:.1f}' y='{box.y:.1f}' width='{box.width:.1f}' height='{box.height:.1f}' rx='2' "
        f"fill='{colour}' fill-opacity='{opacity}' stroke='{colour}' stroke-opacity='.9' stroke-width='1'/>"
    )
    children = _folded(node)
    inside = box.inset(_MARGIN + 1, _HEAD, _MARGIN + 1, _MARGIN + 1)
    if children and inside.width > 4 * _CHARACTER and inside.height > _LINE:
        _write(parts, box, [f"{node.name}  {format_size(node.size)}", node.name])
        parts.append("</g>")
        for child, below in zip(children, squarify([c.size for c in children], inside), strict=True):
            shrunk = below.inset(0.5, 0.5, 0.5, 0.5)
            _draw(parts, child, shrunk, (colour, level + 1, whole))
        return
    _write(parts, box, [node.name])
    if box.height > 2 * _LINE + 4 and len(format_size(node.size)) <= _room(box):
        _write(parts, box.inset(0, _LINE, 0, 0), [format_size(node.size)], faint=True)
    parts.append("</g>")


def _room(box: Rectangle) -> int:
    return int((box.width - 8) / _CHARACTER)


def _write(parts: list[str], box: Rectangle, texts: Sequence[str], *, faint: bool = False) -> None:
    """Writes the first text that fits, or the beginning of the last one; nothing where there is no room."""
    room = _room(box)
    if box.height < _LINE or room < _LEAST_ROOM:
        return
    shown = next((text for text in map(legible, texts) if len(text) <= room), None)
    if shown is None:
        shown = legible(texts[-1])[: room - 1] + "…"
    opacity = " fill-opacity='.75'" if faint else ""
    parts.append(
        f"<text x='{box.x + 4:.1f}' y='{box.y + 12.5:.1f}' fill='currentColor'{opacity} "
        f"style='white-space:pre;pointer-events:none'>{html.escape(shown)}</text>"
    )
