"""The engine of nbws. Private: use the package `nbws`.

Options are dicts of plain values; reports come back as dicts with the fields that `report_fields` lists. Every call
releases the interpreter while it waits. Errors are the classes of `nbws.errors`.
"""

import os
from collections.abc import Callable
from typing import Any, final

__all__ = ["Workspace", "__version__", "doctor", "error_kinds", "report_fields"]

__version__: str

def error_kinds() -> list[tuple[str, bool]]:
    """Every error kind with its name and whether trying again may help."""

def report_fields() -> list[tuple[str, list[str]]]:
    """Every report and its fields, in order."""

def doctor(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Measures what the store at a URL guarantees. Options: store, as for `Workspace.open`."""

@final
class Workspace:
    """An open workspace repository."""

    @staticmethod
    def open(url: str, options: dict[str, Any]) -> Workspace:
        """Opens the repository at a URL. Options: create numeric_ids floor state_dir store probe exclusive."""

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
