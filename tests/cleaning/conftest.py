"""Shared by the tests of cleaning: a workspace of its own, whose home directory is the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from junk import CleanWorkspace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CleanWorkspace:
    monkeypatch.setenv("NBWS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("NBWS_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return CleanWorkspace(tmp_path / "workspace")
