//! Finds the newest record.

use super::hint::read_hint;
use super::read::{is_unreadable, list_after, read_slot};
use crate::store::Store;
use bytes::Bytes;
use futures::try_join;
use nbws_core::id::RepositoryId;
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result, key};

/// How often the search is made before a record counts as damaged.
const DAMAGED_READS: usize = 3;

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

/// As [`find_head`], for readers: the newest record that this program understands, and the errors about newer ones.
///
/// Something newer may have been committed, so nothing may be appended by what this returns.
pub(crate) async fn find_readable_head(
    store: &dyn Store,
    repository: RepositoryId,
    known: Option<&LogHead>,
    floor: Option<u64>,
) -> Result<(Option<LogHead>, Vec<Error>)> {
    let mut errors = Vec::new();
    let mut seq = loop {
        let error = match find_head(store, repository, known, floor).await {
            Ok(head) => return Ok((head, Vec::new())),
            Err(error) => error,
        };
        let Some(seq) = key::log_seq(error.subject()).filter(|_| is_unreadable(&error)) else {
            return Err(error);
        };
        errors.push(error);
        // The transfer may have done the damage.
        if errors.len() == DAMAGED_READS {
            break seq;
        }
    };
    errors.truncate(1);
    // Damage is rare and local: an older record is near.
    while seq > 1 {
        seq -= 1;
        match read_slot(store, repository, seq).await {
            Ok(Some(head)) => return Ok((Some(head), errors)),
            Ok(None) => {}
            Err(e) if is_unreadable(&e) => errors.push(e),
            Err(e) => return Err(e),
        }
    }
    Err(errors.swap_remove(0))
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
