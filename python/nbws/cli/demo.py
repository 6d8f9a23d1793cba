"""`nbws demo`: the main job on real files, explained step by step with its figures."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbws.cli.demo_workspace import NEWER, OLDER, DemoDirectory
from nbws.cli.output import heading, json_option, print_json, printable, progress_bar
from nbws.errors import Internal
from nbws.reports import format_size

if TYPE_CHECKING:
    from nbws.reports import CheckReport, RestoreReport, SaveReport
    from nbws.workspace import Workspace

_WIDTH = 90
_INDENT = "   "
_RATE_FROM_S = 0.5


class _Story:
    """Prints the steps, or collects them for one JSON object."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._number = 0
        self.steps: list[dict[str, Any]] = []

    def say(self, text: str = "") -> None:
        if not self._as_json:
            click.echo(text)

    def step(self, title: str, text: str) -> None:
        self._number += 1
        self.steps.append({"step": title})
        if not self._as_json:
            click.echo(f"\n{heading(f'{self._number}. {title}')}")
            wrapped = textwrap.fill(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
            click.echo(wrapped)

    def figures(self, rows: dict[str, str], plain: dict[str, Any]) -> None:
        self.steps[-1] |= plain
        if not self._as_json:
            width = max(map(len, rows)) + 2
            for name, value in rows.items():
                click.echo(f"{_INDENT}  {click.style(name.ljust(width), fg='cyan')}{value}")

    def detail(self, text: str) -> None:
        if not self._as_json:
            click.echo(f"{_INDENT}… {text}", err=True)


@click.command(short_help="Show the main job on real files, step by step.")
@click.argument("directory", metavar="[DIR]", type=click.Path(file_okay=False, path_type=Path), default="nbws-demo")
@json_option
def demo(directory: Path, *, as_json: bool) -> None:
    """Show the main job on real files in DIR (default: nbws-demo), on the embedded store.

    Builds a workspace with a real Python environment (this downloads about 150 MB of packages once), saves it, edits a
    notebook, upgrades a library, saves again, restores on a second machine, compares, and saves from there.
    """
    from nbws.workspace import Workspace

    story = _Story(as_json=as_json)
    place = DemoDirectory(directory)
    place.prepare()
    url = place.objects.as_uri()
    story.say(heading("nbws demo") + ": the life of a notebook's workspace")
    story.say(f"{_INDENT}everything happens in {place.top}")
    _build(story, place)
    here = Workspace.open(url, create=True, state_dir=place.state)
    _save_steps(story, place, here)
    there = Workspace.open(url, state_dir=place.second_state)
    _restore_steps(story, place, there)
    _check_step(story, there)
    story.say(f"\nDone. The store stays in {place.objects}; try: nbws snapshots {url}")
    if as_json:
        print_json({"directory": str(place.top), "url": url, "steps": story.steps})


def _build(story: _Story, place: DemoDirectory) -> None:
    story.step(
        "Build a workspace",
        "A virtual environment with JupyterLab, NumPy, SciPy, pandas and Matplotlib, all real packages from the "
        "package index; notebooks with plots; a model file of 160 MiB.",
    )
    begin = time.monotonic()
    place.download(story.detail)
    place.build(story.detail)
    story.figures({"built in": f"{time.monotonic() - begin:.1f} s"}, {"seconds": time.monotonic() - begin})


def _save_steps(story: _Story, place: DemoDirectory, here: Workspace) -> None:
    story.step(
        "Save it for the first time",
        "Every file is read once, cut into chunks, and packed: thousands of small files become a few large objects. "
        "The save exists once its record is in the log; until then readers see nothing of it.",
    )
    _saved(story, _save(here, place.workspace, "first save"))

    story.step(
        "Save again with nothing changed",
        "Sizes, times and inode numbers say that nothing changed: no file is opened and nothing is written.",
    )
    _saved(story, _save(here, place.workspace, None))

    size = place.edit_notebook(3)
    story.step(
        "Edit one notebook and save",
        f"One cell of one notebook ({format_size(size)}) was run. The save costs what changed: one pack with the new "
        "chunks and the changed piece of the tree, and one log record.",
    )
    _saved(story, _save(here, place.workspace, "edited a notebook"))

    story.detail(f"pip install {NEWER}")
    place.upgrade()
    story.step(
        "Upgrade a library and save",
        f"pip replaced {OLDER} by {NEWER}: some thousand files were replaced. What is equal in both "
        "versions is stored already and is not uploaded again.",
    )
    _saved(story, _save(here, place.workspace, "upgraded pandas"))


def _restore_steps(story: _Story, place: DemoDirectory, there: Workspace) -> None:
    story.step(
        "Restore on a second machine",
        "Another directory and another local state, as on a new machine: the newest snapshot is fetched in large "
        "ranges, every chunk is verified against its hash before it becomes visible, and metadata is set to the "
        "nanosecond.",
    )
    with progress_bar("restore") as progress:
        report = there.restore(place.second, progress=progress)
    _restored(story, report)

    story.step(
        "Compare the two trees",
        "File by file: kinds, modes, times, sizes, contents, links and extended attributes.",
    )
    _compare(story, place)

    size = place.edit_notebook(7, second=True)
    story.step(
        "Edit a notebook there and save from there",
        f"The restore recorded what it wrote, so this first save on the second machine reads only the edited notebook "
        f"({format_size(size)}) of the whole workspace.",
    )
    _saved(story, _save(there, place.second, "edited on the second machine"))


def _check_step(story: _Story, there: Workspace) -> None:
    story.step("Check the store", "Every stored byte is read back and verified against its hashes.")
    with progress_bar("check") as progress:
        report: CheckReport = there.check(read_data=True, progress=progress)
    if not report.ok:
        raise Internal(f"the check found {len(report.damaged)} damaged objects", operation="demo")
    usage = there.usage()
    rows = {
        "objects": f"{report.objects:,}, none damaged",
        "read": format_size(report.bytes_read),
        "kept": f"{usage.snapshots} snapshots of {format_size(usage.logical_bytes)} "
        f"in {format_size(usage.stored_bytes)} of storage",
        "took": f"{report.duration_s:.2f} s",
    }
    story.figures(rows, {"check": report.to_dict(), "usage": usage.to_dict()})


def _save(workspace: Workspace, directory: Path, comment: str | None) -> SaveReport:
    with progress_bar("save") as progress:
        report = workspace.save(directory, comment=comment, progress=progress)
    if not report.complete:
        raise Internal("a save of the demo was incomplete: " + "; ".join(report.warnings), operation="demo")
    return report


def _saved(story: _Story, report: SaveReport) -> None:
    changes = (
        f"{report.files_new:,} new, {report.files_changed:,} changed, {report.files_removed:,} removed, "
        f"{report.files_unchanged:,} unchanged"
    )
    share = report.bytes_uploaded / max(report.bytes_total, 1)
    rows = {
        "files": f"{report.files_total:,} ({format_size(report.bytes_total)}): {changes}",
        "read": f"{format_size(report.bytes_read)} from {report.files_opened:,} opened files",
        "uploaded": f"{format_size(report.bytes_uploaded)} ({share:.2%} of the workspace), "
        f"{report.chunks_new:,} new chunks",
        "requests": str(report.requests),
        "took": _took(report.duration_s, report.bytes_read),
    }
    story.figures(rows, report.to_dict())


def _took(seconds: float, size: int) -> str:
    rate = f", {format_size(size / seconds)}/s" if seconds > _RATE_FROM_S else ""
    return f"{seconds:.2f} s{rate}"


def _restored(story: _Story, report: RestoreReport) -> None:
    if not report.complete:
        raise Internal("the restore was incomplete: " + "; ".join(report.warnings), operation="demo")
    rows = {
        "files": f"{report.files_written:,} written ({format_size(report.bytes_written)})",
        "downloaded": format_size(report.bytes_downloaded),
        "requests": str(report.requests),
        "took": _took(report.duration_s, report.bytes_written),
    }
    story.figures(rows, report.to_dict())


def _compare(story: _Story, place: DemoDirectory) -> None:
    from nbws.testing.trees import compare_trees, walk

    begin = time.monotonic()
    differences = compare_trees(place.workspace, place.second)
    entries = sum(1 for _ in walk(place.second))
    for line in differences[:20]:
        story.say(f"{_INDENT}  {printable(line)}")
    if differences:
        raise Internal(f"the restored tree differs in {len(differences)} places", operation="demo")
    rows = {
        "entries": f"{entries:,} compared, no difference",
        "took": f"{time.monotonic() - begin:.2f} s",
    }
    story.figures(rows, {"entries": entries, "differences": differences})
