"""`nbws du`: columns and bars, growth, pages."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbws
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbws.cli.bars import Row, bar, can_draw, lines, shortened, width_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(file_url: str, tmp_path: Path) -> str:
    work = tmp_path / "work"
    for path, size in (
        (".venv/lib/a.so", 60_000),
        ("data/b.bin", 30_000),
        ("data/deep/c.bin", 9_000),
        ("日本.txt", 500),
    ):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(os.urandom(size))
    workspace = nbws.Workspace.open(file_url, create=True)
    workspace.save(work)
    (work / "data/more.bin").write_bytes(os.urandom(20_000))
    (work / "data/b.bin").unlink()
    workspace.save(work)
    return file_url


def run(*words: str, code: int = 0, **env: str) -> str:
    command = [sys.executable, "-c", "from nbws.cli.main import main; main()", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


def on_terminal(*words: str, columns: int = 80, **env: str) -> str:
    """What a terminal of some width shows."""
    main, side = pty.openpty()
    os.set_blocking(main, True)
    settings = {**os.environ, "COLUMNS": str(columns), "PYTHONUTF8": "1", "TERM": "xterm", **env}
    command = [sys.executable, "-c", "from nbws.cli.main import main; main()", *words]
    child = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=settings)
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65_536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert child.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


def test_plain_columns_in_a_pipe(store: str) -> None:
    first, *rows = run("du", store, "--depth", "2").splitlines()
    assert first.split() == ["unique", "stored", "size", "files", "path"]
    assert [row.split()[-1] for row in rows] == [
        ".venv", "lib", "data", "more.bin", "deep", "日本.txt", ".",
    ]  # fmt: skip
    assert "█" not in "".join(rows)
    by_category = run("du", store, "--by", "category").splitlines()
    assert [row.split()[-1] for row in by_category[1:]] == ["environment", "data", "."]


@pytest.mark.parametrize("columns", [50, 60, 80, 120])
def test_bars_fit_the_terminal(store: str, columns: int) -> None:
    shown = on_terminal("du", store, "--depth", "3", columns=columns)
    assert "█" in shown
    assert "\x1b[1m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(width_of(line) for line in plain.splitlines()) <= columns
    assert plain.splitlines()[-1].split()[-1] == "."


def test_no_colour_and_ascii(store: str) -> None:
    assert "\x1b" not in on_terminal("du", store, NO_COLOR="1")
    shown = on_terminal("du", store, PYTHONUTF8="0", PYTHONIOENCODING="ascii", NO_COLOR="1")
    assert "#" in shown
    assert not set(shown) & set("▏▎▍▌▋▊▉█…")
    assert "#" in on_terminal("du", store, TERM="dumb")


def test_json(store: str) -> None:
    usage: dict[str, Any] = json.loads(run("du", store, "data", "--depth", "2", "--json", "--count", "stored"))
    assert usage["total"]["path"] == "data"
    assert [row["path"] for row in usage["by_path"]] == ["data/more.bin", "data/deep", "data/deep/c.bin"]
    assert usage["total"]["logical_bytes"] == 29_000
    assert usage["requests"]["put"] == 0
    growth = json.loads(run("du", store, "--since", "latest~1", "--json"))
    assert growth["total"]["logical_bytes"] == -10_000
    assert growth["by_path"][0]["path"] == "data"
    assert growth["by_path"][0]["gone_stored_bytes"] > 30_000
    assert {row["category"] for row in growth["by_category"]} == {"data"}


def test_growth_is_shown_with_signs(store: str) -> None:
    rows = run("du", store, "--since", "latest~1", "--depth", "2").splitlines()
    assert rows[0].split() == ["new", "gone", "stored", "size", "files", "path"]
    assert [row.split()[-1] for row in rows[1:]] == ["data", "b.bin", "more.bin", "."]
    assert "-29.3 KiB" in rows[2]
    assert "+19.5 KiB" in rows[3]
    older = nbws.Workspace.open(store).snapshots()[0].snapshot[:6]
    assert run("du", store, "--since", older, "--by", "category").splitlines()[1].split()[-1] == "data"


def test_pages(store: str, tmp_path: Path) -> None:
    page, growth = tmp_path / "page.html", tmp_path / "growth.html"
    assert run("du", store, "--html", str(page)) == f"Wrote {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert ">.venv/lib" in page.read_text()
    assert json.loads(run("du", store, "--html", str(page), "--json"))["total"]["files"] == 4
    run("du", store, "--since", "latest~1", "--html", str(growth))
    assert "Stored anew" in growth.read_text()
    assert "more.bin" in growth.read_text()


def test_refusals(store: str, file_url: str, tmp_path: Path) -> None:
    assert "NotFound" in run("du", store, "nowhere", code=3)
    assert "NotFound" in run("du", store, "--since", "latest~9", code=3)
    assert "depth" in run("du", store, "--depth", "-1", code=2)
    assert "LocalIo" in run("du", store, "--html", str(tmp_path / "no/such/place.html"), code=10)
    nbws.Workspace.open(file_url + "-2", create=True)
    assert "NotFound" in run("du", file_url + "-2", code=3)


@given(share=st.floats(0, 1), width=st.integers(0, 40), blocks=st.booleans())
def test_bars_have_their_width(share: float, width: int, blocks: bool) -> None:
    drawn = bar(share, width, blocks=blocks)
    assert len(drawn) == max(width, len(drawn.strip()))
    assert len(drawn) <= max(width, 1)
    assert drawn.strip(" .") or share == 0


@given(text=st.text(), width=st.integers(0, 30), blocks=st.booleans())
def test_shortened_text_fits(text: str, width: int, blocks: bool) -> None:
    found = shortened(text, width, blocks=blocks)
    assert width_of(found) <= width
    assert found == text or width_of(text) > width


@given(
    rows=st.lists(
        st.builds(
            Row, st.tuples(*[st.text("0123456789 KMB", max_size=9)] * 4), st.floats(0, 1), st.text(), st.integers(0, 9)
        ),
        max_size=6,
    ),
    width=st.integers(50, 200),
)
def test_no_line_is_wider_than_the_terminal(rows: list[Row], width: int) -> None:
    for line in lines(("a", "b", "c", "d", "path"), rows, width, blocks=True):
        assert width_of(line) <= width
        assert "\n" not in line or any("\n" in row.name for row in rows)


def test_what_an_output_can_carry() -> None:
    assert can_draw("utf-8")
    assert not can_draw("ascii")
    assert not can_draw("no-such-encoding")
    assert not can_draw(None)
