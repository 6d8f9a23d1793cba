//! Work that a rescue holds already is not kept twice.

use super::root::Stored;
use crate::directories::is_damage;
use crate::log::LogHead;
use crate::whole_log::whole_log;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::id::SnapshotId;

/// The newest rescue that nobody has dismissed and that holds what `stored` does, with the number of its record. Reads the log.
///
/// Equal trees have equal roots, and what a partial save left out is in no root: a whole one stands for a partial one, not the
/// other way round.
pub(crate) async fn rescued_before(
    access: &Access,
    head: Option<&LogHead>,
    stored: &Stored,
) -> Result<Option<(SnapshotId, u64)>> {
    let log = match whole_log(access, head).await {
        // Work is kept whatever became of the log.
        Err(e) if is_damage(&e) => return Ok(None),
        log => log?,
    };
    let rescues = log.rescues();
    let same = rescues.iter().rev().find(|rescue| {
        rescue.body.tree_root == stored.tree_root && (stored.partial || !rescue.body.partial)
    });
    Ok(same.map(|rescue| (rescue.body.snapshot, rescue.record.seq)))
}
