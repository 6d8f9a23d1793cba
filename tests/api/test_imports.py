"""What start-up may load: `import nbws` runs in every notebook, `nbws` on every start of a container."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Of nbws and click by full name or package, of the standard library by top-level name; private modules go with their public ones.
IMPORT = {
    "nbws",
    *(
        "collections",
        "contextlib",
        "copyreg",
        "enum",
        "functools",
        "importlib",
        "itertools",
        "keyword",
        "operator",
        "re",
    ),
    *("reprlib", "types", "typing", "warnings"),
}
VERSION = {
    *IMPORT,
    *("nbws.cli", "nbws.cli.main", "nbws.errors", "click"),
    *("ast", "dis", "inspect", "linecache", "opcode", "token", "tokenize", "weakref"),
    *("datetime", "errno", "gettext", "json", "locale", "math", "string", "struct", "textwrap", "threading", "uuid"),
    *("nbws._nbws", "fnmatch", "ntpath", "pathlib", "platform", "urllib"),
}

SHOW = """
import sys
before = set(sys.modules)
{code}
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
RUN_VERSION = """
from nbws.cli.main import main
try:
    main(["--version"])
except SystemExit as end:
    assert end.code == 0
"""


def loaded(code: str) -> set[str]:
    """What a fresh interpreter loads beyond its own start."""
    result = subprocess.run(
        [sys.executable, "-c", SHOW.format(code=code)], capture_output=True, text=True, check=True, timeout=60
    )
    names = result.stderr.split()
    return {name if name.startswith("nbws") else name.split(".")[0] for name in names if not name.startswith("_")}


@pytest.mark.parametrize(
    ("code", "allowed"), [("import nbws", IMPORT), (RUN_VERSION, VERSION)], ids=["import", "version"]
)
def test_start_up_loads_nothing_new(code: str, allowed: set[str]) -> None:
    found = loaded(code)
    assert "nbws" in found
    assert sorted(found - allowed) == []


def test_a_command_loads_only_its_own_module() -> None:
    found = loaded(
        "from nbws.cli.main import cli\nimport click\nassert cli.get_command(click.Context(cli), 'save').name == 'save'"
    )
    assert {"nbws.cli.save", "nbws.cli.output"} <= found
    assert not found & {"nbws.cli.demo", "nbws.cli.contents", "nbws._nbws", "nbws.workspace", "tqdm", "fsspec"}
