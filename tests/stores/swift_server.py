"""OpenStack Swift's S3 API from PyPI: proxy, account, container and object servers with one device, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from textwrap import dedent

REQUIREMENTS = Path(__file__).with_name("swift-requirements.txt")
INSTALL_S = 300
START_S = 60
# Account and container first: the object server and the proxy ask them.
BACKENDS = ("account", "container", "object")
FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "bulk", "dlo")

# tempauth keeps tokens in memcached; one process needs no more than a dict.
CACHE_MODULE = """
import time as clock


class Cache:
    def __init__(self):
        self.values = {}

    def get(self, key, raise_on_error=False):
        value = self.values.get(key)
        return None if value is None or (value[1] and value[1] < clock.time()) else value[0]

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        self.values[key] = (value, clock.time() + time if time else 0)

    def incr(self, key, delta=1, time=0):
        value = int(self.get(key) or 0) + delta
        self.set(key, value, time=time)
        return value

    def decr(self, key, delta=1, time=0):
        return self.incr(key, -delta, time)

    def delete(self, key, server_key=None):
        self.values.pop(key, None)

    def set_multi(self, mapping, server_key, serialize=True, time=0, min_compress_len=0):
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys, server_key):
        return [self.get(key) for key in keys]


class Filter:
    def __init__(self, app):
        self.app, self.cache = app, Cache()

    def __call__(self, environment, start_response):
        environment["swift.cache"] = self.cache
        return self.app(environment, start_response)


def filter_factory(conf, **local):
    return Filter
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SwiftServer:
    """Starts in ``directory``; its own virtual environment below ``environments`` is made when it is missing."""

    access_key_id = "test:tester"
    secret_access_key = "testing"

    def __init__(self, directory: Path, environments: Path) -> None:
        self.directory = directory
        self.bin = environments / f"venv-{sys.version_info.major}{sys.version_info.minor}" / "bin"
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Raises OSError, RuntimeError or SubprocessError with the reason if it can't."""
        for name in ("etc", "dev/d1", "log"):
            (self.directory / name).mkdir(parents=True)
        self._install()
        (self.directory / "nbws_memcache.py").write_text(CACHE_MODULE)
        self._write("swift.conf", _SWIFT_CONF)
        for name in BACKENDS:
            port = free_port()
            self._write(f"{name}-server.conf", self._backend(name, port))
            ring: list[str | Path] = [self.bin / "swift-ring-builder", f"{name}.builder"]
            for words in (["create", "8", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
                self._run([*ring, *words], timeout=30)
        self._write("proxy-server.conf", self._proxy())
        for name in (*BACKENDS, "proxy"):
            with (self.directory / "log" / name).open("wb") as log:
                config = self.directory / "etc" / f"{name}-server.conf"
                command: list[str | Path] = [self.bin / f"swift-{name}-server", config, "-v"]
                environment = {**os.environ, "PYTHONPATH": str(self.directory)}
                self.servers.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        self._wait()

    def stop(self) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(timeout=10)

    def _install(self) -> None:
        mark = self.bin / ".installed"
        if mark.exists() and mark.read_text() == REQUIREMENTS.read_text():
            return
        self._run([sys.executable, "-m", "venv", "--clear", self.bin.parent], timeout=120)
        options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        install: list[str | Path] = [
            self.bin / "python",
            "-m",
            "pip",
            "install",
            *options,
            "--requirement",
            REQUIREMENTS,
        ]
        self._run(install, timeout=INSTALL_S)
        mark.write_text(REQUIREMENTS.read_text())

    def _run(self, command: list[str | Path], timeout: float) -> None:
        done = subprocess.run(
            command, cwd=self.directory / "etc", capture_output=True, text=True, timeout=timeout, check=False
        )
        # The ring builder answers 1 for a warning about few devices.
        if done.returncode not in (0, 1) or (done.returncode == 1 and "swift-ring-builder" not in str(command[0])):
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-300:]}")

    def _write(self, name: str, text: str) -> None:
        (self.directory / "etc" / name).write_text(dedent(text))

    def _user(self) -> str:
        return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()

    def _common(self, port: int) -> str:
        return f"swift_dir = {self.directory}/etc\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nuser = {self._user()}\n"

    def _backend(self, name: str, port: int) -> str:
        return (
            f"[DEFAULT]\n{self._common(port)}devices = {self.directory}/dev\nmount_check = false\n"
            "disable_fallocate = true\nfallocate_reserve = 0\n"
            f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        )

    def _proxy(self) -> str:
        simple = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS)
        return f"[DEFAULT]\n{self._common(self.port)}{_PROXY_CONF}{simple}"

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            for server, name in zip(self.servers, (*BACKENDS, "proxy"), strict=True):
                if server.poll() is not None:
                    log = (self.directory / "log" / name).read_text(errors="replace")
                    raise RuntimeError(f"the {name} server ended with {server.returncode}: {log[-300:]}")
            try:
                urllib.request.urlopen(f"{self.endpoint}/healthcheck", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise RuntimeError(f"no answer within {START_S} s")


_SWIFT_CONF = """\
    [swift-hash]
    swift_hash_path_prefix = nbws
    swift_hash_path_suffix = test
    [storage-policy:0]
    name = gold
    default = yes
    """

_PROXY_CONF = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache s3api tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:cache]
paste.filter_factory = nbws_memcache:filter_factory
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:slo]
use = egg:swift#slo
rate_limit_after_segment = 1000
"""
