"""What the commands about notebooks share: where they lie, and how times and states look to people."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbws.config import parse_duration
from nbws.errors import InvalidInput
from nbws.run_config import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from nbws.lifecycle import Status
    from nbws.notebook import Notebook
    from nbws.notebooks import Notebooks

_CONFIG = "nbws.toml"
_COLOURS = {
    "RUNNING": "green",
    "ERROR": "red",
    "UNKNOWN": "red",
    "FAILED": "red",
    "SYNC_FAILED": "red",
    "DELETING": "yellow",
}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))

store_option: Callable[..., Any] = click.option(
    "--store", metavar="URL", help="Where the container notebooks_workspace lies; default: NBWS_STORE, then nbws.toml."
)
workspace_option: Callable[..., Any] = click.option(
    "--workspace",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="The notebook's directory.  [default: /workspace]",
)
data_option: Callable[..., Any] = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="A fast directory that is emptied before and after the run, and never saved.",
)


class DurationType(click.ParamType[float]):
    """Seconds, or text such as 5m, 24h or 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns seconds."""
        try:
            return parse_duration(float(value) if str(value).isdecimal() else value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def load_settings(options: Mapping[str, object]) -> Settings:
    """Returns the settings of a run: options before ``NBWS_*`` before ``nbws.toml``.

    Raises:
        InvalidInput: one can't be used, or the file names one that does not exist.
    """
    named = os.environ.get("NBWS_CONFIG")
    path = Path(named or _CONFIG)
    try:
        text = path.read_text()
    except FileNotFoundError:
        if named:
            raise
        text = ""
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text", operation="read settings", path=str(path)) from error
    return read_settings(text, str(path), os.environ, options)


def open_container(store: str | None) -> Notebooks:
    """Returns the notebooks that lie in a store.

    Raises:
        click.UsageError: none is named anywhere.
    """
    return container_of(load_settings({"store": store}))


def container_of(settings: Settings) -> Notebooks:
    """Returns the notebooks that settings name."""
    from nbws.notebooks import Notebooks

    if settings.store is None:
        raise click.UsageError("name the store: --store URL, NBWS_STORE, or url in the table [store] of nbws.toml")
    return Notebooks(settings.store, options=settings.store_options)


def open_notebook(store: str | None, identity: str) -> Notebook:
    """Returns one notebook of a store."""
    return open_container(store).get(identity)


def span(seconds: float) -> str:
    """Returns a span of time as people say it: its largest unit, and the next one while that is small."""
    left = max(0, round(seconds))
    for number, (unit, size) in enumerate(_UNITS):
        if left < size:
            continue
        count, rest = divmod(left, size)
        if count < 10 and number + 1 < len(_UNITS):  # noqa: PLR2004  # of two digits or more the rest says nothing
            smaller, small = _UNITS[number + 1]
            if rest // small:
                return f"{count} {unit} {rest // small} {smaller}"
        return f"{count} {unit}"
    return "0 s"


def ago(then: datetime | None, now: datetime) -> str:
    """Returns how long ago a moment was."""
    if then is None:
        return "never"
    return "just now" if now - then < timedelta(seconds=1) else f"{span((now - then).total_seconds())} ago"


def styled_state(status: Status) -> str:
    """Returns the state, with a word about a writer that is silent, in colour."""
    text = status.state
    if status.writer is not None and status.writer.stale:
        return click.style(f"{text} (stale)", fg="yellow")
    return click.style(text, fg=_COLOURS.get(status.state))
