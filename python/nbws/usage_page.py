"""Pages about sizes: one file of HTML each, with drawings inside. No script, no font, no picture and no network is needed."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from nbws.rendering import format_size, legible
from nbws.treemap import Node, tree_of
from nbws.treemap_svg import render_treemap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbws.usage import CategoryGrowth, Growth, PathGrowth, Usage

__all__ = ["growth_page", "usage_page"]

_LISTED = 40
_WORDS = {
    "logical": "bytes of files",
    "unique": "bytes after deduplication",
    "stored": "stored bytes",
}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; background: Canvas; color: CanvasText; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .2rem 0 1rem; opacity: .75; } code { font-size: .9em; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); }
th { font-weight: normal; opacity: .7; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
svg { border-radius: 4px; }
"""


def usage_page(usage: Usage, count: str = "logical") -> str:
    """Returns a page about what fills a path: a tree map by path, one by category, the largest paths, and what is stored besides.

    Args:
        usage: with rows of some depth.
        count: what areas show: ``"logical"``, ``"unique"`` or ``"stored"`` bytes.
    """
    field = f"{count}_bytes"
    total = usage.total
    whole = int(getattr(total, field))
    by_path = tree_of([(row.path, int(getattr(row, field))) for row in usage.by_path], total.path, whole)
    kinds = [Node(row.category, row.category, int(getattr(row, field))) for row in usage.by_category]
    by_category = Node("", "", whole, sorted(kinds, key=lambda node: -node.size))
    categories = sorted(usage.by_category, key=lambda row: -int(getattr(row, field)))
    largest = sorted(usage.by_path, key=lambda row: (-int(getattr(row, field)), row.path))
    heads = ("size", "unique", "stored", "files")
    rest = (
        ("files of this path", total.stored_bytes),
        ("the tree that describes them", usage.metadata_bytes),
        ("other chunks: older snapshots, rescues, other paths, not pruned yet", usage.other_bytes),
        ("index, directories of packs, log records, chunks that wait for their sweep", usage.overhead_bytes),
        ("all objects", usage.stored_bytes),
    )
    body = [
        _head(total.path, [format_size(total.logical_bytes), f"{total.files:,} files", _snapshot(usage.snapshot)]),
        f"<p>Areas are {_WORDS[count]}. Point at one to see its path and share.</p>",
        render_treemap(by_path, 1000, 540, f"Tree map by path, {_WORDS[count]}"),
        "<h2>By category</h2>",
        render_treemap(by_category, 1000, 160, f"Tree map by category, {_WORDS[count]}"),
        _table(("category", *heads), [(row.category, *_sizes(row)) for row in categories if row.files]),
        "<h2>Largest paths</h2>",
        _table(("path", *heads), [(row.path, *_sizes(row)) for row in largest[:_LISTED]]),
        "<h2>What is stored</h2>",
        _table(("part", "stored"), [(name, format_size(size)) for name, size in rest]),
    ]
    return _page("What fills it", body)


def growth_page(growth: Growth) -> str:
    """Returns a page about what made a path grow: what was stored anew, what is gone, and what changed most."""
    total = growth.total
    heads = ("size", "stored", "new", "gone", "files")
    body = [
        _head(total.path, [f"{_signed(total.logical_bytes)} of files", f"{_signed(total.stored_bytes)} of storage"]),
        f"<p>From {_snapshot(growth.before)} to {_snapshot(growth.after)}. What only moved is stored already and counts as nothing.</p>",
    ]
    for title, field in (("Stored anew", "new_stored_bytes"), ("Gone", "gone_stored_bytes")):
        whole = int(getattr(total, field))
        if whole:
            node = tree_of([(row.path, int(getattr(row, field))) for row in growth.by_path], total.path, whole)
            body += [
                f"<h2>{title}: {format_size(whole)}</h2>",
                render_treemap(node, 1000, 400 if field == "new_stored_bytes" else 200, title),
            ]
    body += [
        "<h2>By category</h2>",
        _table(("category", *heads), [(row.category, *_changes(row)) for row in growth.by_category]),
        "<h2>What changed most</h2>",
        _table(("path", *heads), [(row.path, *_changes(row)) for row in growth.by_path[:_LISTED]]),
    ]
    return _page("What made it grow", body)


def _sizes(row: object) -> tuple[str, ...]:
    figures = ("logical_bytes", "unique_bytes", "stored_bytes")
    return (*(format_size(getattr(row, name)) for name in figures), f"{getattr(row, 'files'):,}")  # noqa: B009  # of two classes


def _changes(row: PathGrowth | CategoryGrowth) -> tuple[str, ...]:
    gone = format_size(row.gone_stored_bytes)
    new = format_size(row.new_stored_bytes)
    return (_signed(row.logical_bytes), _signed(row.stored_bytes), new, gone, f"{row.files:+,}")


def _signed(size: int) -> str:
    return ("+" if size > 0 else "") + format_size(size)


def _snapshot(snapshot: str | None) -> str:
    return f"snapshot <code>{html.escape(snapshot[:12])}</code>" if snapshot else "no snapshot"


def _head(path: str, facts: Iterable[str]) -> str:
    # Facts are HTML already; a path may be anything.
    return f"<h1>{html.escape(legible(path)) or 'Workspace'}</h1><p>{' · '.join(facts)}</p>"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(legible(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, body: Iterable[str]) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )
