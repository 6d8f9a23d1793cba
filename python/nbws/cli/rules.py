"""The options by which commands take rules of retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nbws.config import parse_duration
from nbws.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbws.retention import Retention


class SpanType(click.ParamType[float]):
    """Seconds, or text such as 24h."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the span in seconds."""
        try:
            return parse_duration(float(value) if _is_number(value) else value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or str(value).isdecimal()


_COUNT = click.IntRange(min=0)
_OPTIONS = (
    click.option("--retained-number", type=_COUNT, metavar="N", help="Keep at most N snapshots."),
    click.option("--lifetime-in-days", type=_COUNT, metavar="N", help="Give up snapshots older than N days,"),
    click.option(
        "--lifetime-eviction-threshold", type=_COUNT, metavar="N", help="from position N on; 0 is the newest."
    ),
    click.option("--keep-last", type=_COUNT, metavar="N", help="Keep the newest N, whatever the options above say."),
    click.option("--keep-within", type=SpanType(), help="Keep all that are younger, such as 30d."),
    click.option("--keep-daily", type=_COUNT, metavar="N", help="Keep the newest of each of N days."),
    click.option("--keep-weekly", type=_COUNT, metavar="N", help="Keep the newest of each of N weeks."),
    click.option("--keep-monthly", type=_COUNT, metavar="N", help="Keep the newest of each of N months."),
)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for each rule."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def rules_of(options: Mapping[str, Any]) -> Retention | None:
    """Returns the rules that were given, None if none was."""
    from nbws.retention import Retention

    return Retention(**options) if any(value is not None for value in options.values()) else None


def told(rules: Retention | None) -> str:
    """Returns rules as one line for people."""
    given = {} if rules is None else {name: value for name, value in rules.to_dict().items() if value is not None}
    return (
        ", ".join(f"{name} {value:g}" for name, value in given.items())
        or "none: all backups are kept but old autosaves"
    )
