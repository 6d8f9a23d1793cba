"""What stands in Rust and in Python says the same."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
from pathlib import Path
from typing import get_type_hints

import nbws
import pytest
from nbws import _nbws, entries, errors, lifecycle, reports, retention, usage
from nbws.cli.main import EXIT_CODES
from nbws.snapshot import Rescue, Snapshot

PACKAGE = Path(nbws.__file__).parent

# The engine's name of a report: the class that holds it in Python.
CLASSES: dict[str, list[type[reports.Report]]] = {
    "Requests": [reports.Requests],
    "Omitted": [reports.Omitted],
    "Skipped": [reports.Skipped],
    "SaveReport": [reports.SaveReport],
    "RestoreReport": [reports.RestoreReport],
    "SnapshotInfo": [Snapshot, Rescue],
    "Preview": [reports.Preview],
    "PathUsage": [usage.PathUsage],
    "CategoryUsage": [usage.CategoryUsage],
    "UsageReport": [usage.Usage],
    "PathGrowth": [usage.PathGrowth],
    "CategoryGrowth": [usage.CategoryGrowth],
    "GrowthReport": [usage.Growth],
    "Entry": [entries.Entry],
    "Changed": [entries.Changed],
    "Diff": [entries.Diff],
    "ExportReport": [entries.ExportReport],
    "Damage": [reports.Damage],
    "CheckReport": [reports.CheckReport],
    "DoctorReport": [reports.DoctorReport],
    "ForgottenSnapshot": [retention.ForgottenSnapshot],
    "PinnedSnapshot": [retention.PinnedSnapshot],
    "WaitingMark": [retention.WaitingMark],
    "Retention": [retention.Retention],
    "PruneReport": [retention.PruneReport],
    "LogEvent": [lifecycle.Event],
}
# Dicts that only this package reads.
INTERNAL = {"Claimed", "Forked", "FoundSession", "Tallied", "TargetState"}
# Engine fields that a class leaves out, and fields that it adds.
LEFT_OUT: dict[type[reports.Report], set[str]] = {
    Snapshot: {"reason", "pinned_until_ms", "eviction_ms"},
    Rescue: {"pinned_until_ms", "eviction_ms"},
}
ADDED: dict[type[reports.Report], set[str]] = {
    Snapshot: {"pinned", "eviction_date"},
    reports.Preview: {"cost"},
    usage.Usage: {"dedup_ratio", "compression_ratio"},
}


def test_error_kinds() -> None:
    engine = dict(_nbws.error_kinds())
    assert list(errors.KINDS) == list(engine)
    for name, kind in errors.KINDS.items():
        assert kind.kind == kind.__name__ == name
        assert kind.retryable == engine[name]
        assert issubclass(kind, errors.NbwsError)


def test_every_error_kind_has_an_exit_code() -> None:
    assert set(EXIT_CODES) == set(errors.KINDS)


def test_every_error_class_is_public() -> None:
    assert set(errors.__all__) == {"KINDS", "NbwsError", *errors.KINDS}


def test_report_fields() -> None:
    engine = dict(_nbws.report_fields())
    assert set(engine) == {*CLASSES, *INTERNAL}
    for name, classes in CLASSES.items():
        for cls in classes:
            mine = [field.name for field in dataclasses.fields(cls)]
            expected = [field.removesuffix("_ms") for field in engine[name] if field not in LEFT_OUT.get(cls, set())]
            assert [field for field in mine if field not in ADDED.get(cls, set())] == expected, cls


def test_version() -> None:
    assert nbws.__version__ == _nbws.__version__ == importlib.metadata.version("nbws")


def test_every_public_name_is_there() -> None:
    for name in nbws.__all__:
        assert getattr(nbws, name) is not None
    assert set(nbws.__all__) <= set(dir(nbws))


def test_the_stub_names_what_the_extension_has() -> None:
    stub = ast.parse((PACKAGE / "_nbws.pyi").read_text())
    declared = {node.name for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    declared |= {
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    actual = {name for name in dir(_nbws) if not name.startswith("__") or name == "__version__"}
    assert declared == actual


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("cls", [cls for kinds in CLASSES.values() for cls in kinds])
def test_types_of_fields_can_be_looked_up(cls: type[reports.Report]) -> None:
    hints = get_type_hints(cls)
    assert {field.name for field in dataclasses.fields(cls)} <= set(hints)
