//! Finds the newest record.

use super::hint::read_hint;
use super::read::{list_after, read_slot};
use crate::store::Store;
use bytes::Bytes;
use futures::try_join;
use nbws_core::id::RepositoryId;
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result, key};

/// A record with its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogHead {
    pub(crate) record: Record,
    pub(crate) bytes: Bytes,
}

/// The newest record of the log; `None` if there is no log.
///
/// `known` is a record that this program saw in the store before; with it and nothing new, two reads are enough.
/// `floor` is the number of a record known to be committed, from local state or a control plane. `RollbackDetected` if the
/// log ends below either: somebody put back an older copy of the store.
///
/// Listings and the hint only say where to start. The end of the log is the first slot that a read finds empty.
pub(crate) async fn find_head(
    store: &dyn Store,
    repository: RepositoryId,
    known: Option<&LogHead>,
    floor: Option<u64>,
) -> Result<Option<LogHead>> {
    let proven = known
        .map_or(0, |known| known.record.seq)
        .max(floor.unwrap_or(0));
    if proven == 0
        && let Some(hinted) = read_hint(store).await
        && let Some(found) = search(store, repository, None, hinted).await?
    {
        return Ok(Some(found));
    }
    match search(store, repository, known, proven).await? {
        Some(found) => Ok(Some(found)),
        None if proven == 0 => Ok(None),
        None => Err(rolled_back(proven)),
    }
}

/// The newest record at or after `start`; `None` if neither a listing nor a read shows one.
async fn search(
    store: &dyn Store,
    repository: RepositoryId,
    known: Option<&LogHead>,
    start: u64,
) -> Result<Option<LogHead>> {
    // The listing includes `start` itself: its absence is the first sign of a rollback.
    let listed = list_after(store, start.saturating_sub(1)).await?;
    let newest = listed.last().copied().unwrap_or(start);
    let is_listed = !listed.is_empty();
    let after_newest = async {
        match newest.checked_add(1) {
            Some(next) => read_slot(store, repository, next).await,
            None => Ok(None),
        }
    };
    let usable = known.filter(|known| known.record.seq == newest && is_listed);
    let (mut head, mut next) = match usable {
        Some(known) => (Some(known.clone()), after_newest.await?),
        None if newest == 0 => (None, after_newest.await?),
        // Two slots at once: in a log at rest this ends the search one round trip earlier.
        None => try_join!(read_slot(store, repository, newest), after_newest)?,
    };
    if head.is_none() && next.is_none() && newest > 0 {
        // A listing shows what is gone, or only the hint or floor named it.
        return if is_listed {
            Err(vanished(newest))
        } else {
            Ok(None)
        };
    }
    while let Some(found) = next {
        next = match found.record.seq.checked_add(1) {
            Some(seq) => read_slot(store, repository, seq).await?,
            None => None,
        };
        head = Some(found);
    }
    Ok(head)
}

fn vanished(seq: u64) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "find newest record",
        "the store lists a record that it does not return; try again",
    )
    .at(key::log(seq))
}

fn rolled_back(proven: u64) -> Error {
    Error::new(
        ErrorKind::RollbackDetected,
        "find newest record",
        format!(
            "record {proven} was committed but is not in the store any more: the store was put back to an older copy, \
             or this is another store"
        ),
    )
    .at(key::log(proven))
}
