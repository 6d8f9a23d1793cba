"""The results as a picture: wall time of every tool, one panel for each case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt  # after the choice of what draws

from nbws_bench.cases import CASES

if TYPE_CHECKING:
    from pathlib import Path

_TITLES = {
    "first": "First save",
    "no_change": "Save, nothing changed",
    "one_edit": "Save, one notebook edited",
    "upgrade": "Save after a library upgrade",
    "touch": "Save, every file touched",
    "rename": "Save, environment renamed",
    "restore": "Restore of everything",
    "in_place": "Restore in place",
}
_OURS, _OTHERS, _TEXT, _QUIET = "#0b6e4f", "#b9c2c9", "#1b1f23", "#5b656d"
_COLUMNS = 4
_ROOM = 1.75


def draw(result: dict[str, Any], tree: str, path: Path) -> None:
    """Draws the figures of one tree into ``path``; the ending says the kind of file."""
    figures = [figure for figure in result["figures"] if figure["tree"] == tree]
    cases = [case for case in CASES if any(figure["case"] == case for figure in figures)]
    tools = list(dict.fromkeys(figure["tool"] for figure in figures))
    lines = -(-len(cases) // _COLUMNS)
    # Text as paths: the picture looks the same wherever it is shown.
    style = {
        "svg.fonttype": "path",
        "svg.hashsalt": "nbws",
        "font.size": 10,
        "text.color": _TEXT,
        "font.family": "DejaVu Sans",
    }
    with plt.rc_context(style):
        height = lines * (0.32 * len(tools) + 0.75) + 1.1
        figure, axes = plt.subplots(lines, _COLUMNS, figsize=(14, height), squeeze=False, layout="constrained")
        figure.patch.set_facecolor("white")
        for axis in axes.flat[len(cases) :]:
            axis.set_axis_off()
        for number, (axis, case) in enumerate(zip(axes.flat, cases, strict=False)):
            found = {entry["tool"]: entry for entry in figures if entry["case"] == case}
            _panel(axis, case, tools, found, is_named=number % _COLUMNS == 0)
        text = next(entry for entry in result["trees"] if entry["name"] == tree)
        figure.suptitle(
            f"Seconds of wall time, shorter is better; in brackets, times as long as nbws\n"
            f"{text['text']}: {text['files']:,} files, {text['bytes'] / 1e9:.2f} GB; {result['machine']['cores']} cores; "
            f"{result['date']}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _panel(axis: Any, case: str, tools: list[str], found: dict[str, dict[str, Any]], *, is_named: bool) -> None:
    ours = found["nbws"]["wall_s"]
    longest = max(entry["wall_s"] for entry in found.values())
    for place, tool in enumerate(tools):
        entry = found.get(tool)
        if entry is None or entry["wrong"]:
            label = "failed" if entry is None else "wrong tree"
            axis.text(longest * 0.02, place, label, va="center", color=_QUIET, fontsize=9, style="italic")
            continue
        is_ours = tool == "nbws"
        axis.barh(place, entry["wall_s"], height=0.68, color=_OURS if is_ours else _OTHERS)
        times = "" if is_ours else f"  ({entry['wall_s'] / ours:.1f}x)"
        weight = "bold" if is_ours else "normal"
        label = f"{entry['wall_s']:.2f}{times}"
        axis.text(entry["wall_s"] + longest * 0.02, place, label, va="center", fontsize=9, fontweight=weight)
    axis.set_title(_TITLES[case], loc="left", fontsize=10.5, fontweight="bold")
    axis.set_yticks(range(len(tools)), tools if is_named else [""] * len(tools))
    axis.set_ylim(len(tools) - 0.5, -0.5)
    axis.set_xlim(0, longest * _ROOM)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["left"].set_color(_OTHERS)
