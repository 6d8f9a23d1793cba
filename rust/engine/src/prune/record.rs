//! Appends the record of one step, or finds that somebody else was faster.

use super::Step;
use crate::beside::{Change, append_after, changed};
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::ledger::Log;
use nbws_core::record::Body;

/// Puts the record right behind the log that was surveyed. A lost slot is no failure: what is done next is found by another survey.
///
/// The number of the record if it is in.
pub(super) async fn append_step(
    access: &Access,
    log: &Log,
    body: Body,
    change: Change,
) -> Result<(Step, Option<u64>)> {
    let Some(head) = log.head() else {
        return Ok((Step::Nothing, None));
    };
    log.check_references(&changed(access, Some(head), body.clone(), change)?)?;
    let seq = append_after(access, Some(head), body, change).await?;
    Ok((Step::Again, seq))
}
