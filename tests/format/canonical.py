"""Whether a snapshot has the one encoding that docs/format.md gives its tree: segments, nodes and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_writer import Node, cut_lists, cut_nodes, cut_segments, digest, encode_runs, varint

if TYPE_CHECKING:
    from nbws import reader


def check_encoding(repository: reader.Repository, root: reader.SnapshotRoot) -> None:
    """Encodes what the reader read once more, with mini_writer, and compares the ids of all tree chunks."""
    nodes: list[Node] = []
    bodies: dict[bytes, tuple[int, bytes]] = {}
    for entry in repository.entries(root):
        runs = [(run.id, run.length, run.count) for run in repository.runs(entry)]
        content = varint(len(runs)) + encode_runs(runs) if runs else b""
        if entry.content.lists:
            lists = cut_lists(runs)
            assert [digest(each) for each in lists] == [chunk for chunk, _ in entry.content.lists], entry.path
            refs = b"".join(digest(each) + varint(len(each)) for each in lists)
            content = b"\0" + varint(len(runs)) + varint(len(lists)) + refs
        bodies[entry.path] = (entry.size, content)
        nodes.append(
            Node(
                path=entry.path,
                kind=entry.kind,
                mode=entry.mode,
                owner=(entry.uid, entry.gid),
                mtime=(entry.mtime_seconds, entry.mtime_nanos),
                holes=entry.holes,
                target=entry.target,
                xattrs=entry.xattrs,
                leader=entry.leader,
                flags=entry.stale | 2 * entry.unstable,
                size=entry.size,
                reason=entry.reason,
            )
        )
    segments = cut_segments(nodes, bodies)
    assert [digest(plain) for _, _, plain in segments] == [ref.id for ref in repository.segment_refs(root)]
    assert root.level == int(len(segments) > 1_024)
    top = cut_nodes(segments) if root.level else segments
    assert [(first, entries, digest(plain)) for first, entries, plain in top] == [
        (ref.first_path, ref.entries, ref.id) for ref in root.refs
    ]
