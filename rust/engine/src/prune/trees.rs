//! Which chunks each snapshot needs. Trees share most of their segments, and none of them ever changes: each is read once a run.

use crate::stored_chunks::{chunks, missing_chunk};
use crate::stored_tree::{segment_refs, snapshot_root};
use crate::whole_tree::check_segment;
use crate::workspace::Access;
use nbws_core::id::{ChunkId, SnapshotId};
use nbws_core::index::{Index, LiveChunks};
use nbws_core::record::Place;
use nbws_core::tree::{Body, Content, SegmentReader, SegmentRef, decode_list};
use nbws_core::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Segments and lists that are read at once: some megabytes.
const GROUP: usize = 64;

/// What was read in this run.
#[derive(Default)]
pub(super) struct Trees {
    /// Chunks that a snapshot refers to directly, and its segments.
    roots: HashMap<SnapshotId, Root>,
    /// Chunks that a segment refers to, those of its lists included.
    segments: HashMap<ChunkId, Box<[ChunkId]>>,
}

struct Root {
    /// The root itself and its nodes.
    own: Vec<ChunkId>,
    segments: Vec<ChunkId>,
}

impl Trees {
    /// Notes in `live` every chunk that the snapshot needs. `Corrupt` if one of them is not in the index, or the tree is damaged.
    pub(super) async fn mark(
        &mut self,
        access: &Access,
        index: &Index,
        (id, place): (SnapshotId, &Place),
        live: &mut LiveChunks<'_>,
    ) -> Result<()> {
        if !self.roots.contains_key(&id) {
            let root = self.read(access, index, id, place).await?;
            self.roots.insert(id, root);
        }
        let Some(root) = self.roots.get(&id) else {
            return Err(Error::internal("prune", "a tree was not read"));
        };
        let below = root.segments.iter().flat_map(|segment| {
            let known = self.segments.get(segment);
            known.into_iter().flat_map(|ids| ids.iter())
        });
        for chunk in root.own.iter().chain(&root.segments).chain(below) {
            if !live.mark(chunk) {
                let why = format!(
                    "snapshot {id} is damaged; nothing is deleted before it is dismissed, forgotten or put right"
                );
                return Err(
                    Error::corrupt("prune", why).at(missing_chunk(chunk).subject().to_owned())
                );
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        access: &Access,
        index: &Index,
        id: SnapshotId,
        place: &Place,
    ) -> Result<Root> {
        let root = snapshot_root(access, place, Some(index)).await?;
        if root.snapshot != id {
            let why = "the root is not that of the snapshot";
            return Err(Error::corrupt("prune", why).at(place.object.to_string()));
        }
        let refs = segment_refs(access, index, &root).await?;
        let new: Vec<&SegmentRef> = refs
            .iter()
            .filter(|r| !self.segments.contains_key(&r.id))
            .collect();
        for group in new.chunks(GROUP) {
            access.cancel.check()?;
            let ids: Vec<ChunkId> = group.iter().map(|r| r.id).collect();
            for (reference, plain) in group.iter().zip(chunks(access, index, &ids).await?) {
                check_segment(reference, &plain)?;
                let needed = needs(access, index, &plain).await?;
                self.segments.insert(reference.id, needed);
            }
        }
        let nodes = root.refs.iter().map(|r| r.id).filter(|_| root.level == 1);
        Ok(Root {
            own: [ChunkId(place.hash.0)].into_iter().chain(nodes).collect(),
            segments: refs.iter().map(|r| r.id).collect(),
        })
    }
}

/// Every chunk that the files of a segment need.
async fn needs(access: &Access, index: &Index, segment: &[u8]) -> Result<Box<[ChunkId]>> {
    let (mut found, mut lists) = (HashSet::new(), HashSet::new());
    for entry in SegmentReader::new(segment)? {
        let Body::File { content, .. } = entry?.body else {
            continue;
        };
        match content {
            Content::Inline(runs) => found.extend(runs.iter().map(|run| run.id)),
            Content::Listed { lists: refs, .. } => lists.extend(refs.iter().map(|list| list.id)),
        }
    }
    let lists: Vec<ChunkId> = lists.into_iter().collect();
    for group in lists.chunks(GROUP) {
        for list in chunks(access, index, group).await? {
            found.extend(decode_list(&list)?.iter().map(|run| run.id));
        }
    }
    found.extend(lists);
    Ok(found.into_iter().collect())
}
