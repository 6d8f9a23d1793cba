"""A start: claim the notebook, keep what survived here, bring the workspace, say that it runs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws.calls import Elsewhere
from nbws.ephemeral import check_ephemeral, prepare_ephemeral
from nbws.errors import Corrupt, InvalidInput, InvalidState, LocalIo, NbwsError, Unsupported
from nbws.lifecycle import LIVE_STATES
from nbws.marker import NAME as MARKER
from nbws.marker import ensure_marker, read_marker
from nbws.reports import RestoreReport, SaveReport, time_from_ms
from nbws.session import Target, report_of_no_restore, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.lifecycle import Event, NotebookSettings
    from nbws.session import Sessions

__all__ = ["Start", "check_apart"]

# Kinds of failures that lie with what is stored or with the service; all others lie with this run.
_ERRORS = ("Corrupt", "RollbackDetected", "Unsupported", "InvalidState", "Internal")


class Start:
    """The steps of one start, in a directory that is held."""

    def __init__(
        self, run: Sessions, hold: _nbws.Hold, data: Path | None, settings: NotebookSettings, options: dict[str, Any]
    ) -> None:
        self._run = run
        self._hold = hold
        self._place = Path(hold.path)
        self._data = data
        self._settings = settings
        self._options = options

    def steps(self, newest: dict[str, Any] | None) -> Steps[RestoreReport]:
        """Claims, brings the workspace here and says that the notebook runs; ``newest`` is the newest snapshot."""
        place, data, options = self._place, self._data, self._options
        found = Target(**(yield self._run.engine.look(place)))
        self._check_startable(found)
        last_run = yield from self._run.events(since_claim=True)
        is_foreign = yield Elsewhere(lambda: self._is_foreign(found))
        if data is not None:
            yield Elsewhere(lambda: check_ephemeral(data, self._run.id))
        notes = json.dumps(
            {
                "data": None if data is None else str(data),
                "notebook": self._run.id,
                "strict_marker": options["strict_marker"],
            }
        )
        try:
            claimed = yield self._run.engine.claim(
                self._hold, {"take_over": options["take_over"], "resident": options["resident"], "notes": notes}
            )
        except (asyncio.CancelledError, KeyboardInterrupt) as error:
            # It may have landed all the same; if it has not, this record is refused.
            yield from self._give_up(error)
            raise
        left: list[str] = []
        try:
            is_here, rescue, kept = yield from self._keep_work(found, claimed, is_foreign)
            report = yield from self._bring(claimed, is_foreign, found.is_empty)
            if data is not None:
                left = yield Elsewhere(lambda: prepare_ephemeral(data, self._run.id, claimed["epoch"]))
        except GeneratorExit:
            raise
        except BaseException as error:
            if options["continue"] and isinstance(error, NbwsError):
                return (yield from self._go_on(claimed, error))
            yield from self._give_up(error)
            raise
        try:
            yield self._run.engine.change_state(place, "running")
        except GeneratorExit:
            raise
        except BaseException as error:
            # Also if the record has landed: nobody will attend this run.
            yield from self._give_up(error)
            raise
        missing = () if is_here else _missing(claimed["previous"].upper(), last_run, newest)
        warnings = (*kept, *missing, *report.warnings, *left)
        return dataclasses.replace(report, rescue=report.rescue or rescue, warnings=warnings)

    def _check_startable(self, found: Target) -> None:
        if found.state == "deleting":
            raise InvalidState("the notebook was deleted: what it held can be read, but not run", operation="start")
        if not self._hold.is_kept and not self._options["resident"]:
            raise Unsupported(
                "no local state can be kept, so another process could not go on with the run; set NBWS_STATE to a directory that "
                "can be written, or use nbws run",
                operation="start",
            )

    def _go_on(self, claimed: dict[str, Any], error: NbwsError) -> Steps[RestoreReport]:
        """Runs with what there is; nothing of it may become the head until a person has looked."""
        why = f"the workspace could not be restored ({error.kind}: {error})"
        yield self._run.engine.set_latch(self._place, short(why) or "")
        yield self._run.engine.change_state(
            self._place, "running", None, short(f"{why}; saves become rescues until the latch is cleared")
        )
        return report_of_no_restore(
            claimed["snapshot"] or "", f"{why}; saves become rescues until the latch is cleared"
        )

    def _give_up(self, error: BaseException) -> Steps[None]:
        kind = error.kind if isinstance(error, NbwsError) else type(error).__name__
        state = "error" if kind in _ERRORS else "failed"
        data = self._data
        is_interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        why = "the start was interrupted" if is_interrupted else f"{kind}: {error}"
        try:
            yield self._run.engine.change_state(self._place, state, None, short(why))
            if data is not None and state == "failed":
                yield Elsewhere(lambda: self._run.wiped(data))
        except NbwsError as second:
            # The first error says more; the claim goes stale by itself.
            error.add_note(f"the state could not be recorded either: {second}")

    def _is_foreign(self, found: Target) -> bool:
        """Whether files lie there that nothing but the marker ties to this notebook; raises if not even that does."""
        if found.is_empty or found.is_known or found.is_half_restored or found.snapshot is None:
            return False
        marker = read_marker(self._place)
        if marker is not None and marker["notebook"] == self._run.id:
            return True
        raise InvalidInput(
            "the directory holds files that did not come from this notebook; start in an empty directory, or move them away",
            operation="start",
            path=str(self._place),
        )

    def _keep_work(
        self, found: Target, claimed: dict[str, Any], is_foreign: bool
    ) -> Steps[tuple[bool, str | None, tuple[str, ...]]]:
        """Saves what a run that ended without a save left on this disk; whether nothing of it is missing, a rescue, notes."""
        is_last = found.epoch is not None and found.epoch == claimed["epoch"] - 1
        # An empty directory is a disk that was lost, not work: a new one can have the old one's inode.
        survives = found.is_known and found.is_proven and is_last and not (found.is_half_restored or found.is_empty)
        if self._options["discard"] or not (survives or is_foreign):
            # Work of any other kind is kept by the restore itself.
            return False, None, ()
        try:
            report = SaveReport.from_engine(
                (yield self._run.engine.save(self._place, {"in_session": True, "origin": "crash"}))
            )
        except NbwsError as error:
            if error.rescue is None:
                raise
            return False, error.rescue, (f"files that lay in the workspace are kept as rescue {error.rescue}",)
        if report.snapshot == claimed["snapshot"]:
            return True, None, ()
        text = f"work that had survived here was saved first, as snapshot {report.snapshot}"
        return True, None, (text, *report.warnings)

    def _bring(self, claimed: dict[str, Any], is_foreign: bool, is_empty: bool) -> Steps[RestoreReport]:
        if claimed["snapshot"] is None:
            return (yield from self._set_up())
        values = yield self._run.engine.restore(
            self._place,
            {
                "snapshot": "latest",
                "delete": "yes" if is_foreign else "auto",
                "discard_changes": self._options["discard"] or is_foreign or is_empty,
            },
        )
        report = RestoreReport.from_engine(values)
        if not report.complete:
            raise _incomplete(report)
        if self._options["strict_marker"] and (yield Elsewhere(lambda: read_marker(self._place))) is None:
            raise InvalidState(
                f"the newest snapshot lacks {MARKER}; start without strict_marker, or read it with ls, cat, export and restore",
                operation="start",
            )
        repaired = yield Elsewhere(lambda: ensure_marker(self._place, self._run.marker(self._settings)))
        note = () if repaired is None else (f"in the newest snapshot {repaired}",)
        return dataclasses.replace(report, warnings=(*report.warnings, *note))

    def _set_up(self) -> Steps[RestoreReport]:
        """The first start: marker and template, saved at once, so that there is something to come back to."""
        began = self._run.clock()
        copied = yield Elsewhere(lambda: _copy_template(self._settings.template, self._place))
        yield Elsewhere(lambda: ensure_marker(self._place, self._run.marker(self._settings)))
        saved = SaveReport.from_engine(
            (yield self._run.engine.save(self._place, self._run.labels(self._settings, {"origin": "start"})))
        )
        listed = yield self._run.engine.snapshots()
        return dataclasses.replace(
            report_of_no_restore(saved.snapshot, *saved.warnings),
            complete=True,
            files_written=copied + 1,
            files_kept=max(0, saved.files_total - copied - 1),
            requests=saved.requests,
            tree_root=listed[-1]["tree_root"] if listed else "",
            duration_s=(self._run.clock() - began).total_seconds(),
        )


def check_apart(workspace: Path, data: Path | None) -> None:
    """Makes sure that what is saved and what is wiped lie in no common directory."""
    if data is None:
        return
    real, other = Path(os.path.realpath(workspace)), Path(os.path.realpath(data))
    if real == other or real in other.parents or other in real.parents:
        raise InvalidInput(
            f"workspace {workspace} and data {data} lie in each other: one is saved, the other wiped; give them places apart",
            operation="start",
            path=str(data),
        )


def _incomplete(report: RestoreReport) -> NbwsError:
    """The end of a start that could not bring everything: half a workspace must not become the head."""
    first = report.skipped[0]
    text = (
        f"{len(report.skipped)} paths could not be restored, first {first.path}: {first.reason}; start with continue_unrestored to "
        "work with the others, and clear the latch once what is there may become the head"
    )
    is_hidden = all("mounted" in item.reason for item in report.skipped)
    return InvalidState(text, operation="start") if is_hidden else Corrupt(text, operation="start")


def _missing(previous: str, last_run: Sequence[Event], newest: dict[str, Any] | None) -> tuple[str, ...]:
    """What the last run did, and the newest snapshot does not hold, as far as its log tells."""
    if newest is None:
        return ()
    since = time_from_ms(newest["time_ms"])
    at = "" if since is None else f" of {since:%Y-%m-%d %H:%M:%S} UTC"
    kept = "if its disk is still there, a save there keeps that work as a rescue"
    if previous in LIVE_STATES:
        return (f"the last run did not end: what it changed after the newest snapshot{at} is not here; {kept}",)
    if previous == "SYNC_FAILED":
        why = next((event.info for event in reversed(last_run) if event.kind == "state" and event.info), None)
        cause = f" ({why})" if why else ""
        return (
            f"the last run's final save did not store everything{cause}: what is missing is as it was before, or not here; {kept}",
        )
    if newest["partial"]:
        return (f"the newest snapshot{at} is partial: what it left out is as it was before, or not here",)
    return ()


def _copy_template(template: str | None, workspace: Path) -> int:
    """Copies what the workspace does not have; returns the number of files."""
    if template is None:
        return 0
    source = Path(template)
    if not source.is_dir():
        raise InvalidInput("the template is not a directory of this machine", operation="start", path=template)
    try:
        return _copy_missing(source, workspace)
    except OSError as cause:
        raise LocalIo(
            f"the template can't be copied: {cause.strerror}",
            operation="start",
            path=cause.filename,
            os_error=cause.errno,
        ) from cause


def _copy_missing(source: Path, target: Path) -> int:
    copied = 0
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        place = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                continue
            place.mkdir(exist_ok=True)
            copied += _copy_missing(Path(entry.path), place)
        elif not os.path.lexists(place) and (entry.is_symlink() or entry.is_file()):
            shutil.copy2(entry.path, place, follow_symlinks=False)
            copied += 1
    return copied
