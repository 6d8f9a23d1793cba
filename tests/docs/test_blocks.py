"""Every block of code in README.md and docs/ does what the text around it says."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from documents import Document, documents
from running import ENDPOINT, SILENT, Machine, is_like

if TYPE_CHECKING:
    from collections.abc import Iterator

MOTO = Path(__file__).parents[1] / "stores" / "moto_server.py"
DOCUMENTS = [document for document in documents() if document.blocks]
# Each is a block that nobody checks.
MOST_NOT_RUN = 6

S3_BUCKET = re.compile(r"\bs3://([\w.-]+)")
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 service on loopback; without moto its tests skip, unless servers are required."""
    if importlib.util.find_spec("moto") is None:
        give_up = pytest.fail if os.environ.get("NBWS_REQUIRE_SERVERS") == "1" else pytest.skip
        give_up("moto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([sys.executable, MOTO, str(port)], stdout=output, stderr=output)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(endpoint, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, "moto did not answer within 30 s"
                time.sleep(0.1)
        yield endpoint
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def machine(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Machine:
    text = "\n".join(block.text for block in document.blocks if block.not_run is None and block.language not in SILENT)
    buckets = set(S3_BUCKET.findall(text))
    endpoint: str | None = request.getfixturevalue("s3_endpoint") if buckets else None
    found = Machine(tmp_path, monkeypatch, endpoint)
    if endpoint:
        make_buckets(endpoint, buckets)
    # A document that says how a store is configured gets nothing that it does not say.
    if endpoint and ENDPOINT not in text:
        for name, value in {"AWS_ENDPOINT_URL": endpoint, **KEYS}.items():
            monkeypatch.setenv(name, value)
    return found


def make_buckets(endpoint: str, names: set[str]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_REGION"],
    )
    for name in names:
        client.create_bucket(Bucket=name)
    client.close()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_blocks_run(document: Document, machine: Machine) -> None:
    # One test for one document: a block may need what those before it did.
    for block in document.blocks:
        if block.not_run is None:
            try:
                machine.run(block, document.name)
            except Exception as error:
                error.add_note(f"in the block at {document.name}:{block.line}")
                raise


def test_few_blocks_are_not_run() -> None:
    found = [(f"{document.name}:{block.line}", block.not_run) for document in DOCUMENTS for block in document.blocks]
    not_run = [(place, reason) for place, reason in found if reason is not None]
    for place, reason in not_run:
        print(f"{place} is not run: {reason}")
        assert len(reason.split()) > 2, f"{place} says too little"
    assert len(not_run) <= MOST_NOT_RUN


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("saved 3 files as 0123abcd in 0.01 s", "saved 3 files as ffff0123aaaa in 12.50 s\n"),
        ("2026-11-22 18:00:05  first", "2027-01-01 09:00:00  first"),
        ("one\n...\nlast", "one\ntwo\nthree\nlast"),
    ],
)
def test_what_may_change(expected: str, printed: str) -> None:
    assert is_like(expected, printed)
    assert not is_like(f"{expected}!", printed)
    assert not is_like(expected.replace("saved 3", "saved 4").replace("first", "second").replace("one", "two"), printed)
