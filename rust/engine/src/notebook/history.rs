//! What the log says, record by record.

use super::report::LogEvent;
use crate::base;
use crate::log::{is_unreadable, read_from};
use crate::whole_log::{log_until, whole_log};
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::id::WriterId;
use nbws_core::ledger::{Log, Past};
use nbws_core::limits::KEEP_RECORDS;
use nbws_core::record::{Body, Record};
use std::collections::BTreeMap;

/// Records read at once while the last claim is looked for.
const STEP: u64 = 64;

/// The log, oldest record first: all of it, or from the last claim on. Ends where the newest records can't be read, and says so.
pub(super) async fn history(access: &Access, since_claim: bool) -> Result<Vec<LogEvent>> {
    let (newest, mut unread) = base::newest_readable(access).await?;
    let Some(newest) = newest else {
        return match unread.pop() {
            Some(error) => Err(error),
            None => Ok(Vec::new()),
        };
    };
    let mut events: Vec<LogEvent> = match since_claim {
        true => {
            let records = back_to_claim(access, &newest.record).await?;
            records.iter().map(event).collect()
        }
        false => {
            let log = whole_log(access, Some(&newest)).await?;
            events(&log)
        }
    };
    if let (Some(last), Some(error)) = (events.last_mut(), unread.first()) {
        last.unread = Some(error.to_string());
    }
    Ok(events)
}

/// Every record of the log, oldest first: in full where it is still there, in short where only the ledger tells of it.
pub(crate) fn events(log: &Log) -> Vec<LogEvent> {
    let known = log.history().last().map_or(0, |past| past.seq);
    let kept: BTreeMap<u64, &Record> = log.records().iter().map(|r| (r.seq, r)).collect();
    let past = log
        .history()
        .iter()
        .map(|past| kept.get(&past.seq).map_or_else(|| told(past), |r| event(r)));
    let newer = log.records().iter().filter(|r| r.seq > known).map(event);
    past.chain(newer).collect()
}

/// What the ledger says of a record that was removed.
fn told(past: &Past) -> LogEvent {
    LogEvent {
        seq: past.seq,
        time_ms: past.time_ms,
        kind: past.kind.clone(),
        state: past.state.name().to_owned(),
        epoch: past.epoch,
        writer: past.writer.to_hex(),
        comment: past.comment.clone(),
        info: past.info.clone(),
        bytes: past.usage.bytes,
        files: past.usage.files,
        objects: past.usage.objects,
        stored_bytes: past.usage.stored_bytes,
        ..LogEvent::default()
    }
}

/// Who opened the epoch in force.
pub(super) struct LastClaim {
    pub(super) writer: WriterId,
    pub(super) resident: bool,
}

/// The claim of the epoch in force; none if a one-shot snapshot opened it.
pub(super) async fn last_claim(access: &Access, newest: &Record) -> Result<Option<LastClaim>> {
    let records = back_to_claim(access, newest).await?;
    Ok(records.first().and_then(|record| match &record.body {
        Body::Claim(body) if record.epoch == newest.epoch => Some(LastClaim {
            writer: record.writer,
            resident: body.resident,
        }),
        _ => None,
    }))
}

/// Records from the last claim on, or all if there is none, oldest first.
async fn back_to_claim(access: &Access, newest: &Record) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    let mut last = newest.seq;
    while last > 0 {
        let first = last.saturating_sub(STEP - 1).max(1);
        let mut records = match read(access, first, last).await {
            Ok(records) => records,
            // Pruned: the ledger keeps the claim of the session.
            Err(e) if is_unreadable(&e) && newest.seq > KEEP_RECORDS => {
                return carried_back(access, newest).await;
            }
            Err(e) => return Err(e),
        };
        let claim = records
            .iter()
            .rposition(|record| matches!(record.body, Body::Claim(_)));
        if let Some(at) = claim {
            records.drain(..at);
        }
        records.append(&mut found);
        found = records;
        if claim.is_some() {
            break;
        }
        last = first - 1;
    }
    Ok(found)
}

/// The same with what the ledger keeps of records that were removed.
async fn carried_back(access: &Access, newest: &Record) -> Result<Vec<Record>> {
    let log = log_until(access, newest.seq).await?;
    let records = log.records();
    let claim = records
        .iter()
        .rposition(|record| matches!(record.body, Body::Claim(_)));
    Ok(records[claim.unwrap_or(0)..].to_vec())
}

async fn read(access: &Access, first: u64, last: u64) -> Result<Vec<Record>> {
    read_from(&*access.store, access.inner.repository(), first, last).await
}

pub(crate) fn event(record: &Record) -> LogEvent {
    let mut event = LogEvent {
        seq: record.seq,
        time_ms: record.time_ms,
        kind: record.kind().name().to_owned(),
        state: record.state.name().to_owned(),
        epoch: record.epoch,
        writer: record.writer.to_hex(),
        comment: record.body.comment().map(str::to_owned),
        bytes: record.usage.bytes,
        files: record.usage.files,
        objects: record.usage.objects,
        stored_bytes: record.usage.stored_bytes,
        ..LogEvent::default()
    };
    match &record.body {
        Body::Claim(body) => (event.resident, event.take_over) = (body.resident, body.take_over),
        Body::State(body) => event.info.clone_from(&body.info),
        Body::Snapshot(body) => {
            event.snapshot = Some(body.snapshot.to_hex());
            event.info = Some(body.origin.clone());
            event.partial = body.partial;
            event.framework.clone_from(&body.framework);
            event.python.clone_from(&body.python);
        }
        Body::Rescue(body) => {
            event.snapshot = Some(body.snapshot.to_hex());
            event.info = Some(body.reason.clone());
            event.partial = body.partial;
            event.framework.clone_from(&body.framework);
            event.python.clone_from(&body.python);
        }
        Body::Dismiss(body) => event.snapshot = Some(body.rescue.to_hex()),
        Body::Tombstone(body) => event.purge = body.purge,
        Body::Settings(_)
        | Body::Repack(_)
        | Body::Mark(_)
        | Body::Cancel(_)
        | Body::Sweep(_)
        | Body::Swept(_) => {}
    }
    event
}
