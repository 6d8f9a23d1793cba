"""``nbws run``: a program inside the life of a notebook. Restore, start the program, forward signals, autosave, save at the end.

The main thread does nothing but wait for signals; they are blocked everywhere else, so none is lost and none interrupts a save.
Saves run in an event loop on a thread of its own. Nothing that ends this process at any moment can lose an acknowledged save.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbws.background import Background, Interrupted
from nbws.duties import Duties, told
from nbws.errors import Conflict, Fenced, InvalidInput, InvalidState, NbwsError, NotFound
from nbws.lifecycle import utc_now
from nbws.program import Program, adopt_orphans, catchable
from nbws.watch import SAVE_FAILED, STOPPING, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime
    from pathlib import Path

    from nbws.background import Work
    from nbws.notebook import Notebook
    from nbws.reports import RestoreReport, SaveReport

__all__ = ["RunOptions", "block_signals", "run"]

DISPLACED = 4
RESTORE_FAILED = 75


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a notebook's program is run.

    Attributes:
        workspace: its directory.
        data: a fast directory that is not saved, or None.
        take_over: start although another machine runs the notebook.
        autosave_s: seconds between autosaves; 0: none.
        stop_budget_s: seconds from SIGTERM to the end.
        continue_unrestored: start the program although the workspace could not be restored, with saving latched off.
        limit_rate: bytes a second for uploads, or None.
    """

    workspace: Path
    data: Path | None = None
    take_over: bool = False
    autosave_s: float = 300.0
    stop_budget_s: float = 25.0
    continue_unrestored: bool = False
    limit_rate: int | None = None


def block_signals() -> frozenset[int]:
    """Has signals wait until `run` takes them; returns which.

    For the first line of a program: threads that are started later, those of the engine too, inherit it, and as the first process of
    a container an unblocked SIGTERM would be lost.
    """
    taken = catchable()
    signal.pthread_sigmask(signal.SIG_BLOCK, {*taken, signal.SIGCHLD})
    return taken


