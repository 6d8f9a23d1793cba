"""One notebook: start, save, restart, stop, status, history, delete. Verbs of its workspace and records of its log, composed.

Its backups are in `nbws.backups`, what it costs in `nbws.costs`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nbws.aftercare import look_after
from nbws.calls import Call, twin, verb
from nbws.costs import Costs
from nbws.errors import Conflict, Fenced, InvalidState, NbwsError
from nbws.lifecycle import LIVE_STATES, Event, NotebookSettings, Status
from nbws.session import cause_of, check_session, left_out, not_the_head, short
from nbws.starting import Start, check_apart

if TYPE_CHECKING:
    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.listing import Listing
    from nbws.progress import ProgressTarget
    from nbws.reports import RestoreReport, SaveReport

__all__ = ["Notebook"]

Path_: TypeAlias = str | os.PathLike[str]


class Notebook(Costs):
    """One notebook of a container; `Notebooks.create` and `Notebooks.get` make these.

    Every verb has a twin for event loops with the suffix ``_async``: the same arguments and answer, awaited.

    A notebook runs on one machine at a time. `start` claims it: whoever ran it before is fenced from then on and keeps its unsaved
    work as a rescue. What belongs to the run on this machine is kept in local state, so that `start`, `save` and `stop` may be
    calls of different processes.
    """

    @verb
    def start(
        self,
        workspace: Path_ = "/workspace",
        data: Path_ | None = None,
        *,
        take_over: bool = False,
        strict: bool = False,
        strict_marker: bool = False,
        discard_changes: bool = False,
        resident: bool = False,
        continue_unrestored: bool = False,
        progress: ProgressTarget = None,
    ) -> Call[RestoreReport]:
        """Claims the notebook and brings its workspace here; afterwards it is RUNNING.

        A first start sets the workspace up: the directory, its marker and what the template holds. A start on the disk of a run
        that crashed first saves the work that survived there: as the head, or as a rescue if somebody has saved since.

        Args:
            workspace: the directory; made if it does not exist.
            data: a fast directory that is emptied now and after the run, and never saved; None: no such directory.
            take_over: start although another machine runs the notebook; that one is fenced.
            strict: refuse if the framework or Python differs from what the newest snapshot was saved with.
            strict_marker: end in ERROR if the newest snapshot lacks the marker, instead of making a new one.
            discard_changes: give up unsaved work that lies in the directory.
            continue_unrestored: if the workspace can't be restored, run all the same with what there is; saves then become rescues
                until `clear_latch`.
            resident: this process will call `beat` each minute, so that others can tell when it has died.
            progress: as for `Workspace.save`.

        Raises:
            Conflict: another machine or process runs it, or was faster; the message names the writer.
            InvalidInput: the directory holds other files; or ``data`` and ``workspace`` lie in each other.
            InvalidState: the notebook was deleted; or, with ``strict``, versions differ.
        """
        place = Path(os.path.abspath(workspace))  # noqa: PTH100  # links stay what they are
        ephemeral = None if data is None else Path(os.path.abspath(data))  # noqa: PTH100
        check_apart(place, ephemeral)
        options = {
            "take_over": take_over,
            "resident": resident,
            "discard": discard_changes,
            "strict_marker": strict_marker,
            "continue": continue_unrestored,
        }

        def steps() -> Steps[RestoreReport]:
            settings = yield from self._run.settings()
            listed = yield self._engine.snapshots()
            newest = listed[-1] if listed else None
            warnings = self._run.compare_versions(newest, settings, strict=strict)
            yield from self._let_go_of_what_ended()
            hold: _nbws.Hold = yield self._engine.hold(place)
            try:
                report = yield from Start(self._run, hold, ephemeral, settings, options).steps(newest)
            except BaseException:
                hold.release()
                raise
            self._run.keep(hold)
            return dataclasses.replace(report, warnings=(*warnings, *report.warnings))

        return Call(steps, progress=progress, label="start", hold=self._exclusive)

    start_async = twin(start)

    def _let_go_of_what_ended(self) -> Steps[None]:
        """A run of this very object that somebody else has ended keeps nothing any more."""
        if self._run.hold is None:
            return
        state, session = yield from self._run.here()
        if session is not None and session.owns_epoch and state in LIVE_STATES:
            raise Conflict("this process runs the notebook already; stop it first", operation="start")
        self._run.let_go()

    @verb
    def save(
        self,
        *,
        comment: str | None = None,
        origin: str = "save",
        deadline: float | None = None,
        limit_rate: int | None = None,
        threads: int | None = None,
        progress: ProgressTarget = None,
    ) -> Call[SaveReport]:
        """Saves the workspace of the run on this machine; allowed in RUNNING and SYNC_FAILED, which it ends if all is saved.

        Args:
            comment: a note of at most 1,024 bytes.
            origin: what makes the snapshot.
            deadline: as for `Workspace.save`, like all that follows.
            limit_rate: bytes a second.
            threads: threads to use.
            progress: called with a `Progress`.

        Raises:
            InvalidState: the notebook does not run on this machine.
            Fenced: another machine took over; ``rescue`` names the snapshot that keeps this work.
            QuotaExceeded: the quota of the notebook says that such a save is refused. Nothing has changed.
        """
        options = {
            "comment": comment,
            "origin": origin,
            "deadline": deadline,
            "limit_rate": limit_rate,
            "threads": threads,
        }

        def steps() -> Steps[SaveReport]:
            state, session = yield from self._run.session("save", {"RUNNING", "SYNC_FAILED"})
            # What ends a failed stop is a last save, too.
            limits = {**(yield from self._save_limits()), "is_last": state == "SYNC_FAILED"}
            report = yield from self._run.save(session, {**options, **limits})
            if state == "SYNC_FAILED" and not left_out(report) and not not_the_head(report):
                yield self._engine.change_state(session.place, "stopped")
                notes = yield from self._run.end(session)
                report = dataclasses.replace(report, warnings=(*report.warnings, *notes))
            return report

        return Call(steps, progress=progress, label="save", hold=self._exclusive)

    save_async = twin(save)

    @verb
    def restart(self) -> Call[Status]:
        """Starts the notebook's clock again; no data moves. The program is restarted by whoever runs it.

        Raises:
            InvalidState: the notebook does not run on this machine.
        """

        def steps() -> Steps[Status]:
            state, session = yield from self._run.session("restart", {"RUNNING", "RESTARTING"})
            if state != "RESTARTING":
                yield self._engine.change_state(session.place, "restarting")
            yield self._engine.change_state(session.place, "running")
            return (yield from self._run.status())

        return Call(steps, hold=self._exclusive)

    restart_async = twin(restart)

    @verb
    def stop(
        self,
        *,
        deadline: float | None = None,
        failed: str | None = None,
        prune: bool | None = None,
        limit_rate: int | None = None,
        threads: int | None = None,
        progress: ProgressTarget = None,
    ) -> Call[SaveReport]:
        """Saves a last time and ends the run: afterwards the notebook is STOPPED.

        If the save fails, or the deadline leaves work out, it is SYNC_FAILED: the files stay where they are, and `save` resumes.
        An interrupted stop is resumed by another one; a notebook that is stopped stays so, with a notice.

        Args:
            deadline: seconds after which what is whole is saved: notebooks and code first, then small files, then large ones.
            failed: the program failed, and why: the notebook ends in FAILED instead of STOPPED.
            prune: once it is STOPPED, prune if the last prune is older than a week: for at most a minute, and never more than
                20 % of the stored bytes. What came of it is one of the ``warnings``; its failure is none of the stop. None: unless
                there is a deadline.
            limit_rate: as for `Workspace.save`, like all that follows.
            threads: threads to use.
            progress: called with a `Progress`.

        Raises:
            InvalidState: the notebook does not run on this machine, or `nbws run` runs it here.
            Fenced: another machine took over; ``rescue`` names the snapshot that keeps this work.
        """
        options = {
            "origin": "stop",
            "deadline": deadline,
            "limit_rate": limit_rate,
            "threads": threads,
            "is_last": True,
        }

        def steps() -> Steps[SaveReport]:
            state, session = yield from self._run.here()
            is_displaced = session is not None and session.displaced
            if state in {"STOPPED", "FAILED"} and not is_displaced:
                return (yield from self._run.nothing_to_stop(state))
            run = check_session("stop", {"RUNNING", "RESTARTING", "STOPPING", "SYNC_FAILED"}, state, session)
            yield from self._run.check_nobody_attends(run)
            if state in {"RUNNING", "RESTARTING"} and not is_displaced:
                yield self._engine.change_state(run.place, "stopping")
            limits = yield from self._save_limits()
            try:
                report = yield from self._run.save(run, {**options, **limits})
            except Fenced:
                yield from self._run.end(run, wipe=state == "DELETING")
                raise
            except NbwsError as error:
                yield from self._run.sync_failed(run, state, cause_of(error))
                raise
            missing = left_out(report) or not_the_head(report)
            if missing:
                yield from self._run.sync_failed(run, state, missing)
                return report
            end = "failed" if failed and state != "SYNC_FAILED" else "stopped"
            yield self._engine.change_state(run.place, end, None, short(failed))
            notes = yield from self._run.end(run)
            if end == "stopped" and (deadline is None if prune is None else prune):
                notes = (*notes, *(yield from look_after(self._run, self._defaults)))
            return dataclasses.replace(report, warnings=(*report.warnings, *notes))

        return Call(steps, progress=progress, label="stop", hold=self._exclusive)

    stop_async = twin(stop)

    @verb
    def delete(self, force: bool = False) -> Call[None]:
        """Deletes the notebook; its data stays until it is purged (`Notebooks.purge`).

        Args:
            force: also while it runs: the run is fenced, what it did not save is lost with its disk.

        Raises:
            InvalidState: it runs, and ``force`` is not set.
        """

        def steps() -> Steps[None]:
            state = yield from self._run.state()
            if state in LIVE_STATES and not force:
                raise InvalidState(f"the notebook is {state}; stop it first, or force it", operation="delete")
            _, session = yield from self._run.here()
            yield self._engine.delete()
            if session is not None and session.owns_epoch:
                yield from self._run.end(session)

        return Call(steps, hold=self._exclusive)

    delete_async = twin(delete)

    @verb
    def status(self) -> Call[Status]:
        """Tells how the notebook is. Reads its log."""
        return Call(self._run.status)

    status_async = twin(status)

    @verb
    def settings(self) -> Call[NotebookSettings]:
        """Returns what was said of the notebook when it was made.

        Raises:
            InvalidState: this repository was never made a notebook.
        """
        return Call(self._run.settings)

    settings_async = twin(settings)

    @verb
    def history(self) -> Call[Listing[Event]]:
        """Lists the events of its life, oldest first: the log."""
        return Call(self._run.events)

    history_async = twin(history)

    @verb
    def comment(self, text: str) -> Call[None]:
        """Notes something in the notebook's history; changes nothing else."""

        def steps() -> Steps[None]:
            state, session = yield from self._run.here()
            is_own = session is not None and session.owns_epoch and state in {*LIVE_STATES, "SYNC_FAILED"}
            place = session.place if session is not None and is_own else None
            yield self._engine.change_state(place, state.lower(), text)

        return Call(steps, hold=self._exclusive)

    comment_async = twin(comment)

    @verb
    def clear_latch(self) -> Call[None]:
        """Says that what lies in the workspace may become the head again, after a start that could not restore it.

        Raises:
            InvalidState: no latch is set, or the notebook was never started on this machine.
        """

        def steps() -> Steps[None]:
            _, session = yield from self._run.here()
            if session is None or not session.owns_epoch:
                raise InvalidState("the notebook was not started on this machine last", operation="clear latch")
            yield self._engine.clear_latch(session.place)

        return Call(steps)

    clear_latch_async = twin(clear_latch)

    @verb
    def beat(self) -> Call[None]:
        """Shows that this process runs the notebook; once a minute, if it was started as resident."""

        def steps() -> Steps[None]:
            found = yield self._engine.session()
            if found is not None and found["owns_epoch"]:
                yield self._engine.beat(found["writer"])

        return Call(steps)

    beat_async = twin(beat)
