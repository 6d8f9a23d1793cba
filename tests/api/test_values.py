"""Values without an engine: errors, sizes, reports, progress, names of snapshots."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbws import errors, reports
from nbws.config import parse_size
from nbws.progress import Progress, sink_for


@pytest.mark.parametrize("kind", errors.KINDS.values(), ids=errors.KINDS)
def test_errors_carry_what_a_caller_needs(kind: type[errors.NbwsError]) -> None:
    error = kind("it broke", operation="save", path="a/b", rescue="00ff", os_error=28)
    assert (str(error), error.operation, error.path, error.rescue) == ("it broke", "save", "a/b", "00ff")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert twin.to_dict() == error.to_dict()
        assert twin.os_error == 28
    if isinstance(error, OSError):
        assert (error.errno, error.filename, error.strerror) == (28, "a/b", "it broke")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.NotFound, FileNotFoundError),
        (errors.AlreadyExists, FileExistsError),
        (errors.InvalidInput, ValueError),
        (errors.InvalidState, RuntimeError),
        (errors.Unavailable, ConnectionError),
        (errors.Denied, PermissionError),
        (errors.LocalIo, OSError),
    ],
)
def test_errors_are_builtins_too(kind: type[errors.NbwsError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise kind("x")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("0", 0),
        ("17", 17),
        ("10GiB", 10 << 30),
        ("10GB", 10 * 10**9),
        ("10 gib", 10 << 30),
        ("1.5 KiB", 1536),
        ("3k", 3000),
        ("2MiB", 2 << 20),
        ("1Ti", 1 << 40),
        (" 5 B ", 5),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "ten", "-1", -1, "1XB", "1 2", "GiB", 2**63, "9e9", "1_000", True, 1.5, None, "٣"]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(errors.InvalidInput):
        parse_size(text)  # type: ignore[arg-type]


@given(st.integers(0, 2**62))
def test_sizes_print_in_any_magnitude(size: int) -> None:
    assert reports.format_size(size).split()[1] in ("B", "KiB", "MiB", "GiB", "TiB")


def test_times_become_text() -> None:
    assert reports.time_from_ms(1_795_392_000_123) == datetime(2026, 11, 23, 0, 0, 0, 123_000, tzinfo=UTC)
    assert reports.time_from_ms(None) is None


def test_progress_targets() -> None:
    seen: list[Progress] = []
    with sink_for(seen.append) as sink:
        assert sink is not None
        sink("save", 1, 2, 30, 40)
    assert seen == [Progress("save", 1, 2, 30, 40)]
    assert seen[0].fraction == 0.75
    for nothing in (None, False):
        with sink_for(nothing) as sink:
            assert sink is None
    with pytest.raises(errors.InvalidInput), sink_for("yes"):  # type: ignore[arg-type]
        pass


def test_reports_escape_names_in_html() -> None:
    report = reports.Skipped("<script>\udcff", "bad & worse")
    shown = report._repr_html_()
    assert "<script>" not in shown
    assert "bad &amp; worse" in shown
    shown.encode()
