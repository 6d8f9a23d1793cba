"""Work on an event loop of a thread of its own, for a main thread that waits for signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Background", "Interrupted", "Work"]


class Interrupted(Exception):  # not a failure: somebody asked for it
    """The work was cancelled, and has ended."""


class Work:
    """Something under way. All is for the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._future: Future[Any] = Future()
        self._task: asyncio.Task[Any] | None = None
        loop.call_soon_threadsafe(self._begin, coroutine)

    def done(self) -> bool:
        """Whether it has ended, also after `cancel`: what it was writing has come to its own end then."""
        return self._future.done()

    def result(self) -> Any:
        """Returns its answer, or raises its error.

        Raises:
            Interrupted: it was cancelled.
        """
        return self._future.result(timeout=0)

    def cancel(self) -> None:
        """Has it end soon."""
        # The loop begins it first: both are calls of the same queue.
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._future.set_exception(Interrupted())
        elif error := task.exception():
            self._future.set_exception(error)
        else:
            self._future.set_result(task.result())
        # The main thread waits for signals only; this one means that a child, or this, has ended.
        os.kill(os.getpid(), signal.SIGCHLD)


class Background:
    """The loop and its thread, which takes no signals: the thread that makes it has blocked them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nbws-run", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Work:
        """Starts something; its end wakes the main thread by SIGCHLD."""
        return Work(self._loop, coroutine)

    def close(self) -> None:
        """Stops the loop. What is under way is given up."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._loop.close()
