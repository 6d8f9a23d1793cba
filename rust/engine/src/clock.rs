//! Time: the only file of the engine that asks for it.

use std::sync::Mutex;
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

/// Spreads bytes over time: never more than so many per second. Time in which nothing was sent is not made up for.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: Option<u64>,
    start: Instant,
    /// When what was reserved has had its time, since the start.
    free_at: Mutex<Duration>,
}

impl RateLimit {
    /// `None` does not limit.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        RateLimit {
            bytes_per_second,
            start: Instant::now(),
            free_at: Mutex::default(),
        }
    }

    /// How long to wait before `bytes` more may be sent: as long as they take at this rate, after everything before them.
    pub(crate) fn reserve(&self, bytes: u64) -> Duration {
        let Some(time) = self.time_of(bytes) else {
            return Duration::ZERO;
        };
        let now = self.start.elapsed();
        let mut free_at = self.free_at.lock().unwrap_or_else(|e| e.into_inner());
        *free_at = now.max(*free_at) + time;
        *free_at - now
    }

    /// Takes back a reservation that is not used.
    pub(crate) fn give_back(&self, bytes: u64) {
        if let Some(time) = self.time_of(bytes) {
            let mut free_at = self.free_at.lock().unwrap_or_else(|e| e.into_inner());
            *free_at = free_at.saturating_sub(time);
        }
    }

    fn time_of(&self, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_second?.max(1);
        Some(Duration::from_secs_f64(bytes as f64 / rate as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_have_to_wait_too() {
        let limit = RateLimit::new(Some(1_000));
        let first = limit.reserve(500_000);
        assert!(first > Duration::from_secs(499), "{first:?}");
        assert!(limit.reserve(500_000) > Duration::from_secs(999));
        limit.give_back(500_000);
        let next = limit.reserve(1_000);
        assert!(
            next > Duration::from_secs(499) && next < Duration::from_secs(502),
            "{next:?}"
        );
        assert_eq!(RateLimit::new(None).reserve(u64::MAX), Duration::ZERO);
    }
}
