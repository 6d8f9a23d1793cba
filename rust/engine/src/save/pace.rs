//! What a deadline means for the packs of a save: which may still be sent, how large they are, and when to stop.
//!
//! Packs are sent in order of worth. None begins that would take the time of the last pack, which holds the tree, and of the record;
//! how much time that is follows from the rate that the store is seen to take bytes at. What is under way may go on until the
//! deadline and is then given up: its name is never used again, so it does not matter whether it lands.

use crate::cancel::CancelToken;
use crate::clock::{Deadline, RateLimit, Stopwatch};
use crate::store::pause;
use nbws_core::Result;
use nbws_core::plan::pace::{Flow, may_begin, pack_bytes, seconds_left};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// How often a wait looks at the time.
const GLANCE: Duration = Duration::from_millis(20);

/// The last pack is sent after the deadline, too: a save that gave up there would have stored nothing. Only a store that takes less
/// than this many bytes a second, or says nothing for so long, makes it fail.
const TAIL_PATIENCE: Duration = Duration::from_secs(10);
const SLOWEST_LINK: u64 = 32 << 10;

/// How long the last pack may take after the deadline.
pub(crate) fn tail_patience(bytes: u64) -> Duration {
    TAIL_PATIENCE + Duration::from_secs(bytes / SLOWEST_LINK)
}

/// Shared by the packer and its uploads.
pub(crate) struct Pace {
    deadline: Deadline,
    total_s: f64,
    tail_bytes: u64,
    limit: RateLimit,
    watch: Stopwatch,
    flow: Mutex<Flow>,
    /// Held by the pack whose turn is next; who waits is served in order.
    gate: tokio::sync::Mutex<()>,
    freed: Notify,
}

/// The right to have one pack under way.
pub(crate) struct Turn {
    pace: Arc<Pace>,
    bytes: u64,
    began_s: f64,
    is_done: bool,
}

impl Turn {
    /// The pack is stored.
    pub(crate) fn finish(mut self) {
        self.is_done = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = self.pace.watch.elapsed().as_secs_f64();
        let span = (self.began_s, now);
        self.pace.flow().end(self.bytes, span, self.is_done);
        self.pace.freed.notify_one();
    }
}

impl Pace {
    /// `tail_bytes`: about as many bytes as the last pack will have.
    pub(crate) fn new(deadline: Deadline, limit_rate: Option<u64>, tail_bytes: u64) -> Self {
        Pace {
            total_s: deadline.remaining().map_or(0.0, |d| d.as_secs_f64()),
            deadline,
            tail_bytes,
            limit: RateLimit::new(limit_rate),
            watch: Stopwatch::start(),
            flow: Mutex::new(Flow::new(limit_rate)),
            gate: tokio::sync::Mutex::new(()),
            freed: Notify::new(),
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether there is a deadline at all.
    pub(crate) fn is_bounded(&self) -> bool {
        self.deadline.remaining().is_some()
    }

    /// Seconds for what is not the last pack; `None` without a deadline.
    pub(crate) fn left_s(&self) -> Option<f64> {
        let left = self.deadline.remaining()?.as_secs_f64();
        Some(seconds_left(
            left,
            self.total_s,
            self.tail_bytes,
            self.flow().rate(),
        ))
    }

    /// Nothing more is read or begun.
    pub(crate) fn is_over(&self) -> bool {
        self.left_s().is_some_and(|left| left <= 0.0)
    }

    /// The moment at which what is under way is given up.
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The size at which a pack is sealed, `full` at most; `sealed` were before it.
    pub(crate) fn pack_bytes(&self, full: usize, sealed: u64) -> usize {
        match self.left_s() {
            None => full,
            Some(left) => pack_bytes(self.flow().rate(), left, sealed, full),
        }
    }

    /// How long a pack that is not full may wait for more; `None`: as long as it takes.
    pub(crate) fn idle_time(&self) -> Option<Duration> {
        const SHARE: f64 = 8.0;
        let left = self.left_s()?.max(0.0);
        Some(
            Duration::try_from_secs_f64(left / SHARE)
                .unwrap_or_default()
                .max(GLANCE),
        )
    }

    /// Whether so many bytes are better sent with the tree than in a pack of their own: the time for them is there, or they hardly
    /// take any.
    pub(crate) fn is_worth_waiting(&self, bytes: usize) -> bool {
        let Some(left) = self.left_s() else {
            return true;
        };
        nbws_core::plan::pace::fits_in_tail(bytes as u64, left, self.flow().rate())
    }

    /// Waits until `bytes` may be sent; `None` if they can't be in time. Whoever asks first is served first.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        bytes: u64,
        cancel: &CancelToken,
    ) -> Result<Option<Turn>> {
        let Some(_gate) = self.unless_over(self.gate.lock(), cancel).await? else {
            return Ok(None);
        };
        loop {
            cancel.check()?;
            let left = self.left_s();
            if left.is_some_and(|left| left <= 0.0) {
                return Ok(None);
            }
            if left.is_none_or(|left| may_begin(&self.flow(), bytes, left)) {
                break;
            }
            // Somebody may have ended meanwhile; the time goes on in any case.
            let _ = tokio::time::timeout(GLANCE, self.freed.notified()).await;
        }
        let wait = self.limit.reserve(bytes);
        if self.left_s().is_some_and(|left| wait.as_secs_f64() > left) {
            self.limit.give_back(bytes);
            return Ok(None);
        }
        pause(wait, cancel).await?;
        let began_s = self.watch.elapsed().as_secs_f64();
        self.flow().begin(bytes, began_s);
        Ok(Some(Turn {
            pace: Arc::clone(self),
            bytes,
            began_s,
            is_done: false,
        }))
    }

    /// The turn of the last pack, which is sent in any case.
    pub(crate) async fn last_turn(&self, bytes: u64, cancel: &CancelToken) -> Result<()> {
        pause(self.limit.reserve(bytes), cancel).await
    }

    /// Waits for `work` while there is time.
    pub(crate) async fn unless_over<T>(
        &self,
        work: impl Future<Output = T>,
        cancel: &CancelToken,
    ) -> Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(GLANCE, &mut work).await {
                return Ok(Some(done));
            }
            cancel.check()?;
            if self.is_over() {
                return Ok(None);
            }
        }
    }
}
