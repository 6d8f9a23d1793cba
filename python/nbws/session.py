"""What the verbs of a notebook share: its log and settings, and the run on this machine."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws.calls import Elsewhere
from nbws.ephemeral import wipe_ephemeral
from nbws.errors import Conflict, Corrupt, InvalidState, NbwsError
from nbws.lifecycle import LIVE_STATES, Event, NotebookSettings, Status, settings_from, status_of
from nbws.listing import Listing
from nbws.marker import NAME as MARKER
from nbws.marker import ensure_marker
from nbws.reports import Requests, RestoreReport, SaveReport, time_from_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps

__all__ = ["Session", "Sessions", "Target", "left_out", "report_of_no_restore", "short"]

_MAX_INFO = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The run of a notebook on this machine."""

    place: Path
    writer: str
    data: Path | None
    state: str
    is_displaced: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What the engine knows of a directory."""

    is_empty: bool
    is_known: bool
    is_proven: bool
    is_half_restored: bool
    epoch: int | None
    writer: str
    owns_epoch: bool
    latch: str | None
    has_state: bool
    state: str
    snapshot: str | None
    notices: list[str]


class Sessions:
    """Steps that the verbs of one notebook are made of."""

    def __init__(self, identity: str, engine: _nbws.Workspace, clock: Callable[[], datetime]) -> None:
        self.id = identity
        self.engine = engine
        self.clock = clock
        self.hold: _nbws.Hold | None = None

    def save(self, session: Session, options: dict[str, Any]) -> Steps[SaveReport]:
        """Saves the workspace, whose marker is put back first if it is proven to be what was restored."""
        settings = yield from self.settings()
        found = Target(**(yield self.engine.look(session.place)))
        repaired = False
        # A tree that is not proven becomes a rescue as it is; a marker would only hide what happened to it.
        if found.is_proven or found.snapshot is None:
            repaired = yield Elsewhere(lambda: ensure_marker(session.place, self.marker(settings)))
        values = yield self.engine.save(session.place, self.labels(settings, options))
        report = SaveReport.from_engine(values)
        note = (f"{MARKER} was missing or damaged; it was put back",) if repaired else ()
        return dataclasses.replace(report, warnings=(*report.warnings, *note))

    def labels(self, settings: NotebookSettings, options: dict[str, Any]) -> dict[str, Any]:
        """Returns options of a save with what its snapshot says of the notebook."""
        return {**options, "in_session": True, "framework": settings.image(), "python": platform.python_version()}

    def marker(self, settings: NotebookSettings) -> dict[str, Any]:
        """Returns what the marker says."""
        return {
            "notebook": self.id,
            "framework": settings.framework,
            "framework_version": settings.framework_version,
            "python": platform.python_version(),
            "created": settings.to_dict()["created"],
        }

    def sync_failed(self, session: Session, why: str) -> Steps[None]:
        """Records that the final save did not store everything, if the store takes records."""
        if session.state == "SYNC_FAILED":
            return
        try:
            yield self.engine.change_state(session.place, "sync_failed", None, short(why))
        except NbwsError:
            # The store does not take records now; the notebook stays STOPPING, which another stop resumes.
            return

    def end(self, session: Session, wipe: bool = True) -> Steps[None]:
        """Ends the run on this machine."""
        if wipe and session.data is not None:
            data = session.data
            yield Elsewhere(lambda: wipe_ephemeral(data, self.id))
        if self.hold is not None:
            self.hold.release()
            self.hold = None

    def nothing_to_stop(self, state: str) -> Steps[SaveReport]:
        """Reports a stop that had nothing to do."""
        events = yield from self.events()
        last = next((event.snapshot for event in reversed(events) if event.kind == "snapshot"), None)
        return _report_of_no_save(events[-1], last or "", f"the notebook is {state} already; nothing was done")

    def compare_versions(self, settings: NotebookSettings, *, strict: bool) -> Steps[tuple[str, ...]]:
        """Returns warnings about versions that differ from those of the newest snapshot; refuses them if strict."""
        listed = yield self.engine.snapshots()
        if not listed:
            return ()
        differences = []
        for what, before, now in (
            ("framework", listed[-1]["framework"], settings.image()),
            ("Python", listed[-1]["python"], platform.python_version()),
        ):
            if before and now and before != now:
                differences.append(f"{what} was {before} when the workspace was saved and is {now} now")
        if differences and strict:
            raise InvalidState("; ".join(differences) + "; start without strict to go on", operation="start")
        meaning = ": compiled packages in the workspace may not load; install them again if imports fail"
        return tuple(text + meaning for text in differences)

    def state(self) -> Steps[str]:
        """Returns the present state."""
        events = yield self.engine.history(True)
        return str(events[-1]["state"]).upper() if events else "NONE"

    def events(self) -> Steps[Listing[Event]]:
        """Returns the whole log."""
        listed = yield self.engine.history(False)
        return Listing(Event, map(Event.of, listed))

    def status(self) -> Steps[Status]:
        """Returns how the notebook is."""
        events = yield from self.events()
        try:
            settings = yield from self.settings(required=False)
        except Corrupt:
            # What was said of the notebook is damaged; its state stands in the log.
            settings = None
        claim = next((event for event in reversed(events) if event.kind == "claim"), None)
        heartbeat = None
        if claim is not None and claim.resident:
            heartbeat = time_from_ms((yield self.engine.heartbeat(claim.writer)))
        return status_of(self.id, settings, events, heartbeat, self.clock())

    def settings(self, *, required: bool = True) -> Steps[Any]:
        """Returns what was said of the notebook when it was made."""
        text = yield self.engine.setting("notebook")
        if text is None:
            if not required:
                return None
            raise InvalidState(
                "this repository was never made a notebook; create one with Notebooks.create", operation="open notebook"
            )
        return settings_from(json.loads(text))

    def known_session(self) -> Steps[Session | None]:
        """Returns the run on this machine, if its epoch is in force."""
        found = yield self.engine.session()
        if found is None or not found["owns_epoch"]:
            return None
        notes = json.loads(found["notes"] or "{}")
        data = notes.get("data")
        return Session(Path(found["directory"]), found["writer"], None if data is None else Path(data), "")

    def session(self, operation: str, allowed: set[str]) -> Steps[Session]:
        """The run on this machine, in one of the states that the verb is for."""
        state = yield from self.state()
        is_displaced = yield from self.is_displaced()
        # Work of a run that was displaced is kept as a rescue, whatever became of the notebook since.
        if state not in allowed and not is_displaced:
            raise InvalidState(f"the notebook is {state}: it can't {operation} now", operation=operation)
        found = yield self.engine.session()
        if found is None:
            raise InvalidState("the notebook does not run on this machine; start it here first", operation=operation)
        notes = json.loads(found["notes"] or "{}")
        data = notes.get("data")
        place = Path(found["directory"])
        return Session(place, found["writer"], None if data is None else Path(data), state, is_displaced)

    def is_displaced(self) -> Steps[bool]:
        """Whether the run on this machine was ended by somebody else: taken over, deleted, or stopped behind its back."""
        found = yield self.engine.session()
        if found is None:
            return False
        events = yield from self.events()
        own = [event for event in events if event.epoch == found["epoch"] and event.kind != "tombstone"]
        has_ended = not own or own[-1].state not in {*LIVE_STATES, "SYNC_FAILED"}
        if self.hold is not None and has_ended:
            return True
        return not has_ended and (not found["owns_epoch"] or events[-1].state == "DELETING")

    def check_nobody_attends(self, session: Session) -> Steps[None]:
        """Refuses what is for the process that attends the run, if there is one and it is not this one."""
        if self.hold is not None or session.is_displaced:
            return
        events = yield from self.events()
        claim = next((event for event in reversed(events) if event.kind == "claim"), None)
        if claim is None or not claim.resident:
            return
        try:
            hold = yield self.engine.hold(session.place)
        except Conflict as error:
            raise InvalidState(
                "nbws run runs it on this machine: end that process with SIGTERM, it saves and stops the notebook",
                operation="stop",
            ) from error
        hold.release()


def left_out(report: SaveReport) -> str | None:
    """Returns what a final save did not store because its time was over, or None. What a quota or the disk kept out does not count."""
    late = [item for item in report.omitted if item.reason == "deadline"]
    if not report.partial or not late:
        return None
    size = sum(item.size for item in late)
    return f"the deadline left {len(late)} files ({size} bytes) out, first {late[0].path}"


def not_the_head(report: SaveReport) -> str | None:
    """Returns why a final save did not become the newest snapshot, or None."""
    return None if report.rescue is None else f"the work was kept as rescue {report.rescue}, not as the newest snapshot"


def short(text: str | None) -> str | None:
    """Cut to what a record takes."""
    return None if text is None else text.encode(errors="replace")[:_MAX_INFO].decode(errors="ignore")


def _empty_report(cls: type[Any], **known: Any) -> Any:
    """A report of nothing: zeros, no items."""
    zero = {"int": 0, "float": 0.0, "bool": False, "str": "", "Requests": Requests(0, 0, 0, 0, 0)}
    fields = {
        field.name: zero.get(str(field.type), () if "tuple" in str(field.type) else None)
        for field in dataclasses.fields(cls)
    }
    return cls(**{**fields, **known})


def report_of_no_restore(snapshot: str, *warnings: str) -> RestoreReport:
    """Returns a report of a restore that brought nothing."""
    report: RestoreReport = _empty_report(RestoreReport, snapshot=snapshot, warnings=warnings)
    return report


def _report_of_no_save(newest: Event, snapshot: str, warning: str) -> SaveReport:
    report: SaveReport = _empty_report(
        SaveReport,
        snapshot=snapshot,
        seq=newest.seq,
        complete=True,
        files_total=newest.files,
        bytes_total=newest.bytes,
        warnings=(warning,),
    )
    return report
