"""The page on the life of a notebook is what the table in the core says."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from documents import ROOT
from nbws import _nbws
from nbws.lifecycle import STATES

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = ROOT / "docs" / "site" / "lifecycle.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lifecycle_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    written = script()
    table = written.rows()
    assert written.PAGE.read_text() == written.page(table), "run make lifecycle"
    assert written.DIAGRAM.read_text() == written.diagram(table), "run make lifecycle"


def test_the_page_changes_with_the_table() -> None:
    written = script()
    table = written.rows()
    page = written.page(table)
    for step, before, after, cause in table:
        assert f"| {step} | {before} | {after} | {cause} |" in page
    assert written.page([row for row in table if row[0] != "purge"]) != page
    assert written.diagram([row for row in table if row[1:3] != ("RUNNING", "RESTARTING")]) != written.diagram(table)


def test_the_diagram_shows_every_state() -> None:
    root = ET.fromstring((ROOT / "docs" / "lifecycle.svg").read_text())
    words = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert set(STATES) <= words
    assert {"/workspace", "/data", "object store"} <= words


def test_every_row_has_a_cause() -> None:
    causes = [cause for *_, cause in _nbws.transitions()]
    assert all(cause.strip() for cause in causes)
