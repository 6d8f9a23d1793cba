"""The tools that are compared, each as the commands that a user would type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "bench"
KEY, SECRET = "bench-key", "bench-secret"
# What `make bench-peers` built, the newest releases, goes before what the system has.
BUILT = Path(sys.executable).parent

Pipeline = list[list[str]]


@dataclass(frozen=True)
class Remote:
    """An S3 server on loopback."""

    endpoint: str
    bucket: str


@dataclass(frozen=True)
class Place:
    """Where one tool keeps what in one turn: in ``store``, or below its own name in the bucket of ``remote``."""

    store: Path
    state: Path
    target: Path
    remote: Remote | None = None


@dataclass(frozen=True)
class Step:
    """A pipeline, the directory that it runs in, and for a restore where the tree is afterwards."""

    commands: Pipeline
    directory: Path
    restored: Path | None = None


class Tool(ABC):
    """One tool; what is not said otherwise is its default.

    Attributes:
        name: its name in tables.
        settings: what was chosen, and what it promises beside storing files.
        programs: what must be installed.
        speaks_s3: whether it can keep its store on an S3 server itself.
    """

    name: str
    settings: str
    programs: tuple[str, ...]
    speaks_s3 = True

    def program(self, name: str | None = None) -> str:
        """Path of a program."""
        name = name or self.programs[0]
        built = BUILT / name
        return str(built) if built.exists() else (shutil.which(name) or name)

    def absent(self) -> str | None:
        """Why the tool can't run here, or None."""
        missing = [name for name in self.programs if not Path(self.program(name)).is_file()]
        return f"{' and '.join(missing)} not installed" if missing else None

    def version(self) -> str:
        """Its version, as it says it."""
        said = subprocess.run([self.program(), "--version"], check=False, capture_output=True, text=True)
        return (said.stdout or said.stderr).strip().splitlines()[0].split(" build:")[0]

    def environment(self, place: Place) -> dict[str, str]:
        """Environment of every command: nothing of the user's own configuration."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        return {**kept, **(keys if place.remote else {}), "HOME": str(place.state)}

    def prepare(self, place: Place) -> list[Pipeline]:
        """Commands that make the repository; not measured."""
        del place
        return []

    @abstractmethod
    def save(self, tree: Path, place: Place, number: int) -> Step:
        """Saves ``tree`` for the ``number``-th time, from 0."""

    @abstractmethod
    def restore(self, tree: Path, place: Place, number: int) -> Step:
        """Restores what the ``number``-th save saved, into ``place.target`` and over what is there."""


class Nbws(Tool):
    """nbws by its command line, interpreter start included."""

    name = "nbws"
    settings = "level auto, not encrypted, syncs what it writes"
    programs = ("nbws",)

    def _url(self, place: Place) -> str:
        return f"s3://{place.remote.bucket}/nbws" if place.remote else place.store.as_uri()

    def environment(self, place: Place) -> dict[str, str]:
        remote = {"AWS_ENDPOINT": place.remote.endpoint, "AWS_ALLOW_HTTP": "true"} if place.remote else {}
        return {**super().environment(place), **remote, "NBWS_STATE": str(place.state)}

    def prepare(self, place: Place) -> list[Pipeline]:
        # What `nbws save --create` does first, apart: no other tool's first save makes the repository.
        make = "import nbws, sys; nbws.Workspace.open(sys.argv[1], create=True)"
        return [[[sys.executable, "-c", make, self._url(place)]]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        return Step([[self.program(), "save", str(tree), self._url(place), "--json"]], place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del tree, number
        words = [self.program(), "restore", self._url(place), str(place.target), "--json", "--discard-changes"]
        return Step([words], place.state, place.target)


class Restic(Tool):
    """restic."""

    name = "restic"
    settings = "compression auto, encrypted (always)"
    programs = ("restic",)

    def version(self) -> str:
        said = subprocess.run([self.program(), "version"], check=True, capture_output=True, text=True).stdout
        return said.split(" compiled")[0].strip()

    def environment(self, place: Place) -> dict[str, str]:
        where = f"s3:{place.remote.endpoint}/{place.remote.bucket}/restic" if place.remote else str(place.store)
        own = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": where, "RESTIC_CACHE_DIR": str(place.state)}
        return {**super().environment(place), **own}

    def prepare(self, place: Place) -> list[Pipeline]:
        del place
        return [[[self.program(), "init", "--quiet", "--repository-version", "2"]]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        return Step([[self.program(), "backup", "--quiet", str(tree)]], place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del number
        words = [self.program(), "restore", "latest", "--quiet", "--target", str(place.target)]
        return Step([words], place.state, Path(f"{place.target}{tree}"))


class Borg(Tool):
    """borg."""

    name = "borg"
    settings = "zstd level 3, not encrypted"
    programs = ("borg",)
    speaks_s3 = False

    def environment(self, place: Place) -> dict[str, str]:
        own = {"BORG_REPO": str(place.store), "BORG_BASE_DIR": str(place.state)}
        return {**super().environment(place), **own, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def prepare(self, place: Place) -> list[Pipeline]:
        del place
        return [[[self.program(), "init", "--encryption", "none"]]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del place
        return Step([[self.program(), "create", "--compression", "zstd,3", f"::save-{number}", "."]], tree)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del tree
        return Step([[self.program(), "extract", "--sparse", f"::save-{number}"]], place.target, place.target)


class Rclone(Tool):
    """rclone: a plain copy of the newest state, no history."""

    name = "rclone"
    settings = "sync, 8 transfers, metadata and links kept; neither compressed nor encrypted, one state only"
    programs = ("rclone",)

    def version(self) -> str:
        said = subprocess.run([self.program(), "version"], check=True, capture_output=True, text=True).stdout
        return said.splitlines()[0]

    def _where(self, place: Place) -> str:
        return f"bench:{place.remote.bucket}/rclone" if place.remote else str(place.store)

    def environment(self, place: Place) -> dict[str, str]:
        own = {"RCLONE_CONFIG": str(place.state / "rclone.conf")}
        if place.remote:
            own |= {
                "RCLONE_CONFIG_BENCH_TYPE": "s3",
                "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
                "RCLONE_CONFIG_BENCH_ENDPOINT": place.remote.endpoint,
                "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
                "RCLONE_CONFIG_BENCH_FORCE_PATH_STYLE": "true",
                "RCLONE_S3_NO_CHECK_BUCKET": "true",
                "RCLONE_FAST_LIST": "true",
            }
        return {**super().environment(place), **own}

    def _sync(self, source: str, target: str) -> Pipeline:
        many = ["--transfers", "8", "--checkers", "8", "--log-level", "ERROR"]
        return [[self.program(), "sync", source, target, "--metadata", "--links", "--create-empty-src-dirs", *many]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        return Step(self._sync(str(tree), self._where(place)), place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del tree, number
        return Step(self._sync(self._where(place), str(place.target)), place.state, place.target)


class TarZstd(Tool):
    """GNU tar into zstd: everything, each time."""

    name = "tar | zstd"
    settings = "zstd level 3, all cores; not encrypted, one state only"
    programs = ("tar", "zstd")
    speaks_s3 = False

    def version(self) -> str:
        tar = super().version().removeprefix("tar ").strip("()")
        zstd = subprocess.run([self.program("zstd"), "-qV"], check=True, capture_output=True, text=True).stdout
        return f"{tar.replace(')', '')}, zstd {zstd.strip()}"

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        pack = [self.program("tar"), "-C", str(tree), "--format=posix", "--sparse", "--xattrs", "-cf", "-", "."]
        press = [self.program("zstd"), "-q", "-3", "-T0", "-f", "-o", str(place.store / "tree.tar.zst")]
        return Step([pack, press], place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del tree, number
        expand = [self.program("zstd"), "-q", "-dc", str(place.store / "tree.tar.zst")]
        unpack = [self.program("tar"), "-C", str(place.target), "--xattrs", "-xpf", "-"]
        return Step([expand, unpack], place.state, place.target)


class Kopia(Tool):
    """kopia."""

    name = "kopia"
    settings = "compression zstd, encrypted (always)"
    programs = ("kopia",)

    def version(self) -> str:
        return f"kopia {super().version().removeprefix('v')}"

    def environment(self, place: Place) -> dict[str, str]:
        own = {
            "KOPIA_PASSWORD": PASSWORD,
            "KOPIA_CONFIG_PATH": str(place.state / "kopia.config"),
            "KOPIA_CACHE_DIRECTORY": str(place.state / "cache"),
            "KOPIA_LOG_DIR": str(place.state / "logs"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
        }
        return {**super().environment(place), **own}

    def prepare(self, place: Place) -> list[Pipeline]:
        where = ["filesystem", "--path", str(place.store)]
        if place.remote:
            host = place.remote.endpoint.removeprefix("http://")
            keys = ["--access-key", KEY, "--secret-access-key", SECRET]
            where = [
                "s3",
                "--bucket",
                place.remote.bucket,
                "--prefix",
                "kopia/",
                "--endpoint",
                host,
                "--disable-tls",
                *keys,
            ]
        policy = ["policy", "set", "--global", "--compression", "zstd"]
        return [[[self.program(), "repository", "create", *where]], [[self.program(), *policy]]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        return Step([[self.program(), "snapshot", "create", "--no-progress", str(tree)]], place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del number
        words = [self.program(), "snapshot", "restore", "--no-progress", "--snapshot-time", "latest"]
        return Step([[*words, str(tree), str(place.target)]], place.state, place.target)


class Rustic(Tool):
    """rustic."""

    name = "rustic"
    settings = "compression auto, encrypted (always)"
    programs = ("rustic",)

    def environment(self, place: Place) -> dict[str, str]:
        own = {
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_CACHE_DIR": str(place.state / "cache"),
            "RUSTIC_NO_PROGRESS": "true",
        }
        return {**super().environment(place), **own, "RUSTIC_LOG_LEVEL": "warn"}

    def _repository(self, place: Place) -> list[str]:
        if place.remote is None:
            return ["--repository", str(place.store)]
        return ["--use-profile", str(place.state / "bench")]

    def prepare(self, place: Place) -> list[Pipeline]:
        if place.remote is not None:
            options = {"endpoint": place.remote.endpoint, "bucket": place.remote.bucket, "root": "/rustic"}
            options |= {"region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET}
            lines = ["[repository]", 'repository = "opendal:s3"', "[repository.options]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
            (place.state / "bench.toml").write_text("\n".join(lines) + "\n")
        return [[[self.program(), "init", *self._repository(place)]]]

    def save(self, tree: Path, place: Place, number: int) -> Step:
        del number
        return Step([[self.program(), "backup", *self._repository(place), str(tree)]], place.state)

    def restore(self, tree: Path, place: Place, number: int) -> Step:
        del number
        words = [self.program(), "restore", *self._repository(place), f"latest:{tree}", str(place.target)]
        return Step([words], place.state, place.target)


TOOLS: tuple[Tool, ...] = (Nbws(), Restic(), Borg(), Rclone(), TarZstd(), Kopia(), Rustic())

# Tools of the same field that are left out on purpose.
LEFT_OUT = {
    "hf-xet": "uploads files to one hosted service only: no store of one's own, no modes, times or links, no restore of a tree",
    "cp -a": "keeps one state on the same machine; rclone stands for plain copies",
}
