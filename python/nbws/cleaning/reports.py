"""What cleaning returns: what would go and what went, what stays, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from nbws.reports import Skipped
from nbws.values import Report

__all__ = ["CleanedItem", "CleaningCategory", "CleaningItem", "CleaningReport", "StoreShare"]


@dataclass(frozen=True, slots=True)
class CleaningItem(Report):
    """What would go of one entry of the catalogue.

    Attributes:
        name: of the entry, as ``only`` takes it.
        bytes: bytes that its removal frees on this disk.
        files: files and symbolic links.
        paths: what goes, relative to the directory; a directory stands for all in it that does not stay.
        why_safe, comes_back, price: what the catalogue says.
    """

    name: str
    title: str
    category: str
    bytes: int
    files: int
    paths: tuple[str, ...]
    why_safe: str
    comes_back: str
    price: str


@dataclass(frozen=True, slots=True)
class CleaningCategory(Report):
    """What would go of one category, such as ``"caches"``."""

    category: str
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class StoreShare(Report):
    """What the newest snapshot has of what would go: so much less has the next one.

    The store frees it only after the snapshots that still have it are forgotten, by a prune after its grace; what other files or
    snapshots share with it stays.

    Attributes:
        snapshot: id of the newest snapshot.
        files: files and symbolic links.
        logical_bytes: their bytes.
        stored_bytes: what of them is stored, after deduplication within each path and compression: the most that the store can
            free. None for more than 64 paths, which would have to be asked about one by one.
    """

    snapshot: str
    files: int
    logical_bytes: int
    stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class CleanedItem(Report):
    """What went of one entry of the catalogue, as `CleaningItem`."""

    name: str
    title: str
    category: str
    bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class CleaningReport(Report):
    """What was cleaned.

    Attributes:
        directory: where.
        applied: always true: this is no plan.
        complete: whether all of the plan went: nothing failed, nothing had changed, nobody interrupted.
        interrupted: whether it was ended before its end.
        bytes_freed: bytes freed on this disk, of blocks whose last name went.
        bytes_moved: bytes that lie in the trash now, and are not freed yet.
        files: files and symbolic links that were removed or moved.
        directories: directories that were removed or moved.
        trash: the directory into which they were moved, or None.
        items: what went, by entry of the catalogue.
        left: what had changed since the plan, or is in use now, and stayed.
        failed: what could not be removed, and why.
        warnings: what else there is to know.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"items": CleanedItem, "left": Skipped, "failed": Skipped}

    directory: str
    applied: bool
    complete: bool
    interrupted: bool
    bytes_freed: int
    bytes_moved: int
    files: int
    directories: int
    trash: str | None
    items: tuple[CleanedItem, ...]
    left: tuple[Skipped, ...]
    failed: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    duration_s: float
