"""Stores and machines of their own for each test of a notebook's life."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from lives import World
from runs import here, there  # noqa: F401
from s3_server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3_server import Service


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBWS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(autouse=True)
def _signals_as_usual() -> Iterator[None]:
    """Whoever runs the tests may have ignored some, as nohup does, and programs inherit that."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGQUIT: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    ignored = [number for number in usual if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store in memory."""
    return World(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> World:
    """A store in files, which can be looked at."""
    return World(tmp_path, (tmp_path / "objects").as_uri())


@pytest.fixture
def service() -> Iterator[Service]:
    """An S3 service that counts and fails."""
    with serve() as found:
        yield found


@pytest.fixture
def cloud(tmp_path: Path, service: Service) -> World:
    """A store behind that service."""
    return World(tmp_path, service.url, service.options)
