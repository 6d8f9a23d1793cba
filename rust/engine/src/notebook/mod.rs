//! The life of a notebook: the records that say who runs it and how it is. What they may say is decided by
//! [`nbws_core::lifecycle`]; which verbs make up a start or a stop is the caller's business.

mod append;
mod change;
mod claim;
mod heartbeat;
pub(crate) mod history;
mod hold;
mod look;
mod report;
mod session;
mod settings;
mod tombstone;

pub use claim::{ClaimOptions, DEFAULT_TTL};
pub use hold::Hold;
pub use report::{Claimed, FoundSession, LogEvent, TargetState};

use crate::Workspace;
use crate::ballast;
use crate::cancel::CancelToken;
use nbws_core::Result;
use nbws_core::state::State;
use std::path::Path;
use std::sync::Arc;

impl Workspace {
    /// Takes the right to run the notebook in `directory` on this machine, until the hold is dropped or the process ends. Makes
    /// the directory.
    ///
    /// `Conflict` if another process has it. Says nothing about other machines: [`Workspace::claim`] does.
    pub async fn hold(&self, directory: &Path) -> Result<Hold> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        hold::hold(&access, directory).await
    }

    /// What is known of a directory without reading its files; one or two requests. Changes nothing.
    pub async fn look(&self, directory: &Path) -> Result<TargetState> {
        look::look(&Arc::new(self.access(None, CancelToken::new())), directory).await
    }

    /// Opens a new epoch for the held directory: from here on every older writer is fenced. The state is then starting.
    ///
    /// `Conflict` if a session that is not known to be dead runs the notebook and `options.take_over` is not set, or if somebody
    /// else claimed at the same time; `InvalidState` if the notebook was deleted; `CommitUnknown` if the store did not say.
    pub async fn claim(&self, hold: &Hold, options: ClaimOptions) -> Result<Claimed> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        claim::claim(&access, hold, options).await
    }

    /// The newest session of this notebook on this machine, also if another process claimed it; none without local state.
    pub async fn session(&self) -> Result<Option<FoundSession>> {
        session::session(&Arc::new(self.access(None, CancelToken::new()))).await
    }

    /// Appends a change of state, or a comment on the present one, by the session of `directory`; without a directory by anybody.
    /// Returns the record's number.
    ///
    /// `Fenced` if another epoch is in force, `InvalidState` if the state can't follow.
    pub async fn change_state(
        &self,
        directory: Option<&Path>,
        state: State,
        comment: Option<String>,
        info: Option<String>,
    ) -> Result<u64> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        change::change(&access, directory, state, (comment, info)).await
    }

    /// Shows that the session of `writer` lives. One PUT; carries no safety.
    pub async fn beat(&self, writer: &str) -> Result<()> {
        heartbeat::beat(&self.access(None, CancelToken::new()), writer).await
    }

    /// When `writer` last showed that it lives, milliseconds since 1970 UTC by the store's clock; none if it never did.
    pub async fn heartbeat(&self, writer: &str) -> Result<Option<u64>> {
        heartbeat::last(&self.access(None, CancelToken::new()), writer).await
    }

    /// What the log says, oldest first: all of it, or from the last claim on. Reads each of these records once.
    pub async fn history(&self, since_claim: bool) -> Result<Vec<LogEvent>> {
        history::history(&self.access(None, CancelToken::new()), since_claim).await
    }

    /// Marks the notebook as deleted; the data stays. A running writer is fenced by it.
    pub async fn delete(&self) -> Result<u64> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        tombstone::delete(&access).await
    }

    /// Gives the data of a deleted notebook up, for good: writes a tombstone, then removes packs, index and heartbeats. `format`
    /// and the log stay, so that the id is not used again and the history is complete. May be repeated after a crash. So can what
    /// a fork or a creation left that has failed: a repository without a snapshot and a state.
    ///
    /// Returns the bytes that were removed. `InvalidState` unless the notebook was deleted, and while a fork of it is under way.
    pub async fn purge(&self) -> Result<u64> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        tombstone::purge(&access).await
    }

    /// The stored bytes that [`Workspace::purge`] would remove, or its refusal. Listings only.
    pub async fn purge_plan(&self) -> Result<u64> {
        tombstone::plan(&self.access(None, CancelToken::new())).await
    }

    /// What is set under `key`, as JSON text; none if nothing is. Keys are the caller's, but for those of prune.
    pub async fn setting(&self, key: &str) -> Result<Option<String>> {
        let access = self.access(None, CancelToken::new());
        settings::setting(&access, key).await
    }

    /// Sets `key` to a value, given as JSON text, or removes it. One record; other keys stay what they are.
    pub async fn set_setting(&self, key: String, value: Option<String>) -> Result<()> {
        let access = self.access(None, CancelToken::new());
        settings::set_setting(&access, key, value, false).await
    }

    /// As [`Workspace::set_setting`], for whoever makes the repository a notebook: `AlreadyExists` if somebody has done so.
    pub async fn set_first_setting(&self, key: String, value: Option<String>) -> Result<()> {
        let access = self.access(None, CancelToken::new());
        settings::set_setting(&access, key, value, true).await
    }

    /// When the repository was made, milliseconds since 1970 UTC by the clock of whoever made it.
    pub fn created_ms(&self) -> u64 {
        self.0.format.created_ms
    }

    /// Stores the 64 KiB of ballast if they are missing; whether they are there now. One request, two if they are stored.
    ///
    /// A full store takes a deletion, a purge or a prune's mark, because the ballast is given up for it.
    pub async fn keep_ballast(&self) -> Result<bool> {
        ballast::keep(&self.access(None, CancelToken::new())).await
    }

    /// A person says that what lies in `directory` may become the head: clears the latch and what a failed restore left.
    pub async fn clear_latch(&self, directory: &Path) -> Result<()> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        look::clear_latch(&access, directory).await
    }

    /// From here on saves of `directory` become rescues, until [`Workspace::clear_latch`].
    pub async fn set_latch(&self, directory: &Path, why: String) -> Result<()> {
        let access = Arc::new(self.access(None, CancelToken::new()));
        look::set_latch(&access, directory, why).await
    }
}
