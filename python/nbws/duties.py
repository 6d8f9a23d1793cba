"""What is due while a notebook runs: signs of life, autosaves, the end of its time. No threads, no signals: `nbws.runner` has those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbws.errors import Fenced, InvalidState, NbwsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws.background import Background, Work
    from nbws.notebook import Notebook
    from nbws.reports import SaveReport

__all__ = ["Duties"]

HEARTBEAT_S = 60.0
# An answer about the run's time is asked for again after so long at the latest: restart may have been said elsewhere.
_LIMIT_RETRY_S = 60.0


class Duties:
    """The chores of one run, each at its time and never twice at once.

    Attributes:
        displaced: why this process no longer runs the notebook, or None.
        expired: ``"stop"`` or ``"restart"`` when the run has lasted its time, else None.
        snapshot: id of the newest snapshot that is known to be committed.
    """

    def __init__(
        self,
        notebook: Notebook,
        background: Background,
        say: Callable[[str], None],
        *,
        autosave_s: float,
        limit_rate: int | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self.displaced: str | None = None
        self.expired: str | None = None
        self.snapshot: str | None = None
        self._notebook = notebook
        self._background = background
        self._say = say
        self._autosave_s = autosave_s
        self._limit_rate = limit_rate
        self._clock = clock
        self._monotonic = monotonic
        now = monotonic()
        self._next_beat = now + HEARTBEAT_S
        self._next_save = now + autosave_s if autosave_s > 0 else float("inf")
        self._next_limit = now
        self._beating: Work | None = None
        self._looking: Work | None = None
        self._saving: Work | None = None
        self._rescue: str | None = None

    def attend(self) -> float:
        """Starts what is due; returns the seconds until the next is. For the time while the program runs."""
        self.beat()
        now = self._monotonic()
        if now >= self._next_save:
            self.autosave()
        if now >= self._next_limit and not _is_under_way(self._looking):
            self._next_limit = now + _LIMIT_RETRY_S
            self._looking = self._background.start(self._look_at_limit())
        return max(0.0, min(self._next_beat, self._next_save, self._next_limit) - self._monotonic())

    def beat(self) -> float:
        """Leaves a sign of life when one is due; returns the seconds until the next. For any time between claim and last record."""
        now = self._monotonic()
        if now >= self._next_beat:
            self._next_beat = now + HEARTBEAT_S
            # A store that does not answer is not asked twice.
            if not _is_under_way(self._beating):
                self._beating = self._background.start(self._beat())
        return max(0.0, self._next_beat - now)

    def autosave(self) -> None:
        """Starts an autosave unless one is under way."""
        if self._autosave_s > 0:
            self._next_save = self._monotonic() + self._autosave_s
        if not _is_under_way(self._saving):
            self._saving = self._background.start(self._save())

    def stop_saving(self) -> Work | None:
        """Has an autosave end soon, and returns it. What it has sent is not lost: the next save goes on from there."""
        if self._saving is not None:
            self._saving.cancel()
        return self._saving

    def restarted(self) -> None:
        """Takes note that the run's time began anew."""
        self.expired = None
        self._next_limit = self._monotonic()

    def put_off(self) -> None:
        """Has the run go on beyond its time for a minute."""
        self.expired = None
        self._next_limit = self._monotonic() + _LIMIT_RETRY_S

    async def _beat(self) -> None:
        try:
            await self._notebook.beat_async()
        except NbwsError as error:
            self._say(f"no sign of life could be left: {error}")

    async def _save(self) -> None:
        try:
            report: SaveReport = await self._notebook.save_async(
                origin="autosave", threads=1, limit_rate=self._limit_rate
            )
        except Fenced as error:
            self.displaced = told(error)
        except InvalidState as error:
            await self._look_at_state(error)
        except NbwsError as error:
            self._say(f"autosave failed, the next one tries again: {told(error)}")
        except OSError as error:
            self._say(f"autosave failed, the next one tries again: {error}")
        else:
            self._tell(report)

    async def _look_at_state(self, error: InvalidState) -> None:
        """A save was refused: it is over only if somebody has ended the run. A store that lost its log is no such word."""
        try:
            state = (await self._notebook.status_async()).state
        except NbwsError:
            state = "NONE"
        if state == "RUNNING" and error.rescue is not None:
            await self._keep_newest(error.rescue)
        elif state in {"RUNNING", "NONE", "UNKNOWN"}:
            self._say(f"autosave failed, the next one tries again: {error}")
        else:
            self.displaced = told(error)

    async def _keep_newest(self, rescue: str) -> None:
        """Saves are latched off: of this run's rescues the newest is enough."""
        before, self._rescue = self._rescue, rescue
        self._say(f"autosaved as rescue {rescue}, beside the newest snapshot, until the latch is cleared")
        if before is not None:
            try:
                await self._notebook.workspace.dismiss_async(before)
            except NbwsError as error:
                self._say(f"rescue {before} could not be dismissed: {error}")

    def _tell(self, report: SaveReport) -> None:
        if report.snapshot != self.snapshot:
            self.snapshot = report.snapshot
            self._say(f"autosaved as {report.snapshot}: {report.bytes_uploaded:,} bytes sent")

    async def _look_at_limit(self) -> None:
        try:
            status: Any = await self._notebook.status_async()
            settings: Any = await self._notebook.settings_async()
        except NbwsError:
            # Once more in a minute; a limit of days can wait.
            return
        if status.expires_at is None:
            return
        left = (status.expires_at - self._clock()).total_seconds()
        if left <= 0:
            self.expired = settings.at_limit
        else:
            # The clock of this machine may be set meanwhile, and restart said elsewhere: look again, at the latest in an hour.
            self._next_limit = self._monotonic() + min(left, 3_600.0)


def told(error: NbwsError) -> str:
    """Returns an error as one line, with the rescue that keeps the work."""
    text = str(error)
    return f"{text}; the work is kept as rescue {error.rescue}" if error.rescue and error.rescue not in text else text


def _is_under_way(work: Work | None) -> bool:
    return work is not None and not work.done()
