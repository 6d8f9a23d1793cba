"""`nbws ls`, `cat`, `diff` and `export`: what a snapshot holds, without a restore."""

from __future__ import annotations

import base64
import contextlib
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nbws.cli.output import INCOMPLETE, heading, json_option, print_json, print_paths, printable
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nbws.entries import Diff, Entry
    from nbws.snapshot import Browsable

_COPY_BYTES = 8 << 20
_TYPE_BITS = {"directory": stat.S_IFDIR, "file": stat.S_IFREG, "symlink": stat.S_IFLNK, "omitted": 0}

snapshot_option: Callable[..., Any] = click.option(
    "--snapshot",
    metavar="S",
    default="latest",
    show_default=True,
    help="An id, a unique prefix, latest~2 or a time; a rescue by its id.",
)


def _open(url: str, selector: str) -> Browsable:
    from nbws.workspace import Workspace

    return Workspace.open(url).find(selector)


@click.command()
@click.argument("url")
@click.argument("path", default="")
@snapshot_option
@click.option("-R", "--recursive", is_flag=True, help="List everything below PATH.")
@json_option
def ls(url: str, path: str, *, snapshot: str, recursive: bool, as_json: bool) -> None:
    """List a directory of a snapshot: mode, size, time and path."""
    found = _open(url, snapshot)
    entries = found.ls(path, recursive)
    if as_json:
        print_json({"snapshot": found.snapshot, "entries": [entry.to_dict() for entry in entries]})
        return
    width = max((len(f"{entry.size:,}") for entry in entries), default=0)
    for entry in entries:
        click.echo(_line(entry, width))


def _line(entry: Entry, width: int) -> str:
    mode = stat.filemode(_TYPE_BITS[entry.kind] | entry.mode)
    target = f" -> {entry.target}" if entry.target is not None else ""
    note = "  (omitted)" if entry.kind == "omitted" else ""
    return f"{mode}  {entry.size:>{width},}  {_time(entry.mtime_ns)}  {printable(entry.path + target)}{note}"


def _time(nanoseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, tz=UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{nanoseconds // 1_000_000_000:>19}"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


@click.command()
@click.argument("url")
@click.argument("path")
@snapshot_option
@json_option
def cat(url: str, path: str, *, snapshot: str, as_json: bool) -> None:
    """Write a file of a snapshot to stdout; with --json as base64."""
    found = _open(url, snapshot)
    if as_json:
        content = found.read(path)
        encoded = base64.b64encode(content).decode()
        print_json({"snapshot": found.snapshot, "path": path, "size": len(content), "content_base64": encoded})
        return
    with found.open_file(path) as file:
        while piece := file.read(_COPY_BYTES):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@click.command()
@click.argument("url")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@json_option
def diff(url: str, a: str, b: str, *, as_json: bool) -> None:
    """Show what changes from snapshot A to B, another snapshot or a directory.

    A directory whose name could be a snapshot's is written ./NAME.
    """
    found = _open(url, a).diff(b)
    if as_json:
        print_json(found.to_dict())
        return
    _print_diff(found)


def _print_diff(found: Diff) -> None:
    lines = [(entry.path, f"+ {printable(entry.path)}  {format_size(entry.size)}") for entry in found.added]
    lines += [(entry.path, f"- {printable(entry.path)}  {format_size(entry.size)}") for entry in found.removed]
    for item in found.changed:
        sizes = format_size(item.after.size)
        if item.before.size != item.after.size:
            sizes = f"{format_size(item.before.size)} -> {sizes}"
        lines.append((item.path, f"* {printable(item.path)}  {sizes}  ({', '.join(item.what)})"))
    for _, line in sorted(lines):
        click.echo(line)
    print_paths("Not compared", found.skipped)
    counts = f"{len(found.added):,} added, {len(found.changed):,} changed, {len(found.removed):,} removed"
    click.echo(heading(counts))


@click.command()
@click.argument("url")
@snapshot_option
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write to FILE, not to stdout.")
@click.option("--path", "paths", metavar="P", multiple=True, type=click.Path(), help="Export only this path.")
@json_option
def export(url: str, *, snapshot: str, output: str | None, paths: tuple[str, ...], as_json: bool) -> int:
    """Write a snapshot as a tar stream: nbws export URL | tar -x --xattrs."""
    if output is None and as_json:
        raise click.UsageError("--json needs -o FILE: the tar stream would be on stdout")
    if output is None and sys.stdout.isatty():
        raise click.UsageError("a tar stream is not for terminals; give -o FILE, or pipe it into tar")
    found = _open(url, snapshot)
    if output is None:
        report = found.export(sys.stdout.buffer, paths or None)
        sys.stdout.buffer.flush()
    else:
        with _removed_on_failure(Path(output)), Path(output).open("wb") as file:
            report = found.export(file, paths or None)
    if as_json:
        print_json(report.to_dict())
    elif output is not None:
        click.echo(f"Exported {report.files:,} files, {format_size(report.bytes)}, of snapshot {report.snapshot}")
    for item in [] if as_json else report.skipped:
        click.echo(f"not exported: {printable(item.path)} ({item.reason})", err=True)
    return 0 if report.complete else INCOMPLETE


@contextlib.contextmanager
def _removed_on_failure(file: Path) -> Any:
    # Half a tar file would be taken for a whole one.
    try:
        yield
    except BaseException:
        if file.is_file():
            file.unlink()
        raise
