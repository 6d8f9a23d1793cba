//! Small records beside the work: a comment, a rescue given up.

use crate::clock::Deadline;
use crate::log::{Appended, LogHead, append};
use crate::session::COMMIT_PATIENCE;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::{CommitId, WriterId};
use nbws_core::lifecycle::check_append;
use nbws_core::record::{Body, Record, Usage};
use nbws_core::state::State;

/// How an attempt ended.
pub(crate) enum Beside {
    /// The record is in the log.
    Appended(Box<LogHead>),
    /// These records took its slot; the caller judges them and tries again.
    Lost(Vec<Record>),
}

/// Appends a record that carries everything on from `newest` but its body. Once: a lost race is handed back.
pub(crate) async fn append_beside(
    access: &Access,
    newest: &Record,
    writer: WriterId,
    body: Body,
) -> Result<Beside> {
    let settings = match &body {
        Body::Settings(body) => Some(body.attachment),
        _ => newest.settings,
    };
    let record = Record {
        body,
        settings,
        commit: CommitId(crate::random::bytes()?),
        parent: Some(newest.commit),
        seq: newest.seq + 1,
        time_ms: crate::clock::now_ms(),
        writer,
        ..newest.clone()
    };
    append_once(access, Some(newest), record).await
}

/// As [`append_beside`], where the log is empty; an object of so many bytes was stored for it.
pub(crate) async fn append_first(
    access: &Access,
    writer: WriterId,
    body: Body,
    stored_bytes: u64,
) -> Result<Beside> {
    let settings = match &body {
        Body::Settings(body) => Some(body.attachment),
        _ => None,
    };
    let record = Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        epoch: 1,
        head: None,
        index: None,
        parent: None,
        repository: access.inner.repository(),
        seq: 1,
        settings,
        state: State::None,
        time_ms: crate::clock::now_ms(),
        usage: Usage {
            objects: 1,
            stored_bytes,
            ..Usage::default()
        },
        writer,
    };
    append_once(access, None, record).await
}

async fn append_once(
    access: &Access,
    newest: Option<&Record>,
    mut record: Record,
) -> Result<Beside> {
    record.usage.objects += 1;
    record.usage.stored_bytes += record.encode()?.len() as u64;
    check_append(newest, &record)?;
    let bytes = Bytes::from(record.encode()?);
    let deadline = Deadline::after(COMMIT_PATIENCE);
    Ok(
        match append(&*access.store, &record, &bytes, deadline).await? {
            Appended::Acknowledged => Beside::Appended(Box::new(LogHead { record, bytes })),
            Appended::Lost { newer } => Beside::Lost(newer),
        },
    )
}
