"""The life of a notebook as values: events of its log, and the status that follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from nbws.values import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FREE_BYTES",
    "HEARTBEAT_TTL",
    "LIVE_STATES",
    "STATES",
    "Event",
    "NotebookSettings",
    "Status",
    "Writer",
    "settings_from",
    "status_of",
    "unreadable",
    "utc_now",
]

STATES = (
    "STARTING",
    "RUNNING",
    "STOPPING",
    "STOPPED",
    "FAILED",
    "ERROR",
    "SYNC_FAILED",
    "RESTARTING",
    "DELETING",
)
"""The states of a notebook; ``docs/lifecycle.md`` says how they follow each other."""

LIVE_STATES = frozenset({"STARTING", "RUNNING", "STOPPING", "RESTARTING"})
"""States in which somebody runs the notebook, or died while doing so."""

HEARTBEAT_TTL = timedelta(seconds=180)
"""After so long without a sign of life, a resident session counts as dead: three heartbeats, a minute apart, did not come."""

FREE_BYTES = 10_000_000_000
"""Bytes of a workspace that are free of charge (OVHcloud's guide to the workspace: the first 10 GB)."""


@dataclass(frozen=True, slots=True)
class Event(Report):
    """One record of a notebook's log.

    Attributes:
        seq: its number.
        time: when it was written, by the writer's clock.
        kind: ``claim state snapshot rescue dismiss settings repack mark cancel sweep swept tombstone``.
        state: the notebook's state after it.
        epoch: the epoch in force.
        writer: who wrote it, 32 hex digits.
        snapshot: id of the snapshot or rescue that it is about, or None.
        comment: what a person said.
        info: of a state its cause, of a rescue its reason, of a snapshot what made it.
        partial: whether a deadline or quota left work out of the snapshot.
        framework, python: versions that the snapshot was saved with.
        resident: whether the claim's session shows that it lives.
        take_over: whether the claim displaced a session that had not ended.
        purge: whether the tombstone gave the data up.
        bytes, files: size of the workspace after it.
        objects, stored_bytes: what the store holds after it.
        unread: why the records after it can't be read, if there are such; None for all but the last event.
    """

    seq: int
    time: datetime
    kind: str
    state: str
    epoch: int
    writer: str
    snapshot: str | None
    comment: str | None
    info: str | None
    partial: bool
    framework: str | None
    python: str | None
    resident: bool
    take_over: bool
    purge: bool
    bytes: int
    files: int
    objects: int
    stored_bytes: int
    unread: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Event:
        """Builds the event from the dict that the engine returned: states are written in capitals."""
        return cls.from_engine({**values, "state": str(values["state"]).upper()})


@dataclass(frozen=True, slots=True)
class Writer(Report):
    """Who runs a notebook.

    Attributes:
        id: 32 hex digits.
        stale: whether it has been silent for so long that it counts as dead; None for a session without a process that
            could show that it lives.
    """

    id: str
    stale: bool | None


@dataclass(frozen=True, slots=True)
class NotebookSettings(Report):
    """What was said of a notebook when it was made.

    Attributes:
        name: for people.
        labels: for tools.
        framework, framework_version, editor: the image that it runs in.
        template: a directory of the image whose files a new workspace starts with.
        run_limit_s: seconds after which a run ends by itself.
        at_limit: what happens then, ``"stop"`` or ``"restart"``.
        created: when it was made.
    """

    name: str | None
    labels: dict[str, str]
    framework: str | None
    framework_version: str | None
    editor: str | None
    template: str | None
    run_limit_s: int
    at_limit: str
    created: datetime

    def to_setting(self) -> dict[str, Any]:
        """Returns it as the repository keeps it."""
        return self.to_dict()

    def image(self) -> str | None:
        """Framework and version as one text, as snapshots carry it."""
        return " ".join(part for part in (self.framework, self.framework_version) if part) or None


def settings_from(values: Mapping[str, Any]) -> NotebookSettings:
    """Builds the settings from what the repository keeps; keys of later versions are left alone."""
    known = {name: values[name] for name in NotebookSettings.__dataclass_fields__ if name in values}
    return NotebookSettings(**{**known, "created": datetime.fromisoformat(values["created"])})


@dataclass(frozen=True, slots=True)
class Status(Report):
    """How a notebook is.

    Attributes:
        id, name: of the notebook.
        state: one of `STATES`; ``"NONE"`` for a repository that was never made a notebook; ``"UNKNOWN"`` if its newest
            record can't be read, and ``info`` says why.
        info: why it is in that state, as far as the program said.
        storage_used: bytes that are kept in the store for it, with history and metadata.
        storage_free: bytes of a workspace that are free of charge; not what remains of them.
        started_at: when it last came to run.
        stopped_at: when it last came to rest.
        expires_at: when the run ends by itself; None unless it runs.
        writer: who runs it, or None.
        last_snapshot: when its newest snapshot was taken, or None.
        rpo_seconds: seconds since then while it runs: the work that a crash elsewhere could cost. None otherwise.
        rescues: ids of the rescues that nobody has dismissed.
    """

    _NESTED: ClassVar[Mapping[str, type[Report]]] = {"writer": Writer}

    id: str
    name: str | None
    state: str
    info: str | None
    storage_used: int
    storage_free: int
    started_at: datetime | None
    stopped_at: datetime | None
    expires_at: datetime | None
    writer: Writer | None
    last_snapshot: datetime | None
    rpo_seconds: float | None
    rescues: tuple[str, ...]


def status_of(
    identity: str, settings: NotebookSettings | None, events: Sequence[Event], heartbeat: datetime | None, now: datetime
) -> Status:
    """Returns the status that follows from a log, oldest event first.

    Args:
        identity: the notebook's id.
        settings: what was said of it.
        events: its whole log.
        heartbeat: when its writer last showed that it lives.
        now: the present; only ages depend on it.
    """
    newest = events[-1] if events else None
    state = newest.state if newest else "NONE"
    unread = newest.unread if newest else None
    if unread is not None:
        state = "UNKNOWN"
    runs = [event for event in events if event.kind == "state" and event.state == "RUNNING"]
    starts = [event for before, event in zip([None, *events], events, strict=False) if _comes_to_run(before, event)]
    rests = [event for before, event in zip([None, *events], events, strict=False) if _comes_to_rest(before, event)]
    snapshots = [event for event in events if event.kind == "snapshot"]
    dismissed = {event.snapshot for event in events if event.kind == "dismiss"}
    rescues = tuple(
        event.snapshot
        for event in events
        if event.kind == "rescue" and event.snapshot not in dismissed and event.snapshot
    )
    is_running = state == "RUNNING"
    started = starts[-1].time if starts else None
    last = snapshots[-1].time if snapshots else None
    limit = timedelta(seconds=settings.run_limit_s) if settings else None
    return Status(
        id=identity,
        name=settings.name if settings else None,
        state=state,
        info=unread or _cause(events),
        storage_used=newest.stored_bytes if newest else 0,
        storage_free=FREE_BYTES,
        started_at=started,
        stopped_at=rests[-1].time if rests else None,
        expires_at=started + limit if is_running and runs and started and limit else None,
        writer=_writer_of(events, heartbeat, now) if state in LIVE_STATES else None,
        last_snapshot=last,
        rpo_seconds=max(0.0, (now - last).total_seconds()) if is_running and last else None,
        rescues=rescues,
    )


def unreadable(identity: str, why: str) -> Status:
    """Returns what can be said of a notebook whose log can't be read."""
    return dataclasses.replace(status_of(identity, None, (), None, utc_now()), state="UNKNOWN", info=why)


def _comes_to_run(before: Event | None, event: Event) -> bool:
    # A restart resets the clock of the run, too.
    return event.state == "RUNNING" and (before is None or before.state != "RUNNING")


def _comes_to_rest(before: Event | None, event: Event) -> bool:
    rests = {"STOPPED", "FAILED", "ERROR", "SYNC_FAILED"}
    return event.state in rests and before is not None and before.state in LIVE_STATES


def _cause(events: Sequence[Event]) -> str | None:
    """What the program said when the present state began."""
    if not events:
        return None
    state = events[-1].state
    cause = None
    for event in reversed(events):
        if event.state != state:
            break
        if event.kind in {"state", "claim"}:
            cause = event.info or cause
    return cause


def _writer_of(events: Sequence[Event], heartbeat: datetime | None, now: datetime) -> Writer | None:
    claim = next((event for event in reversed(events) if event.kind == "claim"), None)
    if claim is None:
        return None
    if not claim.resident:
        return Writer(claim.writer, None)
    newest = max(event.time for event in events if event.writer == claim.writer)
    seen = max(newest, heartbeat) if heartbeat else newest
    return Writer(claim.writer, now - seen > HEARTBEAT_TTL)


def utc_now() -> datetime:
    """Returns the present."""
    return datetime.now(UTC)
