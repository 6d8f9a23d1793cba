"""Long work in slices: between them progress is shown, and whoever waits can give up."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nbws.calls import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from nbws.calls import Steps

__all__ = ["in_slices"]

_SLICE_S = 0.05


def in_slices(work: Generator[None, None, None], show: Callable[[], object]) -> Steps[None]:
    """Does the work, slice by slice, and calls ``show`` after each; an exception ends it between two of its steps."""
    try:
        while (yield Elsewhere(partial(_advance, work))):
            show()
        show()
    finally:
        work.close()


def _advance(work: Iterator[None]) -> bool:
    """Works for a moment; returns whether there is more to do."""
    until = time.monotonic() + _SLICE_S
    with _late_interrupt():
        for _ in work:
            if time.monotonic() > until:
                return True
    return False


@contextmanager
def _late_interrupt() -> Iterator[None]:
    """Has Ctrl-C wait for the end, so that what was done is counted; only where Ctrl-C means what Python makes of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:
        yield
        return
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        del frame
        pressed.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if pressed:
            raise KeyboardInterrupt
