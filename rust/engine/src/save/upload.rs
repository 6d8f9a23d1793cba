//! Step 8 of a save, second half: one pack on its way into the store.

use super::pace::{Pace, tail_patience};
use crate::budget::ByteBudget;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::local::cache::StateFolder;
use crate::store::within;
use nbws_core::id::ContainerId;
use nbws_core::index::IndexPartBuilder;
use nbws_core::pack::{FrameSlot, SealedPack};
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// What became of a pack.
pub(super) enum Fate {
    /// It is in the store; its length.
    Stored(u64),
    /// The deadline came first. Whether it lands after all does not matter: nothing will name it.
    GivenUp(ContainerId, Vec<FrameSlot>),
}

pub(super) struct Upload {
    pub(super) store: Arc<dyn crate::store::Store>,
    pub(super) slots: Arc<tokio::sync::Semaphore>,
    pub(super) pace: Arc<Pace>,
    pub(super) is_tail: bool,
    pub(super) cancel: CancelToken,
    pub(super) budget: Arc<ByteBudget>,
    pub(super) folder: Option<StateFolder>,
    pub(super) base_seq: u64,
    pub(super) weight: u64,
}

impl Upload {
    pub(super) async fn run(self, sealed: SealedPack) -> Result<Fate> {
        let outcome = match self.is_tail {
            true => self.send_in_any_case(sealed).await,
            false => self.send(sealed).await,
        };
        self.budget.release(self.weight);
        outcome
    }

    /// Sends a pack if there is time.
    async fn send(&self, sealed: SealedPack) -> Result<Fate> {
        let SealedPack { key, bytes, frames } = sealed;
        let length = bytes.len() as u64;
        let given_up = |frames| Ok(Fate::GivenUp(key.id, frames));
        let slot = self.slots.acquire();
        let Some(slot) = self.pace.unless_over(slot, &self.cancel).await? else {
            return given_up(frames);
        };
        let _slot = slot.map_err(|e| Error::internal("upload", e.to_string()))?;
        let Some(turn) = self.pace.turn(length, &self.cancel).await? else {
            return given_up(frames);
        };
        let name = key.to_string();
        match self.put(&name, bytes, self.pace.deadline()).await {
            Ok(()) => turn.finish(),
            Err(e) if e.kind() == ErrorKind::Unavailable && self.pace.deadline().passed() => {
                return given_up(frames);
            }
            Err(e) => return Err(e),
        }
        self.journal(key.id, &frames);
        Ok(Fate::Stored(length))
    }

    async fn send_in_any_case(&self, sealed: SealedPack) -> Result<Fate> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|e| Error::internal("upload", e.to_string()))?;
        let SealedPack { key, bytes, frames } = sealed;
        let length = bytes.len() as u64;
        self.pace.last_turn(length, &self.cancel).await?;
        let patience = match self.pace.is_bounded() {
            true => Deadline::after(tail_patience(length)),
            false => Deadline::NEVER,
        };
        self.put(&key.to_string(), bytes, patience).await?;
        self.journal(key.id, &frames);
        Ok(Fate::Stored(length))
    }

    async fn put(&self, name: &str, bytes: Vec<u8>, deadline: Deadline) -> Result<()> {
        let request = self.store.put(name, bytes.into());
        within(deadline, &self.cancel, "store pack", name, request).await
    }

    fn journal(&self, pack: ContainerId, frames: &[FrameSlot]) {
        let Some(folder) = &self.folder else { return };
        let mut journal = IndexPartBuilder::new();
        for frame in frames {
            journal.add_frame(pack, frame);
        }
        // Losing the journal costs a second upload, not data.
        if let Err(error) = folder.store_uploaded(pack, self.base_seq, journal.finish().bytes()) {
            tracing::debug!(%error, "uploaded pack is not journalled");
        }
    }
}
