"""The main thread of `nbws run`: it waits for signals, keeps to the stop budget, and ends the program with all that it started."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from nbws.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbws.background import Work
    from nbws.duties import Duties
    from nbws.program import Program

__all__ = ["SAVE_FAILED", "STOPPING", "Watch"]

SAVE_FAILED = 9
"""Exit code of a run whose last save did not store everything."""

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that tell to stop what has no program: a start, a last save."""

_KILL_PATIENCE_S = 1.0
# What the program leaves behind is asked to end, and killed after this.
_LEFT_BEHIND_S = 5.0
_POLL_S = 0.1
_LONGEST_WAIT_S = 3_600.0


class Watch:
    """All waiting of the main thread.

    Attributes:
        budget: the time since somebody told to stop.
        duties: what is due meanwhile; None before the notebook is known, and where nothing is saved.
    """

    def __init__(
        self, program: Program, taken: frozenset[int], stop_budget_s: float, say: Callable[[str], None]
    ) -> None:
        self.budget = Budget(stop_budget_s, self._give_up)
        self.duties: Duties | None = None
        self._program = program
        self._taken = taken
        self._say = say

    def end_of(self, work: Work) -> None:
        """Waits for the end of a work, with signs of life, and no longer than the stop budget allows."""
        while not work.done():
            self.wait_and_beat()

    def wait_and_beat(self) -> int:
        """Waits for a signal, leaves signs of life, and takes note of what tells to stop."""
        left = self.budget.left()
        beat = None if self.duties is None else self.duties.beat()
        received = self.wait(min((seconds for seconds in (left, beat) if seconds is not None), default=None))
        if received in STOPPING:
            self.budget.begin(received)
        self._check_overtime()
        return received

    def wait(self, seconds: float | None) -> int:
        """Waits for a signal; its number, or 0 when the time is over. Children that ended are taken note of."""
        limit = _LONGEST_WAIT_S if seconds is None else max(0.0, min(seconds, _LONGEST_WAIT_S))
        info = signal.sigtimedwait({*self._taken, signal.SIGCHLD}, limit)
        self._program.reap()
        return 0 if info is None else info.si_signo

    def end_program(self) -> None:
        """Waits for the program to end, for its share of the budget; then it is killed. What is quiet is saved meanwhile."""
        program, duties = self._program, self.duties
        deadline = self.budget.of_program()
        if program.is_running():
            if not self.budget.is_running:
                program.forward(signal.SIGTERM)
            program.wake()
            if duties is not None and duties.displaced is None and duties.expired != "restart":
                duties.autosave()
            while program.is_running() and time.monotonic() < deadline:
                received = self.wait(deadline - time.monotonic())
                if received in STOPPING:
                    self.budget.begin(received)
                if received in self._taken and received != signal.SIGTERM:
                    program.forward(received)
        if program.is_running():
            self._say("the program did not end in its share of the stop budget; it is killed")
            program.forward(signal.SIGKILL)
            patience = time.monotonic() + _KILL_PATIENCE_S
            while program.is_running() and time.monotonic() < patience:
                self.wait(patience - time.monotonic())
        self._end_left_behind(deadline)

    def _end_left_behind(self, deadline: float) -> None:
        """Ends what the program has started and not ended, so that the last save finds quiet files."""
        asked: set[int] = set()
        until = min(max(deadline, time.monotonic() + _KILL_PATIENCE_S), time.monotonic() + _LEFT_BEHIND_S)
        while left := self._program.left_behind():
            is_late = time.monotonic() >= until
            if is_late and time.monotonic() >= until + _KILL_PATIENCE_S:
                self._say(f"{_counted(left)} that the program left behind can't be ended")
                return
            if not asked:
                self._say(f"the program left {_counted(left)} behind, to be ended now")
            for pid in left:
                if is_late or pid not in asked:
                    asked.add(pid)
                    _send(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            received = self.wait(_POLL_S)
            if received in STOPPING:
                self.budget.begin(received)

    def _check_overtime(self) -> None:
        left = self.budget.left()
        if left is not None and left <= 0:
            self._say(
                "the stop budget is over before the last save was acknowledged; what was acknowledged before is safe"
            )
            self._give_up()

    def _give_up(self) -> None:
        self._program.forward(signal.SIGKILL)
        os._exit(SAVE_FAILED)


def _counted(pids: list[int]) -> str:
    return f"{len(pids)} {'process' if len(pids) == 1 else 'processes'}"


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
