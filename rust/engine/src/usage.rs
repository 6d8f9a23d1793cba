//! Totals of a repository, from the newest record and the index alone.

use crate::base;
use crate::report::UsageReport;
use crate::resolve::whole_log;
use crate::workspace::Access;
use nbws_core::Result;
use std::collections::HashSet;

/// Adds the totals up. No data is downloaded.
pub(crate) async fn usage(access: &Access) -> Result<UsageReport> {
    let newest = base::newest(access, None).await?;
    let record = newest.as_ref().map(|h| &h.record);
    let root = base::index_root(access, None, record).await?;
    let index = base::index(access, None, &root).await?;
    let mut seen = HashSet::new();
    let mut unique_bytes = 0;
    for part in index.parts() {
        for (id, location) in part.iter() {
            // Parts may name one chunk twice.
            if seen.insert(id) {
                unique_bytes += u64::from(location.chunk_len);
            }
        }
    }
    let log = whole_log(access, newest.as_ref()).await?;
    let usage = record.map(|r| r.usage).unwrap_or_default();
    Ok(UsageReport {
        logical_bytes: usage.bytes,
        unique_bytes,
        stored_bytes: usage.stored_bytes,
        objects: usage.objects,
        snapshots: log.snapshots(None).len() as u64,
        files: usage.files,
    })
}
