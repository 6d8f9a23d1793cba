//! Deleting a notebook keeps its data; a purge removes it.

use super::append::{Decide, Next, append_next};
use crate::base;
use crate::workspace::Access;
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::record::{Body, Record, TombstoneBody};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result, key};

/// Deletes in flight.
const CONCURRENCY: usize = 16;
/// What a purge removes. `format` and the log stay.
const REMOVED: [&str; 5] = ["packs/", "index/", "hb/", "probe/", "keys/"];

/// Marks the notebook as deleted. One that is deleted stays so.
pub(super) async fn delete(access: &Access) -> Result<u64> {
    Ok(append_next(access, None, &Delete).await?.record.seq)
}

struct Delete;

#[async_trait]
impl Decide for Delete {
    fn operation(&self) -> &'static str {
        "delete"
    }

    async fn decide(&self, _: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        let Some(newest) = newest else {
            let why = "the notebook was never created";
            return Err(Error::new(ErrorKind::NotFound, "delete", why));
        };
        Ok((newest.state != State::Deleting).then(|| tombstone(newest, false)))
    }
}

fn tombstone(newest: &Record, purge: bool) -> Next {
    Next {
        body: Body::Tombstone(TombstoneBody { purge }),
        state: State::Deleting,
        epoch: newest.epoch,
    }
}

/// Removes the data of a deleted notebook. The tombstone first: whoever finds some objects gone finds out why.
pub(super) async fn purge(access: &Access) -> Result<u64> {
    let newest = base::newest(access, None).await?.map(|head| head.record);
    let is_purged = newest
        .as_ref()
        .is_some_and(|r| matches!(&r.body, Body::Tombstone(body) if body.purge));
    // A full bucket takes a small record once the ballast is gone.
    access.store.delete(key::BALLAST).await?;
    if !is_purged {
        append_next(access, None, &Purge).await?;
    }
    let mut freed = 0;
    for prefix in REMOVED {
        let listed = access.store.list(prefix, None).await?;
        freed += listed.iter().map(|object| object.size).sum::<u64>();
        stream::iter(listed)
            .map(|object| async move { access.store.delete(&object.key).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(freed)
}

struct Purge;

#[async_trait]
impl Decide for Purge {
    fn operation(&self) -> &'static str {
        "purge"
    }

    async fn decide(&self, _: &Access, newest: Option<&Record>) -> Result<Option<Next>> {
        match newest {
            Some(newest) if newest.state == State::Deleting => Ok(Some(tombstone(newest, true))),
            Some(newest) => Err(Error::new(
                ErrorKind::InvalidState,
                "purge",
                format!(
                    "the notebook is {}; delete it first, then its data can be purged",
                    newest.state
                ),
            )),
            None => {
                let why = "the notebook was never created";
                Err(Error::new(ErrorKind::NotFound, "purge", why))
            }
        }
    }
}
