"""Writes docs/lifecycle.md and its diagram from the table of states in the core: `python docs/site/lifecycle.py`; `make lifecycle` runs it.

A test says when they are out of date.
"""

from __future__ import annotations

import html
import textwrap
from pathlib import Path
from typing import NamedTuple

from nbws import _nbws
from nbws.lifecycle import LIVE_STATES, STATES

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "lifecycle.md"
DIAGRAM = DOCS / "lifecycle.svg"

Row = tuple[str, str, str, str]

STEPS = {
    "claim": "**claim**: `start` opens a new epoch; whoever wrote before is fenced from then on.",
    "state": "**state**: a change of state by the run that owns the epoch; a comment repeats the state.",
    "session save": "**session save**: a snapshot of the run that owns the epoch.",
    "one-shot save": "**one-shot save**: a snapshot without a run (`Workspace.save`, `nbws save`); it opens an epoch of its own.",
    "delete": "**delete**: a tombstone that keeps the data.",
    "purge": "**purge**: a tombstone that gives the data up.",
}
LETTERS = {"claim": "C", "state": "S", "session save": "W", "one-shot save": "O", "delete": "D", "purge": "P"}


class Holds(NamedTuple):
    """What the three places hold in a state: how it stands with each, and in words."""

    workspace: tuple[str, str]
    data: tuple[str, str]
    store: tuple[str, str]


# How it stands with a place: its colours in the diagram, fill and line.
COLOURS = {
    "current": ("#d7f0dd", "#2e7d46"),
    "changing": ("#fdf1cf", "#a87900"),
    "older": ("#e3e8f4", "#4a5f92"),
    "gone": ("#f1f1f1", "#8a8a8a"),
}
HOLDS = {
    "STARTING": Holds(
        ("changing", "being restored; work that survived here was saved first"),
        ("changing", "wiped and made anew"),
        ("current", "the newest snapshot"),
    ),
    "RUNNING": Holds(
        ("current", "in use"),
        ("current", "in use, never saved"),
        ("older", "the newest snapshot: as of the last save or autosave"),
    ),
    "RESTARTING": Holds(
        ("current", "stays in place; no data moves"),
        ("current", "stays in place"),
        ("older", "the newest snapshot: as of the last save or autosave"),
    ),
    "STOPPING": Holds(
        ("current", "being read by the final save"),
        ("current", "stays until the save is acknowledged"),
        ("changing", "the newest snapshot; the final one is on its way"),
    ),
    "STOPPED": Holds(
        ("older", "stays on this disk, may be removed"),
        ("gone", "wiped"),
        ("current", "everything that could be read"),
    ),
    "SYNC_FAILED": Holds(
        ("current", "the only place of what was not saved: keep it"),
        ("current", "stays"),
        ("older", "what was saved in time, and older versions of the rest"),
    ),
    "FAILED": Holds(
        ("older", "stays on this disk"),
        ("gone", "wiped"),
        ("current", "what was saved: all, if the program failed; the newest snapshot, if the start did"),
    ),
    "ERROR": Holds(
        ("older", "what could be restored, if anything"),
        ("older", "stays as it is until the next start"),
        ("current", "all that is stored can still be listed, read, exported and restored"),
    ),
    "DELETING": Holds(
        ("older", "stays on this disk"),
        ("gone", "wiped"),
        ("current", "all snapshots and rescues, until the purge"),
    ),
}


def rows() -> list[Row]:
    return [(step, before.upper(), after.upper(), cause) for step, before, after, cause in _nbws.transitions()]


