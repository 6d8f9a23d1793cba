"""The results as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from nbws_bench.cases import CASES
from nbws_bench.figures import ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

OURS = "nbws"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_LABELS = {case: case.replace("_", " ") for case in CASES}
_VERBS = ("put", "get", "list", "head", "delete", "other")


def markdown(result: dict[str, Any]) -> str:
    """All tables; ``result`` is what goes into the JSON file."""
    parts = [_machine(result), _tools(result)]
    for tree in result["trees"]:
        files, size = tree["files"], tree["bytes"]
        figures = [figure for figure in result["figures"] if figure["tree"] == tree["name"]]
        if figures:
            parts.append(f"#### {tree['name']}: {tree['text']}, {files:,} files, {size / 1e6:,.0f} MB")
            parts += [_ratios(figures), _absolute(figures)]
    parts += [_traffic(result), _lost(result), _start_up(result), _surface(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def replace_between(path: Path, text: str) -> None:
    """Puts ``text`` between the marks in a document."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{path} has no marks {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (titles, *rows)]
    lines = [cells[0], ["---"] * len(titles), *cells[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    calibration = result["calibration"]
    return (
        f"{result['date']}, `BENCH={result['mode']}`: {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gb']:.0f} GB of memory, kernel {machine['kernel']}, {machine['file_system']}, "
        f"Python {machine['python']}; rounds: {result['rounds']}. {calibration['rejected']} of {calibration['rows']} measured commands "
        f"were rejected because the machine had slowed down by more than {calibration['drift']:.0%} around them; "
        "† marks medians of rejected ones, where there were no others."
    )


def _tools(result: dict[str, Any]) -> str:
    rows = [(tool["name"], tool["version"], tool["settings"]) for tool in result["tools"]]
    text = table(["tool", "version", "settings"], rows)
    for name, reason in {**result["absent"], **result["left_out"]}.items():
        text += f"\n- {name}: not compared: {reason}." if "\n-" in text else f"\n\n- {name}: not compared: {reason}."
    for failure in result["failures"]:
        text += f"\n- {failure['tool']} failed on {failure['tree']}: `{failure['error']}`"
    return text


def _ratios(figures: list[dict[str, Any]]) -> str:
    tools = _names(figures)[1:]
    found = {(figure["case"], figure["tool"]): figure for figure in figures}
    rows = []
    for case in CASES:
        if (case, OURS) not in found:
            continue
        ours = found[case, OURS]
        cells = [_ratio_cell(ours, found.get((case, tool))) for tool in tools]
        rows.append([_LABELS[case], *cells])
    for title, case in (("stored bytes after first", "first"), ("stored bytes after all saves", "rename")):
        rows.append([title, *[_stored_cell(found[case, OURS], found.get((case, tool))) for tool in tools]])
    head = "nbws by the other tool: wall time, in brackets user and system time, then stored bytes; below 1, nbws needs less.\n\n"
    return head + table(["case", *tools], rows)


def _ratio_cell(ours: dict[str, Any], theirs: dict[str, Any] | None) -> str:
    if theirs is None:
        return "failed"
    if theirs["wrong"]:
        return "wrong tree"
    wall, cpu = ratio(ours["wall_s"], theirs["wall_s"]), ratio(ours["cpu_s"], theirs["cpu_s"])
    mark = "" if ours["is_settled"] and theirs["is_settled"] else "†"
    return "-" if wall is None or cpu is None else f"**{wall:.2f}**{mark} ({cpu:.2f})"


def _stored_cell(ours: dict[str, Any], theirs: dict[str, Any] | None) -> str:
    stored = ratio(ours["stored_bytes"], theirs["stored_bytes"]) if theirs else None
    return "-" if stored is None else f"{stored:.2f}"


def _absolute(figures: list[dict[str, Any]]) -> str:
    tools = _names(figures)
    found = {(figure["case"], figure["tool"]): figure for figure in figures}
    rows: list[list[str]] = []
    stored: list[list[str]] = []
    for case in [case for case in CASES if (case, OURS) in found]:
        row = [found.get((case, tool)) for tool in tools]
        rows.append([_LABELS[case], *map(_absolute_cell, row)])
        if case in {"first", "upgrade", "rename"}:
            stored.append([f"MB stored after {_LABELS[case]}", *map(_megabytes, row)])
    head = "Wall s / user and system s / peak MiB of memory, medians:\n\n"
    return head + table(["case", *tools], rows + stored)


def _absolute_cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "failed"
    mark = "" if figure["is_settled"] else "†"
    wrong = f" (wrong tree: {figure['wrong'][:80]})" if figure["wrong"] else ""
    return f"{figure['wall_s']:.2f}{mark} / {figure['cpu_s']:.2f} / {figure['peak_bytes'] / 2**20:.0f}{wrong}"


def _megabytes(figure: dict[str, Any] | None) -> str:
    return "-" if figure is None or figure["stored_bytes"] is None else f"{figure['stored_bytes'] / 1e6:,.1f}"


def _traffic(result: dict[str, Any]) -> str:
    rows = result["traffic"]
    if not rows:
        return ""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        # Some tools make a repository by more than one command.
        sums.setdefault((row["case"], row["tool"]), Counter()).update(row["traffic"])
    counted = list(dict.fromkeys(row["tool"] for row in rows))
    others = [tool["name"] for tool in result["tools"] if tool["name"] not in counted]
    lines = [
        [_LABELS[case], *[_traffic_cell(sums.get((case, tool))) for tool in counted], *["n/a"] * len(others)]
        for case in CASES
        if (case, OURS) in sums
    ]
    verbs = [
        [
            _LABELS[case],
            ", ".join(f"{sums[case, OURS][verb]} {verb.upper()}" for verb in _VERBS if sums[case, OURS][verb]),
        ]
        for case in CASES
        if (case, OURS) in sums
    ]
    tree = next(tree for tree in result["trees"] if tree["name"] == rows[0]["tree"])
    head = (
        f"#### Requests\n\nA smaller tree, so that every tool ends soon: {tree['text']}, {tree['files']:,} files, "
        f"{tree['bytes'] / 1e6:,.0f} MB, on an S3 server on loopback. Requests / MB up / MB down, bodies only; n/a: the tool "
        "does not speak S3.\n\n"
    )
    return f"{head}{table(['case', *counted, *others], lines)}\n\n{_agreement(rows)}\n\n{table(['case', f'requests of {OURS}'], verbs)}"


def _traffic_cell(sent: Counter[str] | None) -> str:
    if sent is None:
        return "-"
    total = sum(sent[verb] for verb in _VERBS)
    return f"{total:,} / {sent['bytes_up'] / 1e6:,.3f} / {sent['bytes_down'] / 1e6:,.3f}"


def _agreement(rows: list[dict[str, Any]]) -> str:
    """Whether what nbws reports is what the server saw."""
    fewer: dict[str, str] = {}
    for row in rows:
        own = row["own_report"]
        if own is not None:
            counts = {verb: row["traffic"].get(verb, 0) - own.get(verb, 0) for verb in _VERBS}
            fewer[_LABELS[row["case"]]] = ", ".join(
                f"{count} {verb.upper()}" for verb, count in counts.items() if count
            )
    if not any(fewer.values()):
        return "The reports of nbws and the server agree in every case."
    if len(set(fewer.values())) == 1:
        same = next(iter(fewer.values()))
        return f"The server saw {same} more than the reports of nbws say, in every case: the opening of the repository before the verb."
    parts = "; ".join(f"{case}: {text}" for case, text in fewer.items() if text)
    return f"The server saw more than the reports of nbws say: {parts}."


def _lost(result: dict[str, Any]) -> str:
    lines = [
        f"- {tool}: {', '.join(f'{what} ({count:,})' for what, count in lost.items())}"
        for tool, lost in result["lost"].items()
    ]
    head = (
        "#### What restores did not keep\n\n"
        "Every restored tree was compared by the hash of every file, and by modes, times, links and holes.\n\n"
    )
    return head + ("\n".join(lines) if lines else "Nothing is missing anywhere.")


def _start_up(result: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", f"{row['median_s'] * 1000:.1f}", f"{row['times_bare']:.2f}", row["aim"] or ""]
        for name, row in result["start_up"].items()
    ]
    runs = next(iter(result["start_up"].values()))["runs"]
    loop = result["loop"]
    return (
        f"#### Start-up and event loop\n\nMedians of {runs} runs in turn.\n\n"
        + table(["start", "ms", "times the bare interpreter", "at most"], rows)
        + f"\n\n{loop['workspaces']} saves of {loop['workspaces']} workspaces ({loop['files']:,} files) at once in one event loop took "
        f"{loop['wall_s']:.2f} s; the longest tick was {loop['longest_tick_s'] * 1000:.1f} ms (aim: {loop['aim_s'] * 1000:.0f} ms). "
        f"The loop's thread itself worked at most {loop['busiest_tick_cpu_s'] * 1000:.1f} ms in one."
    )


def _surface(result: dict[str, Any]) -> str:
    if not result["surface"]:
        return ""
    rows = [
        [f"`{row['name']}`", f"{row['median_s'] * 1000:.2f}", f"{row['min_s'] * 1000:.2f}", row["runs"]]
        for row in result["surface"]
    ]
    return "#### Python calls\n\n" + table(["call", "median ms", "fastest ms", "runs"], rows)


def _names(figures: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(figure["tool"] for figure in figures))
