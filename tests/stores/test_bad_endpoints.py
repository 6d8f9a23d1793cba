"""Endpoints that stall, redirect, lie, cut their answers or ask for patience: typed errors, within the time that callers have."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import nbws
import pytest
from nbws.errors import Corrupt, Denied, InvalidInput, NbwsError, NotFound, Unavailable
from nbws.testing.trees import File, compare_trees, make_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Server

Answer = tuple[int, dict[str, str], bytes]


class Fake:
    """An HTTP server whose answers a function gives; remembers when what was asked."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler, bytes], Answer | None]) -> None:
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.released = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.requests.append((time.monotonic(), f"{self.command} {self.path}", dict(self.headers)))
                given = answer(self, body)
                if given is None:
                    fake.released.wait(60)
                    return
                status, headers, content = given
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        for verb in ("GET", "PUT", "HEAD", "DELETE", "POST"):
            setattr(Handler, f"do_{verb}", Handler.answer)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def options(self) -> dict[str, str]:
        return options_for(self.endpoint)


def options_for(endpoint: str) -> dict[str, str]:
    return {
        "endpoint": endpoint,
        "allow_http": "true",
        "region": "us-east-1",
        "access_key_id": "canary-key",
        "secret_access_key": "canary-secret",
        "session_token": "canary-token",
    }


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler, bytes], Answer | None]) -> Iterator[Fake]:
    fake = Fake(answer)
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        fake.server.shutdown()
        thread.join()
        fake.server.server_close()


def error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said canary-secret</Message></Error>".encode()


def refused(fake: Fake, kind: type[NbwsError], *, create: bool = False) -> NbwsError:
    with pytest.raises(kind) as caught:
        nbws.Workspace.open("s3://bucket/x", store=fake.options, create=create)
    for text in (str(caught.value), repr(caught.value)):
        assert "canary" not in text
    return caught.value


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(status: int) -> None:
    answers: Iterator[Answer] = iter([(status, {"Retry-After": "2"}, error("SlowDown")), (404, {}, error("NoSuchKey"))])
    with serving(lambda *_: next(answers)) as fake:
        refused(fake, NotFound)
        (first, *_), (second, *_) = fake.requests
    assert 2.0 <= second - first < 4.0


def test_retry_after_beyond_the_deadline_ends_in_time() -> None:
    with serving(lambda *_: (503, {"Retry-After": "100"}, error("SlowDown"))) as fake:
        start = time.monotonic()
        refused(fake, Unavailable)
        assert time.monotonic() - start < 8
        assert len(fake.requests) == 1


def test_an_endpoint_that_hangs() -> None:
    with serving(lambda *_: None) as fake:
        start = time.monotonic()
        refused(fake, Unavailable)
        assert time.monotonic() - start < 8


def test_an_endpoint_that_speaks_no_tls() -> None:
    with serving(lambda *_: (200, {}, b"")) as fake:
        options = {**fake.options, "endpoint": fake.endpoint.replace("http:", "https:")}
        with pytest.raises(Unavailable) as caught:
            nbws.Workspace.open("s3://bucket/x", store=options)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with serving(lambda *_: (200, {}, b"")) as thief:
        with serving(lambda handler, _: (status, {"Location": thief.endpoint + handler.path}, b"")) as fake:
            assert "redirect" in str(refused(fake, InvalidInput))
            with pytest.raises(InvalidInput):
                nbws.doctor("s3://bucket/x", store=fake.options)
        assert thief.requests == []


def test_success_with_an_error_as_body() -> None:
    with serving(lambda *_: (200, {"ETag": '"e"', "Last-Modified": HTTP_DATE}, error("InternalError"))) as fake:
        refused(fake, Corrupt)

    # Nothing there, says the store; then a listing that is none must not be taken for an empty one.
    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> Answer:
        return (200, {}, error("InternalError")) if "list-type" in handler.path else (404, {}, error("NoSuchKey"))

    with serving(answer) as fake:
        refused(fake, Unavailable, create=True)
        assert not [line for _, line, _ in fake.requests if line.startswith("PUT")]


HTTP_DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


def test_a_body_that_is_cut() -> None:
    headers = {"Content-Length": "500", "ETag": '"e"', "Last-Modified": HTTP_DATE}
    with serving(lambda *_: (200, headers, b"{")) as fake:
        refused(fake, Unavailable)


def test_a_bucket_that_does_not_exist() -> None:
    with serving(lambda *_: (404, {}, error("NoSuchBucket"))) as fake:
        assert "bucket does not exist" in str(refused(fake, InvalidInput, create=True))


def test_credentials_that_expire_in_mid_save(moto_server: Server, tmp_path: Path) -> None:
    expired = threading.Event()

    def forward(handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        if expired.is_set() and handler.command == "PUT":
            return 400, {}, error("ExpiredToken")
        there = http.client.HTTPConnection(moto_server.endpoint.removeprefix("http://"), timeout=20)
        there.request(handler.command, handler.path, body, dict(handler.headers))
        reply = there.getresponse()
        content = reply.read()
        kept = {name: value for name, value in reply.getheaders() if name.lower() in KEPT}
        there.close()
        return reply.status, kept, content

    work = make_tree({b"f": File.of(b"first")}, tmp_path / "work")
    url = f"s3://bucket/{uuid.uuid4().hex}"
    with serving(forward) as proxy:
        workspace = nbws.Workspace.open(url, create=True, store=proxy.options)
        workspace.save(work)
        (work / "f").write_bytes(b"second")
        expired.set()
        with pytest.raises(Denied) as caught:
            workspace.save(work)
        assert "expired" in str(caught.value)
        assert "canary" not in str(caught.value)
        assert len(workspace.snapshots()) == 1
        expired.clear()
        assert workspace.save(work).complete
        workspace.restore(tmp_path / "restored")
        assert compare_trees(work, tmp_path / "restored") == []


KEPT = {"etag", "last-modified", "content-range", "content-length", "content-type"}
