"""The main line on a real S3 server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws.testing.trees import File, Symlink, compare_trees, make_tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def s3_url(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT": moto,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_REGION": "us-east-1",
        "NBWS_STATE": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/notebooks_workspace/{uuid.uuid4().hex}"


def test_save_edit_and_restore(s3_url: str, tmp_path: Path) -> None:
    work = make_tree(
        {
            **{f"lib/m{i}.py".encode(): File.of(b"x = 1\n" * i) for i in range(300)},
            b"model.bin": File.of(bytes(range(256)) * 40_000),
            b"link": Symlink(b"lib/m1.py"),
        },
        tmp_path / "work",
    )
    workspace = nbws.Workspace.open(s3_url, create=True)
    first = workspace.save(work)
    assert first.complete
    (work / "lib" / "m5.py").write_text("y = 2\n")
    edited = workspace.save(work, comment="an edit")
    assert (edited.requests.put, edited.requests.list, edited.requests.get) == (2, 1, 0)
    assert workspace.save(work).requests.put == 0
    restored = nbws.Workspace.open(s3_url).restore(tmp_path / "restored", verify=True)
    assert restored.complete
    assert compare_trees(work, tmp_path / "restored") == []
    assert [snapshot.comment for snapshot in workspace.snapshots()] == [None, "an edit"]
    assert workspace.check(read_data=True).complete


def test_nothing_there_is_not_a_new_notebook(s3_url: str) -> None:
    with pytest.raises(nbws.errors.NotFound):
        nbws.Workspace.open(s3_url)
    with pytest.raises(nbws.errors.NbwsError) as missing_bucket:
        nbws.Workspace.open("s3://no-such-bucket/x", create=True)
    assert "canary-secret" not in str(missing_bucket.value)


def test_wrong_endpoints_are_typed_errors(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(nbws.errors.NbwsError):
        nbws.Workspace.open(s3_url, create=True)
