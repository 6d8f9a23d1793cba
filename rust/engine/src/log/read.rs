//! Reads records by number.

use super::head::LogHead;
use crate::store::Store;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use nbws_core::id::RepositoryId;
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result, key};
use std::collections::BTreeMap;

/// How many records are read at once.
const PARALLEL_READS: usize = 16;

/// Decodes what lies in slot `seq`, and checks that it belongs there.
pub(super) fn decode_slot(repository: RepositoryId, seq: u64, bytes: &Bytes) -> Result<Record> {
    let record = Record::decode(bytes).map_err(|e| at_slot(seq, e))?;
    if record.repository != repository {
        let why = format!("belongs to repository {}", record.repository);
        return Err(Error::corrupt("read record", why).at(key::log(seq)));
    }
    if record.seq != seq {
        let why = format!("holds record {}", record.seq);
        return Err(Error::corrupt("read record", why).at(key::log(seq)));
    }
    Ok(record)
}

/// Names the slot in an error about its bytes.
pub(super) fn at_slot(seq: u64, error: Error) -> Error {
    let why = match error.subject() {
        "" => error.message().to_owned(),
        subject => format!("{} ({subject})", error.message()),
    };
    Error::new(error.kind(), "read record", why)
        .at(key::log(seq))
        .caused_by(error)
}

/// Whether a slot holds something that this program can't understand, as opposed to a store that does not answer.
pub(crate) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported)
}

/// The record in slot `seq`, `None` if the slot is empty.
pub(super) async fn read_slot(
    store: &dyn Store,
    repository: RepositoryId,
    seq: u64,
) -> Result<Option<LogHead>> {
    match store.get(&key::log(seq)).await {
        Ok(bytes) => {
            let record = decode_slot(repository, seq, &bytes)?;
            Ok(Some(LogHead { record, bytes }))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Records `first` to `last`, in order, 16 requests at a time; nothing if `last` is below `first`. `Corrupt` if one of them
/// is missing. Parents are not compared.
pub(crate) async fn read_from(
    store: &dyn Store,
    repository: RepositoryId,
    first: u64,
    last: u64,
) -> Result<Vec<Record>> {
    stream::iter(first..=last)
        .map(|seq| read_existing(store, repository, seq))
        .buffered(PARALLEL_READS)
        .try_collect()
        .await
}

/// As [`read_from`], for readers of a log that may be damaged: also what could not be understood, or is missing.
pub(crate) async fn read_each(
    store: &dyn Store,
    repository: RepositoryId,
    first: u64,
    last: u64,
) -> Result<(Vec<Record>, Vec<Error>)> {
    let mut reads = stream::iter(first..=last)
        .map(|seq| read_existing(store, repository, seq))
        .buffered(PARALLEL_READS);
    let (mut records, mut damage) = (Vec::new(), Vec::new());
    while let Some(read) = reads.next().await {
        match read {
            Ok(record) => records.push(record),
            Err(error) if is_unreadable(&error) => damage.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((records, damage))
}

async fn read_existing(store: &dyn Store, repository: RepositoryId, seq: u64) -> Result<Record> {
    match read_slot(store, repository, seq).await? {
        Some(found) => Ok(found.record),
        None => Err(
            Error::corrupt("read log", "is missing although newer records exist").at(key::log(seq)),
        ),
    }
}

/// Numbers of the records that a listing shows after `seq`, rising. A listing may be behind: what it shows exists or
/// existed, what it does not show may exist as well.
pub(super) async fn list_after(store: &dyn Store, seq: u64) -> Result<Vec<u64>> {
    let after = key::log(seq);
    let listed = store.list(key::LOG, Some(&after)).await?;
    Ok(listed
        .iter()
        .filter_map(|object| key::log_seq(&object.key))
        .filter(|found| *found > seq)
        .collect())
}

/// When the store took each record that a listing shows, by number, in milliseconds since 1970 UTC by its own clock.
pub(crate) async fn list_modified(store: &dyn Store) -> Result<BTreeMap<u64, u64>> {
    let listed = store.list(key::LOG, None).await?;
    Ok(listed
        .iter()
        .filter_map(|o| Some((key::log_seq(&o.key)?, o.modified_ms)))
        .collect())
}

/// Every record after `seq`, in order: from the oldest that is left to the newest. A record below a slot that is empty was
/// put there after the log had been pruned: no part of the log goes through it.
pub(super) async fn read_after(
    store: &dyn Store,
    repository: RepositoryId,
    seq: u64,
) -> Result<Vec<Record>> {
    let listed = list_after(store, seq).await?;
    let mut newest = listed.last().copied().unwrap_or(seq);
    let mut records = Vec::new();
    if let Some(&first) = listed.first() {
        let mut slots = stream::iter(first..=newest)
            .map(|seq| read_slot(store, repository, seq))
            .buffered(PARALLEL_READS);
        while let Some(slot) = slots.next().await {
            match slot? {
                Some(found) => records.push(found.record),
                None => records.clear(),
            }
        }
    }
    while let Some(next) = newest.checked_add(1) {
        let Some(found) = read_slot(store, repository, next).await? else {
            break;
        };
        records.push(found.record);
        newest = next;
    }
    Ok(records)
}
