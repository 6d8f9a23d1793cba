"""Reports as Arrow tables, one column for each field. Needs ``arro3-core``."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

try:
    from arro3.core import Array, DataType, Field, Table, list_array
except ImportError as _missing:
    raise ImportError("exporting to Arrow needs arro3-core: pip install 'nbws[arrow]'") from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nbws.values import Report

__all__ = ["table_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def table_of(kind: type[Report], items: Iterable[Report]) -> Table:
    """Returns a table of reports of one class.

    Raises:
        TypeError: a field is of a type that no column can hold.
    """
    rows = list(items)
    columns: dict[str, Any] = {}  # arro3's annotation takes no dict of arrays
    for field in dataclasses.fields(kind):
        values = [getattr(row, field.name) for row in rows]
        columns[field.name] = _column(kind, field.name, str(field.type).removesuffix(" | None"), values)
    return Table.from_pydict(columns)


def _column(kind: type[Report], name: str, written_type: str, values: Sequence[Any]) -> Array:
    if name.endswith("_ns"):
        return Array(values, DataType.int64()).cast(DataType.timestamp("ns", tz="UTC"))
    try:
        build = _COLUMNS[written_type]
    except KeyError:
        raise TypeError(f"{kind.__name__}.{name} is {written_type}: no column holds that") from None
    return build(values)


def _texts(values: Iterable[str | None]) -> Array:
    return Array([None if value is None else _utf8(value) for value in values], DataType.utf8())


def _times(values: Iterable[datetime | None]) -> Array:
    moments = [None if value is None else (value - _EPOCH) // timedelta(milliseconds=1) for value in values]
    return Array(moments, DataType.int64()).cast(DataType.timestamp("ms", tz="UTC"))


def _text_lists(values: Sequence[Sequence[str]]) -> Array:
    ends = [0, *accumulate(len(texts) for texts in values)]
    item = DataType.list(Field("item", DataType.utf8()))
    return list_array(Array(ends, DataType.int32()), _texts(text for texts in values for text in texts), type=item)


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


_COLUMNS: dict[str, Callable[[Any], Array]] = {
    "str": _texts,
    "int": lambda values: Array(values, DataType.int64()),
    "float": lambda values: Array(values, DataType.float64()),
    "bool": lambda values: Array(values, DataType.bool()),
    "datetime": _times,
    "tuple[str, ...]": _text_lists,
}
