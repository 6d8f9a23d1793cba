"""What fills a workspace, and what made it grow: sizes of a snapshot, and its sizes against those of an earlier one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nbws.rendering import render_report
from nbws.treemap import tree_of
from nbws.treemap_svg import render_treemap
from nbws.values import Report, Requests

__all__ = ["CategoryGrowth", "CategoryUsage", "Growth", "PathGrowth", "PathUsage", "Usage"]


def _ratio(size: int, of: int) -> float:
    return size / of if of else 1.0


@dataclass(frozen=True, slots=True)
class PathUsage(Report):
    """What lies at and below one path of a workspace.

    Attributes:
        path: the path.
        logical_bytes: bytes of its files as ``ls`` shows them; each name of a hard link group counts, holes count.
        files: files and symbolic links.
        unique_bytes: plain bytes of its distinct chunks: what it takes after deduplication. A chunk that several paths have
            counts for the first of them, in the order of path bytes.
        stored_bytes: stored bytes of these chunks, after compression: of each frame the part by plain bytes.
    """

    path: str
    logical_bytes: int
    files: int
    unique_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class CategoryUsage(Report):
    """What belongs to one category; the figures are those of `PathUsage`."""

    category: str
    logical_bytes: int
    files: int
    unique_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Usage(Report):
    """Bytes and counts in use: of the repository, and of a path of one snapshot, the workspace head if no other was named.

    Of the path, chunks are told apart among what lies at and below it: ``total.unique_bytes`` is what the path would take if it
    were all there is. Rows of one depth add up to the total in every figure, as long as ``largest`` left none out. Stored bytes
    add up to those of the repository: ``total.stored_bytes + metadata_bytes + other_bytes + overhead_bytes`` is ``stored_bytes``.

    Attributes:
        logical_bytes: bytes of the snapshot's files; each name of a hard link group counts.
        unique_bytes: plain bytes of all distinct chunks of all snapshots.
        stored_bytes: bytes of all objects.
        files: files and symbolic links of the snapshot.
        snapshot_bytes: bytes of the files of all snapshots, each counted whole.
        dedup_ratio: ``snapshot_bytes`` over unique bytes; 1.0 if nothing is stored.
        compression_ratio: unique bytes over stored bytes; 1.0 if nothing is stored.
        by_path: what lies below the path, down to the depth that was asked for, sorted by path bytes.
        snapshot: id of the snapshot; None while there is none.
        total: all at and below the path.
        by_category: the same by category, in the order of the categories.
        metadata_bytes: stored bytes of the parts of the tree that describe the path: root, nodes, segments, lists of chunks.
        other_bytes: stored bytes of all other chunks that the index names: of older snapshots, of rescues, of other paths, and
            of what is needed no more and not pruned yet.
        overhead_bytes: stored bytes of everything else: index, directories of packs, log records, and chunks that the index does not
            name, such as those that wait for their sweep. Below zero if the records count fewer bytes than the index names.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "by_path": PathUsage,
        "total": PathUsage,
        "by_category": CategoryUsage,
        "requests": Requests,
    }

    logical_bytes: int
    unique_bytes: int
    stored_bytes: int
    objects: int
    snapshots: int
    files: int
    snapshot_bytes: int
    by_path: tuple[PathUsage, ...]
    snapshot: str | None
    total: PathUsage
    by_category: tuple[CategoryUsage, ...]
    metadata_bytes: int
    other_bytes: int
    overhead_bytes: int
    requests: Requests
    dedup_ratio: float = dataclasses.field(init=False)
    compression_ratio: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Derives the ratios."""
        object.__setattr__(self, "dedup_ratio", _ratio(self.snapshot_bytes, self.unique_bytes))
        object.__setattr__(self, "compression_ratio", _ratio(self.unique_bytes, self.stored_bytes))

    def _repr_html_(self) -> str:
        root = tree_of(
            [(row.path, row.logical_bytes) for row in self.by_path], self.total.path, self.total.logical_bytes
        )
        table = render_report("Usage", {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        return render_treemap(root, 720, 320, "Logical bytes by path") + table


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
        requests: what it took to find out; the first of several steps includes what all of them need.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "total": PathGrowth,
        "by_path": PathGrowth,
        "by_category": CategoryGrowth,
        "requests": Requests,
    }

    before: str
    after: str
    total: PathGrowth
    by_path: tuple[PathGrowth, ...]
    by_category: tuple[CategoryGrowth, ...]
    metadata_bytes: int
    requests: Requests

    def _repr_html_(self) -> str:
        values = {"before": self.before, "after": self.after, **self.total.to_dict()}
        more = {"by_path": self.by_path, "by_category": self.by_category, "metadata_bytes": self.metadata_bytes}
        return render_report("Growth", values | more)
