"""How a verb is called: waited for, or awaited. Both run the same steps: jobs of the engine, and work for another thread."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from nbws.errors import InvalidInput
from nbws.progress import sink_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nbws.progress import EngineSink, ProgressTarget

__all__ = ["Call", "Elsewhere", "Hold", "Job", "Steps", "started", "twin", "verb"]

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class Job(Protocol):
    """A running verb of the engine, as far as calls need it; `nbws._nbws` has the details."""

    def wait(self, progress: EngineSink | None = None) -> Any:
        """Waits for the answer."""

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Has the listener called on another thread when there is news."""

    def poll(self) -> tuple[tuple[str, int, int, int, int] | None, bool]:
        """Returns new progress, and whether the verb has ended."""

    def result(self) -> Any:
        """Returns the answer or raises the error, after the end."""

    def interrupt(self) -> None:
        """Makes the verb end soon."""


class Hold(Protocol):
    """The right to write, where somebody outside of the store gives it; `nbws.exclusive` has the details."""

    def acquire(self) -> object:
        """Takes it; may wait."""

    def release(self) -> object:
        """Gives it back."""


class Elsewhere:
    """Work that may block: a caller that waits does it itself, an event loop has a thread do it and awaits what comes back."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work


# What a verb does, one after the other: it yields what must end first, is sent its answer, and returns its own.
Steps: TypeAlias = Generator[Job | Elsewhere, Any, Result]


class Call(Generic[Result]):
    """A verb: its steps, and what is held meanwhile."""

    def __init__(
        self,
        steps: Callable[[], Steps[Result]],
        *,
        progress: ProgressTarget = None,
        label: str = "",
        hold: Hold | None = None,
    ) -> None:
        self.steps = steps
        self._progress = progress
        self._label = label
        self._hold = hold

    @classmethod
    def one(
        cls,
        start: Callable[[], Job],
        read: Callable[[Any], Result],
        *,
        progress: ProgressTarget = None,
        label: str = "",
        hold: Hold | None = None,
    ) -> Call[Result]:
        """A verb of one job: how it starts, and how its answer is read."""

        def steps() -> Steps[Result]:
            return read((yield start()))

        return Call(steps, progress=progress, label=label, hold=hold)

    def wait(self) -> Result:
        """Waits for the end; Ctrl-C and a raising progress callback interrupt the verb and wait for its own end."""
        if self._hold is not None:
            self._hold.acquire()
        try:
            with sink_for(self._progress, self._label) as sink:
                return self._run(sink)
        finally:
            if self._hold is not None:
                self._hold.release()

    async def wait_async(self) -> Result:
        """Awaits the end without blocking the event loop; a cancelled task interrupts the verb and awaits its own end."""
        if self._hold is not None:
            await asyncio.to_thread(self._hold.acquire)
        try:
            with sink_for(self._progress, self._label) as sink:
                return await self._run_async(sink)
        finally:
            if self._hold is not None:
                self._hold.release()

    def _run(self, sink: EngineSink | None) -> Result:
        steps = self.steps()
        try:
            step = next(steps)
            while True:
                try:
                    answer = _done_here(step) if isinstance(step, Elsewhere) else step.wait(sink)
                except BaseException as error:  # noqa: BLE001  the verb decides what it means
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("Result", end.value)

    async def _run_async(self, sink: EngineSink | None) -> Result:
        steps = self.steps()
        try:
            step = next(steps)
            while True:
                try:
                    answer = await (_done_elsewhere(step) if isinstance(step, Elsewhere) else _end_of(step, sink))
                except BaseException as error:  # noqa: BLE001  the verb decides what it means
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("Result", end.value)


def _done_here(step: Elsewhere) -> Any:
    answer = step.work()
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise InvalidInput("what this call was given must be awaited: use its twin with the suffix _async")
    return answer


async def _done_elsewhere(step: Elsewhere) -> Any:
    work = asyncio.ensure_future(asyncio.to_thread(step.work))
    cancelled = await _finished(work, lambda: None)
    if cancelled is not None:
        raise cancelled
    answer = work.result()
    return await answer if inspect.isawaitable(answer) else answer


async def _finished(work: asyncio.Future[Any], interrupt: Callable[[], object]) -> asyncio.CancelledError | None:
    """Awaits an end, also when the task is cancelled meanwhile: what is being written comes to its own end first."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            # A second cancellation changes nothing.
            cancelled = cancelled or error
            interrupt()
    return cancelled


async def _end_of(job: Job, sink: EngineSink | None) -> Any:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    raised: list[BaseException] = []

    def look() -> None:
        news, is_ended = job.poll()
        if news is not None and sink is not None and not raised and not ended.done():
            try:
                sink(*news)
            except BaseException as error:  # noqa: BLE001  raised to the caller once the verb has ended
                raised.append(error)
                job.interrupt()
        if is_ended and not ended.done():
            ended.set_result(None)

    def listen() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(look)

    job.subscribe(listen)
    cancelled = await _finished(ended, job.interrupt)
    if cancelled is not None:
        raise cancelled
    if raised:
        raise raised[0]
    return job.result()


def verb(start: Callable[Arguments, Call[Result]]) -> Callable[Arguments, Result]:
    """Turns a function that starts a verb into one that returns its answer; the call itself stays at `twin`'s hand."""

    @functools.wraps(start)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        return start(*arguments, **options).wait()

    _answers(run, start)
    return run


def started(run: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs) -> Call[Result]:
    """Returns the call behind a bound verb, for a verb that does the same."""
    start: Callable[..., Call[Result]] = run.__func__.__wrapped__  # type: ignore[attr-defined]
    return start(run.__self__, *arguments, **options)  # type: ignore[attr-defined]


def twin(run: Callable[Arguments, Result]) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
    """Returns the asynchronous twin of a verb: the same arguments and answer, awaited."""
    start: Callable[..., Call[Result]] = run.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(start)
    async def run_async(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        return await start(*arguments, **options).wait_async()

    name = f"{start.__name__}_async"
    run_async.__name__ = name
    run_async.__qualname__ = f"{start.__qualname__}_async"
    run_async.__doc__ = f"Awaits `{start.__name__}`: same arguments, answer and errors; a cancelled task interrupts it and awaits its end."
    _answers(run_async, start)
    return run_async


def _answers(function: Callable[..., Any], start: Callable[..., Any]) -> None:
    """Makes help() show what a caller gets, not the call in between."""
    signature = inspect.signature(start)
    answer = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    function.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
