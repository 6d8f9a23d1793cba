//! Appends a record of a session: what was lost is judged by the rules, a fate that stays open is noted on this disk.

use crate::ballast;
use crate::base;
use crate::beside::{counted, following};
use crate::clock::Deadline;
use crate::log::{Appended, append, is_refusal};
use crate::rights::purged;
use crate::session::{COMMIT_PATIENCE, Target};
use crate::settings::check_writers;
use crate::workspace::Access;
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::id::WriterId;
use nbws_core::lifecycle::{AfterLoss, after_loss, check_append};
use nbws_core::record::{Body, Record};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};

/// What a record says beyond what it carries on.
pub(super) struct Next {
    pub(super) body: Body,
    pub(super) state: State,
    pub(super) epoch: u64,
}

/// Says what follows the newest record.
#[async_trait]
pub(super) trait Decide: Sync {
    /// What it is part of, for errors.
    fn operation(&self) -> &'static str;
    /// None if nothing is left to do.
    async fn decide(&self, access: &Access, newest: Option<&Record>) -> Result<Option<Next>>;
}

/// An append that was acknowledged, or was not needed.
pub(super) struct Done {
    /// The record that was appended; the newest one if nothing was left to do.
    pub(super) record: Record,
    /// The record before it.
    pub(super) before: Option<Record>,
}

/// Appends what `decide` says of the newest record, as the writer of `target` (without one: as a writer of its own), and again as long as
/// only records win that don't concern it.
///
/// `Conflict` if somebody else was first, `Fenced` if a newer epoch is in force, `InvalidState` if the rules forbid it.
pub(super) async fn append_next(
    access: &Access,
    mut target: Option<&mut Target>,
    decide: &dyn Decide,
) -> Result<Done> {
    access.inner.check_writable()?;
    let writer = match &target {
        Some(target) => target.session.writer,
        None => WriterId(crate::random::bytes()?),
    };
    loop {
        access.cancel.check()?;
        let newest = base::newest(access, None).await?.map(|head| head.record);
        check_writers(access, None, newest.as_ref()).await?;
        if newest.as_ref().is_some_and(is_purge) {
            return Err(purged());
        }
        let Some(next) = decide.decide(access, newest.as_ref()).await? else {
            let nothing = || Error::internal(decide.operation(), "there is no record");
            return Ok(Done {
                record: newest.ok_or_else(nothing)?,
                before: None,
            });
        };
        let record = build(access, newest.as_ref(), writer, next)?;
        check_append(newest.as_ref(), &record)?;
        let bytes = Bytes::from(record.encode()?);
        note(access, &mut target, Some(&bytes));
        let deadline = Deadline::after(COMMIT_PATIENCE);
        let mut appended = append(&*access.store, &record, &bytes, deadline).await;
        if ballast::is_for(&record.body)
            && ballast::made_room(access, appended.as_ref().err()).await
        {
            appended = append(&*access.store, &record, &bytes, deadline).await;
        }
        if appended.as_ref().is_err_and(|e| is_refusal(e.kind())) {
            note(access, &mut target, None);
        }
        match appended? {
            Appended::Acknowledged => {
                if let Some(target) = &mut target {
                    target.set_head(&bytes);
                    if matches!(record.body, Body::Claim(_)) {
                        // In one write with the end of the pending record: a crash in between would leave a claim that nobody knows.
                        target.session.epoch = Some(record.epoch);
                    }
                }
                note(access, &mut target, None);
                return Ok(Done {
                    record,
                    before: newest,
                });
            }
            Appended::Lost { newer } => {
                note(access, &mut target, None);
                judge(&record, &newer, decide.operation())?;
            }
        }
    }
}

fn is_purge(record: &Record) -> bool {
    matches!(&record.body, Body::Tombstone(body) if body.purge)
}

fn note(access: &Access, target: &mut Option<&mut Target>, bytes: Option<&[u8]>) {
    if let Some(target) = target {
        target.note_pending(&access.inner, bytes);
    }
}

fn build(access: &Access, newest: Option<&Record>, writer: WriterId, next: Next) -> Result<Record> {
    let mut record = Record {
        epoch: next.epoch,
        state: next.state,
        ..following(access, newest, writer, next.body)?
    };
    if is_purge(&record) {
        (record.head, record.index, record.settings) = (None, None, None);
    }
    counted(record)
}

/// Returns if the record may be tried again.
fn judge(record: &Record, newer: &[Record], operation: &'static str) -> Result<()> {
    for winner in newer {
        let kind = match after_loss(record, winner) {
            AfterLoss::Retry | AfterLoss::Recompute => continue,
            AfterLoss::Purged => return Err(purged()),
            AfterLoss::Fenced => ErrorKind::Fenced,
            AfterLoss::Conflict => ErrorKind::Conflict,
        };
        let text = format!(
            "writer {} was faster (record {}, epoch {}, {})",
            winner.writer,
            winner.seq,
            winner.epoch,
            winner.kind()
        );
        return Err(Error::new(kind, operation, text));
    }
    Ok(())
}
