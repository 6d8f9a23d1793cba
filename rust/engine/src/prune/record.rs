//! Appends the record of one step, or finds that somebody else was faster.

use super::Step;
use crate::clock::Deadline;
use crate::log::{Appended, append};
use crate::session::COMMIT_PATIENCE;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::{CommitId, WriterId};
use nbws_core::ledger::Log;
use nbws_core::lifecycle::check_append;
use nbws_core::record::{Body, Place, Record};
use nbws_core::state::State;

/// What a step changes beside its body.
#[derive(Clone, Copy, Default)]
pub(super) struct Change {
    /// The index root after it, if it is another one.
    pub(super) index: Option<Place>,
    /// Objects that it has added, and their bytes.
    pub(super) added: (u64, u64),
    /// Objects that it has deleted, and their bytes.
    pub(super) deleted: (u64, u64),
}

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
    log.check_references(&record(access, Some(head), body.clone(), change)?)?;
    let seq = append_after(access, Some(head), body, change).await?;
    Ok((Step::Again, seq))
}

/// Puts the record right behind `head`; its number, or none if the slot was lost.
pub(super) async fn append_after(
    access: &Access,
    head: Option<&Record>,
    body: Body,
    change: Change,
) -> Result<Option<u64>> {
    let record = record(access, head, body, change)?;
    check_append(head, &record)?;
    let bytes = Bytes::from(record.encode()?);
    let deadline = Deadline::after(COMMIT_PATIENCE);
    Ok(
        match append(&*access.store, &record, &bytes, deadline).await? {
            Appended::Acknowledged => Some(record.seq),
            Appended::Lost { .. } => None,
        },
    )
}

fn record(access: &Access, head: Option<&Record>, body: Body, change: Change) -> Result<Record> {
    let mut usage = head.map(|r| r.usage).unwrap_or_default();
    usage.objects = (usage.objects + change.added.0 + 1).saturating_sub(change.deleted.0);
    usage.stored_bytes = (usage.stored_bytes + change.added.1).saturating_sub(change.deleted.1);
    let settings = match &body {
        Body::Settings(body) => Some(body.attachment),
        _ => head.and_then(|r| r.settings),
    };
    let mut record = Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        epoch: head.map_or(1, |r| r.epoch),
        head: head.and_then(|r| r.head),
        index: change.index.or(head.and_then(|r| r.index)),
        parent: head.map(|r| r.commit),
        repository: access.inner.repository(),
        seq: head.map_or(1, |r| r.seq + 1),
        settings,
        state: head.map_or(State::None, |r| r.state),
        time_ms: crate::clock::now_ms(),
        usage,
        writer: WriterId(crate::random::bytes()?),
    };
    record.usage.stored_bytes += record.encode()?.len() as u64;
    Ok(record)
}