def run(
    find: Callable[[], Coroutine[Any, Any, Notebook]],
    command: Sequence[str],
    options: RunOptions,
    say: Callable[[str], None],
    clock: Callable[[], datetime] = utc_now,
) -> int:
    """Runs a program as a notebook's; returns the exit code: the program's, 128 + its signal, or one of this module's.

    Args:
        find: returns the notebook, which is claimed here until the program has ended; may take long, a signal interrupts it.
        command: program and arguments.
        options: how.
        say: takes lines for people; called by two threads.
        clock: what time it is, for the limit of the run.

    Raises:
        InvalidInput: there is no program, or the notebook can't be run so: before anything was claimed.
        InvalidState: the notebook was deleted, or never made.
        NotFound: there is no such notebook.
    """
    if not command:
        raise InvalidInput("name the program to run, after --", operation="run")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    taken = block_signals()
    background = Background()
    started = _Run(
        find, options, say=say, background=background, program=Program(command, taken), taken=taken, clock=clock
    )
    try:
        return started.run()
    finally:
        started.close()
        background.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Run:
    def __init__(
        self,
        find: Callable[[], Coroutine[Any, Any, Notebook]],
        options: RunOptions,
        *,
        say: Callable[[str], None],
        background: Background,
        program: Program,
        taken: frozenset[int],
        clock: Callable[[], datetime],
    ) -> None:
        self._find = find
        self._options = options
        self._say = say
        self._background = background
        self._program = program
        self._taken = taken
        self._clock = clock
        self._notebook: Notebook | None = None
        self._watch = Watch(program, taken, options.stop_budget_s, say)
        self._was_asked = False

    def run(self) -> int:
        refused = self._start()
        if refused is not None:
            return refused
        adopt_orphans()
        self._spawn()
        try:
            self._attend()
        finally:
            self._watch.end_program()
        return self._finish()

    def close(self) -> None:
        self._watch.budget.close()

    # Start.

    def _start(self) -> int | None:
        """Claims and restores; an exit code if the program is not to be started."""
        starting = self._background.start(self._bring())
        while not starting.done():
            received = self._watch.wait_and_beat()
            if received in STOPPING:
                starting.cancel()
        try:
            report: RestoreReport = starting.result()
        except Interrupted:
            self._say("told to stop before the workspace was here; the program was not started")
            return 128 + self._watch.budget.told_by
        except Conflict as error:
            self._say(f"the notebook can't start here: {error}")
            return DISPLACED
        except (InvalidInput, InvalidState, NotFound):
            raise
        except (NbwsError, OSError) as error:
            return self._not_restored(error)
        for warning in report.warnings:
            self._say(warning)
        count = f"{report.files_written:,} {'file' if report.files_written == 1 else 'files'}"
        self._say(f"restored {count} in {report.duration_s:.2f} s; the notebook is RUNNING")
        if self._watch.budget.is_running:
            saved = self._finish()
            return saved or 128 + self._watch.budget.told_by
        return None

    async def _bring(self) -> RestoreReport:
        options = self._options
        notebook = await self._find()
        # Signs of life from the claim on: a restore may take long.
        self._watch.duties = Duties(
            notebook,
            self._background,
            self._say,
            autosave_s=options.autosave_s,
            limit_rate=options.limit_rate,
            clock=self._clock,
            monotonic=time.monotonic,
        )
        report = await notebook.start_async(
            options.workspace,
            options.data,
            take_over=options.take_over,
            resident=True,
            continue_unrestored=options.continue_unrestored,
        )
        self._notebook = notebook
        self._watch.duties.snapshot = report.snapshot
        return report

    def _not_restored(self, error: NbwsError | OSError) -> int | None:
        self._watch.duties = None
        if not self._options.continue_unrestored or self._watch.budget.is_running:
            self._say(f"the workspace could not be brought here, so the program was not started: {error}")
            return RESTORE_FAILED
        self._say(
            f"the notebook could not be claimed: {error}. The program is started all the same, as NBWS_ON_RESTORE_ERROR says; "
            "NOTHING OF ITS WORK WILL BE SAVED"
        )
        return None

    def _spawn(self) -> None:
        self._program.spawn()
        if self._program.problem:
            self._say(self._program.problem)

    # While it runs.

    def _attend(self) -> None:
        """Until the program has ended or has to: signals, and what is due."""
        while self._program.is_running() and not self._watch.budget.is_running:
            due = None if self._watch.duties is None else self._watch.duties.attend()
            received = self._watch.wait(due)
            if received in self._taken:
                self._program.forward(received)
                self._was_asked |= received in STOPPING
            if received == signal.SIGTERM:
                self._watch.budget.begin(received)
            if self._watch.duties is None:
                continue
            if self._watch.duties.displaced is not None:
                self._say(
                    f"this machine no longer runs the notebook, the program is ended: {self._watch.duties.displaced}"
                )
                return
            if self._watch.duties.expired == "restart":
                self._restart()
            elif self._watch.duties.expired is not None:
                self._say("the run has lasted as long as it may; the notebook is stopped")
                return

    def _restart(self) -> None:
        """The run's time is over: the program is started anew, the clock with it; no data moves."""
        assert self._notebook is not None  # noqa: S101  # for the type checker
        assert self._watch.duties is not None  # noqa: S101
        self._say("the run has lasted as long as it may; the program is restarted")
        restarting = self._background.start(self._notebook.restart_async())
        self._watch.end_of(restarting)
        try:
            restarting.result()
        except Fenced as error:
            self._watch.duties.displaced = told(error)
            return
        except (NbwsError, OSError) as error:
            self._say(f"the restart could not be recorded, it is tried again: {error}")
            self._watch.duties.put_off()
            return
        self._watch.end_program()
        self._watch.duties.restarted()
        if not self._watch.budget.is_running:
            self._spawn()

    # The end.

    def _finish(self) -> int:
        """The last save; the exit code."""
        code = self._program.code
        if code is None and self._program.problem is None:
            code = -signal.SIGKILL if self._program.is_running() else 0
        ended_with = 128 - (code or 0) if (code or 0) < 0 else code or 0
        if self._notebook is None or self._watch.duties is None:
            return SAVE_FAILED
        saving = self._watch.duties.stop_saving()
        if saving is not None:
            self._watch.end_of(saving)
        refused = self._save_last(self._cause(code))
        return ended_with if refused is None else refused

    def _cause(self, code: int | None) -> str | None:
        """Why the notebook is FAILED after this run, if it is: the program ended by itself, and not well."""
        is_over = self._watch.duties is not None and self._watch.duties.expired is not None
        if (
            not code
            or self._was_asked
            or self._watch.budget.is_running
            or is_over
            or self._program.was_ended_by_terminal()
        ):
            return None
        if self._program.problem:
            return self._program.problem
        return f"the program ended with {code}" if code > 0 else f"the program was ended by {_name(-code)}"

    def _save_last(self, failed: str | None) -> int | None:
        """Stops the notebook; an exit code if not all is stored.

        Told to hurry meanwhile, it begins anew with a deadline: what was sent is not sent again.
        """
        hurries = self._watch.budget.is_running
        ending = self._stop(failed)
        while not ending.done():
            self._watch.wait_and_beat()
            if self._watch.budget.is_running and not hurries:
                hurries = True
                ending.cancel()
                self._watch.end_of(ending)
                if not _was_interrupted(ending):
                    break
                ending = self._stop(failed)
        try:
            report: SaveReport = ending.result()
        except Fenced as error:
            self._say(told(error))
            return DISPLACED
        except (NbwsError, OSError) as error:
            self._say(f"the last save failed: {error}")
            return SAVE_FAILED if self._watch.duties is None or self._watch.duties.displaced is None else DISPLACED
        return self._tell(report)

    def _stop(self, failed: str | None) -> Work:
        assert self._notebook is not None  # noqa: S101  # for the type checker
        return self._background.start(
            self._notebook.stop_async(
                deadline=self._watch.budget.of_save(),
                failed=failed,
                # Whoever sent a signal waits for the end.
                prune=not self._watch.budget.is_running,
                limit_rate=self._options.limit_rate,
            )
        )

    def _tell(self, report: SaveReport) -> int | None:
        for warning in report.warnings:
            self._say(warning)
        if report.rescue is not None:
            self._say(f"saved as rescue {report.rescue}, beside the newest snapshot")
            return SAVE_FAILED
        late = [item for item in report.omitted if item.reason == "deadline"]
        left_out = f", {len(late)} files left out" if late else ""
        self._say(f"saved as {report.snapshot}: {report.bytes_uploaded:,} bytes sent{left_out}")
        return SAVE_FAILED if late else None


def _was_interrupted(work: Work) -> bool:
    try:
        work.result()
    except Interrupted:
        return True
    except Exception:  # noqa: BLE001  # its caller asks again
        return False
    return False


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
