"""Who may import whom in Rust: the rules of docs/architecture.md, section "Layers"."""

from __future__ import annotations

import re
import tomllib
from itertools import combinations
from typing import Any

import pytest
from rust_sources import CRATES, ROOT, imported, sources

CORE_GROUPS = [
    {"error", "limits", "id"},
    {"key", "path", "header", "wire", "canonical"},
    {
        "chunker",
        "codec",
        "format",
        "frame",
        "index",
        "ledger",
        "pack",
        "record",
        "snapshot",
        "state",
        "tree",
    },
    {"filter", "diff", "lifecycle"},
    {"plan"},
]
RANK = {module: rank for rank, group in enumerate(CORE_GROUPS) for module in group}

# What the ports may know of the engine besides core values.
STORE_MAY_IMPORT = {"store", "cancel", "clock", "random"}
LOCAL_MAY_IMPORT = {"local", "cancel", "clock", "random"}

# (rule, file): why it may.
EXCEPTIONS = {
    (
        "file system",
        "rust/engine/src/store/file.rs",
    ): "the embedded store makes its directory durably, which object_store does not",
}


def core_imports() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source in sources("core"):
        names = imported(source.code, "crate")
        if source.path.parent.name == "src":
            names |= imported(source.code, "super")
        # Names that lib.rs re-exports come from `error`.
        names = {"error" if name in ("Error", "ErrorKind", "Result") else name for name in names}
        found.setdefault(source.module, set()).update(names - {source.module})
    return found


def manifest(crate: str) -> dict[str, Any]:
    return tomllib.loads((CRATES[crate] / "Cargo.toml").read_text())


def test_every_core_module_has_a_group() -> None:
    assert {source.module for source in sources("core")} - {"lib"} == set(RANK)


def test_core_groups_import_only_leftward() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in core_imports().items()
        for name in names
        if module != "lib" and RANK[name] > RANK[module]
    ]
    assert not wrong


def test_core_has_no_mutual_pair() -> None:
    found = core_imports()
    pairs = [(a, b) for a, b in combinations(sorted(RANK), 2) if b in found.get(a, ()) and a in found.get(b, ())]
    assert not pairs


@pytest.mark.parametrize("banned", ["tokio", "object_store", "pyo3", "rustix", "getrandom", "tracing", "async-trait"])
def test_core_manifest_is_pure(banned: str) -> None:
    assert banned not in manifest("core")["dependencies"]


def test_core_clippy_bans_files_and_clocks() -> None:
    settings = tomllib.loads((CRATES["core"] / "clippy.toml").read_text())
    banned = {item["path"] for key in ("disallowed-types", "disallowed-methods") for item in settings[key]}
    assert {
        "std::fs::File",
        "std::fs::read",
        "std::fs::write",
        "std::time::SystemTime::now",
        "std::time::Instant::now",
    } <= banned


@pytest.mark.parametrize(
    "word", ["std::fs", "std::net", "SystemTime", "Instant", "std::env", "std::thread", "async fn"]
)
def test_core_code_is_pure(word: str) -> None:
    assert [s.name for s in sources("core") if re.search(rf"\b{word}\b", s.code)] == []


def test_engine_manifest_has_no_pyo3() -> None:
    names = manifest("engine")["dependencies"]
    assert not [name for name in names if "pyo3" in name]


def engine_imports(module: str) -> set[str]:
    names: set[str] = set()
    for source in sources("engine"):
        if source.module == module:
            names |= imported(source.code, "crate")
    return names


def test_store_knows_core_values_only() -> None:
    assert engine_imports("store") <= STORE_MAY_IMPORT


def test_local_knows_core_values_only() -> None:
    assert engine_imports("local") <= LOCAL_MAY_IMPORT


def test_log_does_not_know_the_local_tree() -> None:
    assert "local" not in engine_imports("log")


@pytest.mark.parametrize("module", ["base", "session", "log", "store", "local"])
def test_nobody_below_calls_a_verb(module: str) -> None:
    verbs = {"save", "restore", "check", "browse", "usage", "rescue", "prune", "preview", "export", "fork", "purge"}
    assert not engine_imports(module) & verbs


def test_only_store_names_object_store() -> None:
    assert {s.module for s in sources("engine") if "object_store" in s.code} <= {"store"}


def test_only_local_names_the_file_system() -> None:
    named = [
        s.name
        for s in sources("engine")
        if s.module != "local" and re.search(r"\bstd::fs\b|\brustix::fs\b|\bstd::os::unix::fs\b|\btokio::fs\b", s.code)
    ]
    assert [name for name in named if ("file system", name) not in EXCEPTIONS] == []


def test_only_the_clock_asks_the_time() -> None:
    assert {s.module for s in sources("engine") if re.search(r"\b(SystemTime|Instant)\b", s.code)} <= {"clock"}


def test_binding_uses_only_the_engines_public_surface() -> None:
    names = manifest("py")["dependencies"]
    assert set(names) <= {"nbws-engine", "pyo3", "pyo3-object_store", "pyo3-async-runtimes", "tokio"}
    for source in sources("py"):
        assert not re.search(r"\bnbws_core\b|\bobject_store\b|\brustix\b|\bstd::fs\b", source.code), source.name


@pytest.mark.parametrize("crate", CRATES)
def test_no_glob_imports(crate: str) -> None:
    wrong = [
        f"{source.name}: {match.group().strip()}"
        for source in sources(crate)
        for match in re.finditer(r"\buse\s[^;]*\*[^;]*;", source.code)
    ]
    assert not wrong


@pytest.mark.parametrize("crate", ["core", "engine"])
def test_unsafe_is_forbidden(crate: str) -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["lints"]["rust"]
    assert workspace["unsafe_code"] == "forbid"
    assert manifest(crate)["lints"] == {"workspace": True}
    assert [s.name for s in sources(crate) if re.search(r"\bunsafe\b", s.code)] == []


def test_exceptions_are_needed() -> None:
    for _, name in EXCEPTIONS:
        assert (ROOT / name).is_file(), f"{name} is gone: drop its exception"
