"""Trees drawn by hypothesis: odd names, modes, nanoseconds, links, holes, xattrs, empty directories."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from nbws.testing.trees import Dir, File, Hardlink, Node, Symlink, Tree

__all__ = ["contents", "file_nodes", "mtimes", "names", "trees"]

_NAME_MAX = 255
_MAX_NAMES = 12
_LARGE = 200_000

_ODD_NAMES = [
    b" ",
    b"-rf",
    b"...",
    b"~",
    b"a\nb",
    b"tab\there",
    b"\xff\xfe not utf-8",
    b"\x1b[31mred",
    b"\xe2\x80\xae reversed",
    b"e\xcc\x81 decomposed",
    b"\xc3\xa9 composed",
    b"CON",
    b"#1",
    b"%2F",
    b"*?[]!",
    b"\\",
    b"'\"$`",
    b"x" * _NAME_MAX,
    b"\xf0\x9f\x90\xa6" * 63,
]


def names() -> st.SearchStrategy[bytes]:
    """File names of 1 to 255 bytes: plain ones, odd ones and arbitrary bytes; never ``.``, ``..`` or with ``/``."""
    plain = st.text("abcdefgh.-_0123456789", min_size=1, max_size=12).map(str.encode)
    arbitrary = st.binary(min_size=1, max_size=24).map(lambda b: b.replace(b"/", b"_").replace(b"\0", b"_"))
    return st.one_of(plain, plain, st.sampled_from(_ODD_NAMES), arbitrary).filter(_storable)


def _storable(name: bytes) -> bool:
    # The names that nbws keeps for itself are never stored; .nbwsignore would change what is.
    return name not in (
        b".",
        b"..",
        b".nbws-restoring",
        b".nbwsignore",
        b"CACHEDIR.TAG",
    ) and not name.startswith(b".nbws-tmp-")


def mtimes() -> st.SearchStrategy[int]:
    """Times in nanoseconds: 1970 to 2106, before 1970, and with every nanosecond counting."""
    return st.one_of(
        st.integers(0, 2**32 * 10**9 - 1),
        st.integers(-(2**31) * 10**9, -1),
        st.sampled_from([0, 1, 999_999_999, 1_700_000_000_000_000_001]),
    )


def contents() -> st.SearchStrategy[bytes]:
    """Contents: empty, short, repetitive, and some beyond the size at which files are cut by content."""
    seeded = st.tuples(st.integers(0, 2**32), st.integers(1, _LARGE)).map(
        lambda pair: random.Random(pair[0]).randbytes(pair[1])
    )
    repeated = st.tuples(st.binary(min_size=1, max_size=64), st.integers(1, 4_000)).map(lambda pair: pair[0] * pair[1])
    return st.one_of(st.just(b""), st.binary(max_size=200), repeated, seeded)


def _xattrs() -> st.SearchStrategy[dict[str, bytes]]:
    keys = st.text("abcxyz._0189", min_size=1, max_size=20).map(lambda text: "user." + text)
    return st.dictionaries(keys, st.binary(max_size=100), max_size=3)


def _modes() -> st.SearchStrategy[int]:
    # Owner may read: what nobody can read is a test of its own. Set-id bits need ownership that a restore may lack.
    return st.integers(0, 0o777).map(lambda mode: mode | 0o600)


@st.composite
def _sparse(draw: st.DrawFn) -> tuple[dict[int, bytes], int]:
    pieces = draw(st.lists(st.tuples(st.integers(0, 3 * _LARGE), st.binary(min_size=1, max_size=500)), max_size=3))
    placed: dict[int, bytes] = {}
    end = 0
    for offset, content in sorted(pieces):
        start = max(offset, end)
        placed[start] = content
        end = start + len(content)
    return placed, end + draw(st.sampled_from([0, 1, 4_096, _LARGE]))


@st.composite
def file_nodes(draw: st.DrawFn, *, xattrs: bool = True, sparse: bool = True) -> File:
    """Files with content or holes, any mode their owner can read, any mtime."""
    values = draw(_xattrs()) if xattrs else {}
    mode, mtime_ns = draw(_modes()), draw(mtimes())
    if sparse and draw(st.integers(0, 4)) == 0:
        placed, size = draw(_sparse())
        return File(placed, size, mode, mtime_ns, values)
    return File.of(draw(contents()), mode=mode, mtime_ns=mtime_ns, xattrs=values)


@st.composite
def trees(draw: st.DrawFn, *, xattrs: bool = True, sparse: bool = True, hard_links: bool = True) -> Tree:
    """Whole trees of a few dozen entries at most, with every parent listed."""
    directories = [b""]
    tree: dict[bytes, Node] = {}
    kinds = ["file", "file", "file", "directory", "symlink", "link"]
    for name in draw(st.lists(names(), max_size=_MAX_NAMES, unique=True)):
        parent = draw(st.sampled_from(directories))
        path = parent + b"/" + name if parent else name
        files = [known for known, node in tree.items() if isinstance(node, File)]
        kind = draw(st.sampled_from(kinds))
        if kind == "directory":
            tree[path] = Dir(draw(_modes()) | 0o700, draw(mtimes()), draw(_xattrs()) if xattrs else {})
            directories.append(path)
        elif kind == "symlink":
            target = draw(st.one_of(names(), st.just(b"/absolute"), st.just(b"../up"), st.just(b"")))
            tree[path] = Symlink(target or b".", draw(mtimes()))
        elif kind == "link" and hard_links and files:
            tree[path] = Hardlink(draw(st.sampled_from(files)))
        else:
            tree[path] = draw(file_nodes(xattrs=xattrs, sparse=sparse))
    return tree
