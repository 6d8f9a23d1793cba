"""An S3 server on loopback that counts: `python -m nbws_bench.s3_server PORT`.

moto, with a counter around it. Bodies are counted, not headers. Requests take turns, so that a conditional PUT is what it is on S3.
`GET /-/totals` returns what was counted since the last time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TOTALS = "/-/totals"
_START_S = 60
VERBS = ("put", "get", "list", "head", "delete", "other")


def verb(method: str, path: str, query: str) -> str:
    """What kind of request it is: one of VERBS."""
    is_object = "/" in path.strip("/")
    if method in {"PUT", "POST"} and is_object:
        return "put"
    if method == "POST" and query.split("=", maxsplit=1)[0] == "delete":
        return "delete"
    if method == "GET":
        return "get" if is_object else "list"
    return method.lower() if method in {"HEAD", "DELETE"} else "other"


class Counter:
    """Counts what passes through an application."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application
        self._turn = Lock()
        self._totals: dict[str, int] = {}

    def __call__(self, environment: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answers one request."""
        path = environment["PATH_INFO"]
        with self._turn:
            if path == _TOTALS:
                body = json.dumps(self._totals).encode()
                self._totals = {}
                start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
                return [body]
            answer = list(self._application(environment, start_response))
            self._add(verb(environment["REQUEST_METHOD"], path, environment.get("QUERY_STRING", "")), 1)
            length = environment.get("CONTENT_LENGTH")
            self._add("unknown_length", int(not length and environment["REQUEST_METHOD"] == "PUT"))
            self._add("bytes_up", int(length or 0))
            if environment["REQUEST_METHOD"] != "HEAD":
                self._add("bytes_down", sum(map(len, answer)))
            return answer

    def _add(self, name: str, count: int) -> None:
        self._totals[name] = self._totals.get(name, 0) + count


class Server:
    """A running server, seen from outside."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def make_bucket(self, name: str) -> None:
        """Makes a bucket."""
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    def totals(self) -> dict[str, int]:
        """What was counted since the last call: requests by verb, ``bytes_up``, ``bytes_down``."""
        with urllib.request.urlopen(f"{self.endpoint}{_TOTALS}", timeout=30) as answer:
            found: dict[str, int] = json.load(answer)
        return found


@contextmanager
def serve() -> Iterator[Server]:
    """Runs a server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "nbws_bench.s3_server", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        server = Server(port)
        try:
            end = time.monotonic() + _START_S
            while True:
                try:
                    server.totals()
                    break
                except urllib.error.URLError as error:
                    if child.poll() is not None or time.monotonic() > end:
                        raise RuntimeError("the S3 server did not start") from error
                    time.sleep(0.1)
            yield server
        finally:
            child.terminate()


def main(port: int) -> None:
    """Serves until it is ended."""
    # Heavy, and needed by the server's own process only.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
    from werkzeug.serving import run_simple  # noqa: PLC0415

    run_simple("127.0.0.1", port, Counter(DomainDispatcherApplication(create_backend_app)), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
