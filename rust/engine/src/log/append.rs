//! Appends a record: the only commit primitive.
//!
//! A conditional write whose answer is lost may have landed, may land later, or may never land; a write that seems refused
//! may have met its own first copy. So every unclear answer is settled by reading the slot, only the same bytes are ever
//! sent again, and nothing is deleted. A record that did land is confirmed against the ones after it, because a slot whose
//! record was pruned can be taken a second time.

use super::head::LogHead;
use super::read::{decode_slot, list_after, read_after, read_slot};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::store::{Backoff, Created, Retrying, Store, pause, within};
use bytes::Bytes;
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result, key};
use std::future::Future;
use std::time::Duration;

const OPERATION: &str = "append record";
/// How long an unclear outcome is pursued without a nearer deadline.
const PATIENCE: Duration = Duration::from_secs(600);
/// First wait before the record is sent again; short, because most lost replies are single events.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// Longest wait: a save stands still meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How often a slot that reads as damaged is read again before it counts as damaged.
const DAMAGED_READS: u32 = 3;

/// Outcome of an append that is decided.
#[derive(Debug)]
pub(crate) enum Appended {
    /// The record is the newest of the log, or was when newer ones were built on it.
    Acknowledged,
    /// Somebody else's record has the slot. Nothing of this record is in the log, now or later.
    Lost {
        /// Every record from that slot on, in order. If older ones were pruned in between, from the oldest that is left.
        newer: Vec<Record>,
    },
}

/// What the slot holds.
enum Slot {
    Ours,
    Theirs(Box<LogHead>),
    Empty,
}

/// Appends `record`, whose exact bytes are `bytes`, as number `record.seq`. Undisturbed: one create and one listing.
///
/// `CommitUnknown` if the store does not say until `deadline` whether the record landed: then keep the bytes and append
/// them again before anything else goes into this slot. Every other error means that no copy that this call sent is in the
/// log or on its way there.
pub(crate) async fn append(
    store: &dyn Store,
    record: &Record,
    bytes: &Bytes,
    deadline: Deadline,
) -> Result<Appended> {
    if record.encode()? != bytes[..] {
        return Err(Error::internal(
            OPERATION,
            "the bytes are not those of the record",
        ));
    }
    if deadline.passed() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            OPERATION,
            "the deadline passed before the record was sent",
        )
        .at(key::log(record.seq)));
    }
    let attempt = Attempt {
        store,
        record,
        bytes,
        key: key::log(record.seq),
        deadline: deadline.min(Deadline::after(PATIENCE)),
    };
    match attempt.settle().await? {
        Slot::Theirs(theirs) => attempt.lost(Some(theirs.record)).await,
        _ => attempt.confirm().await,
    }
}

struct Attempt<'a> {
    store: &'a dyn Store,
    record: &'a Record,
    bytes: &'a Bytes,
    key: String,
    deadline: Deadline,
}

