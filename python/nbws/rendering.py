"""How values look in a notebook: plain tables that take the page's own colours, so that they suit light and dark themes."""

from __future__ import annotations

import dataclasses
import html
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["format_size", "legible", "render_listing", "render_notes", "render_report"]

_BINARY_STEP = 1024
_SHOWN_ROWS = 50
_SHORT_ID = 12
_HASH_DIGITS = (32, 64)

# Notebook themes stripe tables and align cells to the right; what is said here wins, and colours are left to the theme.
_CAPTION = "caption-side:top;text-align:left;font-weight:bold;color:inherit;padding:0 0 4px 0"
_NAME = "text-align:left;vertical-align:top;font-weight:normal;opacity:.7;padding:2px 16px 2px 0"
_TITLE = "text-align:left;font-weight:normal;opacity:.7;padding:2px 16px 2px 0;border-bottom:1px solid currentColor"
_TEXT = "text-align:left;vertical-align:top;padding:2px 16px 2px 0"
_NUMBER = "text-align:right;vertical-align:top;padding:2px 16px 2px 0;font-variant-numeric:tabular-nums"
_WARNING = "font-weight:bold;color:#d9822b"


def format_size(size: float) -> str:
    """Returns a size in bytes as text for people, such as ``"1.5 MiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _BINARY_STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _BINARY_STEP
    return f"{size:.1f} TiB"


def legible(text: str) -> str:
    """Returns text without what drives terminals or is no text: controls, marks of direction and odd bytes are escaped."""
    safe = text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


def render_report(name: str, values: Mapping[str, Any]) -> str:
    """Returns a report as an HTML table of names and values."""
    rows = "".join(
        f"<tr><th style='{_NAME}'>{_title(field)}</th><td style='{_TEXT}'>{_shown(field, value)}</td></tr>"
        for field, value in values.items()
    )
    return f"<table style='border-collapse:collapse'><caption style='{_CAPTION}'>{html.escape(name)}</caption>{rows}</table>"


def render_listing(name: str, columns: Sequence[str], items: Sequence[object]) -> str:
    """Returns like items as an HTML table with a row for each, the first 50 of them; columns without values are left out."""
    shown = items[:_SHOWN_ROWS]
    used = [column for column in columns if any(_says_something(getattr(item, column)) for item in shown)]
    head = "".join(f"<th style='{_TITLE}'>{_title(column)}</th>" for column in used)
    body = "".join(
        "<tr>" + "".join(_table_cell(column, getattr(item, column)) for column in used) + "</tr>" for item in shown
    )
    count = f"{len(items):,}" + (f", the first {_SHOWN_ROWS} shown" if len(items) > _SHOWN_ROWS else "")
    caption = f"<caption style='{_CAPTION}'>{html.escape(name)} ({count})</caption>"
    return (
        f"<table style='border-collapse:collapse'>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def render_notes(notes: Sequence[str]) -> str:
    """Returns what a reader should know as an HTML list, the first 50 of them; nothing without any."""
    shown = "".join(f"<li>{html.escape(note)}</li>" for note in notes[:_SHOWN_ROWS])
    more = f"<li>and {len(notes) - _SHOWN_ROWS:,} more</li>" if len(notes) > _SHOWN_ROWS else ""
    return f"<ul>{shown}{more}</ul>" if notes else ""


def _title(name: str) -> str:
    # Values show their unit themselves.
    return html.escape(name.removesuffix("_ns").removesuffix("_s").replace("_", " "))


def _table_cell(column: str, value: Any) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td style='{_NUMBER if is_number else _TEXT}'>{_shown(column, value)}</td>"


def _says_something(value: Any) -> bool:
    return value is not None and value is not False and value != ()


def _shown(name: str, value: Any) -> str:
    """Returns one value as HTML."""
    if dataclasses.is_dataclass(value):
        shown = (_shown_field(field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        # The path of a whole is empty.
        return ", ".join(text for text in shown if text)
    return next((view(name, value) for kind, view in _VIEWS if isinstance(value, kind)), _shown_text(name, str(value)))


def _shown_field(name: str, value: Any) -> str:
    # A path or a reason speaks for itself.
    return _shown(name, value) if isinstance(value, str) else f"{html.escape(name)} {_shown(name, value)}"


def _shown_none(_: str, __: None) -> str:
    return "<span style='opacity:.5'>none</span>"


def _shown_bool(name: str, value: bool) -> str:
    word = "yes" if value else "no"
    is_alarming = (name == "complete" and not value) or (name == "partial" and value)
    return f"<span style='{_WARNING}'>{word}</span>" if is_alarming else word


def _shown_time(_: str, value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _shown_float(name: str, value: float) -> str:
    return f"{value:.3f} s" if name.endswith("_s") else f"{value:,.2f}"


def _shown_number(name: str, value: int) -> str:
    if name == "mode":
        return f"{value:04o}"
    if name == "mtime_ns":
        seconds, nanoseconds = divmod(value, 1_000_000_000)
        return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%d %H:%M:%S}.{nanoseconds:09} UTC"
    if name in {"bytes", "size"} or name.endswith("_bytes") or name.startswith("bytes_"):
        return f"<span title='{value:,} bytes'>{format_size(value)}</span>"
    return f"{value:,}"


def _shown_text(_: str, text: str) -> str:
    safe = html.escape("\n".join(map(legible, text.split("\n"))))
    if len(text) in _HASH_DIGITS and not text.strip("0123456789abcdef"):
        return f"<code title='{safe}'>{safe[:_SHORT_ID]}</code>"
    return safe


def _shown_items(_: str, items: tuple[Any, ...]) -> str:
    if not items:
        return _shown_none("", None)
    lines = "<br>".join(_shown("", item) for item in items[:_SHOWN_ROWS])
    if len(items) == 1:
        return lines
    more = f"<br>and {len(items) - _SHOWN_ROWS:,} more" if len(items) > _SHOWN_ROWS else ""
    return f"<details><summary>{len(items):,}</summary>{lines}{more}</details>"


# A bool is an int, too: the first that fits counts.
_VIEWS: tuple[tuple[type, Callable[[str, Any], str]], ...] = (
    (str, _shown_text),
    (bool, _shown_bool),
    (int, _shown_number),
    (float, _shown_float),
    (tuple, _shown_items),
    (datetime, _shown_time),
    (type(None), _shown_none),
)
