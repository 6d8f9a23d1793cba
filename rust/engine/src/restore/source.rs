//! Step 1 of a restore: the snapshot, its tree and the index.

use super::plan::RestorePlan;
use crate::base;
use crate::directories::{index_for_reading, is_damage};
use crate::local::cache::KnownTree;
use crate::log::LogHead;
use crate::resolve::Resolved;
use crate::session::Target;
use crate::stored_chunks;
use crate::stored_tree::{self, list_ids};
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::id::{ChunkId, SnapshotId};
use nbws_core::index::Index;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Everything about the snapshot to restore.
pub(crate) struct Source {
    pub(crate) resolved: Resolved,
    /// The workspace head at this time, and its tree root.
    pub(crate) head: SnapshotId,
    pub(crate) root: SnapshotRoot,
    pub(crate) index: Index,
    /// What of the index is damaged, and was found another way.
    pub(crate) damage: Vec<Error>,
    pub(crate) segments: Vec<Bytes>,
    pub(crate) lists: HashMap<ChunkId, Vec<u8>>,
}

/// Step 1: snapshot root, index, tree. `chosen` is the record by which the snapshot was chosen. Only its head counts as
/// restored: one that somebody else made meanwhile does not. The store is asked again only if something newer is known here.
pub(crate) async fn load_source(
    access: &Access,
    target: &mut Target,
    resolved: Resolved,
    chosen: Option<LogHead>,
) -> Result<Source> {
    let head = chosen
        .as_ref()
        .and_then(|chosen| chosen.record.head)
        .ok_or_else(|| Error::internal("restore", "the workspace head is gone"))?;
    let seq = |head: &Option<LogHead>| head.as_ref().map(|head| head.record.seq);
    let known = target.known_head();
    let newest = if seq(&known) > seq(&chosen) {
        base::newest(access, known.as_ref()).await?
    } else {
        chosen
    };
    if let Some(newest) = &newest {
        target.set_head(&newest.bytes);
    }
    let record = newest.as_ref().map(|newest| &newest.record);
    let folder = target.folder.as_ref();
    let (index, mut damage) = index_for_reading(access, folder, record).await?;
    let known = target.tree.as_ref().map(|(_, tree)| Arc::clone(tree));
    let loaded = load_tree(access, &index, &resolved, known.as_deref()).await;
    let (root, segments, lists) = match loaded {
        // What is missing follows from the damaged index, and that error names the object.
        Err(error) if is_damage(&error) && !damage.is_empty() => return Err(damage.swap_remove(0)),
        loaded => loaded?,
    };
    Ok(Source {
        resolved,
        head: head.snapshot,
        root,
        index,
        damage,
        segments,
        lists,
    })
}

type Tree = (SnapshotRoot, Vec<Bytes>, HashMap<ChunkId, Vec<u8>>);

/// The tree of the snapshot; `known` is what the disk is known to hold.
async fn load_tree(
    access: &Access,
    index: &Index,
    resolved: &Resolved,
    known: Option<&KnownTree>,
) -> Result<Tree> {
    let root = stored_tree::snapshot_root(access, &resolved.head.root, Some(index)).await?;
    let segments = stored_tree::segments(access, index, &root, known).await?;
    let ids = list_ids(&segments)?;
    let chunks = stored_chunks::chunks(access, index, &ids).await?;
    let mut lists: HashMap<ChunkId, Vec<u8>> = ids.into_iter().zip(chunks).collect();
    if let Some(known) = known {
        // What the disk holds of large files need not be fetched.
        let mut ids = list_ids(&known.segments)?;
        ids.retain(|id| !lists.contains_key(id));
        lists.extend(stored_tree::lists_left(access, index, ids).await?);
    }
    Ok((root, segments, lists))
}

/// The tree must be the one that was saved, and what was asked for must be in it.
pub(crate) fn check_source(
    source: &Source,
    plan: &RestorePlan,
    paths: Option<&[Vec<u8>]>,
) -> Result<()> {
    let snapshot = source.resolved.head.snapshot;
    if source.root.snapshot != snapshot {
        let why = "the root is not that of the snapshot";
        return Err(Error::corrupt("restore", why).at(snapshot.to_hex()));
    }
    for wanted in paths.unwrap_or_default() {
        if !wanted.is_empty() && !plan.wanted.contains(wanted) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                "the snapshot has no such path",
            )
            .at_path(wanted));
        }
    }
    Ok(())
}
