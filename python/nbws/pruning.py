"""The verbs that keep a repository small: prune, its rules, and pins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbws.calls import Call, twin, verb
from nbws.config import parse_duration
from nbws.errors import InvalidInput
from nbws.retention import PinnedSnapshot, PruneReport, Retention

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.exclusive import EpochSource
    from nbws.progress import ProgressTarget
    from nbws.reports import SavedState

__all__ = ["Pruning"]


class Pruning:
    """The part of a `Workspace` that forgets and deletes, and says what must not be."""

    _engine: _nbws.Workspace
    _exclusive: EpochSource | None
    if TYPE_CHECKING:
        named: Callable[[str | datetime | SavedState], Steps[str]]

    @verb
    def prune(
        self,
        retention: Retention | None = None,
        *,
        apply: bool = False,
        force: bool = False,
        grace: float | str = "24h",
        default_retention: Retention | None = None,
        repack: bool = True,
        progress: ProgressTarget = None,
    ) -> Call[PruneReport]:
        """Forgets snapshots by the rules and deletes what nothing needs; tells what it would do unless ``apply`` is True.

        Safe beside saves, restores and other prunes. It may be killed anywhere, and the next one goes on. What nothing needs is
        marked first; a prune that runs after the grace deletes it, so a single call frees nothing at once.

        Args:
            retention: the rules; default those of this repository (`set_retention`), else ``default_retention``. Without any,
                every snapshot is kept but autosaves, which thin out.
            apply: do it.
            force: also if more than 20 % of the stored bytes would go.
            grace: time between mark and delete, in seconds or as text such as ``"24h"``, which is the default; at least an hour,
                and a week where ``exclusive`` keeps writers apart, which is the default there.
            default_retention: the rules of the container, for a repository that has none of its own.
            repack: copy what is needed out of packs that are mostly dead.
            progress: as for `Workspace.save`.

        Raises:
            InvalidState: so much would go that ``force`` is needed. Nothing was changed.
            InvalidInput: the grace is too short.
            Corrupt: the log, the index or a snapshot that is kept can't be read whole. Nothing is deleted then.
            Conflict: other writers were faster each time.
        """
        options: dict[str, Any] = {
            "apply": apply,
            "force": force,
            "grace": None if grace == "24h" else parse_duration(grace),
            "retention": None if retention is None else retention.to_engine(),
            "default_retention": None if default_retention is None else default_retention.to_engine(),
            "repack": repack,
        }
        return Call.one(
            lambda: self._engine.prune(options),
            PruneReport.from_engine,
            progress=progress,
            label="prune",
            hold=self._exclusive if apply else None,
        )

    prune_async = twin(prune)

    @verb
    def cancel_prune(self) -> Call[int]:
        """Withdraws the newest mark that is in its grace: what it forgot is back. Returns the number of its record.

        Raises:
            NotFound: there is none; what was swept is gone.
        """
        return Call.one(self._engine.cancel_prune, int, hold=self._exclusive)

    cancel_prune_async = twin(cancel_prune)

    @verb
    def retention(self) -> Call[Retention | None]:
        """Returns the rules of this repository, or None if it has none of its own."""
        return Call.one(
            self._engine.retention, lambda values: None if values is None else Retention.from_engine(values)
        )

    retention_async = twin(retention)

    @verb
    def set_retention(self, retention: Retention | None) -> Call[None]:
        """Sets the rules of this repository; None leaves it to those of its container again. One log record."""
        rules = None if retention is None else retention.to_engine()
        return Call.one(lambda: self._engine.set_retention(rules), lambda _: None, hold=self._exclusive)

    set_retention_async = twin(set_retention)

    @verb
    def pins(self) -> Call[tuple[PinnedSnapshot, ...]]:
        """Lists the pins that `pin` has set, those included whose time is over."""
        return Call.one(self._engine.pins, lambda listed: tuple(map(PinnedSnapshot.from_engine, listed)))

    pins_async = twin(pins)

    @verb
    def pin(
        self,
        snapshot: str | datetime | SavedState = "latest",
        *,
        until: datetime | None = None,
        comment: str | None = None,
    ) -> Call[str]:
        """Keeps a snapshot or rescue whatever the rules say, until a time or for good. Returns its id.

        Args:
            snapshot: id, unique prefix, ``"latest"``, ``"latest~2"``, a time, a `Snapshot` or a `Rescue`.
            until: when the pin ends; it must have a time zone.
            comment: a note of at most 1,024 bytes.

        Raises:
            NotFound: there is no such snapshot.
            InvalidInput: the prefix is ambiguous, or ``until`` has no time zone.
        """
        if until is not None and until.tzinfo is None:
            raise InvalidInput("until needs a time zone, such as datetime.now(UTC) has", operation="pin")
        until_ms = None if until is None else max(0, int(until.timestamp() * 1_000))

        def steps() -> Steps[str]:
            name = yield from self.named(snapshot)
            pinned: str = yield self._engine.pin(name, until_ms, comment)
            return pinned

        return Call(steps, hold=self._exclusive)

    pin_async = twin(pin)

    @verb
    def unpin(self, snapshot: str | SavedState) -> Call[None]:
        """Ends the pin of a snapshot, named by its id or a unique prefix of it.

        Raises:
            NotFound: no pin holds it.
        """
        name = snapshot if isinstance(snapshot, str) else snapshot.snapshot
        return Call.one(lambda: self._engine.unpin(name), lambda _: None, hold=self._exclusive)

    unpin_async = twin(unpin)
