//! Progress of long work, about ten times a second.

use crate::clock::Stopwatch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where a verb stands. Totals are 0 until they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: `scan`, `save`, `commit`, `plan`, `restore`, `check`.
    pub phase: &'static str,
    /// Files finished.
    pub files_done: u64,
    /// Files to do.
    pub files_total: u64,
    /// Plain bytes finished.
    pub bytes_done: u64,
    /// Plain bytes to do.
    pub bytes_total: u64,
}

/// Receives progress on a thread of the engine; must return quickly.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

const INTERVAL: Duration = Duration::from_millis(100);

/// Counts from many threads; tells the sink at most every 100 ms.
pub(crate) struct Meter {
    sink: Option<ProgressSink>,
    files_done: AtomicU64,
    bytes_done: AtomicU64,
    shared: Mutex<Shared>,
}

struct Shared {
    phase: &'static str,
    files_total: u64,
    bytes_total: u64,
    last: Option<Stopwatch>,
}

impl Meter {
    pub(crate) fn new(sink: Option<ProgressSink>) -> Self {
        Meter {
            sink,
            files_done: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
            shared: Mutex::new(Shared {
                phase: "scan",
                files_total: 0,
                bytes_total: 0,
                last: None,
            }),
        }
    }

    /// Begins a phase with known totals, from zero.
    pub(crate) fn begin(&self, phase: &'static str, files_total: u64, bytes_total: u64) {
        self.files_done.store(0, Ordering::Relaxed);
        self.bytes_done.store(0, Ordering::Relaxed);
        if let Ok(mut shared) = self.shared.lock() {
            *shared = Shared {
                phase,
                files_total,
                bytes_total,
                last: None,
            };
            self.tell(&mut shared);
        }
    }

    /// Adds finished work.
    pub(crate) fn add(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        if self.sink.is_none() {
            return;
        }
        // A busy lock means that another thread is telling right now.
        if let Ok(mut shared) = self.shared.try_lock()
            && shared.last.is_none_or(|last| last.elapsed() >= INTERVAL)
        {
            self.tell(&mut shared);
        }
    }

    /// Tells the sink the final counts of the phase.
    pub(crate) fn end(&self) {
        if let Ok(mut shared) = self.shared.lock() {
            self.tell(&mut shared);
        }
    }

    fn tell(&self, shared: &mut Shared) {
        shared.last = Some(Stopwatch::start());
        if let Some(sink) = &self.sink {
            sink(Progress {
                phase: shared.phase,
                files_done: self.files_done.load(Ordering::Relaxed),
                files_total: shared.files_total,
                bytes_done: self.bytes_done.load(Ordering::Relaxed),
                bytes_total: shared.bytes_total,
            });
        }
    }
}
