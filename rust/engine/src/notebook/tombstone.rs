//! Deleting a notebook keeps its data; a purge removes it.

use super::append::{Decide, Next, append_next};
use crate::base;
use crate::clock::now_ms;
use crate::directories::is_damage;
use crate::settings::settings;
use crate::store::ObjectInfo;
use crate::workspace::Access;
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::record::{Body, Record, TombstoneBody};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result, key};

const PURGE: &str = "purge";
/// Deletes in flight.
const CONCURRENCY: usize = 16;
/// What a purge removes. `format`, the log, its ledger and `hint` stay.
const REMOVED: [&str; 6] = ["packs/", "index/", "hb/", "probe/", "keys/", key::BALLAST];

/// Marks the notebook as deleted. One that is deleted stays so.
pub(super) async fn delete(access: &Access) -> Result<u64> {
    let delete = Delete {
        is_abandoned: false,
    };
    Ok(append_next(access, None, &delete).await?.record.seq)
}

struct Delete {
    /// What a fork or a creation left that has failed, instead of a notebook.
    is_abandoned: bool,
}

#[async_trait]
impl Decide for Delete {
    fn operation(&self) -> &'static str {
        "delete"
    }

    async fn decide(&self, _: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        if newest.is_some_and(|record| record.state == State::Deleting) {
            return Ok(None);
        }
        match newest {
            None if !self.is_abandoned => {
                let why = "the notebook was never created";
                Err(Error::new(ErrorKind::NotFound, "delete", why))
            }
            Some(newest) if self.is_abandoned && !is_abandoned(Some(newest)) => {
                let why = "somebody has saved there, or made it a notebook";
                Err(Error::new(ErrorKind::Conflict, PURGE, why))
            }
            newest => Ok(Some(tombstone(newest, false))),
        }
    }
}

/// Whether a repository is what a fork or a creation leaves that has failed: nothing was saved there, and it is no notebook.
fn is_abandoned(newest: Option<&Record>) -> bool {
    newest.is_none_or(|r| r.state == State::None && r.head.is_none() && r.index.is_none())
}

fn tombstone(newest: Option<&Record>, purge: bool) -> Next {
    Next {
        body: Body::Tombstone(TombstoneBody { purge }),
        state: State::Deleting,
        epoch: newest.map_or(1, |record| record.epoch),
    }
}

/// Removes the data of a deleted notebook. The tombstone first: whoever finds some objects gone finds out why.
pub(super) async fn purge(access: &Access) -> Result<u64> {
    let newest = base::newest(access, None).await?.map(|head| head.record);
    let is_purged = newest.as_ref().is_some_and(is_purge);
    if is_abandoned(newest.as_ref()) {
        // From here on whoever would have finished it loses.
        append_next(access, None, &Delete { is_abandoned: true }).await?;
    }
    if !is_purged {
        append_next(access, None, &Purge).await?;
    }
    let listed = removable(access).await?;
    let freed = listed.iter().map(|object| object.size).sum();
    stream::iter(listed)
        .map(|object| async move { access.store.delete(&object.key).await })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(freed)
}

/// The bytes that a purge would remove; its refusal, if it were refused.
pub(super) async fn plan(access: &Access) -> Result<u64> {
    let newest = base::newest(access, None).await?.map(|head| head.record);
    if let Some(newest) = newest
        .as_ref()
        .filter(|r| !is_abandoned(Some(r)) && !is_purge(r))
    {
        check_purge(access, newest).await?;
    }
    let listed = removable(access).await?;
    Ok(listed.iter().map(|object| object.size).sum())
}

async fn removable(access: &Access) -> Result<Vec<ObjectInfo>> {
    let mut found = Vec::new();
    for prefix in REMOVED {
        found.extend(access.store.list(prefix, None).await?);
    }
    Ok(found)
}

fn is_purge(record: &Record) -> bool {
    matches!(&record.body, Body::Tombstone(body) if body.purge)
}

/// Fails unless the notebook was deleted, and while a fork of it copies what the purge would remove.
async fn check_purge(access: &Access, newest: &Record) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidState, PURGE, why));
    if newest.state != State::Deleting {
        return refuse(format!(
            "the notebook is {}; delete it first, then its data can be purged",
            newest.state
        ));
    }
    // What can't be read any more keeps nobody from giving the data up.
    let settings = match settings(access, None, Some(newest)).await {
        Err(e) if is_damage(&e) => return Ok(()),
        settings => settings?,
    };
    let now = now_ms();
    let forks = settings.forks()?;
    let Some(fork) = forks.iter().find(|fork| fork.until_ms > now) else {
        return Ok(());
    };
    let minutes = (fork.until_ms - now).div_ceil(60_000);
    refuse(format!(
        "the fork {} copies snapshot {} out of it; wait until it is made. If it has died, that ends by itself in {} h {} min",
        fork.target,
        fork.snapshot,
        minutes / 60,
        minutes % 60
    ))
}

struct Purge;

#[async_trait]
impl Decide for Purge {
    fn operation(&self) -> &'static str {
        PURGE
    }

    async fn decide(&self, access: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        let Some(record) = newest else {
            let why = "the notebook was never created";
            return Err(Error::new(ErrorKind::NotFound, PURGE, why));
        };
        check_purge(access, record).await?;
        Ok(Some(tombstone(newest, true)))
    }
}
