"""``nbws run``: a program inside the life of a notebook. Restore, start the program, forward signals, autosave, save at the end.

The main thread does nothing but wait for signals; they are blocked everywhere else, so none is lost and none interrupts a save.
Saves run in an event loop on a thread of its own. Nothing that ends this process at any moment can lose an acknowledged save.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbws.errors import Conflict, Fenced, InvalidInput, NbwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from nbws.notebook import Notebook
    from nbws.reports import RestoreReport, SaveReport

__all__ = ["RunOptions", "run"]

CLAIM_REFUSED = 4
SAVE_FAILED = 9
RESTORE_FAILED = 75

_FORWARDED = tuple(
    sorted(
        signal.valid_signals()
        - {
            signal.SIGCHLD,
            signal.SIGKILL,
            signal.SIGSTOP,
            # Faults of this very process.
            signal.SIGSEGV,
            signal.SIGBUS,
            signal.SIGFPE,
            signal.SIGILL,
            signal.SIGABRT,
            signal.SIGTRAP,
            signal.SIGSYS,
            # Of its terminal and files: what they stop or end is decided by the system.
            signal.SIGTTIN,
            signal.SIGTTOU,
            signal.SIGPIPE,
        }
        - set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
    )
)

_NOT_FOUND = 127
_HEARTBEAT_S = 60.0
# Of the stop budget: what the program may take at most, and what is kept for the last record.
_CHILD_SHARE = 0.4
_RECORD_SHARE = 0.15
# When the budget is over, the process ends, whatever is still under way: as safe as a kill.
_OVERTIME_S = 1.0
_KILL_PATIENCE_S = 1.0


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


def run(notebook: Notebook, command: Sequence[str], options: RunOptions, say: Callable[[str], None]) -> int:
    """Runs a program as the notebook's; returns the exit code: the program's, 128 + its signal, or one of this module's.

    Args:
        notebook: claimed here, until the program has ended.
        command: program and arguments.
        options: how.
        say: takes lines for people.

    Raises:
        InvalidInput: there is no such program.
    """
    if not command:
        raise InvalidInput("name the program to run, after --", operation="run")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    loop = _Loop()
    try:
        return _Run(notebook, command, options, say, loop).run()
    finally:
        loop.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Loop:
    """An event loop on a thread of its own; what ends there wakes the main thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nbws-run", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGCHLD))
        return future

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)


