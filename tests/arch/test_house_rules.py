"""House rules: short files and functions, words that say something, nothing unfinished."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from rust_sources import ROOT, functions, sources

if TYPE_CHECKING:
    from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 70
BANNED = {
    "common",
    "data",
    "do",
    "handler",
    "helper",
    "helpers",
    "info",
    "manager",
    "misc",
    "process",
    "util",
    "utils",
}

# Files and functions that may be longer: why.
LONG = {
    "python/nbws/reader.py": "one file on purpose: the second reader works alone, next to a copy of the objects",
}

# Names with a banned word: why.
WORDS = {
    "ObjectInfo": "what a listing says about one object, of no further kind",
    "SnapshotInfo": "what a record says about one snapshot, without its tree",
    "info": "fsspec's own word for what is known of a path",
    "next_data": "SEEK_DATA's own word",
    "sync_data": "the standard library's word for fdatasync",
}

PYTHON = sorted((ROOT / "python").rglob("*.py"))
RUST = [source for crate in ("core", "engine", "py") for source in sources(crate)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_lines(source_code: str) -> int:
    """Lines up to the last one with code: what is blanked (tests) does not count where it ends a file."""
    return len(source_code.rstrip().splitlines())


def test_files_are_short() -> None:
    sizes = {source.name: code_lines(source.code) for source in RUST}
    sizes |= {relative(path): len(path.read_text().splitlines()) for path in PYTHON}
    long = {name: lines for name, lines in sizes.items() if lines > FILE_LINES and name not in LONG}
    assert long == {}


def python_functions(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            # A docstring is documentation, not length.
            documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
            doc = (body[0].end_lineno or 0) - body[0].lineno + 1 if documented else 0
            found.append((node.name, (node.end_lineno or 0) - node.lineno + 1 - doc))
    return found


def test_functions_are_short() -> None:
    long = [
        f"{source.name}:{line} {name} has {lines} lines"
        for source in RUST
        for name, line, lines in functions(source.code)
        if lines > FUNCTION_LINES and f"{source.name}:{name}" not in LONG
    ]
    long += [
        f"{relative(path)} {name} has {lines} lines"
        for path in PYTHON
        for name, lines in python_functions(path)
        if lines > FUNCTION_LINES and f"{relative(path)}:{name}" not in LONG
    ]
    assert long == []


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def defined_names() -> set[str]:
    names: set[str] = set()
    definition = re.compile(r"\b(?:fn|struct|enum|trait|type|mod|const|static)\s+([A-Za-z_]\w*)")
    for source in RUST:
        names |= set(definition.findall(source.code)) | {source.path.stem}
    for path in PYTHON:
        names.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
    return names


def test_names_say_something() -> None:
    assert sorted(name for name in defined_names() if words(name) & BANNED and name not in WORDS) == []


@pytest.mark.parametrize("mark", ["TODO", "FIXME", "XXX", "HACK"])
def test_nothing_is_unfinished(mark: str) -> None:
    files = [(source.name, source.raw) for source in RUST] + [(relative(path), path.read_text()) for path in PYTHON]
    assert [name for name, text in files if re.search(rf"\b{mark}\b", text)] == []


def test_exceptions_are_needed() -> None:
    for name in LONG:
        assert (ROOT / name.split(":")[0]).is_file(), f"{name} is gone: drop its exception"
    unused = set(WORDS) - defined_names()
    assert not unused, "drop these exceptions"
