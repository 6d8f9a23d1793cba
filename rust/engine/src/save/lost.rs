//! Files of the base whose chunks the store may no longer have.

use super::blocking;
use crate::local::cache::KnownTree;
use crate::stored_tree::{self, list_ids, runs_of};
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::diff::StatKey;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::tree::{Body, Content, Run, SegmentReader};
use std::collections::HashMap;
use std::sync::Arc;

/// `tree` without the stat keys of files that `index` does not know all chunks of: they are read and stored again.
///
/// Needed for every base but the workspace head, whose chunks are always kept: another snapshot may have been forgotten, or the
/// store was put back to a time before it.
pub(crate) async fn distrust_lost(
    access: &Access,
    index: Index,
    tree: Arc<KnownTree>,
) -> Result<Arc<KnownTree>> {
    let ids = list_ids(&tree.segments)?;
    let lists = stored_tree::lists_left(access, &index, ids).await?;
    blocking(move || {
        let mut lost = Vec::new();
        let mut ordinal = 0;
        for segment in &tree.segments {
            for entry in SegmentReader::new(segment)? {
                if let Body::File { content, .. } = &entry?.body
                    && !is_stored(content, &index, &lists)
                {
                    lost.push(ordinal);
                }
                ordinal += 1;
            }
        }
        if lost.is_empty() {
            return Ok(tree);
        }
        let mut tree = (*tree).clone();
        for ordinal in lost {
            if let Some(key) = tree.keys.get_mut(ordinal) {
                *key = StatKey::UNKNOWN;
            }
        }
        Ok(Arc::new(tree))
    })
    .await
}

fn is_stored(content: &Content, index: &Index, lists: &HashMap<ChunkId, Vec<u8>>) -> bool {
    let is_known = |run: &Run| index.lookup(&run.id).is_some();
    runs_of(content, lists).is_ok_and(|runs| runs.iter().all(is_known))
}
