//! Which parts of trees are read: those that may hold a path, and of two trees those that only one of them has.

use crate::stored_chunks::chunks;
use crate::whole_tree::check_node;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{SegmentRef, decode_node};
use std::collections::HashSet;

/// Nodes are read so many at a time: some megabytes.
const GROUP: usize = 64;

/// Parts of one tree.
pub(super) struct Parts {
    /// Nodes that were read.
    pub(super) nodes: Vec<ChunkId>,
    /// Segments, in order.
    pub(super) segments: Vec<SegmentRef>,
}

/// The parts that may hold `top` or what lies below it.
pub(super) async fn of(
    access: &Access,
    index: &Index,
    root: &SnapshotRoot,
    top: &[u8],
) -> Result<Parts> {
    let refs = touching(&root.refs, top);
    expanded(access, index, root.level, refs, top).await
}

/// The parts that only the first tree has, and those that only the second one has. What both have is not read.
pub(super) async fn differing(
    access: &Access,
    index: &Index,
    (one, other): (&SnapshotRoot, &SnapshotRoot),
    top: &[u8],
) -> Result<(Parts, Parts)> {
    let (mut left, mut right) = (touching(&one.refs, top), touching(&other.refs, top));
    if one.level == other.level {
        drop_shared(&mut left, &mut right);
    }
    let mut left = expanded(access, index, one.level, left, top).await?;
    let mut right = expanded(access, index, other.level, right, top).await?;
    drop_shared(&mut left.segments, &mut right.segments);
    Ok((left, right))
}

async fn expanded(
    access: &Access,
    index: &Index,
    level: u8,
    refs: Vec<SegmentRef>,
    top: &[u8],
) -> Result<Parts> {
    if level == 0 {
        return Ok(Parts {
            nodes: Vec::new(),
            segments: refs,
        });
    }
    let nodes: Vec<ChunkId> = refs.iter().map(|r| r.id).collect();
    let mut segments = Vec::new();
    for (group, ids) in refs.chunks(GROUP).zip(nodes.chunks(GROUP)) {
        for (reference, node) in group.iter().zip(chunks(access, index, ids).await?) {
            let below = decode_node(&node)?;
            check_node(reference, &below, node.len())?;
            segments.extend(touching(&below, top));
        }
    }
    Ok(Parts { nodes, segments })
}

fn drop_shared(left: &mut Vec<SegmentRef>, right: &mut Vec<SegmentRef>) {
    let ids = |refs: &[SegmentRef]| refs.iter().map(|r| r.id).collect::<HashSet<ChunkId>>();
    let (ours, theirs) = (ids(left), ids(right));
    left.retain(|r| !theirs.contains(&r.id));
    right.retain(|r| !ours.contains(&r.id));
}

/// The references that may lead to `top` or to what lies below it. Bytes below `/` sort in between: `a`, `a-b`, `a/c`.
///
/// What a reference ends with is known by the next one only, so the last one of a list is taken to reach far.
fn touching(refs: &[SegmentRef], top: &[u8]) -> Vec<SegmentRef> {
    if top.is_empty() {
        return refs.to_vec();
    }
    let (first, after) = ([top, b"/"].concat(), [top, b"0"].concat());
    let is_touching = |at: usize| {
        let start = refs[at].first_path.as_slice();
        let next = refs.get(at + 1).map(|r| r.first_path.as_slice());
        let reaches = |path: &[u8]| next.is_none_or(|next| next > path);
        (start <= top && reaches(top)) || (start < after.as_slice() && reaches(&first))
    };
    let chosen = (0..refs.len()).filter(|at| is_touching(*at));
    chosen.map(|at| refs[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn refs(paths: &[&str]) -> Vec<SegmentRef> {
        let reference = |path: &&str| SegmentRef {
            first_path: path.as_bytes().to_vec(),
            entries: 1,
            id: ChunkId::of(path.as_bytes()),
            length: 1,
        };
        paths.iter().map(reference).collect()
    }

    fn chosen(paths: &[&str], top: &str) -> Vec<String> {
        let found = touching(&refs(paths), top.as_bytes());
        let text = |r: SegmentRef| String::from_utf8(r.first_path).unwrap();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn only_what_may_hold_the_path_is_read() {
        let all = ["a", "a-b", "a-c", "a/d", "a/e", "b", "c"];
        assert_eq!(chosen(&all, ""), all);
        assert_eq!(chosen(&all, "a"), ["a", "a-c", "a/d", "a/e"]);
        assert_eq!(chosen(&all, "a/d"), ["a/d"]);
        assert_eq!(chosen(&all, "b"), ["b"]);
        assert_eq!(chosen(&all, "z"), ["c"]);
        assert_eq!(chosen(&all, "0"), Vec::<String>::new());
    }

    #[test]
    fn what_both_have_is_left_out() {
        let (mut left, mut right) = (refs(&["a", "b", "c"]), refs(&["a", "c", "d"]));
        drop_shared(&mut left, &mut right);
        assert_eq!((left, right), (refs(&["b"]), refs(&["d"])));
    }
}
