//! Step 1 of a restore: the snapshot, its tree and the index.

use super::plan::{RestorePlan, list_ids};
use crate::base;
use crate::log::LogHead;
use crate::resolve::Resolved;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::id::{ChunkId, SnapshotId};
use nbws_core::index::Index;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// Everything about the snapshot to restore.
pub(crate) struct Source {
    pub(crate) resolved: Resolved,
    /// The workspace head at this time, and its tree root.
    pub(crate) head: SnapshotId,
    pub(crate) root: SnapshotRoot,
    pub(crate) index: Index,
    pub(crate) segments: Vec<Vec<u8>>,
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
    let index_root = base::index_root(access, target.folder.as_ref(), record).await?;
    let index = base::index(access, target.folder.as_ref(), &index_root).await?;
    let root = base::snapshot_root(access, &resolved.head.root, Some(&index)).await?;
    let segments = base::segments(access, &index, &root).await?;
    let mut ids = list_ids(&segments)?;
    if let Some((_, known)) = &target.tree {
        // What the disk holds of large files need not be fetched.
        let known = list_ids(&known.segments)?;
        ids.extend(known.into_iter().filter(|id| index.lookup(id).is_some()));
        ids.sort_unstable();
        ids.dedup();
    }
    let lists = ids
        .iter()
        .copied()
        .zip(base::chunks(access, &index, &ids).await?)
        .collect();
    Ok(Source {
        resolved,
        head: head.snapshot,
        root,
        index,
        segments,
        lists,
    })
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
