//! Time: the only file of the engine that asks for it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 UTC by the local clock. Carries no safety: a wrong clock only shows wrong ages.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Measures how long something took, by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A moment after which waiting and retrying ends; `None` never ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Deadline = Deadline(None);

    /// `duration` from now.
    pub fn after(duration: Duration) -> Self {
        Deadline(Instant::now().checked_add(duration))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }

    /// Time left: `None` without a deadline, zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.0
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }
}

/// Spreads bytes over time: at most so many per second on average since the start.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: Option<u64>,
    start: Instant,
    sent: std::sync::atomic::AtomicU64,
}

impl RateLimit {
    /// `None` does not limit.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        RateLimit {
            bytes_per_second,
            start: Instant::now(),
            sent: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// How long to wait before `bytes` more may be sent; they count as sent from now on.
    pub(crate) fn delay(&self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let before = self
            .sent
            .fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let due = Duration::from_secs_f64(before as f64 / rate.max(1) as f64);
        due.saturating_sub(self.start.elapsed())
    }
}
