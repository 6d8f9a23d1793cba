//! Totals of a repository, from the newest record, the index and the head's tree.

use crate::base;
use crate::report::{PathUsage, UsageReport};
use crate::stored_tree;
use crate::whole_log::whole_log;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::index::Index;
use nbws_core::record::Place;
use nbws_core::tree::{Body, SegmentReader};
use std::collections::BTreeMap;

/// Adds the totals up. No data of files is downloaded.
pub(crate) async fn usage(access: &Access) -> Result<UsageReport> {
    let newest = base::newest(access, None).await?;
    let record = newest.as_ref().map(|h| &h.record);
    let root = base::index_root(access, None, record).await?;
    let index = base::index(access, None, &root).await?;
    let chunk_bytes = index.iter().map(|(_, at)| u64::from(at.chunk_len));
    let log = whole_log(access, newest.as_ref()).await?;
    let snapshots = log.snapshots(None);
    let usage = record.map(|r| r.usage).unwrap_or_default();
    let by_path = match record.and_then(|r| r.head) {
        Some(head) => by_path(access, &index, &head.root).await?,
        None => Vec::new(),
    };
    Ok(UsageReport {
        logical_bytes: usage.bytes,
        unique_bytes: chunk_bytes.sum(),
        stored_bytes: usage.stored_bytes,
        objects: usage.objects,
        snapshots: snapshots.len() as u64,
        files: usage.files,
        snapshot_bytes: snapshots.iter().map(|s| s.body.bytes).sum(),
        by_path,
    })
}

async fn by_path(access: &Access, index: &Index, root: &Place) -> Result<Vec<PathUsage>> {
    let root = stored_tree::snapshot_root(access, root, Some(index)).await?;
    let mut found: BTreeMap<Vec<u8>, PathUsage> = BTreeMap::new();
    for segment in stored_tree::segments(access, index, &root, None).await? {
        for entry in SegmentReader::new(&segment)? {
            let entry = entry?;
            let name = entry.path.split(|byte| *byte == b'/').next();
            let top = found.entry(name.unwrap_or_default().to_vec()).or_default();
            if matches!(entry.body, Body::File { .. } | Body::Symlink { .. }) {
                top.files += 1;
                top.logical_bytes += entry.size();
            }
        }
    }
    let named = |(path, usage)| PathUsage { path, ..usage };
    Ok(found.into_iter().map(named).collect())
}
