"""Lists of snapshots and entries: tables in notebooks, streams of Arrow."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from arro3.core import Table
from nbws.entries import Entry
from nbws.listing import Listing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def workspace(url: str, tmp_path: Path) -> nbws.Workspace:
    place = tmp_path / "workspace"
    place.mkdir()
    (place / "a.txt").write_text("a")
    os.utime(place / "a.txt", ns=(0, 1_795_392_000_123_456_789))
    (place / "link").symlink_to("a.txt")
    (place / os.fsdecode(b"\xff")).touch()
    workspace = nbws.Workspace.open(url, create=True)
    workspace.save(place, comment="<b>one</b>")
    return workspace


def rows(listing: Listing[Any]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    table = Table.from_arrow(listing)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return types, [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_entries_as_arrow(workspace: nbws.Workspace) -> None:
    entries = workspace.snapshot().ls()
    types, found = rows(entries)
    assert list(types) == list(entries[0].to_dict())
    assert [row["path"] for row in found] == ["a.txt", "link", "\\xff"]
    assert [row["size"] for row in found] == [1, 0, 0]
    assert [row["target"] for row in found] == [None, "a.txt", None]
    assert [row["xattrs"] for row in found] == [[], [], []]
    assert "Timestamp" in types["mtime_ns"]
    assert "List" in types["xattrs"]


def test_snapshots_as_arrow(workspace: nbws.Workspace) -> None:
    snapshots = workspace.snapshots()
    types, (row,) = rows(snapshots)
    assert row["snapshot"] == snapshots[0].snapshot
    assert row["time"] == snapshots[0].time
    assert row["pinned"] is False
    assert row["eviction_date"] is None
    assert "Timestamp" in types["time"]
    assert "Boolean" in types["partial"]


def test_an_empty_listing_keeps_its_columns(workspace: nbws.Workspace) -> None:
    rescues = workspace.rescues()
    assert rescues == []
    types, found = rows(rescues)
    assert found == []
    assert "reason" in types


def test_lists_of_attributes_as_arrow() -> None:
    values = [("user.a", "user.b"), (), ("user.c",)]
    entries = [Entry(str(i), "file", 0, 0, 0, 0, 0, None, None, names) for i, names in enumerate(values)]
    _, found = rows(Listing(Entry, entries))
    assert [tuple(row["xattrs"]) for row in found] == values


def test_listings_are_lists(workspace: nbws.Workspace) -> None:
    entries = workspace.snapshot().ls()
    assert isinstance(entries, list)
    assert entries == list(entries)
    again = pickle.loads(pickle.dumps(entries))
    assert again == entries
    assert rows(again) == rows(entries)
    assert entries.to_dicts() == [entry.to_dict() for entry in entries]


def test_the_missing_extra_is_named(workspace: nbws.Workspace) -> None:
    code = (
        "import sys; sys.modules['arro3.core'] = None\n"
        "from nbws.listing import Listing; from nbws.entries import Entry\n"
        "Listing(Entry).__arrow_c_stream__()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install 'nbws[arrow]'" in ended.stderr


def test_what_a_notebook_shows(workspace: nbws.Workspace) -> None:
    shown = workspace.snapshots()._repr_html_()
    assert "&lt;b&gt;one&lt;/b&gt;" in shown
    assert "eviction" not in shown  # no snapshot has a date
    entries = workspace.snapshot().ls()._repr_html_()
    assert "Entry list (3)" in entries
    assert "2026-11-23 00:00:00.123456789 UTC" in entries
    assert "0644" in entries
    many = Listing(Entry, [Entry(str(i), "file", i, 0, 0, 0, 0, None, None, ()) for i in range(60)])
    assert "Entry list (60, the first 50 shown)" in many._repr_html_()
    assert many._repr_html_().count("<tr>") == 51


def test_times_are_utc(workspace: nbws.Workspace) -> None:
    _, (row,) = rows(workspace.snapshots())
    assert abs((row["time"] - datetime.now(UTC)).total_seconds()) < 600
