"""Just enough of Rust's syntax to check layers: code without comments, strings and test modules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRATES = {name: ROOT / "rust" / name for name in ("core", "engine", "py")}

_TOKEN = re.compile(
    r"""
    (?P<line>//[^\n]*)
  | (?P<block>/\*.*?\*/)
  | (?P<raw>\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes))
  | (?P<text>\b[bc]?"(?:\\.|[^"\\])*"|"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^'\\])')
    """,
    re.VERBOSE | re.DOTALL,
)
_TEST_MODULE = re.compile(
    r"#\[cfg\((?:test|all\(test.*?\))\)\]\s*(?:#!?\[[^\]]*\]\s*)*(?:pub(?:\([a-z]+\))?\s+)?mod\s+\w+\s*\{"
)
_FUNCTION = re.compile(r"\bfn\s+(\w+)")


@dataclass(frozen=True)
class Source:
    """One Rust file of a crate, without its tests."""

    path: Path
    module: str
    raw: str
    code: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


def closing(code: str, opening: int) -> int:
    """Position of the brace that closes the one at ``opening``."""
    depth = 0
    for position in range(opening, len(code)):
        if code[position] == "{":
            depth += 1
        elif code[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise AssertionError("unbalanced braces")


def strip(text: str) -> str:
    """Blanks comments, string and character literals, and test modules; lines keep their numbers."""
    code = _TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    while match := _TEST_MODULE.search(code):
        end = closing(code, match.end() - 1) + 1
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def is_test(path: Path) -> bool:
    return "tests" in path.parts[path.parts.index("rust") :] or path.stem in ("tests", "testing")


@cache
def sources(crate: str) -> tuple[Source, ...]:
    """The crate's files without tests."""
    top = CRATES[crate] / "src"
    found = []
    for path in sorted(top.rglob("*.rs")):
        if is_test(path.relative_to(ROOT.parent)):
            continue
        raw = path.read_text()
        module = path.relative_to(top).parts[0].removesuffix(".rs")
        found.append(Source(path, module, raw, strip(raw)))
    assert found, f"no sources below {top}"
    return tuple(found)


def imported(code: str, root: str) -> set[str]:
    """First segments after ``root::`` anywhere in the code, braces expanded: ``crate::{a::b, c}`` gives a and c."""
    names: set[str] = set()
    for match in re.finditer(rf"(?<![\w:]){root}\s*::\s*(\{{|\w+|\*)", code):
        if match.group(1) != "{":
            names.add(match.group(1))
            continue
        inner = code[match.end() : closing(code, match.end() - 1)]
        depth = 0
        item = ""
        for char in inner + ",":
            depth += (char == "{") - (char == "}")
            if char == "," and depth == 0:
                names.add(re.split(r"\s*::\s*|\s+as\s+", item.strip())[0])
                item = ""
            else:
                item += char
    return {name for name in names if name}


def functions(code: str) -> list[tuple[str, int, int]]:
    """Every function with a body: name, first line, number of lines."""
    found = []
    for match in _FUNCTION.finditer(code):
        body = re.compile(r"[{;]").search(code, _after_signature(code, match.end()))
        if body is None or body.group() == ";":
            continue
        first = code.count("\n", 0, match.start()) + 1
        last = code.count("\n", 0, closing(code, body.start())) + 1
        found.append((match.group(1), first, last - first + 1))
    return found


def _after_signature(code: str, position: int) -> int:
    """Skips generics and parameters, which may hold braces or semicolons (``[u8; 4]``)."""
    opening = code.index("(", position)
    depth = 0
    for at in range(opening, len(code)):
        depth += (code[at] in "([") - (code[at] in ")]")
        if depth == 0:
            break
    rest = code[at + 1 :]
    # An array in the return type holds a semicolon too.
    arrow = re.match(r"\s*->\s*", rest)
    if not arrow:
        return at + 1
    depth = 0
    for offset, char in enumerate(rest):
        depth += (char in "([") - (char in ")]")
        if depth == 0 and char in "{;":
            return at + 1 + offset
    return at + 1
