"""Quotas as values, and what they do to one save."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from nbws import errors

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"nb.ipynb": "{}", "src/a.py": "print()", "notes.txt": "note"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    workspace = tmp_path / "workspace"
    for name, text in SMALL.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text)
    (workspace / "large.bin").write_bytes(random.Random(1).randbytes(100_000))
    (workspace / "larger.bin").write_bytes(random.Random(2).randbytes(300_000))
    return workspace


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"soft_bytes": -1}, "soft_bytes"),
        ({"hard_bytes": "10 parsecs"}, "10GiB"),
        ({"hard_bytes": "much"}, "hard_bytes"),
        ({"hard_bytes": 1.5}, "hard_bytes"),
        ({"hard_bytes": 2**63}, "2\\*\\*63"),
        ({"hard_files": -1}, "0 or more"),
        ({"soft_files": True}, "soft_files"),
        ({"soft_files": "ten"}, "soft_files"),
        ({"soft_bytes": "11GB", "hard_bytes": "10GB"}, "raise hard_bytes"),
        ({"soft_files": 2, "hard_files": 1}, "raise hard_files"),
        ({"count": "physical"}, "'logical' or 'stored'"),
        ({"over": "explode"}, "'keep-small' or 'refuse'"),
    ],
)
def test_limits_that_make_no_sense(values: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.InvalidInput, match=said):
        nbws.Quota(**values)


def test_a_quota_is_a_value() -> None:
    quota = nbws.Quota(soft_bytes="8GiB", hard_bytes="10GiB", hard_files=1_000, count="stored", over="refuse")
    assert (quota.soft_bytes, quota.hard_bytes) == (8 * 2**30, 10 * 2**30)
    assert nbws.Quota.from_setting(json.loads(json.dumps(quota.to_setting()))) == quota
    # What a later version adds is not for this one.
    assert nbws.Quota.from_setting({**quota.to_setting(), "inodes": 5}) == quota
    assert quota.is_limited
    assert not nbws.Quota().is_limited
    assert str(quota) == "soft 8.0 GiB, hard 10.0 GiB, hard 1,000 files; stored bytes; over: refuse"
    assert str(nbws.Quota()) == "no limits"
    assert nbws.Quota(soft_bytes=5, hard_bytes=5).soft_bytes == 5


@pytest.mark.parametrize("count", ["logical", "stored"])
def test_small_files_go_in_above_the_limit(work: Path, file_url: str, count: Any) -> None:
    ws = nbws.Workspace.open(file_url, create=True)
    report = ws.save(work, quota=nbws.Quota(hard_bytes=10, count=count))
    assert report.partial
    assert {(item.path, item.reason) for item in report.omitted} == {("large.bin", "quota"), ("larger.bin", "quota")}
    assert report.bytes_uploaded < 10_000
    snapshot = ws.snapshot()
    for name, text in SMALL.items():
        assert snapshot.read(name) == text.encode()
    # One of the two fits, the smaller one.
    report = ws.save(work, quota=nbws.Quota(hard_bytes=150_000, count=count))
    assert [item.path for item in report.omitted] == ["larger.bin"]
    assert ws.save(work).complete


@pytest.mark.parametrize(
    "quota", [{"hard_bytes": 300_000}, {"hard_files": 4}, {"hard_bytes": 300_000, "count": "stored"}]
)
def test_a_refusal_changes_nothing(work: Path, tmp_path: Path, quota: dict[str, Any]) -> None:
    store = tmp_path / "objects"
    ws = nbws.Workspace.open(store.as_uri(), create=True)
    before = sorted(store.rglob("*"))
    limits = nbws.Quota(**quota, over="refuse")
    with pytest.raises(errors.QuotaExceeded, match="over the limit"):
        ws.save(work, quota=limits)
    assert sorted(store.rglob("*")) == before
    preview = ws.preview(work, quota=limits)
    assert any("refused" in warning for warning in preview.warnings)
    assert sorted(store.rglob("*")) == before
    assert ws.save(work).complete
    (work / "larger.bin").unlink()
    assert ws.save(work, quota=limits).files_removed == 1


def test_what_grows_while_it_is_saved_is_looked_at_again(work: Path, file_url: str) -> None:
    """A file that the scan saw as fitting, and that no longer fits when it is opened."""
    ws = nbws.Workspace.open(file_url, create=True)

    def grow(progress: Any) -> None:
        if progress.phase == "save" and (work / "large.bin").stat().st_size < 200_000:
            (work / "large.bin").write_bytes(random.Random(3).randbytes(5_000_000))

    report = ws.save(work, quota=nbws.Quota(hard_bytes=1_000_000), progress=grow)
    size = (work / "large.bin").stat().st_size
    stored = ws.snapshot().stat("large.bin").size if "large.bin" not in {o.path for o in report.omitted} else 0
    assert report.bytes_total <= 1_000_000, (size, stored)
    for name, text in SMALL.items():
        assert ws.snapshot().read(name) == text.encode()


def test_a_soft_limit_warns_and_stores(work: Path, file_url: str) -> None:
    ws = nbws.Workspace.open(file_url, create=True)
    report = ws.save(work, quota=nbws.Quota(soft_bytes=100_000, soft_files=3))
    assert report.complete
    assert [warning for warning in report.warnings if "larger.bin (293.0 KiB)" in warning] != []