class _Run:
    def __init__(
        self, notebook: Notebook, command: Sequence[str], options: RunOptions, say: Callable[[str], None], loop: _Loop
    ) -> None:
        self._notebook = notebook
        self._command = list(command)
        self._options = options
        self._say = say
        self._loop = loop
        self._child = 0
        self._status: int | None = None
        self._saving: Future[Any] | None = None
        self._is_fenced = False
        self._term_at: float | None = None

    def run(self) -> int:
        refused = self._start()
        if refused is not None:
            return refused
        self._spawn()
        try:
            self._attend()
        finally:
            self._end_child()
        return self._finish()

    # Start.

    def _start(self) -> int | None:
        """Claims and restores; an exit code if the program is not to be started."""
        options = self._options
        starting = self._loop.start(
            self._notebook.start_async(
                options.workspace,
                options.data,
                take_over=options.take_over,
                resident=True,
                continue_unrestored=options.continue_unrestored,
            )
        )
        stopped_by = 0
        while not starting.done():
            received = self._wait(None)
            if received in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}:
                stopped_by = stopped_by or received
                starting.cancel()
        try:
            report: RestoreReport = starting.result()
        except Conflict as error:
            self._say(f"the notebook can't start here: {error}")
            return CLAIM_REFUSED
        except (NbwsError, OSError) as error:
            self._say(f"the workspace could not be brought here, so the program was not started: {error}")
            return RESTORE_FAILED
        except BaseException:
            if stopped_by:
                return 128 + stopped_by
            raise
        for warning in report.warnings:
            self._say(warning)
        self._say(
            f"restored {report.files_written:,} files in {report.duration_s:.1f} s; {self._notebook.id} is RUNNING"
        )
        if stopped_by:
            self._final(self._options.stop_budget_s)
            return 128 + stopped_by
        return None

    def _spawn(self) -> None:
        default = [number for number in _FORWARDED if number != signal.SIGCHLD]
        try:
            self._child = os.posix_spawnp(
                self._command[0],
                self._command,
                os.environ,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[*default, signal.SIGPIPE],
            )
        except OSError as error:
            self._say(f"{self._command[0]}: {error.strerror}")
            self._status = _NOT_FOUND << 8  # as a shell says it
            return
        if sys.stdin is not None and sys.stdin.isatty():
            # The program owns the terminal; SIGTTOU is not blocked for others, so it is ignored here.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(sys.stdin.fileno(), self._child)

    # While it runs.

    def _attend(self) -> None:
        """Until the program has ended or has to: signals, autosaves, signs of life, the limit of the run."""
        began = time.monotonic()
        next_beat = began + _HEARTBEAT_S
        next_save = began + self._options.autosave_s if self._options.autosave_s > 0 else float("inf")
        while self._status is None and not self._is_fenced:
            now = time.monotonic()
            if self._term_at is not None:
                return
            if now >= next_beat:
                next_beat = now + _HEARTBEAT_S
                self._loop.start(self._beat())
            if now >= next_save and (self._saving is None or self._saving.done()):
                next_save = now + self._options.autosave_s
                self._saving = self._loop.start(self._autosave())
            received = self._wait(min(next_beat, next_save) - time.monotonic())
            if received in _FORWARDED:
                self._forward(received)
                if received == signal.SIGTERM:
                    self._term_at = time.monotonic()

    async def _beat(self) -> None:
        try:
            await self._notebook.beat_async()
        except NbwsError as error:
            self._say(f"no sign of life could be left: {error}")

    async def _autosave(self) -> None:
        try:
            report: SaveReport = await self._notebook.save_async(
                origin="autosave", threads=1, limit_rate=self._options.limit_rate
            )
            if report.files_new or report.files_changed or report.files_removed:
                self._say(f"autosaved as {report.snapshot[:12]}: {report.bytes_uploaded:,} bytes sent")
        except Fenced as error:
            self._say(f"another machine has taken the notebook over: {error}")
            self._is_fenced = True
        except NbwsError as error:
            self._say(f"autosave failed, the next one tries again: {error}")

    # The end.

    def _end_child(self) -> None:
        """Waits for the program to end, for its share of the budget; then it is killed. What is quiet is saved meanwhile."""
        if self._status is not None:
            return
        if self._term_at is None:
            self._term_at = time.monotonic()
            self._forward(signal.SIGTERM)
        if not self._is_fenced and (self._saving is None or self._saving.done()):
            self._saving = self._loop.start(self._autosave())
        deadline = self._term_at + self._options.stop_budget_s * _CHILD_SHARE
        while not self._has_ended() and time.monotonic() < deadline:
            received = self._wait(deadline - time.monotonic())
            if received in _FORWARDED and received != signal.SIGTERM:
                self._forward(received)
        if not self._has_ended():
            self._say("the program did not end in its share of the stop budget; it is killed")
            self._forward(signal.SIGKILL)
            patience = time.monotonic() + _KILL_PATIENCE_S
            while not self._has_ended() and time.monotonic() < patience:
                self._wait(patience - time.monotonic())

    def _finish(self) -> int:
        budget = None
        if self._term_at is not None:
            budget = max(0.5, self._options.stop_budget_s - (time.monotonic() - self._term_at))
        if self._saving is not None and not self._saving.done():
            # What it has uploaded is not lost: the final save goes on from there.
            self._saving.cancel()
        saved = self._final(budget)
        status = -signal.SIGKILL if self._status is None else os.waitstatus_to_exitcode(self._status)
        return SAVE_FAILED if not saved else 128 - status if status < 0 else status

    def _final(self, budget: float | None) -> bool:
        """The last save; whether all is stored."""
        began = time.monotonic()
        deadline = None if budget is None else budget * (1 - _RECORD_SHARE)
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        failed = f"the program ended with {code}" if code else None
        ending = self._loop.start(
            self._notebook.stop_async(
                deadline=deadline, failed=None if self._term_at else failed, limit_rate=self._options.limit_rate
            )
        )
        while not ending.done():
            if self._term_at is not None and budget is None:
                # Told to hurry in the middle of an unhurried save.
                budget, began = self._options.stop_budget_s, self._term_at
            if budget is not None and time.monotonic() > began + budget + _OVERTIME_S:
                self._say(
                    "the stop budget is over before the last save was acknowledged; what was acknowledged before is safe"
                )
                os._exit(SAVE_FAILED)
            left = None if budget is None else began + budget + _OVERTIME_S - time.monotonic()
            received = self._wait(left)
            if received == signal.SIGTERM:
                self._term_at = self._term_at or time.monotonic()
        try:
            report: SaveReport = ending.result()
        except Fenced as error:
            self._say(str(error))
            return False
        except (NbwsError, OSError) as error:
            self._say(f"the last save failed: {error}")
            return False
        for warning in report.warnings:
            self._say(warning)
        late = [item for item in report.omitted if item.reason == "deadline"]
        self._say(
            f"saved as {report.snapshot[:12]}: {report.bytes_uploaded:,} bytes sent"
            + (f", {len(late)} files left out" if late else "")
        )
        return not late

    # Signals and children.

    def _has_ended(self) -> bool:
        return self._status is not None

    def _wait(self, seconds: float | None) -> int:
        """Waits for a signal; its number, or 0 when the time is over. Children that ended are taken note of."""
        waited_for = {*_FORWARDED, signal.SIGCHLD}
        if seconds is None:
            received: int = signal.sigwait(waited_for)
        else:
            info = signal.sigtimedwait(waited_for, max(0.0, min(seconds, 3_600.0)))
            received = 0 if info is None else info.si_signo
        self._reap()
        return received

    def _reap(self) -> None:
        """As the first process of a container this one inherits the orphans of others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child:
                self._status = status

    def _forward(self, number: int) -> None:
        if self._child and self._status is None:
            try:
                os.killpg(self._child, number)
            except ProcessLookupError:
                return
