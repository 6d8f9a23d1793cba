//! A save that finds nothing to store: no new snapshot, at most a record with the comment.

use super::Start;
use super::plan::Planned;
use super::report::describe_scan;
use crate::base;
use crate::beside::{Beside, append_beside};
use crate::options::SaveOptions;
use crate::report::SaveReport;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::id::SnapshotId;
use nbws_core::record::{Body, Head, Record, StateBody};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};

/// Nothing differs from the workspace head: no new snapshot. A comment becomes a record of its own.
pub(crate) async fn unchanged(
    access: &Access,
    target: &mut Target,
    start: &Start,
    planned: &Planned,
    options: &SaveOptions,
) -> Result<SaveReport> {
    let Some(known) = &start.head else {
        return Err(Error::internal("save", "no head"));
    };
    let newest = match target.is_open {
        true => base::newest(access, target.known_head().as_ref()).await?,
        false => None,
    };
    let record = newest.as_ref().map_or(&known.record, |h| &h.record);
    let head = record
        .head
        .ok_or_else(|| Error::internal("save", "no workspace head"))?;
    if Some(head.snapshot) != known.record.head.map(|h| h.snapshot) {
        return Err(outdated(Some(head)));
    }
    if let Some(newest) = &newest {
        check_still_writes(target, &known.record, &newest.record, options)?;
        target.set_head(&newest.bytes);
    }
    let mut seq = record.seq;
    if let Some(comment) = &options.comment {
        seq = commit_comment(access, target, record, comment).await?;
    }
    target.store_session_or_go_on(&access.inner);
    let usage = record.usage;
    let mut report = SaveReport {
        complete: true,
        snapshot: head.snapshot.to_hex(),
        seq,
        files_total: usage.files,
        bytes_total: usage.bytes,
        ..SaveReport::default()
    };
    describe_scan(&mut report, planned);
    Ok(report)
}

/// What an open writer found out only now: that a session took over, or the notebook was deleted. There is nothing to rescue, but a
/// plain success would let it go on as if its next save could count.
fn check_still_writes(
    target: &Target,
    known: &Record,
    newest: &Record,
    options: &SaveOptions,
) -> Result<()> {
    let was_owner = target.session.epoch == Some(known.epoch);
    let why = match newest.state {
        State::Deleting if known.state != State::Deleting => "the notebook was deleted".to_owned(),
        _ if was_owner && newest.epoch > known.epoch => format!(
            "fenced: writer {} has opened epoch {}",
            newest.writer, newest.epoch
        ),
        _ => return target.check_may_write(Some(newest), options.take_over),
    };
    let text = format!("{why}; everything here had been saved before");
    Err(Error::new(ErrorKind::Fenced, "save", text))
}

/// The directory holds the tree of snapshot `held` and nothing else: there is no work that a rescue would keep.
pub(crate) fn nothing_to_rescue(held: SnapshotId, start: &Start, planned: &Planned) -> SaveReport {
    let mut report = SaveReport {
        snapshot: held.to_hex(),
        seq: start.head.as_ref().map_or(0, |h| h.record.seq),
        ..SaveReport::default()
    };
    describe_scan(&mut report, planned);
    report
}

/// Appends a comment on the present state; no snapshot changes. Returns the record's number.
async fn commit_comment(
    access: &Access,
    target: &mut Target,
    newest: &Record,
    comment: &str,
) -> Result<u64> {
    let body = Body::State(StateBody {
        comment: Some(comment.to_owned()),
        info: None,
    });
    let mut newest = newest.clone();
    loop {
        match append_beside(access, &newest, target.session.writer, body.clone()).await? {
            Beside::Appended(head) => {
                target.set_head(&head.bytes);
                return Ok(head.record.seq);
            }
            Beside::Lost(newer) => {
                if newer.iter().any(|r| r.head != newest.head) {
                    return Err(outdated(newer.last().and_then(|r| r.head)));
                }
                newest = newer.last().cloned().unwrap_or(newest);
            }
        }
    }
}

fn outdated(head: Option<Head>) -> Error {
    let head = head.map_or("gone".to_owned(), |h| h.snapshot.to_hex());
    Error::new(
        ErrorKind::Fenced,
        "save",
        format!("another writer has saved since (the head is {head}); nothing has changed here"),
    )
}
