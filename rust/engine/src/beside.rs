//! Records that carry on what is there: a comment, a rescue given up, settings, a step of prune.

use crate::ballast;
use crate::clock::Deadline;
use crate::log::{Appended, LogHead, append};
use crate::session::COMMIT_PATIENCE;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::{CommitId, WriterId};
use nbws_core::lifecycle::check_append;
use nbws_core::record::{Body, Place, Record, Usage};
use nbws_core::state::State;

/// How an attempt ended.
pub(crate) enum Beside {
    /// The record is in the log.
    Appended(Box<LogHead>),
    /// These records took its slot; the caller judges them and tries again.
    Lost(Vec<Record>),
}

/// What a record changes beside its body.
#[derive(Clone, Copy, Default)]
pub(crate) struct Change {
    /// The index root after it, if it is another one.
    pub(crate) index: Option<Place>,
    /// Objects that it has added, and their bytes.
    pub(crate) added: (u64, u64),
    /// Objects that it has deleted, and their bytes.
    pub(crate) deleted: (u64, u64),
}

/// The record that follows `newest` (none: the log is empty) and carries everything on but its body. It does not count itself yet.
pub(crate) fn following(
    access: &Access,
    newest: Option<&Record>,
    writer: WriterId,
    body: Body,
) -> Result<Record> {
    let settings = match &body {
        Body::Settings(body) => Some(body.attachment),
        _ => newest.and_then(|r| r.settings),
    };
    Ok(Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        epoch: newest.map_or(1, |r| r.epoch),
        head: newest.and_then(|r| r.head),
        index: newest.and_then(|r| r.index),
        parent: newest.map(|r| r.commit),
        repository: access.inner.repository(),
        seq: newest.map_or(1, |r| r.seq + 1),
        settings,
        state: newest.map_or(State::None, |r| r.state),
        time_ms: crate::clock::now_ms(),
        usage: newest.map_or(Usage::default(), |r| r.usage),
        writer,
    })
}

/// The record as it is appended: it counts itself; its length hardly depends on the count.
pub(crate) fn counted(mut record: Record) -> Result<Record> {
    record.usage.objects += 1;
    record.usage.stored_bytes += record.encode()?.len() as u64;
    Ok(record)
}

/// Appends a record that carries everything on from `newest` but its body. Once: a lost race is handed back.
pub(crate) async fn append_beside(
    access: &Access,
    newest: &Record,
    writer: WriterId,
    body: Body,
) -> Result<Beside> {
    let record = following(access, Some(newest), writer, body)?;
    append_once(access, Some(newest), counted(record)?).await
}

/// Puts a record of a writer of its own right behind `newest`; its number, or none if the slot was lost.
pub(crate) async fn append_after(
    access: &Access,
    newest: Option<&Record>,
    body: Body,
    change: Change,
) -> Result<Option<u64>> {
    let record = changed(access, newest, body, change)?;
    match append_once(access, newest, record).await? {
        Beside::Appended(head) => Ok(Some(head.record.seq)),
        Beside::Lost(_) => Ok(None),
    }
}

/// As [`following`], with what `change` says, counted.
pub(crate) fn changed(
    access: &Access,
    newest: Option<&Record>,
    body: Body,
    change: Change,
) -> Result<Record> {
    let mut record = following(access, newest, WriterId(crate::random::bytes()?), body)?;
    record.index = change.index.or(record.index);
    let mut record = counted(record)?;
    let usage = &mut record.usage;
    usage.objects = (usage.objects + change.added.0).saturating_sub(change.deleted.0);
    usage.stored_bytes = (usage.stored_bytes + change.added.1).saturating_sub(change.deleted.1);
    Ok(record)
}

/// Appends a record once.
pub(crate) async fn append_once(
    access: &Access,
    newest: Option<&Record>,
    record: Record,
) -> Result<Beside> {
    check_append(newest, &record)?;
    let bytes = Bytes::from(record.encode()?);
    let deadline = Deadline::after(COMMIT_PATIENCE);
    let mut appended = append(&*access.store, &record, &bytes, deadline).await;
    if ballast::is_for(&record.body) && ballast::made_room(access, appended.as_ref().err()).await {
        appended = append(&*access.store, &record, &bytes, deadline).await;
    }
    Ok(match appended? {
        Appended::Acknowledged => Beside::Appended(Box::new(LogHead { record, bytes })),
        Appended::Lost { newer } => Beside::Lost(newer),
    })
}
