"""Who may import whom in Python, and that importing the package loads nothing it does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "nbws"

MAY_IMPORT_ENGINE = {
    "nbws.accounts",
    "nbws.files",
    "nbws.log",
    "nbws.pruning",
    "nbws.snapshot",
    "nbws.store",
    "nbws.upkeep",
    "nbws.workspace",
    "nbws.backups",
    "nbws.costs",
    "nbws.limits",
    "nbws.notebook",
    "nbws.notebooks",
    "nbws.purging",
    "nbws.aftercare",
    "nbws.session",
    "nbws.starting",
}
PURE = {
    "nbws.entries",
    "nbws.naming",
    "nbws.rendering",
    "nbws.values",
    "nbws.reports",
    "nbws.usage",
    "nbws.treemap",
    "nbws.treemap_svg",
    "nbws.usage_page",
    "nbws.errors",
    "nbws.config",
    "nbws.run_config",
    "nbws.billing",
    "nbws.billing.charges",
    "nbws.billing.forecast",
    "nbws.billing.invoice",
    "nbws.billing.tariff",
    "nbws.billing.timeline",
    "nbws.lifecycle",
    "nbws.quota",
    "nbws.retention",
}
PURE_STANDARD = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "html",
    "itertools",
    "math",
    "re",
    "tomllib",
    "typing",
}
# Pure but for tables of Arrow, which they hand on when asked: what may be imported by pure modules, and why.
TABLES = {("nbws.billing.timeline", "nbws.listing"), ("nbws.billing.timeline", "arro3.core")}
READER_MAY_IMPORT = {"blake3", "zstandard"}

# (importer, imported): why it may.
EXCEPTIONS = {
    ("nbws.cli.demo", "nbws.testing.trees"): "the demo proves that two trees are equal with the tests' own comparison",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Full names of the modules that a module imports anywhere; ``from nbws import x`` counts as ``nbws.x``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{module}: star import"
            if node.module == "nbws":
                found |= {f"nbws.{alias.name}" for alias in node.names}
            else:
                found.add(str(node.module))
    return found


def below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", MODULES)
def test_layers(module: str) -> None:
    for name in imports(module):
        if (module, name) in EXCEPTIONS:
            continue
        if name == "nbws._nbws":
            assert module in MAY_IMPORT_ENGINE, f"{module} imports the extension"
        if below(name, "nbws.cli"):
            assert below(module, "nbws.cli"), f"{module} imports the command line"
        if below(name, "nbws.testing"):
            assert below(module, "nbws.testing"), f"{module} imports the test helpers"
        if below(name, "click"):
            assert below(module, "nbws.cli"), f"{module} imports click"


@pytest.mark.parametrize("module", sorted(PURE & MODULES.keys()))
def test_pure_modules_do_no_io(module: str) -> None:
    for name in imports(module):
        if (module, name) not in TABLES:
            assert name.split(".")[0] in PURE_STANDARD or name in PURE, f"{module} imports {name}"


def test_reader_stands_alone() -> None:
    third = {name.split(".")[0] for name in imports("nbws.reader")} - sys.stdlib_module_names
    assert third <= READER_MAY_IMPORT


def test_exceptions_are_needed() -> None:
    for module, name in {*EXCEPTIONS, *TABLES}:
        assert name in imports(module), f"{module} no longer imports {name}: drop its exception"


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import nbws", "import nbws.reports", "import nbws.errors", "import nbws.reader"]
)
def test_importing_loads_no_extension(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "nbws._nbws" not in loaded
    assert not loaded & {"click", "tqdm", "hypothesis", "nbws.workspace"}


def test_the_command_line_loads_no_extension_before_it_needs_one() -> None:
    loaded = loaded_by("import nbws.cli.main")
    assert not loaded & {"nbws._nbws", "tqdm", "hypothesis", "IPython"}


def test_importing_the_extension_starts_no_thread() -> None:
    code = "import os, nbws._nbws; print(len(os.listdir('/proc/self/task')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"
