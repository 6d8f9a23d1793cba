//! `ledger/`: what is known of records that were removed, and their removal.

use super::append::is_refusal;
use crate::cancel::CancelToken;
use crate::store::{Backoff, Created, Store, pause};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use nbws_core::id::RepositoryId;
use nbws_core::ledger::Ledger;
use nbws_core::{Error, ErrorKind, Result, key};
use std::time::Duration;

const WRITE: &str = "write ledger";
/// How often the same bytes are sent before the outcome counts as unknown.
const ATTEMPTS: u32 = 6;
/// First wait before the ledger is sent again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Deletes in flight; each group ends before the next, newer one begins.
const PARALLEL_DELETES: usize = 16;

/// The newest ledger, if there is one.
///
/// A listing that hides it does no harm: the records that it stands for are missing then, which is an error and not an answer.
pub(crate) async fn newest_ledger(
    store: &dyn Store,
    repository: RepositoryId,
) -> Result<Option<Ledger>> {
    let listed = store.list(key::LEDGER, None).await?;
    let newest = listed.iter().filter_map(|o| key::ledger_seq(&o.key)).max();
    let Some(seq) = newest else {
        return Ok(None);
    };
    let bytes = store
        .get(&key::ledger(seq))
        .await
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Error::corrupt("read ledger", "is listed and not there").at(key::ledger(seq))
            }
            _ => e,
        })?;
    decode(repository, seq, &bytes).map(Some)
}

fn decode(repository: RepositoryId, seq: u64, bytes: &[u8]) -> Result<Ledger> {
    let name = key::ledger(seq);
    let ledger = Ledger::decode(bytes).map_err(|e| {
        Error::new(e.kind(), "read ledger", e.message().to_owned()).at(name.clone())
    })?;
    if ledger.seq() != seq || ledger.last.repository != repository {
        return Err(Error::corrupt("read ledger", "belongs elsewhere").at(name));
    }
    Ok(ledger)
}

/// Writes a ledger, unless another prune has written it. Returns only when it was read back.
///
/// An error says nothing about whether it is there. Since it only repeats what the log says, that does no harm.
pub(crate) async fn write_ledger(store: &dyn Store, ledger: &Ledger) -> Result<()> {
    let name = key::ledger(ledger.seq());
    let bytes = Bytes::from(ledger.encode()?);
    let mut backoff = Backoff::new(FIRST_WAIT);
    let mut failure = None;
    for _ in 0..ATTEMPTS {
        match store.create(&name, bytes.clone()).await {
            Ok(Created::Yes | Created::Exists) => {}
            Err(e) if is_refusal(e.kind()) => return Err(e),
            Err(e) => failure = Some(e),
        }
        match store.get(&name).await {
            Ok(found) if found == bytes => return Ok(()),
            // Of another version of this program, perhaps; it must mean the same log.
            Ok(found) => {
                let theirs = decode(ledger.last.repository, ledger.seq(), &found)?;
                return match theirs.last == ledger.last {
                    true => Ok(()),
                    false => Err(Error::corrupt(WRITE, "another log is folded there").at(name)),
                };
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => failure = Some(e),
        }
        pause(backoff.next_wait(), &CancelToken::new()).await?;
    }
    let silence = Error::new(ErrorKind::Unavailable, WRITE, "the store does not keep it").at(name);
    Err(failure.unwrap_or(silence))
}

/// Removes the records up to and including `last`, oldest first, and older ledgers. The ledger `last` must be there.
pub(crate) async fn remove_records(store: &dyn Store, last: u64) -> Result<u64> {
    let listed = store.list(key::LOG, None).await?;
    let records = listed.into_iter().filter_map(|o| {
        let seq = key::log_seq(&o.key)?;
        (seq <= last).then_some(o.key)
    });
    let records: Vec<String> = records.collect();
    for group in records.chunks(PARALLEL_DELETES) {
        delete_all(store, group).await?;
    }
    let ledgers = store.list(key::LEDGER, None).await?;
    let older = ledgers.into_iter().filter_map(|o| {
        let seq = key::ledger_seq(&o.key)?;
        (seq < last).then_some(o.key)
    });
    delete_all(store, &older.collect::<Vec<_>>()).await?;
    Ok(records.len() as u64)
}

async fn delete_all(store: &dyn Store, names: &[String]) -> Result<()> {
    let deletes: Vec<_> = names.iter().map(|name| store.delete(name)).collect();
    stream::iter(deletes)
        .buffer_unordered(PARALLEL_DELETES)
        .try_collect()
        .await
}
