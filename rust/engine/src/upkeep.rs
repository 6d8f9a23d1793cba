//! The public surface, second half: what keeps a repository small, and what keeps snapshots in it.

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::options::{PruneOptions, Retention};
use crate::progress::ProgressSink;
use crate::prune::{self, PinnedSnapshot, PruneReport};
use crate::settings::{Edit, change_settings, read_settings};
use crate::store::within;
use crate::workspace::Workspace;
use nbws_core::{Error, ErrorKind, Result};

impl Workspace {
    /// Forgets snapshots by the rules and deletes what nothing needs any more; without `apply` only tells what would be done.
    ///
    /// Safe beside saves, restores and other prunes, and it may stop anywhere: the next one goes on. Packs are first marked, and
    /// deleted by a prune after the grace. `InvalidState` if so much would go that `force` is needed; `Corrupt` if the log, the
    /// index or a kept snapshot can't be read whole: then nothing is deleted.
    pub async fn prune(
        &self,
        options: PruneOptions,
        progress: Option<ProgressSink>,
        cancel: CancelToken,
    ) -> Result<PruneReport> {
        let access = self.access(progress, cancel.clone());
        let Some(limit) = options.time_limit else {
            return prune::prune(&access, &options).await;
        };
        let deadline = Deadline::after(limit);
        let pruned = prune::prune(&access, &options);
        match within(deadline, &cancel, "prune", "", pruned).await {
            Err(e) if e.kind() == ErrorKind::Unavailable && deadline.passed() => {
                let why =
                    "its time is over; what it did counts, and the next one goes on from there";
                Err(Error::new(ErrorKind::Unavailable, "prune", why).caused_by(e))
            }
            outcome => outcome,
        }
    }

    /// Withdraws the newest Mark that is in its grace, and returns its number: what it forgot is back. `NotFound` if there is none.
    pub async fn cancel_prune(&self) -> Result<u64> {
        prune::cancel(&self.access(None, CancelToken::new())).await
    }

    /// The rules of this repository; none if it has none of its own.
    pub async fn retention(&self) -> Result<Option<Retention>> {
        let access = self.access(None, CancelToken::new());
        read_settings(&access).await?.retention()
    }

    /// Sets the rules of this repository, or leaves it to its container's again. One record, and a pack that holds it.
    pub async fn set_retention(&self, retention: Option<Retention>) -> Result<()> {
        let access = self.access(None, CancelToken::new());
        let edit = Edit::Retention(retention);
        change_settings(&access, edit).await.map(drop)
    }

    /// The pins of the settings, by snapshot.
    pub async fn pins(&self) -> Result<Vec<PinnedSnapshot>> {
        let access = self.access(None, CancelToken::new());
        let pins = read_settings(&access).await?.pins()?;
        Ok(pins.into_iter().map(PinnedSnapshot::from).collect())
    }

    /// Keeps a snapshot or rescue whatever the rules say, until a time in milliseconds since 1970 UTC or for good. Returns its id.
    ///
    /// `NotFound` if nothing has this name, `InvalidInput` if several have.
    pub async fn pin(
        &self,
        snapshot: &str,
        until_ms: Option<u64>,
        comment: Option<String>,
    ) -> Result<String> {
        let access = self.access(None, CancelToken::new());
        let edit = Edit::Pin {
            name: snapshot.to_owned(),
            until_ms,
            comment,
        };
        let pinned = change_settings(&access, edit).await?;
        Ok(pinned.map(|id| id.to_hex()).unwrap_or_default())
    }

    /// Ends the pin of a snapshot, named by its id or a unique prefix of it. `NotFound` if it has none.
    pub async fn unpin(&self, snapshot: &str) -> Result<()> {
        let access = self.access(None, CancelToken::new());
        let edit = Edit::Unpin(snapshot.to_owned());
        change_settings(&access, edit).await.map(drop)
    }
}
