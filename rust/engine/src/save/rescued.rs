//! Work that a rescue holds already is not kept twice.

use super::root::Stored;
use crate::directories::is_damage;
use crate::log::{LogHead, read_from};
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::id::SnapshotId;
use nbws_core::record::Body;

/// Records that are looked through: a displaced run that is stopped again, or a rescue that is restored where it was made, comes soon
/// after the rescue. Older ones are not worth the time of a last save.
const RECORDS: u64 = 64;

/// The newest rescue of the last records that nobody has dismissed and that holds what `stored` does, with the number of its record.
///
/// Equal trees have equal roots, and what a partial save left out is in no root: a whole one stands for a partial one, not the
/// other way round.
pub(crate) async fn rescued_before(
    access: &Access,
    head: Option<&LogHead>,
    stored: &Stored,
) -> Result<Option<(SnapshotId, u64)>> {
    let last = head.map_or(0, |head| head.record.seq);
    let first = last.saturating_sub(RECORDS - 1).max(1);
    let repository = access.inner.repository();
    let records = match read_from(&*access.store, repository, first, last).await {
        // Work is kept whatever became of the log.
        Err(e) if is_damage(&e) => return Ok(None),
        records => records?,
    };
    let mut found = None;
    for record in &records {
        match &record.body {
            Body::Rescue(rescue)
                if rescue.tree_root == stored.tree_root && (stored.partial || !rescue.partial) =>
            {
                found = Some((rescue.snapshot, record.seq));
            }
            Body::Dismiss(dismissed) if found.is_some_and(|(id, _)| id == dismissed.rescue) => {
                found = None;
            }
            _ => {}
        }
    }
    Ok(found)
}
