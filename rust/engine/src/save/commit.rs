//! Step 10 of a save: the record; and what happens when somebody else was faster.

use super::root::{Stored, refresh_index};
use crate::clock::Deadline;
use crate::log::{Appended, LogHead, append, is_refusal, write_hint};
use crate::rights::purged;
use crate::session::{COMMIT_PATIENCE, Target};
use crate::settings::check_writers;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::id::CommitId;
use nbws_core::lifecycle::{AfterLoss, after_loss, check_append};
use nbws_core::record::{Body, Head, Kind, Record, RescueBody, SnapshotBody, Usage};
use nbws_core::state::State;
use nbws_core::{Error, Result};

/// The hint is renewed every so many records.
const HINT_EVERY: u64 = 64;

/// Whether the work becomes the head, or is kept beside it and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Head,
    Rescue(String),
}

/// How a commit ended.
pub(crate) enum Committed {
    /// The record is in the log.
    Done { seq: u64, intent: Intent },
    /// Chunks that the work relies on may be doomed: plan again on the newest index, as what it can still become.
    Replan {
        newest: Box<LogHead>,
        intent: Intent,
    },
}

/// What records that took the slot mean for pending work. The two questions are independent: fenced work too may rely on packs
/// that were marked meanwhile.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Another writer owns the head now.
    is_fenced: bool,
    /// Packs were marked or moved, or records are missing in between that may have done so.
    is_doomed: bool,
    /// The data was purged.
    is_purged: bool,
}

fn verdict(before: Option<&Record>, pending: &Record, newer: &[Record]) -> Verdict {
    let is_gap = newer.first().is_none_or(|r| r.seq != pending.seq);
    let mut found = Verdict {
        is_doomed: is_gap,
        is_fenced: is_gap
            && newer
                .last()
                .is_some_and(|last| has_moved(before, pending, last)),
        ..Verdict::default()
    };
    for winner in newer {
        found.is_doomed |= matches!(winner.kind(), Kind::Mark | Kind::Repack);
        match after_loss(pending, winner) {
            AfterLoss::Retry => {}
            AfterLoss::Purged => found.is_purged = true,
            AfterLoss::Fenced | AfterLoss::Conflict | AfterLoss::Recompute => {
                found.is_fenced = true;
            }
        }
    }
    found
}

/// Whether records that can't be read any more must have fenced the pending one: what is newest now does not follow from what it
/// was built on.
fn has_moved(before: Option<&Record>, pending: &Record, last: &Record) -> bool {
    let is_own = (last.writer, last.epoch) == (pending.writer, pending.epoch);
    let known = before.map_or((0, None), |r| (r.epoch, r.head));
    !is_own && known != (last.epoch, last.head)
}

/// Appends the record of `stored`; rebases, becomes a rescue, or asks for a new plan when it loses its slot.
///
/// Nothing that was stored is ever removed because a commit failed.
pub(crate) async fn commit(
    access: &Access,
    target: &mut Target,
    mut head: Option<LogHead>,
    stored: &mut Stored,
    mut intent: Intent,
) -> Result<Committed> {
    loop {
        let newest = head.as_ref().map(|h| &h.record);
        refresh_index(access, target, newest, stored).await?;
        let record = build_record(access, target, newest, stored, &intent)?;
        check_append(newest, &record)?;
        let bytes = Bytes::from(record.encode()?);
        target.note_pending(&access.inner, Some(&bytes));
        let deadline = Deadline::after(COMMIT_PATIENCE);
        let appended = append(&*access.store, &record, &bytes, deadline).await;
        if appended.as_ref().is_err_and(|e| is_refusal(e.kind())) {
            // Decided: it must not turn up later.
            target.note_pending(&access.inner, None);
        }
        match appended? {
            Appended::Acknowledged => {
                target.set_head(&bytes);
                target.session.pending = None;
                if record.seq.is_multiple_of(HINT_EVERY) {
                    write_hint(&*access.store, record.seq).await;
                }
                return Ok(Committed::Done {
                    seq: record.seq,
                    intent,
                });
            }
            Appended::Lost { newer } => {
                let found = verdict(newest, &record, &newer);
                let last = newer
                    .last()
                    .ok_or_else(|| Error::internal("save", "lost to nobody"))?;
                let new_head = LogHead {
                    record: last.clone(),
                    bytes: Bytes::from(last.encode()?),
                };
                target.set_head(&new_head.bytes);
                target.note_pending(&access.inner, None);
                if found.is_purged {
                    return Err(purged());
                }
                if found.is_fenced && intent == Intent::Head {
                    intent = Intent::Rescue(format!("fenced by writer {}", last.writer));
                }
                if found.is_doomed {
                    let newest = Box::new(new_head);
                    return Ok(Committed::Replan { newest, intent });
                }
                if newer.iter().any(|r| r.kind() == Kind::Settings) {
                    check_writers(access, target.folder.as_ref(), Some(last)).await?;
                }
                head = Some(new_head);
            }
        }
    }
}

