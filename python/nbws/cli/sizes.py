"""`nbws du`: what fills a workspace, and what made it grow."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbws.cli.bars import Row, can_draw, lines
from nbws.cli.contents import snapshot_option
from nbws.cli.output import heading, json_option, print_json, printable
from nbws.reports import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nbws.usage import CategoryGrowth, CategoryUsage, Growth, PathGrowth, PathUsage, Usage
    from nbws.workspace import Workspace

_PAGE_DEPTH = 6
_PAGE_LARGEST = 60


@click.command(short_help="Show what fills a snapshot, or with --since what made it grow.")
@click.argument("url")
@click.argument("path", default="")
@snapshot_option
@click.option("--since", metavar="S", help="Show by how much it grew since snapshot S.")
@click.option("--depth", type=click.IntRange(min=0), help="Levels below PATH; 1, or 6 for --html.")
@click.option("--by", type=click.Choice(["path", "category"]), default="path", show_default=True, help="What rows are.")
@click.option(
    "--count",
    type=click.Choice(["logical", "unique", "stored"]),
    help="What decides the order and the bars; logical, or stored with --since.",
)
@click.option("--largest", type=click.IntRange(min=0), metavar="N", help="Only the N largest of each directory.")
@click.option("--html", "page", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page with a tree map.")
@json_option
def du(url: str, path: str, *, snapshot: str, since: str | None, page: str | None, as_json: bool, **how: Any) -> None:
    """Show what fills a directory of a snapshot, largest first: bytes of files, after deduplication, and as stored.

    No data of files is downloaded. With --since: what was added and what is gone since another snapshot. The page of --html
    needs no network.
    """
    from nbws.workspace import Workspace

    workspace = Workspace.open(url)
    depth, largest = how["depth"], how["largest"]
    if page is not None:
        depth, largest = _PAGE_DEPTH if depth is None else depth, _PAGE_LARGEST if largest is None else largest
    limits = {"depth": 1 if depth is None else depth, "largest": largest}
    if since is None:
        usage = _usage(workspace, path, snapshot, limits)
        _show_usage(usage, how["by"], how["count"] or "logical", page, as_json=as_json)
    else:
        found = workspace.growth(_named(workspace, since), _named(workspace, snapshot), path, **limits)
        _show_growth(found, how["by"], how["count"] or "stored", page, as_json=as_json)


def _named(workspace: Workspace, selector: str) -> str:
    # Latest and ids are the engine's; times and all else are looked up.
    return selector if selector.startswith("latest") else workspace.find(selector).snapshot


def _usage(workspace: Workspace, path: str, snapshot: str, limits: dict[str, Any]) -> Usage:
    name = _named(workspace, snapshot)
    if name == "latest" and not path:
        workspace.snapshot()  # a repository without snapshots has nothing to show: say so
    return workspace.usage(path, name, **limits)


def _show_usage(usage: Usage, by: str, count: str, page: str | None, *, as_json: bool) -> None:
    size = _figure(count)
    if page is not None:
        from nbws.usage_page import usage_page

        _write(page, usage_page(usage, count))
    if as_json:
        values = usage.to_dict()
        values["by_path"] = sorted(values["by_path"], key=lambda row: -row[f"{count}_bytes"])
        print_json(values)
        return
    if page is not None:
        click.echo(f"Wrote {page}")
        return
    whole = size(usage.total)
    titles = ("unique", "stored", "size", "files", "path" if by == "path" else "category")
    rows = [
        Row(_usage_cells(row), size(row) / whole if whole else 0.0, name, level)
        for name, level, row in _ordered(usage, by, size)
    ]
    rows.append(Row(_usage_cells(usage.total), 1.0 if whole else 0.0, usage.total.path or "."))
    _print(titles, rows)


def _usage_cells(row: PathUsage | CategoryUsage) -> tuple[str, ...]:
    sizes = (row.unique_bytes, row.stored_bytes, row.logical_bytes)
    return (*map(format_size, sizes), f"{row.files:,}")


def _show_growth(growth: Growth, by: str, count: str, page: str | None, *, as_json: bool) -> None:
    size = _figure(count)
    if page is not None:
        from nbws.usage_page import growth_page

        _write(page, growth_page(growth))
    if as_json:
        print_json(growth.to_dict())
        return
    if page is not None:
        click.echo(f"Wrote {page}")
        return
    found = _ordered(growth, by, lambda row: abs(size(row)))
    most = max((abs(size(row)) for _, _, row in found), default=0)
    titles = ("new", "gone", "stored", "size", "files", "path" if by == "path" else "category")
    rows = [Row(_growth_cells(row), abs(size(row)) / most if most else 0.0, name, level) for name, level, row in found]
    rows.append(Row(_growth_cells(growth.total), 0.0, growth.total.path or "."))
    _print(titles, rows)


def _growth_cells(row: PathGrowth | CategoryGrowth) -> tuple[str, ...]:
    return (
        format_size(row.new_stored_bytes),
        format_size(row.gone_stored_bytes),
        _signed(row.stored_bytes),
        _signed(row.logical_bytes),
        f"{row.files:+,}",
    )


def _signed(size: int) -> str:
    return ("+" if size > 0 else "") + format_size(size)


def _figure(count: str) -> Callable[[Any], int]:
    return lambda row: int(getattr(row, f"{count}_bytes"))


def _ordered(report: Usage | Growth, by: str, weight: Callable[[Any], int]) -> list[tuple[str, int, Any]]:
    """Names, levels and rows: each directory's own after it, largest first."""
    if by == "category":
        kinds: Sequence[CategoryUsage | CategoryGrowth] = report.by_category
        return [(kind.category, 0, kind) for kind in _by_weight(kinds, weight) if kind.files or weight(kind)]
    known = {row.path for row in report.by_path}
    children: dict[str, list[Any]] = {}
    for row in report.by_path:
        parent = row.path.rpartition("/")[0]
        children.setdefault(parent if parent in known else "", []).append(row)
    found: list[tuple[str, int, Any]] = []
    # The last one is taken first.
    waiting = [(row, 0) for row in reversed(_by_weight(children.get("", ()), weight))]
    while waiting:
        row, level = waiting.pop()
        is_below = level > 0
        found.append((row.path.rpartition("/")[2] if is_below else row.path, level, row))
        waiting += [(child, level + 1) for child in reversed(_by_weight(children.get(row.path, ()), weight))]
    return found


def _by_weight(rows: Iterable[Any], weight: Callable[[Any], int]) -> list[Any]:
    return sorted(rows, key=lambda row: -weight(row))


def _print(titles: Sequence[str], rows: Sequence[Row]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    blocks = can_draw(sys.stdout.encoding) and os.environ.get("TERM") != "dumb"
    first, *rest = lines(titles, rows, width, blocks=blocks)
    click.echo(heading(first))
    for line in rest[:-1]:
        click.echo(line)
    click.echo(heading(rest[-1]))


def _write(page: str, text: str) -> None:
    Path(page).write_text(text, "utf-8")
    if not sys.stdout.isatty():
        return
    click.echo(f"{printable(page)}: {format_size(len(text))}", err=True)
