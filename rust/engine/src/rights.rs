//! Whether a target may write, and whether what it holds may become the head (`docs/consistency.md`).

use crate::session::Target;
use nbws_core::record::{Body, Record};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};

/// Nothing follows a purge.
pub(crate) fn purged() -> Error {
    Error::new(
        ErrorKind::InvalidState,
        "save",
        "the notebook was purged; its data can't be brought back by a save",
    )
}

impl Target {
    /// Whether the session of this target owns the epoch in force and may still write in it: `newest` is the newest record.
    pub(crate) fn owns(&self, newest: &Record) -> bool {
        let may_write = newest.state.is_live() || newest.state == State::SyncFailed;
        may_write && self.session.epoch == Some(newest.epoch)
    }

    /// Why a save of this target's session can't move the head, if so: another epoch is in force, or the session has ended.
    pub(crate) fn not_in_session(&self, newest: Option<&Record>) -> Option<String> {
        let newest = newest?;
        if self.owns(newest) {
            return None;
        }
        Some(match self.session.epoch {
            Some(epoch) if epoch < newest.epoch => {
                format!(
                    "fenced: writer {} has opened epoch {}",
                    newest.writer, newest.epoch
                )
            }
            Some(_) => format!("the session has ended: the notebook is {}", newest.state),
            None => "this directory belongs to no session; start the notebook first".to_owned(),
        })
    }

    /// Believes, without sending anything, that a pending snapshot is committed if it is the head: what settles it comes later.
    pub(crate) fn believe_head(&mut self, newest: Option<&Record>) {
        let head = newest.and_then(|r| r.head).map(|head| head.snapshot);
        let pending = self.session.pending.as_deref();
        if let Some(Ok(record)) = pending.map(|text| Record::decode(text.as_bytes()))
            && let Body::Snapshot(body) = &record.body
            && head == Some(body.snapshot)
        {
            self.session.proof = head;
        }
    }

    /// Why the target may not become the head, if so (`docs/consistency.md`).
    pub(crate) fn unproven(&self, newest: Option<&Record>, take_over: bool) -> Option<String> {
        let newest = newest?;
        if newest.state == State::Deleting {
            return Some("the notebook was deleted".to_owned());
        }
        let head = newest.head?.snapshot;
        if take_over {
            return None;
        }
        if let Some(latch) = &self.session.latch {
            return Some(latch.clone());
        }
        if self.is_half_restored {
            return Some("a restore into the directory has not finished".to_owned());
        }
        match self.session.proof {
            Some(proof) if proof == head => None,
            Some(_) => Some(format!(
                "another writer has saved since; the head is now {head}"
            )),
            None => {
                Some("the directory was never restored from or saved to this repository".to_owned())
            }
        }
    }

    /// Fails with `InvalidState` where the repository belongs to a running notebook that this writer is not part of, or was
    /// purged.
    pub(crate) fn check_may_write(&self, head: Option<&Record>, take_over: bool) -> Result<()> {
        let Some(head) = head else { return Ok(()) };
        if matches!(&head.body, Body::Tombstone(body) if body.purge) {
            return Err(purged());
        }
        if head.state.is_live() && !self.owns(head) && !take_over {
            return Err(Error::new(
                ErrorKind::InvalidState,
                "save",
                format!(
                    "the notebook is {} elsewhere (epoch {}); stop it there, or take over",
                    head.state.name(),
                    head.epoch
                ),
            ));
        }
        Ok(())
    }
}
