"""Links between the Markdown files lead somewhere."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from documents import Document, documents

DOCUMENTS = documents()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Document) -> None:
    broken = []
    for link in document.links:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (document.path.parent / unquote(parts.path)).resolve() if parts.path else document.path
        is_there = target.exists()
        if is_there and parts.fragment:
            is_there = parts.fragment in Document(target).anchors
        if not is_there:
            broken.append(link)
    assert broken == []
