"""What happens to a tree, and one turn of one tool through all of it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbws_bench import trees
from nbws_bench.fingerprint import DifferentTreeError, Fingerprint, differences, fingerprint
from nbws_bench.measure import Used, calibrate, run
from nbws_bench.peers import Nbws, Place, Remote, Step, Tool

if TYPE_CHECKING:
    from nbws_bench.s3_server import Server
    from nbws_bench.trees import Tree

MAKING = "make"
CASES = {
    MAKING: "the repository is made; counted on the S3 server only, with what tools measure of the store",
    "first": "first save into an empty store",
    "no_change": "saved again, nothing changed",
    "one_edit": "one notebook of 5 KB was run again",
    "upgrade": f"{trees.LIBRARY} {trees.OLDER} was replaced by {trees.NEWER}",
    "touch": "every file has a new time, none has new content",
    "rename": "the folder with nearly everything has another name",
    "restore": "restore of everything into an empty directory",
    "in_place": "restore over a tree in which 5 files changed and 2 are gone",
}
_CHANGED, _GONE = 5, 2
_RENAMED = "renamed"


@dataclass(frozen=True)
class Row:
    """One measured command.

    Attributes:
        stored_bytes: bytes in the store afterwards; None where the store is a server's.
        slowest_calibration_s: the slower one of the calibrations before and after.
        lost: for restores, what the tool did not keep.
        wrong: for restores, how the tree differs from what was saved; such a row takes no part in comparisons.
        traffic: requests by verb and bytes by direction, as the server counted them.
        own_report: for nbws on the server, the same as its report says it.
    """

    tree: str
    tool: str
    case: str
    round: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    stored_bytes: int | None
    slowest_calibration_s: float
    lost: dict[str, int] = field(default_factory=dict)
    wrong: str | None = None
    traffic: dict[str, int] | None = None
    own_report: dict[str, int] | None = None


class Turn:
    """One tool goes through all cases of one tree, in a fresh place."""

    def __init__(self, tool: Tool, tree: Tree, directory: Path, number: int, server: Server | None = None) -> None:
        self.rows: list[Row] = []
        self._tool = tool
        self._tree = tree
        self._number = number
        self._saves = 0
        self._server = server
        base = directory / "turn"
        shutil.rmtree(base, ignore_errors=True)
        self._base = base
        bucket = f"{tool.name.split()[0]}-{number}"
        remote = Remote(server.endpoint, bucket) if server else None
        self._place = Place(base / "store", base / "state", base / "target", remote)
        for made in (self._place.store, self._place.state, self._place.target):
            made.mkdir(parents=True)
        if server:
            server.make_bucket(bucket)
        self._environment = tool.environment(self._place)

    def go(self) -> list[Row]:
        """Runs the cases; the tree is as it was afterwards, but for times and the notebook."""
        tree = self._tree
        trees.install(tree, trees.OLDER)
        self._prepare()
        self._save("first")
        self._save("no_change")
        trees.write_notebook(tree.path, 100 + self._number)
        self._save("one_edit")
        if tree.versions is not None:
            trees.install(tree, trees.NEWER)
            self._save("upgrade")
        trees.touch(tree)
        self._save("touch")
        folder, renamed = tree.path / tree.folder, tree.path / _RENAMED
        folder.rename(renamed)
        try:
            self._save("rename")
            self._restores()
        finally:
            renamed.rename(folder)
        shutil.rmtree(self._base)
        return self.rows

    def _prepare(self) -> None:
        steps = [Step(commands, self._place.state) for commands in self._tool.prepare(self._place)]
        for step in steps:
            if self._server:
                self._measure(MAKING, step)
            else:
                run(step.commands, self._environment, step.directory)

    def _save(self, case: str) -> None:
        self._measure(case, self._tool.save(self._tree.path, self._place, self._saves))
        self._saves += 1

    def _restores(self) -> None:
        saved = fingerprint(self._tree.path)
        step = self._tool.restore(self._tree.path, self._place, self._saves - 1)
        assert step.restored is not None
        self._measure("restore", step, saved)
        disturb(step.restored)
        self._measure("in_place", step, saved)

    def _measure(self, case: str, step: Step, saved: Fingerprint | None = None) -> None:
        if self._server:
            self._server.totals()
        before = calibrate()
        used = run(step.commands, self._environment, step.directory)
        after = calibrate()
        traffic = self._server.totals() if self._server else None
        lost, wrong = self._compare(saved, step)
        is_ours = self._server is not None and isinstance(self._tool, Nbws)
        self.rows.append(
            Row(
                tree=self._tree.name,
                tool=self._tool.name,
                case=case,
                round=self._number,
                wall_s=used.wall_s,
                cpu_s=used.cpu_s,
                peak_bytes=used.peak_bytes,
                stored_bytes=None if self._server else trees.disk_bytes(self._place.store),
                slowest_calibration_s=max(before, after),
                lost=lost,
                wrong=wrong,
                traffic=traffic,
                own_report=_own_report(used) if is_ours and case != MAKING else None,
            )
        )

    def _compare(self, saved: Fingerprint | None, step: Step) -> tuple[dict[str, int], str | None]:
        if saved is None:
            return {}, None
        assert step.restored is not None
        try:
            return differences(saved, fingerprint(step.restored)), None
        except DifferentTreeError as difference:
            if isinstance(self._tool, Nbws):
                raise
            return {}, str(difference)


def disturb(top: Path) -> None:
    """Changes some files below ``top`` and removes some: sizes change, so that every tool can see it."""
    found: list[Path] = []
    for place, folders, names in os.walk(top):
        folders.sort()
        found += [Path(place, name) for name in sorted(names)]
    files = [path for path in found if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1]
    step = max(1, len(files) // (_CHANGED + _GONE))
    chosen = files[::step][: _CHANGED + _GONE]
    for number, path in enumerate(chosen):
        if number < _GONE:
            path.unlink()
        else:
            with path.open("ab") as file:
                file.write(b"changed\n")


def _own_report(used: Used) -> dict[str, int]:
    report: dict[str, Any] = json.loads(used.output)
    up, down = report.get("bytes_uploaded", 0), report.get("bytes_downloaded", 0)
    return {**report["requests"], "bytes_up": up, "bytes_down": down}
