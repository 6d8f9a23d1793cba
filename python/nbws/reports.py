"""What verbs return: frozen values that print well, compare, pickle and turn into JSON.

Paths are ``os.fsdecode`` strings: names that are not UTF-8 carry surrogate escapes and lead back to the file through
``os.fsencode``. Sizes are bytes, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from nbws.usage import CategoryUsage, PathUsage, Usage
from nbws.values import Report, Requests, format_size, time_from_ms

__all__ = [
    "CategoryUsage",
    "CheckReport",
    "Damage",
    "DamagedFile",
    "DoctorReport",
    "Omitted",
    "PathUsage",
    "Preview",
    "Report",
    "Requests",
    "RestoreReport",
    "SaveCost",
    "SaveReport",
    "SavedState",
    "Skipped",
    "Usage",
    "format_size",
    "time_from_ms",
]


@dataclass(frozen=True, slots=True)
class Skipped(Report):
    """A path that was not stored or not written, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Omitted(Report):
    """A path left out by a deadline or quota; a restore in place never deletes it."""

    path: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class SaveReport(Report):
    """What a save did.

    Attributes:
        snapshot: id of the workspace head after the save; the base's id if nothing had changed.
        seq: number of the log record that holds it.
        complete: whether everything that should be stored is stored as it was read.
        partial: whether a deadline or quota left work out.
        files_opened: regular files opened for reading; an unchanged tree opens none but ``.nbwsignore``.
        bytes_read: bytes read from files.
        bytes_new: bytes of chunks that the repository did not have.
        bytes_uploaded: bytes sent to the store, after compression and with all metadata.
        unstable: files that kept changing while they were read; stored as last read.
        stale: paths that could not be read; the previous snapshot's entries are kept.
        omitted: paths left out by a deadline or quota.
        skipped: paths of kinds that are never stored, or that could not be read and had no previous entry.
        rescue: the snapshot id of a rescue that the save made, or None.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requests": Requests, "omitted": Omitted, "skipped": Skipped}

    snapshot: str
    seq: int
    complete: bool
    partial: bool
    files_total: int
    files_new: int
    files_changed: int
    files_unchanged: int
    files_removed: int
    files_opened: int
    bytes_total: int
    bytes_read: int
    bytes_new: int
    bytes_uploaded: int
    requests: Requests
    chunks_total: int
    chunks_new: int
    unstable: tuple[str, ...]
    stale: tuple[str, ...]
    omitted: tuple[Omitted, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    rescue: str | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class SaveCost(Report):
    """What a save would cost by a tariff, for a notebook that rests afterwards.

    Attributes:
        tariff, currency: the rules and the currency of all amounts.
        new_stored_bytes: what it adds to the store; for an estimate the most that it can be.
        stored_bytes: what the store holds after it.
        requests: requests that it sends; tariffs charge none, stores may.
        free_days_left: days that are left of the free window; None without one.
        monthly_before: what a month costs at the present size, by the rule that holds now.
        monthly_after: the same at the size after the save.
        monthly_after_window: the same once the free window is over.
    """

    tariff: str
    currency: str
    new_stored_bytes: int
    stored_bytes: int
    requests: int
    free_days_left: Decimal | None
    monthly_before: Decimal
    monthly_after: Decimal
    monthly_after_window: Decimal


@dataclass(frozen=True, slots=True)
class Preview(Report):
    """What a save would do.

    Attributes:
        bytes_read: bytes that would be read from files.
        bytes_new: plain bytes of chunks that are not stored yet; for an estimate the most that it can be.
        bytes_uploaded: bytes that would be sent, after compression and with all metadata; None for an estimate.
        requests: requests that the save would send; for an estimate those of the preview itself.
        chunks_new: chunks that are not stored yet; None for an estimate.
        exact: whether everything was read, cut, hashed and compressed as by a save.
        rescue: why the work would become a rescue instead of the head, or None.
        cost: what it would cost, if a tariff was given.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requests": Requests, "omitted": Omitted, "skipped": Skipped}

    files_total: int
    files_new: int
    files_changed: int
    files_unchanged: int
    files_removed: int
    bytes_total: int
    bytes_read: int
    bytes_new: int
    bytes_uploaded: int | None
    requests: Requests
    chunks_new: int | None
    exact: bool
    rescue: str | None
    omitted: tuple[Omitted, ...]
    skipped: tuple[Skipped, ...]
    unstable: tuple[str, ...]
    stale: tuple[str, ...]
    warnings: tuple[str, ...]
    duration_s: float
    cost: SaveCost | None = None


