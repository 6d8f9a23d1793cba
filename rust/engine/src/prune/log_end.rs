//! Removes old records, after a ledger says what they said.

use super::survey::Survey;
use super::{Run, Step};
use crate::log::{remove_records, write_ledger};
use nbws_core::Result;
use nbws_core::ledger::Ledger;
use nbws_core::limits::KEEP_RECORDS;

/// Younger records stay.
const KEEP_MS: u64 = 30 * 24 * 3_600_000;
/// A ledger is written for so many records at least.
const WORTHWHILE: u64 = 100;

/// Writes a ledger of the records that are old enough, then removes them, oldest first; also what an earlier prune left of that.
///
/// The newest 1,000 records stay, those of the last 30 days by the store's clock, and the newest snapshot with all that follows it: so
/// whoever finds a gap finds the present snapshot behind it.
pub(super) async fn prune_log(run: &mut Run<'_>, survey: &Survey) -> Result<Step> {
    if std::mem::replace(&mut run.is_log_pruned, true) {
        return Ok(Step::Nothing);
    }
    let known = survey.log.history().last().map_or(0, |past| past.seq);
    let store = &*run.access.store;
    let ledger = last_removable(survey, known).and_then(|last| ledger_at(survey, known, last));
    let Some(ledger) = ledger else {
        if known > 0 {
            run.report.records_removed += remove_records(store, known).await?;
        }
        return Ok(Step::Nothing);
    };
    write_ledger(store, &ledger).await?;
    run.report.ledger = Some(ledger.seq());
    run.report.records_removed += remove_records(store, ledger.seq()).await?;
    Ok(Step::Again)
}

/// The newest record that may go, if it is worth a ledger.
fn last_removable(survey: &Survey, known: u64) -> Option<u64> {
    let head = survey.log.workspace_head()?.record.seq;
    let most = survey
        .head
        .record
        .seq
        .saturating_sub(KEEP_RECORDS)
        .min(head - 1);
    let is_old = |seq: &u64| {
        let taken_ms = survey.modified_ms(*seq);
        taken_ms.is_some_and(|ms| survey.now_ms.saturating_sub(ms) > KEEP_MS)
    };
    let last = (known + 1..=most).take_while(is_old).last()?;
    (last - known >= WORTHWHILE).then_some(last)
}

fn ledger_at(survey: &Survey, known: u64, last: u64) -> Option<Ledger> {
    (known + 1..=last)
        .rev()
        .find_map(|seq| Ledger::of(&survey.log, seq))
}
