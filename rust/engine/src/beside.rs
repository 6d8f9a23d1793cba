//! Small records beside the work: a comment, a rescue given up.

use crate::clock::Deadline;
use crate::log::{Appended, LogHead, append};
use crate::session::COMMIT_PATIENCE;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::{CommitId, WriterId};
use nbws_core::lifecycle::check_append;
use nbws_core::record::{Body, Record};

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
    let mut record = Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        parent: Some(newest.commit),
        seq: newest.seq + 1,
        time_ms: crate::clock::now_ms(),
        writer,
        ..newest.clone()
    };
    record.usage.objects += 1;
    record.usage.stored_bytes += record.encode()?.len() as u64;
    check_append(Some(newest), &record)?;
    let bytes = Bytes::from(record.encode()?);
    let deadline = Deadline::after(COMMIT_PATIENCE);
    Ok(
        match append(&*access.store, &record, &bytes, deadline).await? {
            Appended::Acknowledged => Beside::Appended(Box::new(LogHead { record, bytes })),
            Appended::Lost { newer } => Beside::Lost(newer),
        },
    )
}
