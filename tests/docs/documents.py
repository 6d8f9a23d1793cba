"""The Markdown files of the repository: their blocks of code, links and headings.

What a test must know of a block stands in a comment before it, which readers do not see:

- `<!-- not run: REASON -->`: the block can't run in a test.
- `<!-- setup` ... `-->`: commands that run at this place and are not shown.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ["*.md", "docs/**/*.md"]

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_SETUP = re.compile(r"<!-- setup\n(.+)-->", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code, or a setup."""

    language: str
    text: str
    line: int
    not_run: str | None = None


class Document:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self._tokens = MarkdownIt("commonmark").enable("table").parse(self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        return list(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        before: Token | None = None
        for token in self._tokens:
            line = token.map[0] + 1 if token.map else 0
            if token.type == "html_block" and (setup := _SETUP.match(token.content)):
                yield Block("sh", setup[1], line)
            elif token.type in {"fence", "code_block"}:
                reason = _NOT_RUN.match(before.content) if before and before.type == "html_block" else None
                yield Block(token.info.strip(), token.content, line, reason[1] if reason else None)
            before = token

    @property
    def links(self) -> list[str]:
        """Where links and images lead to, as written."""
        inline = [child for token in self._tokens for child in token.children or ()]
        return [str(token.attrs[name]) for token in inline for name in ("href", "src") if name in token.attrs]

    @property
    def anchors(self) -> set[str]:
        """What links may lead to within the document."""
        opened = (i for i, token in enumerate(self._tokens) if token.type == "heading_open")
        return {_anchor(self._tokens[i + 1].content) for i in opened}


def _anchor(heading: str) -> str:
    words = re.sub(r"[^\w\- ]", "", heading.lower())
    return words.strip().replace(" ", "-")


def documents() -> list[Document]:
    return [Document(path) for path in sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})]
