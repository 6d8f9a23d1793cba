"""The engine of nbws. Private: use the package `nbws`.

Options are dicts of plain values; reports come back as dicts with the fields that `report_fields` lists. Every wait
releases the interpreter. Errors are the classes of `nbws.errors`.
"""

import builtins
import os
from collections.abc import Callable
from typing import Any, final

__all__ = [
    "FileReader",
    "Hold",
    "Job",
    "SnapshotReader",
    "TarReader",
    "Workspace",
    "__version__",
    "children",
    "doctor",
    "error_kinds",
    "report_fields",
    "tally",
    "transitions",
]

__version__: str

def error_kinds() -> list[tuple[str, bool]]:
    """Every error kind with its name and whether trying again may help."""

def report_fields() -> list[tuple[str, list[str]]]:
    """Every report and its fields, in order."""

def transitions() -> list[tuple[str, str, str, str]]:
    """Every legal change of state: step, state before it, state after it, cause."""

def children(url: str, options: dict[str, Any]) -> Job:
    """Lists the names of what lies directly below a URL."""

def doctor(url: str, options: dict[str, Any]) -> Job:
    """Measures what the store at a URL guarantees. Options: store, as for `Workspace.open`."""

def tally(url: str, options: dict[str, Any], ids: list[str], whole: bool, parallel: int) -> Job:
    """Looks at the repositories of these names below a URL, so many at once: newest record, or with whole all of them.

    Options: store, as for `Workspace.open`.
    """

@final
class Job:
    """A verb at work.

    Its answer is a dict or list of dicts with the fields of `report_fields`, bytes, or what was opened.
    """

    def wait(self, progress: Callable[[str, int, int, int, int], object] | None = None) -> Any:
        """Waits for the answer. Progress gets phase, files done and total, bytes done and total."""

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Has the listener called on another thread when there is news; again only after `poll`."""

    def poll(self) -> tuple[tuple[str, int, int, int, int] | None, bool]:
        """Returns the newest progress that was not asked for yet, and whether the verb has ended."""

    def result(self) -> Any:
        """Returns the answer or raises the error, once, after the end."""

    def interrupt(self) -> None:
        """Makes the verb end soon; what writes comes to its own end."""

@final
class Workspace:
    """An open workspace repository. Every verb is started by its call."""

    @staticmethod
    def open(url: str, options: dict[str, Any]) -> Job:
        """Opens the repository at a URL. Options: create numeric_ids floor state_dir store probe exclusive."""

    @property
    def repository_id(self) -> str:
        """32 hex digits."""

    def describe(self) -> str:
        """The URL without secrets."""

    def save(self, directory: str | os.PathLike[str], options: dict[str, Any]) -> Job:
        """Saves a directory."""

    def preview(self, directory: str | os.PathLike[str], options: dict[str, Any], estimate: bool) -> Job:
        """Tells what a save with these options would do."""

    def restore(self, directory: str | os.PathLike[str], options: dict[str, Any]) -> Job:
        """Restores into a directory."""

    def snapshots(self, default_retention: dict[str, Any] | None = None) -> Job:
        """Lists the snapshots, oldest first, with dates by these rules if the repository has none of its own."""

    def rescues(self) -> Job:
        """Lists the rescues that were not dismissed, oldest first."""

    def browse(self, snapshot: str) -> Job:
        """Opens a snapshot or rescue for reading: latest, latest~n, an id or a unique prefix of one."""

    def dismiss(self, rescue: str) -> Job:
        """Gives a rescue up."""

    def hold(self, directory: str | os.PathLike[str]) -> Job:
        """Takes the right to run the notebook in a directory of this machine; returns a Hold."""

    def look(self, directory: str | os.PathLike[str]) -> Job:
        """Tells what is known of a directory."""

    def fork(self, snapshot: str, url: str) -> Job:
        """Makes another repository that begins with a snapshot of this one."""

    def setting(self, key: str) -> Job:
        """Returns what is set under a key, as JSON text, or None."""

    def set_setting(self, key: str, value: str | None = None, first: bool = False) -> Job:
        """Sets a key to a value, given as JSON text, or removes it; with first only while it is no notebook."""

    @property
    def created_ms(self) -> int:
        """When the repository was made, milliseconds since 1970 UTC."""

    def keep_ballast(self) -> Job:
        """Stores the ballast if it is missing; whether it is there now."""

    def session(self) -> Job:
        """Returns the newest session of this machine, or None."""

    def claim(self, hold: Hold, options: dict[str, Any]) -> Job:
        """Opens a new epoch. Options: take_over resident ttl notes."""

    def change_state(
        self,
        directory: str | os.PathLike[str] | None,
        state: str,
        comment: str | None = None,
        info: str | None = None,
    ) -> Job:
        """Appends a change of state; returns the record's number."""

    def beat(self, writer: str) -> Job:
        """Shows that a writer lives."""

    def heartbeat(self, writer: str) -> Job:
        """Returns when a writer last showed that it lives, milliseconds since 1970 UTC, or None."""

    def history(self, since_claim: bool) -> Job:
        """Lists what the log says, oldest first."""

    def delete(self) -> Job:
        """Marks the notebook as deleted; returns the record's number."""

    def purge(self) -> Job:
        """Removes the data of a deleted notebook; returns the bytes removed."""

    def purge_plan(self) -> Job:
        """Returns the bytes that a purge would remove."""

    def set_latch(self, directory: str | os.PathLike[str], why: str) -> Job:
        """Keeps the saves of a directory from the head."""

    def clear_latch(self, directory: str | os.PathLike[str]) -> Job:
        """Lets them become the head again."""

    def usage(self, options: dict[str, Any]) -> Job:
        """Sums up what is stored. Options: snapshot path depth largest categories."""

    def growth(self, snapshots: list[str], options: dict[str, Any]) -> Job:
        """Compares each of the snapshots, or of all, with the one before it. Options as for usage, without snapshot."""

    def check(self, options: dict[str, Any]) -> Job:
        """Checks what is stored. Options: read_data, a fraction."""

    def prune(self, options: dict[str, Any]) -> Job:
        """Prunes. Options: apply force grace retention default_retention repack time_limit."""

    def cancel_prune(self) -> Job:
        """Withdraws the newest mark; its number."""

    def retention(self) -> Job:
        """The rules of this repository, or None."""

    def set_retention(self, retention: dict[str, Any] | None) -> Job:
        """Sets the rules of this repository."""

    def pins(self) -> Job:
        """Lists the pins."""

    def pin(self, snapshot: str, until_ms: int | None = None, comment: str | None = None) -> Job:
        """Keeps a snapshot whatever the rules say; its id."""

    def unpin(self, snapshot: str) -> Job:
        """Ends a pin."""

