"""The engine of nbws. Private: use the package `nbws`.

Options are dicts of plain values; reports come back as dicts with the fields that `report_fields` lists. Every call
releases the interpreter while it waits. Errors are the classes of `nbws.errors`.
"""

import builtins
import os
from collections.abc import Callable
from typing import Any, final

__all__ = [
    "FileReader",
    "SnapshotReader",
    "TarReader",
    "Workspace",
    "__version__",
    "error_kinds",
    "report_fields",
]

__version__: str

def error_kinds() -> list[tuple[str, bool]]:
    """Every error kind with its name and whether trying again may help."""

def report_fields() -> list[tuple[str, list[str]]]:
    """Every report and its fields, in order."""

@final
class Workspace:
    """An open workspace repository."""

    @staticmethod
    def open(url: str, options: dict[str, Any]) -> Workspace:
        """Opens the repository at a URL. Options: create numeric_ids floor state_dir store."""

    @property
    def repository_id(self) -> str:
        """32 hex digits."""

    def describe(self) -> str:
        """The URL without secrets."""

    def save(
        self,
        directory: str | os.PathLike[str],
        options: dict[str, Any],
        progress: Callable[[str, int, int, int, int], object] | None = None,
    ) -> dict[str, Any]:
        """Saves a directory. Progress gets phase, files done and total, bytes done and total."""

    def restore(
        self,
        directory: str | os.PathLike[str],
        options: dict[str, Any],
        progress: Callable[[str, int, int, int, int], object] | None = None,
    ) -> dict[str, Any]:
        """Restores into a directory."""

    def snapshots(self) -> list[dict[str, Any]]:
        """Lists the snapshots, oldest first."""

    def rescues(self) -> list[dict[str, Any]]:
        """Lists the rescues that were not dismissed, oldest first."""

    def browse(self, snapshot: str) -> SnapshotReader:
        """Opens a snapshot or rescue for reading: latest, latest~n, an id or a unique prefix of one."""

    def dismiss(self, rescue: str) -> None:
        """Gives a rescue up."""

    def usage(self) -> dict[str, Any]:
        """Sums up what is stored."""

    def check(
        self,
        options: dict[str, Any],
        progress: Callable[[str, int, int, int, int], object] | None = None,
    ) -> dict[str, Any]:
        """Checks what is stored. Options: read_data, a fraction."""

@final
class SnapshotReader:
    """One snapshot or rescue, opened for reading. Paths are relative to the top of the workspace, which is ""."""

    @property
    def id(self) -> str:
        """32 hex digits."""

    def list(self, path: str | bytes, recursive: bool) -> builtins.list[dict[str, Any]]:
        """Lists what lies in a directory, or with recursive all below it."""

    def stat(self, path: str | bytes) -> dict[str, Any]:
        """Returns one entry."""

    def usage(self, path: str | bytes) -> builtins.list[dict[str, Any]]:
        """Sums up files and bytes below each entry of a directory."""

    def open_file(self, path: str | bytes) -> FileReader:
        """Opens a file."""

    def diff(self, other: SnapshotReader) -> dict[str, Any]:
        """Compares with another snapshot."""

    def diff_directory(self, directory: str | os.PathLike[str], exclude: builtins.list[str]) -> dict[str, Any]:
        """Compares with a directory; exclude holds patterns."""

    def export(self, paths: builtins.list[str | bytes] | None = None) -> TarReader:
        """Checks the tree and starts a tar stream, of some paths or of all."""

@final
class FileReader:
    """A file of a snapshot."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns so many bytes from an offset on, fewer at the end."""

@final
class TarReader:
    """A tar stream that is made as it is read."""

    def next(self) -> bytes | None:
        """Returns the next piece of some megabytes, None after the end."""

    def report(self) -> dict[str, Any]:
        """Tells what was written so far."""
