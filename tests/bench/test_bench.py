"""The pure parts of the benchmark: what counts, what is compared, what is printed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from nbws_bench.cases import Row, disturb
from nbws_bench.figures import figures, lost_by_tool, ratio, undisturbed
from nbws_bench.fingerprint import DifferentTreeError, differences, fingerprint
from nbws_bench.measure import run
from nbws_bench.peers import TOOLS, Place
from nbws_bench.report import BEGIN, END, markdown, replace_between
from nbws_bench.s3_server import Counter, verb

if TYPE_CHECKING:
    from pathlib import Path


def row(tool: str, wall_s: float, calibration_s: float = 1.0, case: str = "first", **more: Any) -> Row:
    values: dict[str, Any] = {"tree": "small", "round": 0, "cpu_s": 2 * wall_s, "peak_bytes": 1 << 20}
    values |= {"stored_bytes": 1_000_000, "slowest_calibration_s": calibration_s, **more}
    return Row(tool=tool, case=case, wall_s=wall_s, **values)


def test_rows_of_a_slowed_down_machine_do_not_count() -> None:
    rows = [row("nbws", 1.0, 1.04), row("nbws", 9.0, 1.06), row("nbws", 2.0, 0.99), row("nbws", 3.0)]
    (figure,) = figures(rows, 1.0)
    assert (figure.wall_s, figure.cpu_s, figure.rows, figure.rejected) == (2.0, 4.0, 3, 1)
    assert (figure.wall_min_s, figure.wall_max_s, figure.is_settled) == (1.0, 3.0, True)
    (figure,) = figures(rows, 0.5)
    assert (figure.wall_s, figure.rows, figure.rejected, figure.is_settled) == (2.5, 4, 4, False)


def test_the_reference_is_not_the_luckiest_calibration() -> None:
    assert undisturbed([0.5, *[1.0] * 18, 3.0]) == 1.0
    assert undisturbed([2.0]) == 2.0


def test_ratios() -> None:
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(None, 4.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0) is None


def test_what_restores_lost_is_summed_up() -> None:
    rows = [row("rclone", 1, lost={"holes": 1}), row("rclone", 1, lost={"holes": 3, "modes": 2}), row("nbws", 1)]
    assert lost_by_tool(rows) == {"rclone": {"holes": 3, "modes": 2}}


def small_tree(top: Path) -> Path:
    (top / "folder").mkdir(parents=True)
    for number in range(20):
        (top / "folder" / f"f{number}").write_bytes(b"%d" % number * 100)
    os.link(top / "folder" / "f0", top / "again")
    (top / "link").symlink_to("folder/f1")
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    for place in (*top.rglob("*"), top / "folder"):
        os.utime(place, (1_000, 1_000), follow_symlinks=False)
    return top


def test_equal_trees_are_equal_and_what_is_lost_is_named(tmp_path: Path) -> None:
    saved, other = fingerprint(small_tree(tmp_path / "a")), small_tree(tmp_path / "b")
    assert differences(saved, fingerprint(other)) == {}
    (other / "folder" / "f3").chmod(0o600)
    (other / "again").unlink()
    (other / "again").write_bytes((other / "folder" / "f0").read_bytes())
    (other / "sparse").write_bytes(bytes(1 << 20))
    lost = differences(saved, fingerprint(other))
    assert lost == {"modes": 1, "hard links": 2, "holes": 1, "times of files": 2}


@pytest.mark.parametrize("change", ["content", "missing", "more", "target"])
def test_another_tree_is_never_taken_for_the_same(tmp_path: Path, change: str) -> None:
    saved, other = fingerprint(small_tree(tmp_path / "a")), small_tree(tmp_path / "b")
    if change == "content":
        (other / "folder" / "f3").write_bytes(b"4" * 100)
    elif change == "missing":
        (other / "folder" / "f3").unlink()
    elif change == "more":
        (other / "folder" / "new").touch()
    else:
        (other / "link").unlink()
        (other / "link").symlink_to("folder/f2")
    with pytest.raises(DifferentTreeError):
        differences(saved, fingerprint(other))


def test_disturbing_changes_five_files_and_removes_two(tmp_path: Path) -> None:
    before = fingerprint(small_tree(tmp_path / "a"))
    disturb(tmp_path / "a")
    after = fingerprint(tmp_path / "a")
    assert len(before.keys() - after.keys()) == 2
    assert not after.keys() - before.keys()
    assert sum(before[path].content != mark.content for path, mark in after.items()) == 5


def test_pipelines_are_measured(tmp_path: Path) -> None:
    # 60 MB in the child, little in its parent: the peak is the child's.
    work = "import sys; block = bytearray(60_000_000); sys.stdout.write(sys.stdin.read().upper() + str(len(block)))"
    used = run([["echo", "said"], [sys.executable, "-c", work]], dict(os.environ), tmp_path)
    assert used.output == "SAID\n60000000"
    assert 60_000_000 < used.peak_bytes < 110_000_000
    assert used.wall_s > 0
    assert used.cpu_s > 0
    with pytest.raises(RuntimeError, match="no such thing"):
        run([["sh", "-c", "echo no such thing >&2; exit 3"], ["cat"]], dict(os.environ), tmp_path)


def test_the_peak_does_not_count_the_benchmark_itself(tmp_path: Path) -> None:
    ballast = b"\x01" * 200_000_000
    assert run([["true"]], {}, tmp_path).peak_bytes < 50_000_000
    assert len(ballast) == 200_000_000


def test_every_tool_says_what_it_runs(tmp_path: Path) -> None:
    place = Place(tmp_path / "store", tmp_path / "state", tmp_path / "target")
    for tool in TOOLS:
        assert tool.settings
        assert tool.save(tmp_path / "tree", place, 0).commands[0]
        assert tool.restore(tmp_path / "tree", place, 0).restored is not None
        assert tool.environment(place)["HOME"] == str(place.state)


def test_requests_are_counted_by_verb() -> None:
    assert verb("PUT", "/bucket/a/b", "") == "put"
    assert verb("POST", "/bucket/a", "uploads") == "put"
    assert verb("POST", "/bucket", "delete=") == "delete"
    assert verb("GET", "/bucket/a", "") == "get"
    assert verb("GET", "/bucket", "list-type=2") == "list"
    assert verb("HEAD", "/bucket", "") == "head"
    assert verb("PUT", "/bucket", "") == "other"

    def application(environment: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"abc", b"de"]

    counter = Counter(application)

    def ask(method: str, path: str, length: str = "") -> list[bytes]:
        return counter({"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": length}, lambda *_: None)

    ask("PUT", "/bucket/a", "70")
    ask("GET", "/bucket/a")
    ask("HEAD", "/bucket/a")
    totals = b'{"put": 1, "unknown_length": 0, "bytes_up": 70, "bytes_down": 10, "get": 1, "head": 1}'
    assert ask("GET", "/-/totals") == [totals]
    assert ask("GET", "/-/totals") == [b"{}"]


def result() -> dict[str, Any]:
    rows = [row("nbws", 1.0), row("restic", 4.0), row("restic", 8.0, 9.0), row("borg", 2.0, 9.0)]
    rows += [row("nbws", 1.0, case="rename", stored_bytes=600_000), row("restic", 1.0, case="rename")]
    rows += [row("nbws", 1.0, case="restore"), row("restic", 2.0, case="restore", wrong="one file is gone")]
    own = {"put": 2, "get": 1, "list": 1, "head": 0, "delete": 0}
    traffic = {"put": 2, "get": 2, "list": 1, "bytes_up": 5_000_000, "bytes_down": 1_000}
    counted = {"case": "first", "tree": "small", "tool": "nbws", "traffic": traffic, "own_report": own}
    theirs = {**counted, "tool": "restic", "own_report": None}
    return {
        "date": "2026-11-22",
        "mode": "quick",
        "rounds": 1,
        "machine": {
            "cores": 2,
            "processor": "P",
            "memory_gb": 24.0,
            "kernel": "6",
            "file_system": "tmpfs",
            "python": "3",
        },
        "calibration": {"undisturbed_s": 1.0, "drift": 0.05, "rows": 6, "rejected": 2},
        "trees": [{"name": "small", "text": "a few files", "files": 1_234, "bytes": 5_000_000}],
        "tools": [
            {"name": "nbws", "version": "1", "settings": "auto"},
            {"name": "restic", "version": "1", "settings": "auto"},
            {"name": "tar | zstd", "version": "1", "settings": "level 3"},
        ],
        "absent": {"kopia": "kopia not installed"},
        "left_out": {"hf-xet": "it is no backup tool"},
        "failures": [{"tool": "borg", "tree": "small", "error": "no space"}],
        "figures": [figure.to_dict() for figure in figures(rows, 1.0)],
        "lost": {"restic": {"holes": 3}},
        "traffic": [counted, theirs, theirs],
        "start_up": {"import nbws": {"median_s": 0.05, "times_bare": 2.5, "aim": 4, "runs": 20}},
        "loop": {
            "workspaces": 20,
            "files": 60,
            "wall_s": 1.0,
            "longest_tick_s": 0.004,
            "busiest_tick_cpu_s": 0.002,
            "aim_s": 0.05,
        },
        "surface": [{"name": "ls", "median_s": 0.001, "min_s": 0.0005, "runs": 9}],
    }


def test_the_tables_say_what_was_seen() -> None:
    text = markdown(result())
    assert "| first | **0.25** (0.25) | **0.50**† (0.50) |" in text
    assert "| restore | wrong tree | failed |" in text
    assert "| stored bytes after first | 1.00 | 1.00 |" in text
    assert "| stored bytes after all saves | 0.60 | - |" in text
    assert "| first | 1.00 / 2.00 / 1 | 4.00 / 8.00 / 1 | 2.00† / 4.00 / 1 |" in text
    assert "| restore | 1.00 / 2.00 / 1 | 2.00 / 4.00 / 1 (wrong tree: one file is gone) | failed |" in text
    assert "| MB stored after rename | 0.6 | 1.0 | - |" in text
    assert "kopia: not compared: kopia not installed" in text
    assert "hf-xet: not compared" in text
    assert "borg failed on small: `no space`" in text
    assert "restic: holes (3)" in text
    assert "| first | 5 / 5.000 / 0.001 | 10 / 10.000 / 0.002 | n/a |" in text
    assert "| first | 2 PUT, 2 GET, 1 LIST |" in text
    assert "| tar \\| zstd | 1 | level 3 |" in text
    assert "The server saw 1 GET more than the reports of nbws say, in every case" in text
    assert "the longest tick was 4.0 ms (aim: 50 ms). The loop's thread itself worked at most 2.0 ms in one." in text
    assert "| `import nbws` | 50.0 | 2.50 | 4 |" in text


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    replace_between(document, "new")
    assert document.read_text() == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        replace_between(document, "new")
