"""The program that `nbws run` runs: its process group, its signals, its terminal, and what it leaves behind."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Program", "adopt_orphans", "catchable"]

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_PR_SET_CHILD_SUBREAPER = 36
_STDIN = 0
# What Python ignores in every process; programs expect the default.
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_NOT_CAUGHT = frozenset(
    {
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGCHLD,
        # Faults of this very process.
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGTRAP,
        signal.SIGSYS,
        # Of its own terminal and files: what they stop or end is decided by the system.
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGPIPE,
        signal.SIGXFSZ,
    }
)


def catchable() -> frozenset[int]:
    """The signals that are taken and passed on: all but those of this process itself, and those that a caller had ignored (``nohup``)."""
    found = {int(number) for number in signal.valid_signals() - _NOT_CAUGHT}
    return frozenset(number for number in found if signal.getsignal(number) is not signal.SIG_IGN)


def adopt_orphans() -> None:
    """Has descendants whose parents end become children of this process, so that none writes on unseen; where the system can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Program:
    """A program in a process group of its own.

    Attributes:
        code: how it ended: its exit code, or minus the signal that ended it; None while it runs.
        problem: why it could not be started, or None.
    """

    def __init__(self, command: Sequence[str], forwarded: Iterable[int]) -> None:
        self.code: int | None = None
        self.problem: str | None = None
        self._command = list(command)
        self._forwarded = frozenset(forwarded)
        self._pid = 0
        self._has_terminal = False
        self._is_stopped = False
        self._strangers: frozenset[int] = frozenset()

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._pid != 0 and self.code is None

    def spawn(self) -> None:
        """Starts it; if that fails, `code` is what a shell would say: 126 or 127."""
        self.code = self.problem = None
        self._is_stopped = False
        self._strangers = frozenset(pid for pid, (_, parent, _) in _processes() if parent == os.getpid())
        try:
            self._pid = os.posix_spawnp(
                self._command[0],
                self._command,
                os.environ,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[*self._forwarded, *_IGNORED_BY_PYTHON],
            )
        except OSError as error:
            self.problem = f"{self._command[0]}: {error.strerror}"
            self.code = _NOT_FOUND if error.errno in {errno.ENOENT, errno.ENOTDIR} else _NOT_EXECUTABLE
            return
        with suppress(OSError):
            # Only in the foreground: a job in the background must not take the terminal from the shell.
            self._has_terminal = os.tcgetpgrp(_STDIN) == os.getpgrp()
        if self._has_terminal:
            # From now on this process writes to the terminal from its background.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            self._give_terminal(self._pid)

    def forward(self, number: int) -> None:
        """Sends a signal to its group."""
        if not self.is_running():
            return
        if number == signal.SIGCONT and self._has_terminal and self._is_in_front(os.getpgrp()):
            # The shell has brought this job to the foreground again.
            self._give_terminal(self._pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def wake(self) -> None:
        """Continues it if it was stopped: otherwise it could not hear that it should end."""
        if self._is_stopped:
            self.forward(signal.SIGCONT)

    def reap(self) -> None:
        """Takes note of children that ended or stopped: the program, and orphans of others that this process inherited."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._pid:
                continue
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._is_stopped = os.WIFSTOPPED(status)
                if self._is_stopped:
                    self._stopped(os.WSTOPSIG(status))
                continue
            self.code = os.waitstatus_to_exitcode(status)
            if self._has_terminal:
                # Ctrl-C during the last save is for this process.
                self._give_terminal(os.getpgrp())

    def was_ended_by_terminal(self) -> bool:
        """Whether a person ended it with Ctrl-C, or by closing the terminal."""
        return self._has_terminal and self.code in {-signal.SIGINT, -signal.SIGQUIT, -signal.SIGHUP}

    def left_behind(self) -> list[int]:
        """Processes that are left of it: of its group, and orphans that this process inherited."""
        if self._pid == 0:
            return []
        found = []
        for pid, (state, parent, group) in _processes():
            is_inherited = parent == os.getpid() and pid not in self._strangers
            if pid != self._pid and state not in "ZX" and (group == self._pid or is_inherited):
                found.append(pid)
        return found

    def _stopped(self, by: int) -> None:
        """A stopped job stops as a whole, as if this process were not there."""
        if not self._has_terminal:
            return
        if by in {signal.SIGTTIN, signal.SIGTTOU} and self._is_in_front(self._pid):
            # It asked for the terminal before it was given it.
            self.forward(signal.SIGCONT)
        elif _has_shell():
            self._give_terminal(os.getpgrp())
            os.killpg(0, signal.SIGSTOP)
            # Here it goes on after fg or bg; the signal that continued this process is forwarded, with the terminal or without.
        elif by == signal.SIGTSTP:
            # Nobody could continue it: Ctrl-Z is without effect, as it is for any process without a shell.
            self.forward(signal.SIGCONT)

    def _is_in_front(self, group: int) -> bool:
        with suppress(OSError):
            return os.tcgetpgrp(_STDIN) == group
        return False

    def _give_terminal(self, group: int) -> None:
        with suppress(OSError):
            os.tcsetpgrp(_STDIN, group)


def _has_shell() -> bool:
    """Whether a parent in this session could continue a stopped job."""
    parent = os.getppid()
    with suppress(OSError):
        return parent != 0 and os.getsid(parent) == os.getsid(0) and os.getpgid(parent) != os.getpgrp()
    return False


def _processes() -> list[tuple[int, tuple[str, int, int]]]:
    """Every process that can be seen: state, parent, group."""
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208  # names only
            if not name.isdecimal():
                continue
            with suppress(OSError, ValueError, IndexError):
                # The name of the program stands in parentheses and may hold anything.
                fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
                found.append((int(name), (fields[0], int(fields[1]), int(fields[2]))))
    return found
