"""Bars and columns for terminals: Unicode where the output can carry it, else ASCII; no wider than asked."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbws.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Row", "bar", "can_draw", "lines", "shortened", "width_of"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDE = {"W", "F"}
_GAP = "  "
_ANY_WIDTH = 1 << 20
_MOST_BAR = 30
_LEAST_BAR = 8
_LEAST_PATH = 16
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    Attributes:
        cells: what stands before the bar, right-aligned; where it is narrow, the first ones are left out, but for two.
        share: length of the bar, from 0 to 1.
        name: what stands at the end.
        level: how far it is indented.
    """

    cells: tuple[str, ...]
    share: float
    name: str
    level: int = 0


def can_draw(encoding: str | None) -> bool:
    """Returns whether a stream with this encoding can carry block characters."""
    try:
        _EIGHTHS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(share: float, width: int, *, blocks: bool) -> str:
    """Returns a bar that fills its share of a width, padded; whatever is not nothing can be seen."""
    share = min(max(share, 0.0), 1.0)
    if not blocks:
        full = round(share * width) or int(share > 0)
        return "#" * full + "." * (width - full)
    eighths = round(share * width * 8) or int(share > 0)
    full, rest = divmod(eighths, 8)
    drawn = _EIGHTHS[-1] * full + (_EIGHTHS[rest] if rest else "")
    return drawn + " " * (width - len(drawn))


def width_of(text: str) -> int:
    """Returns how many columns text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in _WIDE else 1 for c in text)


def shortened(text: str, width: int, *, blocks: bool) -> str:
    """Returns text that takes no more columns than `width`; where it was cut, in the middle, it says so."""
    if width_of(text) <= width:
        return text
    mark = "…" if blocks else "..."
    room = max(width - len(mark), 0)
    head = _taken(text, room // 2)
    tail = _taken(text[::-1], room - width_of(head))[::-1]
    return (head + mark + tail) if room else mark[:width]


def _taken(text: str, width: int) -> str:
    taken = 0
    for at, character in enumerate(text):
        taken += width_of(character)
        if taken > width:
            return text[:at]
    return text


def lines(titles: Sequence[str], rows: Sequence[Row], width: int | None, *, blocks: bool) -> list[str]:
    """Returns a line of titles and one for each row, none wider than `width` if that is 50 at least; without one there are no bars."""
    columns = [[title, *(row.cells[at] for row in rows)] for at, title in enumerate(titles[:-1])]
    sizes = [max(map(len, column)) for column in columns]
    with_bars, width = width is not None, _ANY_WIDTH if width is None else width
    room = width - _LEAST_PATH
    first = 0
    while first < len(sizes) - _KEPT and sum(sizes[first:]) + len(_GAP) * (len(sizes) - first) + _LEAST_BAR > room:
        first += 1
    left = width - sum(sizes[first:]) - len(_GAP) * (len(sizes) - first)
    bar_width = min(_MOST_BAR, left // 3) if with_bars and left // 3 >= _LEAST_BAR else 0
    path_width = left - (bar_width + len(_GAP) if bar_width else 0)

    def line(cells: Sequence[str], drawn: str, name: str) -> str:
        parts = [cell.rjust(size) for cell, size in zip(cells[first:], sizes[first:], strict=True)]
        return _GAP.join([*parts, *([drawn] if bar_width else []), name]).rstrip()

    found = [line(titles[:-1], " " * bar_width, shortened(titles[-1], path_width, blocks=blocks))]
    for row in rows:
        indent = _GAP * min(row.level, path_width // 4)
        name = indent + shortened(printable(row.name), path_width - len(indent), blocks=blocks)
        found.append(line(row.cells, bar(row.share, bar_width, blocks=blocks), name))
    return found
