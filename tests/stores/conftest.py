"""Every store that can run here. A server that can't start skips its tests with the reason."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import boto3
import nbws
import pytest
from swift_server import SwiftServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUCKET = "bucket"
MOTO = Path(__file__).with_name("moto_server.py")
KEYS = {"access_key_id": "canary-key", "secret_access_key": "canary-secret"}


@dataclasses.dataclass(frozen=True)
class Server:
    """An S3 service on loopback with a bucket ``bucket``."""

    endpoint: str
    access_key_id: str
    secret_access_key: str

    @property
    def options(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "allow_http": "true",
            "region": "us-east-1",
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a test may make a repository, and what that store promises."""

    name: str
    url: str
    options: Mapping[str, str]
    is_atomic: bool
    lock: Path

    def open(self, *, create: bool = False) -> nbws.Workspace:
        exclusive = None if self.is_atomic else nbws.LockFile(self.lock)
        return nbws.Workspace.open(self.url, create=create, store=self.options, exclusive=exclusive)


def unavailable(reason: str) -> NoReturn:
    """Skips; where servers are required (continuous integration) a skip is a failure."""
    if os.environ.get("NBWS_REQUIRE_SERVERS") == "1":
        pytest.fail(f"required server: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBWS_STATE", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if importlib.util.find_spec("moto.server") is None:
        unavailable("moto is not installed")
    port = free_port()
    log: Path = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([sys.executable, MOTO, str(port)], stdout=output, stderr=output)
    found = Server(f"http://127.0.0.1:{port}", **KEYS)
    try:
        for _ in range(300):
            if server.poll() is not None:
                unavailable(f"moto ended with {server.returncode}: {log.read_text()[-300:]}")
            try:
                urllib.request.urlopen(found.endpoint, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            unavailable("moto did not answer within 30 s")
        make_bucket(found)
        yield found
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="session")
def moto(moto_server: Server) -> str:
    """The endpoint of a moto server with a bucket ``bucket``."""
    return moto_server.endpoint


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Server]:
    """OpenStack Swift with its S3 API, installed into an environment of its own, which is kept for the next run."""
    environments = pytestconfig.rootpath / ".pytest_cache" / "swift"
    server = SwiftServer(tmp_path_factory.mktemp("swift"), environments)
    try:
        try:
            server.start()
        except (OSError, RuntimeError, subprocess.SubprocessError) as reason:
            unavailable(f"Swift: {reason}")
        found = Server(server.endpoint, server.access_key_id, server.secret_access_key)
        make_bucket(found)
        yield found
    finally:
        server.stop()


def make_bucket(server: Server) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()


_numbers = itertools.count()


@pytest.fixture(params=["file", "memory", "moto", "swift"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place without a repository, on each store."""
    name = request.param
    lock = tmp_path / "writer.lock"
    if name == "file":
        return Place(name, (tmp_path / "objects").as_uri(), {}, is_atomic=True, lock=lock)
    if name == "memory":
        return Place(name, f"memory:///stores-{next(_numbers)}", {}, is_atomic=True, lock=lock)
    server: Server = request.getfixturevalue(f"{name}_server")
    url = f"s3://{BUCKET}/notebooks_workspace/{uuid.uuid4().hex}"
    return Place(name, url, server.options, is_atomic=name != "swift", lock=lock)
