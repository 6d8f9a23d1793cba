"""What the verbs of a notebook share: its log and settings, and the run on this machine."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws.calls import Elsewhere
from nbws.ephemeral import ephemeral_bytes, wipe_ephemeral
from nbws.errors import Conflict, Corrupt, Fenced, InvalidState, LocalIo, NbwsError
from nbws.lifecycle import LIVE_STATES, Event, NotebookSettings, Status, settings_from, status_of
from nbws.listing import Listing
from nbws.marker import NAME as MARKER
from nbws.marker import ensure_marker, read_marker
from nbws.reports import Requests, RestoreReport, SaveReport, time_from_ms
from nbws.values import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps

__all__ = ["Session", "Sessions", "Target", "cause_of", "check_session", "left_out", "report_of_no_restore", "short"]

_MAX_INFO = 1000
# Workspaces that notebooks of this very process are held in.
_HELD: set[str] = set()
# What services call credentials that they do not know or that are over.
_CREDENTIAL_SIGNS = (
    "no usable credentials",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
    "clock of this machine",
)
# States in which a run still has work that only its own disk may hold.
_OPEN = {*LIVE_STATES, "SYNC_FAILED"}


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The run of a notebook on this machine.

    Attributes:
        place: the workspace.
        writer: who it writes as.
        data: the fast directory, or None.
        strict_marker: a lost marker is not put back.
        target: what the engine knows of the workspace.
        owns_epoch: nobody has claimed the notebook since.
        displaced: it was ended by somebody else, before it had ended itself: what it did not save becomes a rescue.
    """

    place: Path
    writer: str
    data: Path | None
    strict_marker: bool
    target: Target
    owns_epoch: bool
    displaced: bool


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
        found = session.target
        notes: tuple[str, ...] = ()
        # A tree that is not proven becomes a rescue as it is; a marker would only hide what happened to it.
        if found.is_proven or found.snapshot is None:
            notes = yield Elsewhere(lambda: self._marked(session, settings))
        values = yield self.engine.save(session.place, self.labels(settings, options))
        if session.displaced:
            # Nothing had changed, so there was nothing to keep; the caller must know all the same.
            raise Fenced("somebody else has ended this run; everything here had been saved before", operation="save")
        report = SaveReport.from_engine(values)
        return dataclasses.replace(report, warnings=(*report.warnings, *notes))

    def _marked(self, session: Session, settings: NotebookSettings) -> tuple[str, ...]:
        if session.strict_marker:
            if read_marker(session.place) is not None:
                return ()
            return (f"{MARKER} is missing or damaged; a start with strict_marker will end in ERROR",)
        try:
            done = ensure_marker(session.place, self.marker(settings))
        except LocalIo as error:
            # The work matters more than the marker, which the next start makes anew.
            return (f"{error}; the next start makes it anew",)
        return () if done is None else (done,)

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

    def sync_failed(self, session: Session, state: str, why: str) -> Steps[None]:
        """Records that the final save did not store everything, if the store takes records."""
        if state == "SYNC_FAILED":
            return
        try:
            yield self.engine.change_state(session.place, "sync_failed", None, short(why))
        except NbwsError:
            # The store does not take records now; the notebook stays STOPPING, which another stop resumes.
            return

    def end(self, session: Session, wipe: bool = True) -> Steps[tuple[str, ...]]:
        """Ends the run on this machine; returns what a person should know of the fast directory."""
        notes: tuple[str, ...] = ()
        if wipe and session.data is not None:
            data = session.data
            notes = yield Elsewhere(lambda: self.wiped(data))
        self.let_go()
        return notes

    def wiped(self, data: Path) -> tuple[str, ...]:
        """Empties the fast directory; returns what it held and what could not be removed."""
        used = ephemeral_bytes(data)
        left = wipe_ephemeral(data, self.id)
        held = (f"{data} held {format_size(used)}; it is not saved, and was emptied",) if used and not left else ()
        return (*held, *left)

    def keep(self, hold: _nbws.Hold) -> None:
        """Keeps other processes of this machine from running the notebook, until `let_go`."""
        self.hold = hold
        _HELD.add(hold.path)

    def let_go(self) -> None:
        """Lets other processes of this machine run the notebook."""
        if self.hold is not None:
            _HELD.discard(self.hold.path)
            self.hold.release()
            self.hold = None

    def nothing_to_stop(self, state: str) -> Steps[SaveReport]:
        """Reports a stop that had nothing to do."""
        events = yield from self.events()
        last = next((event.snapshot for event in reversed(events) if event.kind == "snapshot"), None)
        return _report_of_no_save(events[-1], last or "", f"the notebook is {state} already; nothing was done")

    def compare_versions(
        self, newest: dict[str, Any] | None, settings: NotebookSettings, *, strict: bool
    ) -> tuple[str, ...]:
        """Returns warnings about versions that differ from those of the newest snapshot; refuses them if strict."""
        if newest is None:
            return ()
        differences = []
        for what, before, now in (
            ("framework", newest["framework"], settings.image()),
            ("Python", newest["python"], platform.python_version()),
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

    def events(self, *, since_claim: bool = False) -> Steps[Listing[Event]]:
        """Returns the log: all of it, or from the last claim on."""
        listed = yield self.engine.history(since_claim)
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
            why = "this repository was never made a notebook; create one with Notebooks.create"
            if (yield from self.state()) == "DELETING":
                why = "the notebook was deleted and its data purged"
            raise InvalidState(why, operation="open notebook")
        return settings_from(json.loads(text))

    def here(self) -> Steps[tuple[str, Session | None]]:
        """Returns the notebook's state and its run on this machine, if local state knows of one."""
        found = yield self.engine.session()
        if found is None:
            return (yield from self.state()), None
        place = Path(found["directory"])
        target = Target(**(yield self.engine.look(place)))
        state = target.state.upper()
        notes = json.loads(found["notes"] or "{}")
        data = notes.get("data")
        owns_epoch = bool(found["owns_epoch"]) and state != "DELETING"
        displaced = not owns_epoch and (yield from self._was_open(found["epoch"]))
        return state, Session(
            place=place,
            writer=found["writer"],
            data=None if data is None else Path(data),
            strict_marker=bool(notes.get("strict_marker")),
            target=target,
            owns_epoch=owns_epoch,
            displaced=displaced,
        )

    def _was_open(self, epoch: int) -> Steps[bool]:
        """Whether the run of an epoch had not ended when something else ended it."""
        events = yield from self.events()
        own = [event for event in events if event.epoch == epoch and event.kind != "tombstone"]
        return bool(own) and own[-1].state in _OPEN

    def check_nobody_attends(self, session: Session) -> Steps[None]:
        """Refuses what is for the process that attends the run, if there is one and it is not this one."""
        if self.hold is not None or session.displaced or str(session.place) in _HELD:
            return
        events = yield from self.events(since_claim=True)
        if not events or not events[0].resident:
            return
        try:
            hold = yield self.engine.hold(session.place)
        except Conflict as error:
            raise InvalidState(
                "nbws run runs it on this machine: end that process with SIGTERM, it saves and stops the notebook",
                operation="stop",
            ) from error
        hold.release()

    def session(self, operation: str, allowed: set[str]) -> Steps[tuple[str, Session]]:
        """Returns the state and the run on this machine, for a verb that is for some states.

        A run that was displaced is returned in any state: what it did not save must go somewhere.

        Raises:
            InvalidState: the notebook is in another state, or does not run here.
        """
        state, session = yield from self.here()
        return state, check_session(operation, allowed, state, session)


def check_session(operation: str, allowed: set[str], state: str, session: Session | None) -> Session:
    """Returns the run on this machine, if the verb may have it.

    Raises:
        InvalidState: the notebook is in another state, or does not run here.
    """
    if session is not None and session.displaced:
        return session
    if state not in allowed:
        raise InvalidState(f"the notebook is {state}: it can't {operation} now", operation=operation)
    if session is None or not session.owns_epoch:
        raise InvalidState("the notebook does not run on this machine; start it here first", operation=operation)
    return session


def cause_of(error: NbwsError) -> str:
    """Returns why a request failed, in one of five words, and the error itself."""
    text = str(error)
    words = {"Unavailable": "transient", "CommitUnknown": "transient", "NotFound": "not found", "Denied": "forbidden"}
    cause = words.get(error.kind, "unknown")
    if error.kind == "Denied" and any(sign in text for sign in _CREDENTIAL_SIGNS):
        cause = "credentials"
    return f"{cause}: {error.kind}: {text}"


def left_out(report: SaveReport) -> str | None:
    """Returns what a final save did not store because its time was over, or None. What a quota or the disk kept out does not count."""
    late = [item for item in report.omitted if item.reason == "deadline"]
    if not report.partial or not late:
        return None
    size = sum(item.size for item in late)
    text = f"the deadline left {len(late)} files ({format_size(size)}) out: "
    named = ""
    for number, item in enumerate(late):
        more = f", {item.path}" if named else item.path
        if len((text + named + more).encode(errors="replace")) > _MAX_INFO - 40:
            return f"{text}{named} and {len(late) - number} more"
        named += more
    return text + named


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
