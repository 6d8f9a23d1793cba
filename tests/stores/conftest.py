"""Real servers, started on loopback by fixtures. One that can't start skips its tests with the reason."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def unavailable(reason: str) -> NoReturn:
    """Skips; where servers are required (continuous integration) a skip is a failure."""
    if os.environ.get("NBWS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"required server: {reason}")
    pytest.skip(reason)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a moto server with a bucket ``bench``."""
    if importlib.util.find_spec("moto.server") is None:
        unavailable("moto is not installed")
    port = _free_port()
    log: Path = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _wait(endpoint, server, log)
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/bucket", method="PUT"), timeout=10).close()
        yield endpoint
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(endpoint: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            unavailable(f"moto ended with {server.returncode}: {log.read_text()[-300:]}")
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    unavailable("moto did not answer within 30 s")
