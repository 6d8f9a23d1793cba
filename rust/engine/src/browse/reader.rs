//! One snapshot opened for reading: its root, the index, and the parts of its tree as they are asked for.

use super::frames::FrameCache;
use crate::base;
use crate::directories::index_for_reading;
use crate::resolve::resolve;
use crate::stored_tree::snapshot_root;
use crate::whole_tree::{check_node, check_segment};
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{Entry, SegmentReader, SegmentRef, decode_node};
use nbws_core::{Error, ErrorKind, Result, path};
use std::sync::Arc;

/// A snapshot or a rescue, opened for reading. Cheap to clone; clones share what was read.
///
/// Nothing is written anywhere. What it reads was verified against the hashes that the log leads to; the parts of the tree
/// are checked each for itself, and between each other only by [`SnapshotReader::export`], which reads them all.
#[derive(Clone)]
pub struct SnapshotReader(Arc<Opened>);

pub(crate) struct Opened {
    pub(crate) access: Access,
    pub(crate) index: Index,
    pub(crate) root: SnapshotRoot,
    pub(crate) frames: FrameCache,
}

/// A segment, and where the entries after it begin.
pub(super) struct Part {
    pub(super) reference: SegmentRef,
    pub(super) end: Option<Vec<u8>>,
}

/// Opens what `name` means: newest record, then index and snapshot root at the same time.
pub(crate) async fn open(access: Access, name: &str) -> Result<SnapshotReader> {
    let (newest, _) = base::newest_readable(&access).await?;
    let resolved = resolve(&access, newest.as_ref(), name).await?;
    let record = newest.as_ref().map(|newest| &newest.record);
    let place = &resolved.head.root;
    let (index, root) = futures::join!(
        index_for_reading(&access, None, record),
        snapshot_root(&access, place, None)
    );
    let (index, _) = index?;
    let root = match root {
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            snapshot_root(&access, place, Some(&index)).await?
        }
        root => root?,
    };
    if root.snapshot != resolved.head.snapshot {
        let why = "the root is not that of the snapshot";
        return Err(Error::corrupt("open snapshot", why).at(resolved.head.snapshot.to_hex()));
    }
    Ok(SnapshotReader(Arc::new(Opened {
        access,
        index,
        root,
        frames: FrameCache::default(),
    })))
}

impl SnapshotReader {
    /// Full id of the snapshot.
    pub fn id(&self) -> String {
        self.0.root.snapshot.to_hex()
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.0
    }

    /// Verified chunks; see [`FrameCache::chunks`].
    pub(crate) async fn chunks(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        let Opened { access, index, .. } = &*self.0;
        self.0.frames.chunks(access, index, ids).await
    }

    /// The segments that may hold paths from `from` on and below `to`.
    pub(super) async fn parts(&self, from: &[u8], to: Option<&[u8]>) -> Result<Vec<Part>> {
        let root = &self.0.root;
        let (top, mut end) = between(&root.refs, from, to);
        if root.level == 0 {
            return Ok(with_ends(top, end));
        }
        let ids: Vec<ChunkId> = top.iter().map(|r| r.id).collect();
        let mut refs = Vec::new();
        for (reference, node) in top.iter().zip(self.chunks(&ids).await?) {
            let below = decode_node(&node)?;
            check_node(reference, &below, node.len())?;
            refs.extend(below);
        }
        let (some, next) = between(&refs, from, to);
        end = next.or(end);
        Ok(with_ends(some, end))
    }

    /// The encoded segments, each checked against the reference to it.
    pub(super) async fn segments(&self, parts: &[Part]) -> Result<Vec<Bytes>> {
        let ids: Vec<ChunkId> = parts.iter().map(|part| part.reference.id).collect();
        let segments = self.chunks(&ids).await?;
        for (part, segment) in parts.iter().zip(&segments) {
            check_segment(&part.reference, segment)?;
        }
        Ok(segments)
    }

    /// The entry at `path`, which has been cleaned. `NotFound` if there is none.
    pub(crate) async fn entry(&self, path: &[u8]) -> Result<Entry> {
        let next = [path, &[0]].concat();
        let parts = self.parts(path, Some(&next)).await?;
        for segment in self.segments(&parts).await? {
            for entry in SegmentReader::new(&segment)? {
                let entry = entry?;
                if entry.path == path {
                    return Ok(entry);
                }
            }
        }
        Err(absent(path))
    }
}

pub(super) fn absent(path: &[u8]) -> Error {
    let why = "the snapshot has no such path";
    Error::new(ErrorKind::NotFound, "browse", why).at_path(path)
}

/// A path as people write it, relative to the top of the workspace: `./a/`, `/a` and `a` are the same, `.` and nothing are the
/// top. `InvalidInput` if no entry can have it.
pub(crate) fn clean(written: &[u8]) -> Result<Vec<u8>> {
    let names = written
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".");
    let path = names.collect::<Vec<_>>().join(&b'/');
    if !path.is_empty() {
        path::check(&path).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "browse", e.message().to_owned()).at_path(written)
        })?;
    }
    Ok(path)
}

/// The references that may lead to paths in `from..to`, and where what follows them begins.
fn between<'a>(
    refs: &'a [SegmentRef],
    from: &[u8],
    to: Option<&[u8]>,
) -> (&'a [SegmentRef], Option<Vec<u8>>) {
    let start = refs.partition_point(|r| r.first_path.as_slice() <= from);
    let start = start.saturating_sub(1);
    let end = to.map_or(refs.len(), |to| {
        refs.partition_point(|r| r.first_path.as_slice() < to)
    });
    let end = end.max(start);
    let next = refs.get(end).map(|r| r.first_path.clone());
    (&refs[start..end], next)
}

fn with_ends(refs: &[SegmentRef], end: Option<Vec<u8>>) -> Vec<Part> {
    let part = |(i, reference): (usize, &SegmentRef)| Part {
        reference: reference.clone(),
        end: match refs.get(i + 1) {
            Some(next) => Some(next.first_path.clone()),
            None => end.clone(),
        },
    };
    refs.iter().enumerate().map(part).collect()
}
