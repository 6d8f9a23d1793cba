"""Lists of like reports: ordinary lists that also show as a table in a notebook and export as an Arrow stream."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from nbws.rendering import render_listing
from nbws.values import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arro3.core import Table

__all__ = ["Listing"]

Item = TypeVar("Item", bound=Report)


class Listing(list[Item]):
    r"""A list of reports of one class.

    Anything that reads Arrow streams takes it as a table: one column for each field, times as timestamps in UTC, tuples of
    text as lists. Bytes of a name that are not UTF-8 are written as ``\xff``. Some libraries treat every list as a column or
    as rows: give them `to_arrow`, as in ``polars.DataFrame(listing.to_arrow())``. Arrow needs ``pip install 'nbws[arrow]'``.
    """

    def __init__(self, kind: type[Item], items: Iterable[Item] = ()) -> None:
        super().__init__(items)
        self._kind = kind

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns plain values, as ``--json`` prints them."""
        return [item.to_dict() for item in self]

    def to_arrow(self) -> Table:
        """Returns the list as a table of ``arro3``, which polars, pandas, pyarrow, duckdb and others take.

        Raises:
            ImportError: ``arro3-core`` is not installed.
        """
        from nbws.arrow import table_of  # noqa: PLC0415  # an optional extra

        return table_of(self._kind, self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Exports the list as an Arrow stream.

        Raises:
            ImportError: ``arro3-core`` is not installed.
        """
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._kind, list(self)))

    def _repr_html_(self) -> str:
        columns = [field.name for field in dataclasses.fields(self._kind)]
        return render_listing(f"{self._kind.__name__} list", columns, self)
