"""Workspaces with things that can be cleaned, and listings that show every change."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, Any

from nbws import cleaning

if TYPE_CHECKING:
    from pathlib import Path

    from nbws.cleaning import CleaningPlan

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n"
HASH = "5C2ESP4XEHMXO2BWH3OULDU3BYJPCF2QPWBLAZMMGOCZKRMO4YXA"


def core(kind: int = 4, order: str = "<") -> bytes:
    """The beginning of an ELF file of a kind; 4 is a core dump."""
    return (
        b"\x7fELF\x02"
        + (b"\x01" if order == "<" else b"\x02")
        + bytes(10)
        + struct.pack(f"{order}H", kind)
        + bytes(100)
    )


def swap(*, unsaved: bool = False, pid: int = 0, host: bytes = b"") -> bytes:
    """The first block of a swap file of Vim."""
    block = bytearray(4096)
    block[:12] = b"b0VIM 9.0\0\0\0"
    block[24:28] = pid.to_bytes(4, "little")
    block[68 : 68 + len(host)] = host
    block[108:120] = b"~/thesis.tex"
    block[1007] = 0x55 if unsaved else 0
    return bytes(block)


# What is found of each entry of the catalogue, as its program lays it out: entry, files, paths of the plan.
KINDS: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "pip": (
        {".cache/pip/http-v2/a/b/c/d/e/abcde": b"x" * 9000, ".cache/pip/selfcheck/1f": b"{}"},
        [".cache/pip"],
    ),
    "uv": (
        {".cache/uv/CACHEDIR.TAG": TAG, ".cache/uv/archive-v0/x1/numpy/core.py": b"1", ".cache/uv/sdists-v9/.git": b""},
        [".cache/uv"],
    ),
    "conda": (
        {
            ".conda/pkgs/urls.txt": b"https://conda.anaconda.org/conda-forge/noarch/six.conda\n",
            ".conda/pkgs/six-1.16-pyh/info/index.json": b"{}",
            ".conda/pkgs/six-1.16-pyh.conda": b"PK",
        },
        [".conda/pkgs/six-1.16-pyh", ".conda/pkgs/six-1.16-pyh.conda"],
    ),
    "npm": (
        {".npm/_cacache/content-v2/sha512/ab/cd/ef": b"x", ".npm/_cacache/index-v5/ab/cd": b"y"},
        [".npm/_cacache"],
    ),
    "npm-logs": ({".npm/_logs/2026-11-22T20_58_27_290Z-debug-0.log": b"0 verbose"}, [".npm/_logs"]),
    "yarn": ({".cache/yarn/v6/npm-left-pad-1.3.0/package.json": b"{}"}, [".cache/yarn/v6"]),
    "pnpm": ({".local/share/pnpm/store/v10/files/00/abc": b"x"}, [".local/share/pnpm/store"]),
    "go-build": ({".cache/go-build/README": b"This directory", ".cache/go-build/0a/0a12-d": b"x"}, [".cache/go-build"]),
    "go-modules": ({"go/pkg/mod/cache/download/x": b"x", "go/pkg/mod/golang.org/x/sys/a.go": b"x"}, ["go/pkg/mod"]),
    "cargo": (
        {".cargo/registry/CACHEDIR.TAG": TAG, ".cargo/registry/index/x": b"x", ".cargo/git/db/x/HEAD": b"x"},
        [".cargo/git", ".cargo/registry"],
    ),
    "r-pkgcache": ({".cache/R/pkgcache/pkg/x.tgz": b"x", ".cache/R/pkgcache/pkg.lock": b""}, [".cache/R/pkgcache"]),
    "ccache": ({".cache/ccache/CACHEDIR.TAG": TAG, ".cache/ccache/a/stats": b"0"}, [".cache/ccache"]),
    "huggingface": (
        {
            ".cache/huggingface/hub/models--org--m/blobs/ab12": b"w" * 20000,
            ".cache/huggingface/hub/models--org--m/refs/main": b"ab12",
        },
        [".cache/huggingface/hub/models--org--m"],
    ),
    "huggingface-xet": (
        {
            ".cache/huggingface/xet/https-x/chunk_cache/aa/x": b"x",
            ".cache/huggingface/xet/https-x/staging/u": b"upload",
        },
        [".cache/huggingface/xet/https-x/chunk_cache"],
    ),
    "torch-hub": ({".cache/torch/hub/pytorch_vision_main/hubconf.py": b"x"}, [".cache/torch/hub/pytorch_vision_main"]),
    "torch-weights": (
        {".cache/torch/hub/checkpoints/resnet18-5c106cde.pth": b"PK\x03\x04" + b"w" * 100},
        [".cache/torch/hub/checkpoints/resnet18-5c106cde.pth"],
    ),
    "cuda": ({".nv/ComputeCache/index": b"x", ".nv/ComputeCache/4/d/k": b"x"}, [".nv/ComputeCache"]),
    "triton": ({f".triton/cache/{HASH}/kernel.cubin": b"x"}, [".triton/cache"]),
    "pycache": (
        {"src/__pycache__/a.cpython-311.pyc": b"x", "src/__pycache__/a.f-1.py311.nbi": b"x"},
        ["src/__pycache__"],
    ),
    "pytest": ({".pytest_cache/CACHEDIR.TAG": TAG, ".pytest_cache/v/cache/nodeids": b"[]"}, [".pytest_cache"]),
    "mypy": ({".mypy_cache/CACHEDIR.TAG": TAG, ".mypy_cache/3.11/a.meta.json": b"{}"}, [".mypy_cache"]),
    "ruff": ({"p/.ruff_cache/CACHEDIR.TAG": TAG, "p/.ruff_cache/0.17.6/123": b"x"}, ["p/.ruff_cache"]),
    "matplotlib": ({".cache/matplotlib/fontlist-v3.11.0.json": b"{}"}, [".cache/matplotlib"]),
    "fontconfig": (
        {".cache/fontconfig/0a-le64.cache-9": b"x", ".cache/fontconfig/CACHEDIR.TAG": TAG},
        [".cache/fontconfig"],
    ),
    "thumbnails": ({".cache/thumbnails/large/0a.png": b"x"}, [".cache/thumbnails"]),
    "vscode-server": (
        {
            ".vscode-server/data/CachedExtensionVSIXs/ms.py-1": b"x",
            ".vscode-server/data/logs/2026/a.log": b"x",
            ".vscode-server/data/User/settings.json": b"{}",
        },
        [".vscode-server/data/CachedExtensionVSIXs", ".vscode-server/data/logs"],
    ),
    "vim-swap": ({"text/.thesis.tex.swp": swap()}, ["text/.thesis.tex.swp"]),
    "checkpoints": (
        {"a.ipynb": b"{}", ".ipynb_checkpoints/a-checkpoint.ipynb": b"{}"},
        [".ipynb_checkpoints/a-checkpoint.ipynb"],
    ),
    "trash": (
        {".local/share/Trash/files/old.csv": b"x" * 5000, ".local/share/Trash/info/old.csv.trashinfo": b"[Trash Info]"},
        [".local/share/Trash"],
    ),
    "core-dumps": ({"core.4711": core(), "run/core": core(order=">")}, ["core.4711", "run/core"]),
    "kernel-crashes": (
        {".ipython/Crash_report_ipython.txt": b"*" * 75 + b"\n\nIPython post-mortem report\n\n"},
        [".ipython/Crash_report_ipython.txt"],
    ),
    "jvm-crashes": (
        {"hs_err_pid12.log": b"#\n# A fatal error has been detected by the Java Runtime Environment:\n"},
        ["hs_err_pid12.log"],
    ),
}

# What is a user's own, and must be there as it was after everything.
OWN: dict[str, bytes] = {
    ".workspace.initialized": b'{"notebook": "x"}',
    ".nbwsignore": b"*.tmp\n",
    "notebook.ipynb": b'{"cells": []}',
    "src/a.py": b"print(1)\n",
    "core/model.py": b"class Core: ...\n",
    "data/cache/pip/table.csv": b"1,2\n",
    ".config/pip/pip.conf": b"[global]\n",
    ".jupyter/jupyter_server_config.py": b"c = get_config()\n",
    ".local/share/jupyter/kernels/py/kernel.json": b"{}",
    ".ssh/id_ed25519": b"secret",
    ".cache/huggingface/token": b"hf_secret",
    ".cargo/credentials.toml": b"secret",
    "venv/pyvenv.cfg": b"home = /usr\n",
    "venv/lib/a.py": b"x = 1\n",
}


class CleanWorkspace:
    """A workspace that is its user's home directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.environment = {"HOME": str(path)}

    def write(self, name: str, content: bytes = b"x", *, age_s: float = 0.0) -> Path:
        """Writes a file, last modified so long ago."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if age_s:
            then = path.stat().st_mtime - age_s
            os.utime(path, (then, then))
        return path

    def fill(self, *kinds: str, own: bool = True, age_s: float = 0.0) -> None:
        """Writes what the catalogue's entries of these names find, or all of them, and what is the user's own."""
        for kind in kinds or KINDS:
            for name, content in KINDS[kind][0].items():
                self.write(name, content, age_s=age_s)
        if own:
            for name, content in OWN.items():
                self.write(name, content, age_s=age_s)

    def plan(self, **options: Any) -> CleaningPlan:
        return cleaning.plan(self.path, **{"environment": self.environment, **options})

    def listing(self) -> dict[bytes, tuple[Any, ...]]:
        """Everything that is there."""
        return listing(self.path)


def listing(directory: Path) -> dict[bytes, tuple[Any, ...]]:
    """Every entry below a directory, with all that a change would show in but for times of access and directories' times."""
    found: dict[bytes, tuple[Any, ...]] = {}
    pending = [os.fsencode(directory)]
    while pending:
        here = pending.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                path = os.path.relpath(entry.path, os.fsencode(directory))
                info = entry.stat(follow_symlinks=False)
                content: Any = None
                if stat.S_ISREG(info.st_mode):
                    with open(entry.path, "rb") as file:
                        content = file.read()
                elif stat.S_ISLNK(info.st_mode):
                    content = os.readlink(entry.path)
                is_directory = stat.S_ISDIR(info.st_mode)
                times = () if is_directory else (info.st_mtime_ns,)
                found[path] = (info.st_dev, info.st_ino, info.st_mode, info.st_uid, info.st_gid, content, *times)
                if is_directory:
                    pending.append(entry.path)
    return found


def covered(path: bytes, paths: list[str]) -> bool:
    """Whether a path is one of these or lies below one."""
    whole = [os.fsencode(name) for name in paths]
    return any(path == name or path.startswith(name + b"/") for name in whole)
