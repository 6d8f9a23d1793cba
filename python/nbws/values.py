"""What all reports share: they print well, compare, pickle and turn into JSON."""

from __future__ import annotations

import dataclasses
import html
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Report", "format_size", "time_from_ms"]

_BINARY_STEP = 1024


def format_size(size: float) -> str:
    """Returns a size in bytes as text for people, such as ``"1.5 MiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _BINARY_STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _BINARY_STEP
    return f"{size:.1f} TiB"


def _plain(value: Any) -> Any:
    if isinstance(value, Report):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def time_from_ms(milliseconds: int | None) -> datetime | None:
    """Returns a moment in UTC from milliseconds since 1970."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


@dataclass(frozen=True, slots=True)
class Report:
    """What every report can do."""

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``--json`` prints them: times are ISO 8601 in UTC, tuples are lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the report from the dict that the engine returned: lists become tuples, milliseconds times."""
        fields: dict[str, Any] = {}
        for name, value in values.items():
            nested = cls._NESTED.get(name)
            if name.endswith("_ms"):
                fields[name.removesuffix("_ms")] = time_from_ms(value)
            elif isinstance(value, list):
                fields[name] = tuple(nested.from_engine(item) if nested else item for item in value)
            else:
                fields[name] = nested.from_engine(value) if nested else value
        return cls(**fields)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{field.name}</th>"
            f"<td style='text-align:left'>{_cell(field.name, getattr(self, field.name))}</td></tr>"
            for field in dataclasses.fields(self)
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


_SHOWN_ITEMS = 20


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        shown = "<br>".join(_cell("", item) for item in value[:_SHOWN_ITEMS])
        more = len(value) - _SHOWN_ITEMS
        return f"{len(value)}<br>{shown}" + (f"<br>and {more} more" if more > 0 else "") if value else "none"
    if isinstance(value, Report):
        return html.escape(", ".join(f"{key}={item}" for key, item in value.to_dict().items()))
    if isinstance(value, int) and not isinstance(value, bool):
        is_size = name.endswith("bytes") or name.startswith("bytes_")
        return f"{value:,} ({format_size(value)})" if is_size else f"{value:,}"
    if name.endswith("_s"):
        return f"{value:.3f} s"
    return html.escape(str(_plain(value)).encode(errors="backslashreplace").decode())
