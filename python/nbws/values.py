"""What all reports share, and the count of requests that many have: they print well, compare, pickle and turn into JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping  # noqa: TC003  # others look the types of fields up at run time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Self

from nbws.rendering import format_size, render_report

__all__ = ["Report", "Requests", "format_size", "time_from_ms"]


def _plain(value: Any) -> Any:
    if isinstance(value, Report):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Decimal):
        # As text: a number of JSON would pass through binary fractions.
        return format(value, "f")
    return value


def time_from_ms(milliseconds: int | None) -> datetime | None:
    """Returns a moment in UTC from milliseconds since 1970."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


@dataclass(frozen=True, slots=True)
class Report:
    """What every report can do."""

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as ``--json`` prints them: times are ISO 8601 in UTC, amounts of money text, tuples lists."""
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
        return render_report(
            type(self).__name__, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        )


@dataclass(frozen=True, slots=True)
class Requests(Report):
    """Requests sent to the store, by verb."""

    put: int = 0
    get: int = 0
    list: int = 0
    head: int = 0
    delete: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.put + self.get + self.list + self.head + self.delete

    def __str__(self) -> str:
        named = ((name.upper(), count) for name, count in self.to_dict().items() if count)
        return ", ".join(f"{count} {name}" for name, count in named) or "none"