fn build_record(
    access: &Access,
    target: &Target,
    newest: Option<&Record>,
    stored: &Stored,
    intent: &Intent,
) -> Result<Record> {
    let before = newest.map_or(Usage::default(), |r| r.usage);
    let mut usage = Usage {
        objects: before.objects + stored.packs + 1,
        stored_bytes: before.stored_bytes + stored.stored_bytes,
        ..before
    };
    let seq = newest.map_or(1, |r| r.seq + 1);
    let state = newest.map_or(State::None, |r| r.state);
    let (body, head, state, epoch) = match intent {
        Intent::Head => {
            (usage.bytes, usage.files) = (stored.bytes, stored.files);
            let head = Head {
                root: stored.root,
                snapshot: stored.snapshot,
            };
            let joined = newest.filter(|r| target.owns(r));
            let body = Body::Snapshot(snapshot_body(stored, joined.is_none()));
            match joined {
                Some(newest) => (body, Some(head), state, newest.epoch),
                None => (
                    body,
                    Some(head),
                    state_after(state, stored.partial),
                    newest.map_or(1, |r| r.epoch + 1),
                ),
            }
        }
        Intent::Rescue(reason) => {
            let epoch = newest.map_or(1, |r| r.epoch);
            (
                Body::Rescue(rescue_body(stored, reason)),
                newest.and_then(|r| r.head),
                state,
                epoch,
            )
        }
    };
    let mut record = Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        epoch,
        head,
        index: Some(stored.index),
        parent: newest.map(|r| r.commit),
        repository: access.inner.repository(),
        seq,
        settings: newest.and_then(|r| r.settings),
        state,
        time_ms: crate::clock::now_ms(),
        usage,
        writer: target.session.writer,
    };
    // The record counts itself; its length hardly depends on the count.
    record.usage.stored_bytes += record.encode()?.len() as u64;
    Ok(record)
}

/// The state after a one-shot snapshot (`docs/consistency.md`): a live notebook that it took over is stopped.
fn state_after(state: State, partial: bool) -> State {
    match state {
        State::Starting | State::Running | State::Stopping | State::Restarting => State::Stopped,
        State::SyncFailed if !partial => State::Stopped,
        other => other,
    }
}

fn snapshot_body(stored: &Stored, one_shot: bool) -> SnapshotBody {
    SnapshotBody {
        base: stored.base,
        bytes: stored.bytes,
        comment: stored.comment.clone(),
        files: stored.files,
        framework: stored.label.framework.clone(),
        one_shot,
        origin: stored.label.origin.clone().unwrap_or_default(),
        partial: stored.partial,
        pin_base_until_ms: stored.pin_base_until_ms,
        python: stored.label.python.clone(),
        root: stored.root,
        snapshot: stored.snapshot,
        tree_root: stored.tree_root,
    }
}

fn rescue_body(stored: &Stored, reason: &str) -> RescueBody {
    RescueBody {
        base: stored.base,
        bytes: stored.bytes,
        comment: stored.comment.clone(),
        files: stored.files,
        framework: stored.label.framework.clone(),
        origin: "rescue".to_owned(),
        partial: stored.partial,
        python: stored.label.python.clone(),
        reason: reason.to_owned(),
        root: stored.root,
        snapshot: stored.snapshot,
        tree_root: stored.tree_root,
    }
}
