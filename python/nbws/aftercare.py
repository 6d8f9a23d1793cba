"""What a stop that has time does for the store: room for the records that free more, and a prune once a week."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from nbws.errors import InvalidState, NbwsError
from nbws.reports import format_size
from nbws.retention import PruneReport

if TYPE_CHECKING:
    from nbws import _nbws
    from nbws.calls import Steps
    from nbws.defaults import ContainerDefaults
    from nbws.session import Sessions

__all__ = ["PRUNE_EVERY", "PRUNE_LIMIT_S", "keep_room", "look_after", "note_prune"]

PRUNE_EVERY = timedelta(days=7)
"""A stop prunes when the last prune is older."""

PRUNE_LIMIT_S = 60.0
"""Seconds after which such a prune ends wherever it is."""

_KEY = "pruned"


def keep_room(engine: _nbws.Workspace) -> Steps[None]:
    """Steps that store the ballast of a new notebook. One that could not be stored is by a later stop."""
    with suppress(NbwsError):
        yield engine.keep_ballast()


def look_after(run: Sessions, defaults: ContainerDefaults) -> Steps[tuple[str, ...]]:
    """Steps after the end of a run; returns what a person should know. No failure of theirs is one of the stop."""
    try:
        yield run.engine.keep_ballast()
        if not (yield from _is_due(run)):
            return ()
        return ((yield from _prune(run, defaults)),)
    except NbwsError as error:
        return (f"the store was not looked after, the next stop tries again: {error}",)


def note_prune(run: Sessions) -> Steps[None]:
    """Steps that note when the notebook was pruned. One record."""
    yield run.engine.set_setting(_KEY, json.dumps(run.clock().isoformat()))


def _is_due(run: Sessions) -> Steps[bool]:
    settings = yield from run.settings()
    now = run.clock()
    if now - settings.created < PRUNE_EVERY:
        return False
    text = yield run.engine.setting(_KEY)
    try:
        return text is None or now - datetime.fromisoformat(json.loads(text)) >= PRUNE_EVERY
    except (TypeError, ValueError):
        # Somebody else has put something there; the prune replaces it.
        return True


def _prune(run: Sessions, defaults: ContainerDefaults) -> Steps[str]:
    rules = (yield from defaults.read()).retention
    options = {
        "apply": True,
        "default_retention": None if rules is None else rules.to_engine(),
        "time_limit": PRUNE_LIMIT_S,
    }
    try:
        report = PruneReport.from_engine((yield run.engine.prune(options)))
    except InvalidState as error:
        # It stays refused until a person looks, so there is no use in asking at each stop.
        yield from note_prune(run)
        return f"the weekly prune was refused: {error}"
    yield from note_prune(run)
    return (
        f"the weekly prune gave up {len(report.forgotten)} of {report.snapshots} snapshots, marked "
        f"{format_size(report.bytes_doomed)} for deletion and freed {format_size(report.bytes_freed)}"
    )
