//! The whole log: ledger, records, and what its marks forget.

use crate::base::frame;
use crate::log::{LogHead, is_unreadable, newest_ledger, read_each, read_from};
use crate::workspace::Access;
use nbws_core::frame::FrameKind;
use nbws_core::ledger::{Ledger, Log};
use nbws_core::limits::KEEP_RECORDS;
use nbws_core::record::{Doomed, Place};
use nbws_core::{Error, Result};

/// How often the ledger is looked for while prune removes records.
const ATTEMPTS: u32 = 3;

/// The whole log; empty without records. `Corrupt` if anything of it is missing or damaged.
pub(crate) async fn whole_log(access: &Access, newest: Option<&LogHead>) -> Result<Log> {
    let Some(head) = newest else {
        return Ok(Log::default());
    };
    let log = log_until(access, head.record.seq).await?;
    note_marks(access, log).await
}

/// The log up to the record `last`; what its marks doom and forget is not read.
pub(crate) async fn log_until(access: &Access, last: u64) -> Result<Log> {
    let repository = access.inner.repository();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let ledger = carried(access, last).await?;
        let first = ledger.as_ref().map_or(1, |ledger| ledger.seq() + 1);
        match read_from(&*access.store, repository, first, last).await {
            Ok(records) => return joined(ledger, records),
            // Prune may have removed them since, and written another ledger before.
            Err(e) if is_unreadable(&e) && last > KEEP_RECORDS && attempt < ATTEMPTS => {}
            Err(e) => return Err(e),
        }
    }
}

/// `log` with the records that came since; everything anew if they do not follow from it.
pub(crate) async fn extended(access: &Access, mut log: Log, newest: &LogHead) -> Result<Log> {
    let known = log.head().map_or(0, |head| head.seq);
    let (repository, last) = (access.inner.repository(), newest.record.seq);
    let records = read_from(&*access.store, repository, known + 1, last).await;
    let pushed = records.and_then(|records| records.into_iter().try_for_each(|r| log.push(r)));
    if known == 0 || pushed.is_err() || log.head() != Some(&newest.record) {
        return whole_log(access, Some(newest)).await;
    }
    note_marks(access, log).await
}

async fn note_marks(access: &Access, mut log: Log) -> Result<Log> {
    for (seq, place) in log.unread_marks() {
        log.note_doomed(seq, doomed(access, &place).await?);
    }
    Ok(log)
}

fn joined(ledger: Option<Ledger>, records: Vec<nbws_core::record::Record>) -> Result<Log> {
    let mut log = ledger.map_or_else(Log::default, Log::resume);
    for record in records {
        log.push(record)?;
    }
    Ok(log)
}

/// The whole log for readers: what can't be read of it is left out and returned as errors.
pub(crate) async fn readable_log(
    access: &Access,
    newest: Option<&LogHead>,
) -> Result<(Log, Vec<Error>)> {
    let mut damage = Vec::new();
    let last = newest.map_or(0, |head| head.record.seq);
    let ledger = match carried(access, last).await {
        Err(error) if is_unreadable(&error) => {
            damage.push(error);
            None
        }
        found => found?,
    };
    let first = ledger.as_ref().map_or(1, |ledger| ledger.seq() + 1);
    let repository = access.inner.repository();
    let (records, missing) = read_each(&*access.store, repository, first, last).await?;
    damage.extend(missing);
    let mut log = None;
    if damage.is_empty() {
        match joined(ledger.clone(), records.clone()) {
            Ok(whole) => log = Some(whole),
            Err(error) => damage.push(error),
        }
    }
    let mut log = log.unwrap_or_else(|| {
        let start = ledger.map_or_else(Log::default, Log::resume);
        start.with_readable(records)
    });
    for (seq, place) in log.unread_marks() {
        match doomed(access, &place).await {
            Ok(list) => log.note_doomed(seq, list),
            Err(error) if is_unreadable(&error) => damage.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((log, damage))
}

/// The newest ledger, where a log that ends at `last` may have one.
async fn carried(access: &Access, last: u64) -> Result<Option<Ledger>> {
    if last <= KEEP_RECORDS {
        return Ok(None);
    }
    newest_ledger(&*access.store, access.inner.repository()).await
}

/// What a mark dooms and forgets.
pub(crate) async fn doomed(access: &Access, attachment: &Place) -> Result<Doomed> {
    let bytes = frame(access, None, attachment, FrameKind::Attachment).await?;
    Doomed::decode(&bytes).map_err(|e| e.at(attachment.object.to_string()))
}
