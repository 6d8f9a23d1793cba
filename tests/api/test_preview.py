"""Previews: what they say is what a save then does, and they leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws import errors

if TYPE_CHECKING:
    from collections.abc import Callable


def state_of(*places: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def objects_of(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def alike(preview: nbws.Preview, report: nbws.SaveReport) -> None:
    for field in (
        "files_total",
        "files_new",
        "files_changed",
        "files_unchanged",
        "files_removed",
        "bytes_total",
        "bytes_read",
        "bytes_new",
        "chunks_new",
        "skipped",
        "omitted",
    ):
        assert getattr(preview, field) == getattr(report, field), field


def test_a_preview_is_exact_and_leaves_no_trace(file_url: str, tree: Path, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    places = (objects_of(file_url), tmp_path / "state")
    before = state_of(*places)
    first = workspace.preview(tree)
    assert state_of(*places) == before
    assert first.exact
    saved = workspace.save(tree)
    alike(first, saved)
    assert first.requests == saved.requests
    assert first.bytes_uploaded is not None
    # Names of packs and ids are drawn anew, and numbers in the record may have another digit.
    assert abs(first.bytes_uploaded - saved.bytes_uploaded) < 200

    (tree / "notebook.ipynb").write_bytes(b"edited" * 900)
    (tree / "empty").unlink()
    before = state_of(*places)
    second = workspace.preview(tree)
    assert state_of(*places) == before
    assert (second.files_changed, second.files_removed, second.requests.put) == (1, 1, 2)
    assert workspace.preview(tree).to_dict() | {"duration_s": 0.0, "bytes_uploaded": 0} == second.to_dict() | {
        "duration_s": 0.0,
        "bytes_uploaded": 0,
    }
    again = workspace.save(tree)
    alike(second, again)
    assert second.requests == again.requests
    third = workspace.preview(tree)
    assert (third.bytes_uploaded, third.requests.put, third.bytes_new) == (0, 0, 0)


def test_an_estimate_reads_no_file(file_url: str, tree: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    (tree / "notebook.ipynb").chmod(0)
    estimate = workspace.preview(tree, estimate=True)
    assert not estimate.exact
    assert (estimate.bytes_uploaded, estimate.chunks_new) == (None, None)
    exact = workspace.preview(tree)
    assert (estimate.files_total, estimate.files_new) == (exact.files_total, exact.files_new)
    assert estimate.bytes_total == exact.bytes_total
    assert estimate.bytes_read <= exact.bytes_total
    assert estimate.bytes_new >= exact.bytes_new
    assert "none" in estimate._repr_html_()
    workspace.save(tree)
    assert workspace.preview(tree, estimate=True).bytes_read == 0


def test_a_preview_says_that_work_would_become_a_rescue(
    file_url: str, tree: Path, machine: Callable[[str, str], nbws.Workspace]
) -> None:
    nbws.Workspace.open(file_url, create=True).save(tree)
    stranger = machine(file_url, "elsewhere")
    preview = stranger.preview(tree)
    assert preview.rescue is not None
    assert stranger.rescues() == []
    assert stranger.preview(tree, take_over=True).rescue is None
    with pytest.raises(errors.InvalidState):
        stranger.save(tree)


def test_a_preview_of_nothing_is_an_error(file_url: str, tmp_path: Path) -> None:
    workspace = nbws.Workspace.open(file_url, create=True)
    with pytest.raises(errors.NotFound):
        workspace.preview(tmp_path / "absent")