impl Attempt<'_> {
    /// Sends the record until the slot is taken, by it or by another.
    async fn settle(&self) -> Result<Slot> {
        let mut backoff = Backoff::new(FIRST_WAIT);
        // Whether some copy of the record may still be on its way.
        let mut in_flight = false;
        let mut damaged = 0;
        loop {
            let created = self
                .bounded(self.store.create(&self.key, self.bytes.clone()))
                .await;
            let refused = match created {
                Ok(Created::Yes) => return Ok(Slot::Ours),
                Ok(Created::Exists) => None,
                Err(e) if is_refusal(e.kind()) => Some(e),
                Err(e) => {
                    in_flight = true;
                    if e.kind() == ErrorKind::Cancelled {
                        return Err(self.unknown(&e));
                    }
                    None
                }
            };
            let failure = match self.look().await {
                Ok(Slot::Empty) => match refused {
                    // The store said no to every copy, and none is there: that is an answer.
                    Some(e) if !in_flight => return Err(e),
                    _ => None,
                },
                Ok(taken) => return Ok(taken),
                Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
                Err(e) if e.kind() == ErrorKind::Corrupt => {
                    damaged += 1;
                    if damaged >= DAMAGED_READS {
                        return Err(e);
                    }
                    Some(e)
                }
                Err(e) => match refused {
                    Some(first) if !in_flight && is_refusal(e.kind()) => return Err(first),
                    _ if e.kind() == ErrorKind::Cancelled => return Err(self.unknown(&e)),
                    _ => Some(e),
                },
            };
            self.wait(&mut backoff, failure.as_ref()).await?;
        }
    }

    /// Reads the slot.
    async fn look(&self) -> Result<Slot> {
        let bytes = match self.bounded(self.store.get(&self.key)).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Slot::Empty),
            Err(e) => return Err(e),
        };
        if bytes == *self.bytes {
            return Ok(Slot::Ours);
        }
        let record = decode_slot(self.record.repository, self.record.seq, &bytes)?;
        if record.commit == self.record.commit {
            return Err(
                Error::corrupt(OPERATION, "another record bears the same commit id")
                    .at(self.key.clone()),
            );
        }
        Ok(Slot::Theirs(Box::new(LogHead { record, bytes })))
    }

    /// Our record is in the slot; makes sure that the log goes through it.
    ///
    /// Prune deletes oldest first, so a slot that is taken while the log goes on elsewhere had been pruned.
    async fn confirm(&self) -> Result<Appended> {
        let store = self.patient();
        let mut backoff = Backoff::new(FIRST_WAIT);
        loop {
            let listed = list_after(&store, self.record.seq)
                .await
                .map_err(|e| self.unknown(&e))?;
            let (Some(&first), Some(seq)) = (listed.first(), self.record.seq.checked_add(1)) else {
                return Ok(Appended::Acknowledged);
            };
            match read_slot(&store, self.record.repository, seq).await {
                Ok(Some(next)) if next.record.parent == Some(self.record.commit) => {
                    return Ok(Appended::Acknowledged);
                }
                // A store that lists what it does not return yet is asked again.
                Ok(None) if first == seq => self.wait(&mut backoff, None).await?,
                Ok(_) => return self.lost(None).await,
                Err(e) => return Err(self.unknown(&e)),
            }
        }
    }

    async fn lost(&self, theirs: Option<Record>) -> Result<Appended> {
        let after = read_after(&self.patient(), self.record.repository, self.record.seq).await?;
        Ok(Appended::Lost {
            newer: theirs.into_iter().chain(after).collect(),
        })
    }

    /// The store with every read repeated until the deadline.
    fn patient(&self) -> Retrying<&dyn Store> {
        Retrying::new(self.store, self.deadline, CancelToken::new())
    }

    /// Waits before the next attempt, or gives up when it would come after the deadline.
    async fn wait(&self, backoff: &mut Backoff, last: Option<&Error>) -> Result<()> {
        let wait = backoff.next_wait().min(LONGEST_WAIT);
        if self.deadline.remaining().is_some_and(|left| left <= wait) {
            let silence = Error::new(ErrorKind::Unavailable, OPERATION, "none");
            return Err(self.unknown(last.unwrap_or(&silence)));
        }
        pause(wait, &CancelToken::new()).await
    }

    async fn bounded<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        within(
            self.deadline,
            &CancelToken::new(),
            OPERATION,
            &self.key,
            request,
        )
        .await
    }

    fn unknown(&self, last: &Error) -> Error {
        Error::new(
            ErrorKind::CommitUnknown,
            OPERATION,
            format!(
                "the store did not say whether the record landed (last answer: {}); nothing was deleted, and the next \
                 start or save finds out",
                last.message()
            ),
        )
        .at(self.key.clone())
    }
}

/// Whether the store itself said that it did not do it.
pub(crate) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied
            | ErrorKind::QuotaExceeded
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
    )
}
