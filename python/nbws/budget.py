"""The time that a process has from the moment it is told to stop, and how it is shared out."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Budget"]

# What the program may take at most, and what is kept for the last records.
_PROGRAM_SHARE = 0.4
_RECORD_SHARE = 0.15
_LEAST_DEADLINE_S = 0.5
# When the budget is over, the process ends, whatever is still under way: as safe as a kill.
_OVERTIME_S = 1.0
_WATCHDOG_S = 0.5


class Budget:
    """The stop budget: it runs from the first signal that tells to stop.

    Args:
        seconds: from then to the end.
        give_up: ends the process; called by a thread of its own if the main thread hangs, in a full pipe or a dead disk.

    Attributes:
        told_by: the signal that told to stop, or 0.
    """

    def __init__(self, seconds: float, give_up: Callable[[], object]) -> None:
        self.told_by = 0
        self._seconds = seconds
        self._give_up = give_up
        self._told_at: float | None = None
        self._watchdog: threading.Timer | None = None

    @property
    def is_running(self) -> bool:
        """Whether somebody has told to stop."""
        return self._told_at is not None

    def begin(self, signal: int) -> None:
        """Starts the time; later signals change nothing."""
        if self._told_at is not None:
            return
        self._told_at, self.told_by = time.monotonic(), int(signal)
        self._watchdog = threading.Timer(self._seconds + _OVERTIME_S + _WATCHDOG_S, self._give_up)
        self._watchdog.daemon = True
        self._watchdog.start()

    def left(self) -> float | None:
        """Seconds until the process has to end; None: as many as it takes."""
        if self._told_at is None:
            return None
        return self._told_at + self._seconds + _OVERTIME_S - time.monotonic()

    def of_program(self) -> float:
        """The moment, on the monotonic clock, by which the program has to have ended if it is told now."""
        began = time.monotonic() if self._told_at is None else self._told_at
        return began + self._seconds * _PROGRAM_SHARE

    def of_save(self) -> float | None:
        """Seconds for the last save from now on; None: as many as it takes."""
        if self._told_at is None:
            return None
        return max(_LEAST_DEADLINE_S, self._told_at + self._seconds * (1 - _RECORD_SHARE) - time.monotonic())

    def close(self) -> None:
        """Calls the watchdog off."""
        if self._watchdog is not None:
            self._watchdog.cancel()
