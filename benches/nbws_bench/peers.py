"""The tools that are compared, each as the commands that a user would type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where one tool keeps what in one round."""

    store: Path
    state: Path
    target: Path


class Nbws:
    """nbws by its command line, interpreter start included."""

    name = "nbws"
    command = Path(sys.executable).parent / "nbws"

    def version(self) -> str:
        """Version and settings."""
        version = subprocess.run([self.command, "--version"], check=True, capture_output=True, text=True).stdout.strip()
        return f"{version}, level auto, not encrypted, file:// with fsync"

    def environment(self, place: Place) -> dict[str, str]:
        """Environment of every command."""
        return {**os.environ, "NBWS_STATE": str(place.state)}

    def prepare(self, place: Place) -> None:
        """Nothing: the first save makes the repository."""

    def save(self, tree: Path, place: Place, *, first: bool) -> list[str]:
        """Saves ``tree``."""
        return [
            str(self.command),
            "save",
            str(tree),
            f"file://{place.store}",
            "--json",
            *(["--create"] if first else []),
        ]

    def restore(self, tree: Path, place: Place) -> tuple[list[str], Path]:
        """Restores the newest snapshot; returns where the tree is then."""
        del tree
        return [str(self.command), "restore", f"file://{place.store}", str(place.target), "--json"], place.target


class Restic:
    """restic with its default (auto) compression; it always encrypts."""

    name = "restic"

    def version(self) -> str:
        """Version and settings."""
        found = subprocess.run(["restic", "version"], check=True, capture_output=True, text=True).stdout.split(
            " compiled"
        )[0]
        return f"{found}, compression auto, encrypted (always)"

    def environment(self, place: Place) -> dict[str, str]:
        """Environment of every command."""
        return {
            **os.environ,
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(place.store),
            "RESTIC_CACHE_DIR": str(place.state),
        }

    def prepare(self, place: Place) -> None:
        """Makes the repository."""
        subprocess.run(
            ["restic", "init", "--quiet", "--repository-version", "2"], check=True, env=self.environment(place)
        )

    def save(self, tree: Path, place: Place, *, first: bool) -> list[str]:
        """Saves ``tree``."""
        del place, first
        return ["restic", "backup", "--quiet", str(tree)]

    def restore(self, tree: Path, place: Place) -> tuple[list[str], Path]:
        """Restores the newest snapshot; returns where the tree is then."""
        return ["restic", "restore", "latest", "--quiet", "--target", str(place.target)], Path(f"{place.target}{tree}")


Tool = Nbws | Restic


def available() -> list[Tool]:
    """nbws, and the peers that are installed."""
    tools: list[Tool] = [Nbws()]
    if shutil.which("restic"):
        tools.append(Restic())
    return tools
