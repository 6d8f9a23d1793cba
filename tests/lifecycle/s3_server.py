"""A small S3 service in this process, on loopback: it counts requests, and fails them as a test says."""

from __future__ import annotations

import email.utils
import hashlib
import threading
import time
import xml.sax.saxutils
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "bucket"


@dataclass
class Stored:
    body: bytes
    time: float = field(default_factory=time.time)

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


class Service:
    """What is stored, what was asked for, and what fails."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.objects: dict[str, Stored] = {}
        self.requests: list[tuple[str, str]] = []
        # From verb and key to the status that the service answers with, or None.
        self.fault: Callable[[str, str], int | None] = lambda _verb, _key: None
        self.code = "AccessDenied"
        self.endpoint = ""

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/objects"

    @property
    def options(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "allow_http": "true",
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
        }

    def count(self, *verbs: str) -> int:
        return sum(verb in verbs for verb, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    service: ClassVar[Service]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").removeprefix("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        verb = {"GET": "get" if key else "list", "POST": "delete"}.get(self.command, self.command.lower())
        with self.service.turn:
            self.service.requests.append((verb, key))
            status = self.service.fault(verb, key)
            if status is not None:
                text = f"<Error><Code>{self.service.code}</Code><Message>said so</Message></Error>"
                self._answer(status, text.encode())
                return
            getattr(self, f"_{verb}")(key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # names of the base class

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>missing</Message></Error>")

    def _put(self, key: str, _: dict[str, str], body: bytes) -> None:
        if self.headers.get("If-None-Match") == "*" and key in self.service.objects:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code><Message>exists</Message></Error>")
            return
        self.service.objects[key] = stored = Stored(body)
        self._answer(200, headers={"ETag": stored.tag})

    def _get(self, key: str, _: dict[str, str], __: bytes) -> None:
        stored = self.service.objects.get(key)
        if stored is None:
            self._missing()
            return
        dated = {"ETag": stored.tag, "Last-Modified": email.utils.formatdate(stored.time, usegmt=True)}
        span = self.headers.get("Range")
        if span is None:
            self._answer(200, stored.body, dated)
            return
        first, _dash, last = span.removeprefix("bytes=").partition("-")
        size = len(stored.body)
        start, end = (size - int(last), size) if not first else (int(first), min(int(last or size) + 1, size))
        whole = {**dated, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self._answer(206, stored.body[start:end], whole)

    def _head(self, key: str, query: dict[str, str], body: bytes) -> None:
        stored = self.service.objects.get(key)
        if stored is None:
            self._answer(404)
            return
        dated = {"ETag": stored.tag, "Last-Modified": email.utils.formatdate(stored.time, usegmt=True)}
        self._answer(200, stored.body, dated)

    def _delete(self, key: str, _: dict[str, str], body: bytes) -> None:
        named = body.decode().split("<Key>")[1:] if body else [f"{key}</Key>"]
        for name in named:
            self.service.objects.pop(xml.sax.saxutils.unescape(name.split("</Key>")[0]), None)
        self._answer(200 if body else 204, b"<DeleteResult></DeleteResult>" if body else b"")

    def _list(self, _: str, query: dict[str, str], __: bytes) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        contents, folders = [], set()
        for key, stored in sorted(self.service.objects.items()):
            if not key.startswith(prefix) or key <= after:
                continue
            inner, found, _rest = key[len(prefix) :].partition(delimiter or "\0")
            if delimiter and found:
                folders.add(prefix + inner + delimiter)
                continue
            at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.time))
            name = xml.sax.saxutils.escape(key)
            contents.append(
                f"<Contents><Key>{name}</Key><LastModified>{at}</LastModified><ETag>{stored.tag}</ETag>"
                f"<Size>{len(stored.body)}</Size></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(contents)}{common}</ListBucketResult>"
        self._answer(200, text.encode(), {"Content-Type": "application/xml"})


@contextmanager
def serve() -> Iterator[Service]:
    service = Service()
    handler = type("Handler", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