@final
class Hold:
    """The right to run a notebook in a directory, among the processes of this machine; it ends with this object."""

    @property
    def path(self) -> str:
        """The directory, resolved."""

    @property
    def is_kept(self) -> bool:
        """Whether there is local state that outlives the process."""

    def release(self) -> None:
        """Gives it back."""

@final
class SnapshotReader:
    """One snapshot or rescue, opened for reading. Paths are relative to the top of the workspace, which is ""."""

    @property
    def id(self) -> str:
        """32 hex digits."""

    def list(self, path: str | bytes, recursive: bool) -> Job:
        """Lists what lies in a directory, or with recursive all below it."""

    def stat(self, path: str | bytes) -> Job:
        """Returns one entry."""

    def usage(self, path: str | bytes) -> Job:
        """Sums up files and bytes below each entry of a directory."""

    def open_file(self, path: str | bytes) -> Job:
        """Opens a file."""

    def diff(self, other: SnapshotReader) -> Job:
        """Compares with another snapshot."""

    def diff_directory(self, directory: str | os.PathLike[str], exclude: builtins.list[str]) -> Job:
        """Compares with a directory; exclude holds patterns."""

    def export(self, paths: builtins.list[str | bytes] | None = None) -> Job:
        """Checks the tree and starts a tar stream, of some paths or of all."""

@final
class FileReader:
    """A file of a snapshot."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read_at(self, offset: int, length: int) -> Job:
        """Returns so many bytes from an offset on, fewer at the end."""

@final
class TarReader:
    """A tar stream that is made as it is read."""

    def next(self) -> Job:
        """Returns the next piece of some megabytes, None after the end."""

    def report(self) -> dict[str, Any]:
        """Tells what was written so far."""
