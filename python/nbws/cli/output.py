"""What commands share: options, printing, progress."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from nbws.config import parse_size
from nbws.errors import InvalidInput
from nbws.progress import TerminalBar
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbws.exclusive import LockFile
    from nbws.progress import Progress
    from nbws.reports import Omitted, Skipped

INCOMPLETE = 9
"""Exit code of work that finished but is incomplete; the report says what."""

_BAR_DELAY_S = 1.0
_LISTED = 20

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")

lock_option = click.option(
    "--lock-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Take turns with this machine's other writers; for stores that can't decide between them (see nbws doctor).",
)


class SizeType(click.ParamType[int]):
    """Bytes, or text such as 10GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the size in bytes."""
        try:
            return parse_size(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def lock_of(path: str | None) -> LockFile | None:
    """Returns the epoch source that `--lock-file` names."""
    if path is None:
        return None
    from nbws.exclusive import LockFile

    return LockFile(path)


def printable(text: str) -> str:
    """Returns text that can't drive a terminal: control characters and undecodable bytes are escaped."""
    safe = text.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in safe)


def print_json(value: Any) -> None:
    """Prints one object as JSON on stdout."""
    click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def heading(text: str) -> str:
    """Returns text as a heading."""
    return click.style(text, bold=True)


def print_paths(title: str, paths: Sequence[str | Skipped | Omitted]) -> None:
    """Prints what needs attention, at most a screenful."""
    if not paths:
        return
    click.echo(click.style(f"{title}: {len(paths):,}", fg="yellow"))
    for item in paths[:_LISTED]:
        line = item if isinstance(item, str) else f"{item.path}  ({item.reason})"
        click.echo(f"  {printable(line)}")
    if len(paths) > _LISTED:
        click.echo(f"  and {len(paths) - _LISTED:,} more; --json lists all")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under titles; the last column may be of any width."""
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    click.echo(heading(_line(titles, widths)))
    for row in rows:
        click.echo(_line([printable(cell) for cell in row], widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def size_and_files(files: int, size: int) -> str:
    """Returns a count of files and their size."""
    return f"{files:,} {'file' if files == 1 else 'files'}, {format_size(size)}"


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[Progress], None] | None]:
    """Yields a progress callback that draws a bar on a terminal once the work takes over a second."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = TerminalBar(label, delay_s=_BAR_DELAY_S)
    try:
        yield bar.show
    finally:
        bar.close()
