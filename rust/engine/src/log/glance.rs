//! The newest record of a repository that nobody has opened: what a look over a whole container costs.

use super::hint::read_hint;
use super::read::{at_slot, decode_slot, list_after};
use crate::store::Store;
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result, key};

/// The newest record, `None` without a log, in four requests for a log at rest: hint, listing behind it, the newest slot and the
/// one after it. `format` is not read, so the record stands for itself; nothing may be appended by what this returns.
///
/// Without a hint the listing begins at the first record, and a hint that leads nowhere costs a second listing.
pub(crate) async fn newest_record(store: &dyn Store) -> Result<Option<Record>> {
    let hinted = read_hint(store).await.unwrap_or(0);
    match search(store, hinted).await? {
        None if hinted > 0 => search(store, 0).await,
        found => Ok(found),
    }
}

async fn search(store: &dyn Store, start: u64) -> Result<Option<Record>> {
    let listed = list_after(store, start.saturating_sub(1)).await?;
    let Some(newest) = listed.last().copied() else {
        // A listing may be behind.
        return read(store, start + 1).await;
    };
    let (mut head, mut next) =
        futures::try_join!(read(store, newest), read(store, newest.saturating_add(1)))?;
    while let Some(found) = next {
        next = read(store, found.seq.saturating_add(1)).await?;
        head = Some(found);
    }
    head.map(Some).ok_or_else(|| {
        let why = "the store lists a record that it does not return; try again";
        Error::new(ErrorKind::Unavailable, "find newest record", why).at(key::log(newest))
    })
}

async fn read(store: &dyn Store, seq: u64) -> Result<Option<Record>> {
    let bytes = match store.get(&key::log(seq)).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let record = Record::decode(&bytes).map_err(|e| at_slot(seq, e))?;
    decode_slot(record.repository, seq, &bytes).map(Some)
}