def page(table: list[Row]) -> str:
    parts = [
        "<!-- Written by docs/site/lifecycle.py from the table in rust/core/src/lifecycle.rs: change that, then run `make lifecycle`. -->",
        "# The life of a notebook",
        INTRODUCTION,
        "## What lies where",
        f"![What the workspace, the fast directory and the store hold in each state]({DIAGRAM.name})",
        places(),
        "## Which state may follow which",
        FOLLOW,
        matrix(table),
        "\n".join(f"- {LETTERS[step]}, {text}" for step, text in STEPS.items()),
        FAILURES,
        CLAIMS,
        reasons(table, [row for row in table if row[0] == "claim" and row[1] in LIVE_STATES], ("from", "because")),
        DELETED,
        EXIT_CODE,
        "## Every row",
        "NONE is the state of a repository that was never made a notebook.",
        every(table),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


INTRODUCTION = """
A notebook is in one of nine states. Each record of its log names the state after it, so the newest record alone says how the
notebook is, and nobody has to be asked. What may follow what is a table in the core (`rust/core/src/lifecycle.rs`); whatever is
not in it is refused with `InvalidState`, `Fenced` or `Conflict` before anything is sent. This page is written from that table.

Program state (variables, kernels, open connections) is never saved, in no state: files are.
"""

FOLLOW = """
A row is the state before, a column the state after; the letters say by which kinds of record. A dash: never.
"""

FAILURES = """
## What leads to FAILED, ERROR and SYNC_FAILED

- **FAILED**: this run failed, and another one may well succeed. A start failed because of the disk, the network, the credentials
  or a missing template; or the program ended with a code other than 0, after its work was saved.
- **ERROR**: what is stored, or the service around the notebook, is at fault: the log or the files are damaged or were rolled
  back, the format is of a later version, files could not be restored, or the marker is missing under `strict_marker`. Everything
  that is whole can still be read with `ls`, `cat`, `export` and `restore`. Ways out: `start` once more after the cause is gone;
  `start(continue_unrestored=True)`, which runs with what could be restored and keeps its saves as rescues until `clear_latch`
  says that they may become the head; `start` without `strict_marker`, which makes the marker anew.
- **SYNC_FAILED**: the final save failed, or its deadline left work out. The status says why, beginning with `transient`,
  `forbidden`, `credentials`, `not found` or `unknown` for a request, or with the files that were late. `save` on the same machine
  resumes with what is missing and ends in STOPPED. Files that could not be read, kept changing or were left out by a quota are
  warnings: they end in STOPPED.
"""

CLAIMS = """
## Starting what somebody else seems to run

`start` refuses (`Conflict`, with the writer and how long it has been silent) while the notebook is STARTING, RUNNING, STOPPING or
RESTARTING, but for these cases:

- the run was in this directory of this machine and its process is gone, which the lock of the run tells at once;
- its process had promised a sign of life each minute and has been silent for three, by the store's clock;
- the caller says `take_over`. A run that was started without a process that stays (`nbws notebook start`) never counts as dead,
  so elsewhere this is the way.

The older writer is fenced, alive or not: its next save raises `Fenced` and keeps its work as a rescue.
"""

DELETED = """
## Where a deleted notebook ends

In DELETING, for good. `delete` keeps the data, and the notebook is listed by `orphans` with its bytes and age; snapshots can be
read and restored. A run that was deleted by force is fenced: its next save becomes a rescue. `purge` writes a tombstone, then
removes packs, index and rescues; it can be repeated after a crash and can't be undone. The log and the `format` object stay after
it: the id is never used again, and the bill is complete.
"""

EXIT_CODE = """
## What a non-zero exit of the program means

`nbws run` saves in any case. A program that ended by itself with a code other than 0, or by a signal, leaves the notebook FAILED
with the code in its status; one that ended because the platform said SIGTERM leaves it STOPPED. `nbws run` exits with the
program's code, 128 + the signal's number, 9 if the final save left work out, 75 if the workspace could not be restored (the
program was not started), or 4 if somebody else runs the notebook.
"""


def places() -> str:
    lines = ["| state | `/workspace` | `/data` | object store |", "|---|---|---|---|"]
    lines += [
        f"| {state} | {HOLDS[state].workspace[1]} | {HOLDS[state].data[1]} | {HOLDS[state].store[1]} |"
        for state in order()
    ]
    return "\n".join(lines)


def order() -> list[str]:
    """As a life goes; a state that the diagram does not know is an error."""
    assert set(HOLDS) == set(STATES), set(HOLDS) ^ set(STATES)
    return list(HOLDS)


def matrix(table: list[Row]) -> str:
    states = ["NONE", *order()]
    lines = [f"| | {' | '.join(states)} |", f"|---|{'---|' * len(states)}"]
    for before in states:
        cells = []
        for after in states:
            steps = [step for step, b, a, _ in table if (b, a) == (before, after)]
            cells.append(" ".join(LETTERS[step] for step in LETTERS if step in steps) or "-")
        lines.append(f"| **{before}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def reasons(table: list[Row], chosen: list[Row], heads: tuple[str, str]) -> str:
    assert set(chosen) <= set(table)
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {before} | {cause} |" for _, before, _, cause in chosen])


def every(table: list[Row]) -> str:
    lines = ["| record | from | to | because |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {step} | {before} | {after} | {cause} |" for step, before, after, cause in table])


# The diagram.

LEFT, TOP, COLUMN, LINE = 150, 44, 250, 15
PAD, GAP = 8, 6


def diagram(table: list[Row]) -> str:
    shapes, y = [], TOP
    for number, title in enumerate(["/workspace", "/data", "object store"]):
        shapes.append(text(LEFT + number * (COLUMN + GAP) + PAD, 28, title, weight="bold"))
    for state in order():
        after = sorted(
            {a for step, b, a, _ in table if b == state and a != state and step == "state"}, key=order().index
        )
        names = textwrap.wrap(", ".join(after), 20) if after else []
        cells = [textwrap.wrap(words, 36) for _, words in HOLDS[state]]
        height = LINE * max(1 + len(names), *(len(lines) for lines in cells)) + 2 * PAD
        shapes.append(text(PAD, y + PAD + 12, state, weight="bold"))
        if names:
            arrow = ["then " + names[0], *names[1:]]
            shapes += [text(PAD, y + PAD + 12 + LINE * (i + 1), line, size=10) for i, line in enumerate(arrow)]
        for number, (lines, (kind, _)) in enumerate(zip(cells, HOLDS[state], strict=True)):
            x = LEFT + number * (COLUMN + GAP)
            fill, line = COLOURS[kind]
            shapes.append(
                f'<rect x="{x}" y="{y}" width="{COLUMN}" height="{height}" rx="4" fill="{fill}" stroke="{line}"/>'
            )
            shapes += [text(x + PAD, y + PAD + 12 + LINE * i, words) for i, words in enumerate(lines)]
        y += height + GAP
    for number, kind in enumerate(COLOURS):
        fill, line = COLOURS[kind]
        x = LEFT + number * 130
        shapes.append(f'<rect x="{x}" y="{y + 6}" width="14" height="14" rx="3" fill="{fill}" stroke="{line}"/>')
        shapes.append(text(x + 20, y + 18, kind))
    width, height = LEFT + 3 * (COLUMN + GAP) + PAD, y + 32
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">'
    )
    title = "<title>What the workspace, the fast directory and the store hold in each state</title>"
    paper = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, title, paper, *shapes, "</svg>"]) + "\n"


def text(x: int, y: int, words: str, *, weight: str = "normal", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" fill="#1c1c1c" font-weight="{weight}" font-size="{size}">{html.escape(words)}</text>'


def main() -> None:
    table = rows()
    PAGE.write_text(page(table))
    DIAGRAM.write_text(diagram(table))
    print(f"wrote {PAGE} and {DIAGRAM}")


if __name__ == "__main__":
    main()
