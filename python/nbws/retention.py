"""What prune keeps and what it did: rules, pins, reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from nbws.reports import Requests
from nbws.values import Report

__all__ = ["ForgottenSnapshot", "PinnedSnapshot", "PruneReport", "Retention", "WaitingMark"]

_MS = 1_000


@dataclass(frozen=True, slots=True)
class Retention(Report):
    """Which snapshots are kept. Without any rule all are; the workspace head and pinned ones always are.

    The newest snapshot has position 0. Autosaves follow rules of their own and have no position: the newest 12 stay, then the
    newest of each hour for a day. With ``keep_`` rules alone, every snapshot that none of them holds is given up.

    Attributes:
        retained_number: at most so many are kept.
        lifetime_in_days: older ones are given up,
        lifetime_eviction_threshold: from this position on.
        keep_last: the newest so many stay, whatever the rules above say.
        keep_within: so do all that are younger, in seconds,
        keep_daily: the newest of each of so many days,
        keep_weekly: weeks,
        keep_monthly: and months, by UTC.
    """

    retained_number: int | None = None
    lifetime_in_days: int | None = None
    lifetime_eviction_threshold: int | None = None
    keep_last: int | None = None
    keep_within: float | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None

    @classmethod
    def from_engine(cls, values: dict[str, Any]) -> Self:
        """Builds the rules from the dict that the engine returned."""
        within = values["keep_within_ms"]
        others = {name: value for name, value in values.items() if name != "keep_within_ms"}
        return cls(**others, keep_within=None if within is None else within / _MS)

    @classmethod
    def from_setting(cls, values: dict[str, Any]) -> Self:
        """Builds the rules from what settings hold; keys of later versions are left alone."""
        known = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
        within = known.pop("keep_within")
        return cls.from_engine({**known, "keep_within_ms": within})

    def to_setting(self) -> dict[str, int | None]:
        """Returns the rules as settings hold them: spans in milliseconds."""
        rules = self.to_engine()
        within = rules.pop("keep_within_ms")
        return {**rules, "keep_within": within}

    def to_engine(self) -> dict[str, int | None]:
        """Returns the rules as the engine takes them."""
        rules = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        within = rules.pop("keep_within")
        return {**rules, "keep_within_ms": None if within is None else int(within * _MS)}


@dataclass(frozen=True, slots=True)
class ForgottenSnapshot(Report):
    """A snapshot that the rules give up: ``too many``, ``too old``, or an autosave that is ``thinned``."""

    snapshot: str
    seq: int
    time: datetime
    comment: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PinnedSnapshot(Report):
    """A snapshot or rescue that is kept whatever the rules say, until a time or, with None, for good."""

    snapshot: str
    until: datetime | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class WaitingMark(Report):
    """Packs that are named for deletion and not deleted yet.

    Attributes:
        seq: number of the log record that names them.
        packs: how many there are.
        bytes: their stored bytes.
        snapshots: snapshots that the record forgets.
        sweep_after: from when on a prune may delete them, by the store's clock.
        state: ``marked``; ``sweeping`` when deletes have begun; ``contradicted`` if it names something that is needed: it is
            not swept and should be cancelled.
    """

    seq: int
    packs: int
    bytes: int
    snapshots: int
    sweep_after: datetime
    state: str


@dataclass(frozen=True, slots=True)
class PruneReport(Report):
    """What a prune did, or, where ``applied`` is False, what it would do now.

    Attributes:
        applied: whether it was done.
        needs_force: whether more than 20 % of the stored bytes would go.
        snapshots: snapshots before it.
        forgotten: those that the rules give up.
        rescues_expired: ids of rescues that are dismissed because of their age.
        packs: packs and index objects before it.
        stored_bytes: their bytes, without those that are marked already.
        packs_doomed: packs newly named for deletion, those included whose chunks are copied first.
        bytes_doomed: their bytes.
        packs_repacked: packs whose chunks were copied because less than half was needed.
        bytes_copied: bytes that this has stored anew; for a plan about so many.
        mark: number of the log record that names them, or None.
        marks: what is marked and not deleted yet.
        packs_deleted: packs deleted, which a prune had marked at least the grace before.
        bytes_freed: stored bytes freed by that.
        records_removed: records removed from the log.
        ledger: the last record that a ledger written now stands for, or None.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {
        "forgotten": ForgottenSnapshot,
        "marks": WaitingMark,
        "requests": Requests,
    }

    applied: bool
    needs_force: bool
    snapshots: int
    forgotten: tuple[ForgottenSnapshot, ...]
    rescues_expired: tuple[str, ...]
    packs: int
    stored_bytes: int
    packs_doomed: int
    bytes_doomed: int
    packs_repacked: int
    bytes_copied: int
    mark: int | None
    marks: tuple[WaitingMark, ...]
    packs_deleted: int
    bytes_freed: int
    records_removed: int
    ledger: int | None
    warnings: tuple[str, ...]
    requests: Requests
    duration_s: float
