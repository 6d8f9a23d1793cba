"""From measured rows to figures: which rows count, medians, ratios. Nothing here touches a file or a clock."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbws_bench.cases import Row

DRIFT = 0.05
"""A row counts if the machine was at most this much slower around it than it is when it is left alone."""

_UNDISTURBED_QUANTILE = 0.1


@dataclass(frozen=True)
class Figure:
    """What one tool needed for one case of one tree: medians of the rows that count.

    Attributes:
        rows: how many rows the medians are of.
        rejected: how many were left out because the machine had slowed down.
        is_settled: False if every row had to be rejected; then the medians are of those.
        wrong: for restores, what was wrong with the tree.
    """

    tree: str
    tool: str
    case: str
    wall_s: float
    wall_min_s: float
    wall_max_s: float
    cpu_s: float
    peak_bytes: int
    stored_bytes: int | None
    rows: int
    rejected: int
    is_settled: bool
    wrong: str | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def undisturbed(calibrations: Sequence[float]) -> float:
    """The time of a calibration when the machine is left alone: the fast end of all of them, without the luckiest."""
    ordered = sorted(calibrations)
    return ordered[int(len(ordered) * _UNDISTURBED_QUANTILE)]


def counted(rows: Sequence[Row], reference_s: float) -> list[Row]:
    """The rows around which the machine ran at its own speed."""
    return [row for row in rows if row.slowest_calibration_s <= reference_s * (1 + DRIFT)]


def figures(rows: Iterable[Row], reference_s: float) -> list[Figure]:
    """One figure for each tree, case and tool, in the order in which they came."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.tree, row.case, row.tool), []).append(row)
    return [_figure(group, reference_s) for group in groups.values()]


def _figure(group: list[Row], reference_s: float) -> Figure:
    kept = counted(group, reference_s)
    used = kept or group
    walls = [row.wall_s for row in used]
    stored = [row.stored_bytes for row in used if row.stored_bytes is not None]
    return Figure(
        tree=group[0].tree,
        tool=group[0].tool,
        case=group[0].case,
        wall_s=statistics.median(walls),
        wall_min_s=min(walls),
        wall_max_s=max(walls),
        cpu_s=statistics.median(row.cpu_s for row in used),
        peak_bytes=int(statistics.median(row.peak_bytes for row in used)),
        stored_bytes=int(statistics.median(stored)) if stored else None,
        rows=len(used),
        rejected=len(group) - len(kept),
        is_settled=bool(kept),
        wrong=next((row.wrong for row in group if row.wrong), None),
    )


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Ours by theirs: below 1, nbws needs less. None where there is nothing to compare."""
    return None if ours is None or not theirs else ours / theirs


def lost_by_tool(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """By tool, what its restores did not keep, and of how many entries at most."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        for what, count in row.lost.items():
            mine = found.setdefault(row.tool, {})
            mine[what] = max(mine.get(what, 0), count)
    return found
