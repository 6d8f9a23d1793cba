"""Progress of a verb: what a callback gets, and bars for notebooks and terminals.

Nothing is imported for a bar until one is shown.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeAlias

from nbws.errors import InvalidInput
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EngineSink", "Progress", "ProgressTarget", "TerminalBar", "sink_for"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verb is, about ten times a second; totals grow until they are known."""

    phase: str
    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int

    @property
    def fraction(self) -> float:
        """Done bytes, or files where bytes don't count, over the total: 0.0 to 1.0."""
        done, total = (self.bytes_done, self.bytes_total) if self.bytes_total else (self.files_done, self.files_total)
        return min(done / total, 1.0) if total else 0.0


ProgressTarget: TypeAlias = Callable[[Progress], None] | bool | None
"""What callers may give: a function, True for a bar that fits the place, or nothing."""

EngineSink: TypeAlias = Callable[[str, int, int, int, int], None]
"""What the engine calls: phase, files done and total, bytes done and total."""


class _Bar(Protocol):
    def show(self, progress: Progress) -> None: ...
    def close(self) -> None: ...


class TerminalBar:
    """One line on a terminal, redrawn in place and wiped at the end; appears after ``delay_s`` seconds."""

    def __init__(self, label: str = "", *, delay_s: float = 0.0, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._begin = time.monotonic()
        self._delay_s = delay_s
        self._drawn = False

    def show(self, progress: Progress) -> None:
        """Draws the bar unless it is too early."""
        elapsed = time.monotonic() - self._begin
        if elapsed < self._delay_s:
            return
        rate = progress.bytes_done / elapsed if elapsed > 0 else 0.0
        left = f"{self._label} {progress.phase}".strip() if progress.phase != "notebooks" else self._label
        # Work over a container counts notebooks, and moves no bytes.
        counted = "notebooks" if progress.phase == "notebooks" else "files"
        right = f"{progress.fraction:4.0%}  {progress.files_done:,}/{progress.files_total:,} {counted}"
        if counted == "files":
            right += f"  {format_size(progress.bytes_done)}  {format_size(rate)}/s"
        width = shutil.get_terminal_size().columns - 1
        room = max(width - len(left) - len(right) - 4, 0)
        filled = int(progress.fraction * room)
        bar = "█" * filled + "░" * (room - filled)
        self._stream.write(f"\r\x1b[2K{left}  {bar}  {right}"[: width + 5])
        self._stream.flush()
        self._drawn = True

    def close(self) -> None:
        """Wipes the bar."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


class _TqdmBar:
    """A bar of tqdm, in notebooks a widget where ipywidgets is there."""

    def __init__(self, tqdm: Any, label: str) -> None:
        self._bar = tqdm(desc=label or None, unit="B", unit_scale=True, unit_divisor=1024)

    def show(self, progress: Progress) -> None:
        self._bar.total = progress.bytes_total or None
        self._bar.n = progress.bytes_done
        self._bar.set_postfix_str(
            f"{progress.phase}, {progress.files_done:,}/{progress.files_total:,} files", refresh=False
        )
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar(label: str, delay_s: float) -> _Bar | None:
    if _in_notebook():
        try:
            from tqdm.auto import tqdm  # noqa: PLC0415  optional, and slow to import
        except ImportError:
            return None
        return _TqdmBar(tqdm, label)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return TerminalBar(label, delay_s=delay_s)
    return None


@contextmanager
def sink_for(target: ProgressTarget, label: str = "", *, delay_s: float = 0.0) -> Iterator[EngineSink | None]:
    """Yields what the engine calls for ``target``: a callable, True (a bar that fits the place), or None/False.

    An exception raised by the callable cancels the verb and is raised by it once the verb has ended.
    """
    if target is None or target is False:
        yield None
    elif target is True:
        bar = _bar(label, delay_s)
        try:
            yield None if bar is None else (lambda *values: bar.show(Progress(*values)))
        finally:
            if bar is not None:
                bar.close()
    elif callable(target):
        function = target
        yield lambda *values: function(Progress(*values))
    else:
        raise InvalidInput(f"progress is a callable, True, False or None, not {target!r}")
