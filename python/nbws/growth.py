"""What made a workspace grow: sizes of one snapshot against those of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nbws.rendering import render_report
from nbws.values import Report

__all__ = ["CategoryGrowth", "Growth", "PathGrowth"]


@dataclass(frozen=True, slots=True)
class PathGrowth(Report):
    """By how much one path grew, with all below it; less than zero if it shrank.

    Attributes:
        path: the path.
        logical_bytes: bytes of files; each name of a hard link group counts.
        files: files and symbolic links.
        unique_bytes: plain bytes of chunks that only the later snapshot has, minus those that only the earlier one has.
        stored_bytes: stored bytes of these chunks: ``new_stored_bytes`` minus ``gone_stored_bytes``.
        new_stored_bytes: stored bytes of chunks that only the later snapshot has.
        gone_stored_bytes: stored bytes of chunks that only the earlier one has. The store keeps them as long as a snapshot
            needs them, and until the next prune after that.
    """

    path: str
    logical_bytes: int
    files: int
    unique_bytes: int
    stored_bytes: int
    new_stored_bytes: int
    gone_stored_bytes: int


@dataclass(frozen=True, slots=True)
class CategoryGrowth(Report):
    """By how much a category grew; the figures are those of `PathGrowth`."""

    category: str
    logical_bytes: int
    files: int
    unique_bytes: int
    stored_bytes: int
    new_stored_bytes: int
    gone_stored_bytes: int


@dataclass(frozen=True, slots=True)
class Growth(Report):
    """What changed in size from one snapshot to another.

    A chunk that both snapshots have below the path is neither new nor gone, wherever it moved: renaming a directory stores nothing. One
    that only one of them has counts once, for the first path in order that has it. So rows of one depth add up to ``total``, and
    ``total`` is the difference between the two `Usage.total`, in every figure.

    Attributes:
        before: id of the first snapshot.
        after: id of the second one.
        total: all at and below the path that was asked for.
        by_path: what changed below the path, down to the depth that was asked for; most stored bytes first, then logical ones.
        by_category: what changed, by category; in the same order.
        metadata_bytes: stored bytes of the tree's own parts: those that only the second snapshot has minus those that only
            the first one has.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "total": PathGrowth,
        "by_path": PathGrowth,
        "by_category": CategoryGrowth,
    }

    before: str
    after: str
    total: PathGrowth
    by_path: tuple[PathGrowth, ...]
    by_category: tuple[CategoryGrowth, ...]
    metadata_bytes: int

    def _repr_html_(self) -> str:
        values = {"before": self.before, "after": self.after, **self.total.to_dict()}
        more = {"by_path": self.by_path, "by_category": self.by_category, "metadata_bytes": self.metadata_bytes}
        return render_report("Growth", values | more)