@dataclass(frozen=True, slots=True)
class RestoreReport(Report):
    """What a restore did.

    Attributes:
        snapshot: id of the snapshot that the target holds now.
        complete: whether the target is what the snapshot says.
        files_kept: files that were right already and were not touched.
        tree_root: hash of the restored tree; equal trees have equal roots on any machine.
        skipped: paths that were not written, removed or given their metadata, and why.
        rescue: the snapshot id under which unsaved local work was kept first, or None.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requests": Requests, "skipped": Skipped}

    snapshot: str
    complete: bool
    files_written: int
    files_kept: int
    files_removed: int
    bytes_written: int
    bytes_downloaded: int
    requests: Requests
    tree_root: str
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    rescue: str | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class SavedState(Report):
    """What a snapshot and a rescue say alike."""

    snapshot: str
    seq: int
    time: datetime
    comment: str | None
    files: int
    bytes: int
    tree_root: str
    framework: str | None
    python: str | None
    partial: bool
    origin: str


@dataclass(frozen=True, slots=True)
class DamagedFile(Report):
    """A file of a snapshot that a damaged object hits."""

    snapshot: str
    path: str


@dataclass(frozen=True, slots=True)
class Damage(Report):
    """A damaged or missing object, what is wrong with it, and the files hit."""

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"files": DamagedFile}

    object: str
    problem: str
    files: tuple[DamagedFile, ...]


@dataclass(frozen=True, slots=True)
class CheckReport(Report):
    """What a check found.

    Attributes:
        objects: objects looked at.
        snapshots: snapshots and rescues looked at.
        bytes_read: stored bytes read.
        complete: whether nothing is damaged or missing.
        damaged: damaged or missing objects; empty means that nothing is wrong.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requests": Requests, "damaged": Damage}

    objects: int
    snapshots: int
    bytes_read: int
    complete: bool
    damaged: tuple[Damage, ...]
    requests: Requests
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing."""
        return self.complete and not self.damaged


@dataclass(frozen=True, slots=True)
class DoctorReport(Report):
    """What a store guarantees, as measured.

    Attributes:
        url: the store, without secrets.
        client: program and version that measured.
        multi_writer: whether several writers may share a repository there.
        sequential_create: whether a second create of one name was refused and changed nothing.
        rounds: rounds of 16 creates of one name at once; 0 if the store offers no conditional create.
        rounds_with_one_winner: of these, with one winner whose bytes are stored.
        most_winners: most creates of one round that succeeded.
        losers_wrote: whether a create that was refused changed the object.
        unclear: creates that the store did not answer clearly.
        read_after_write: whether an object can be read as soon as it is written.
        list_after_write: whether an object is listed as soon as it is written.
        multipart: whether uploads in parts work, which nothing depends on; None where a store knows no parts.
        clock_offset_s: the store's clock minus this machine's in seconds, to about a second.
        recorded: the log record that keeps this outcome with the repository; None without a repository, or if it says
            the same already.
        findings: what follows, one sentence each; empty means that nothing is wrong.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"requests": Requests}

    url: str
    client: str
    multi_writer: bool
    sequential_create: bool
    rounds: int
    rounds_with_one_winner: int
    most_winners: int
    losers_wrote: bool
    unclear: int
    read_after_write: bool
    list_after_write: bool
    multipart: bool | None
    clock_offset_s: float | None
    recorded: int | None
    findings: tuple[str, ...]
    requests: Requests
    duration_s: float
