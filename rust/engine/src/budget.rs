//! Memory and threads as budgets: how much a verb may hold in flight, and on how many cores it may work.

use crate::cancel::CancelToken;
use nbws_core::Result;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What one verb may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Worker threads, at least 1.
    pub(crate) threads: usize,
    /// Bytes that may be in flight.
    pub(crate) memory_bytes: u64,
}

impl Resources {
    /// The caller's wishes, or the cores this process may use and an eighth of its memory limit (64 to 256 MiB).
    pub(crate) fn choose(threads: Option<usize>, memory_bytes: Option<u64>) -> Self {
        let threads = threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .clamp(1, 64);
        let memory_bytes = memory_bytes.unwrap_or_else(|| {
            (crate::local::cache::memory_limit_bytes().unwrap_or(u64::MAX) / 8)
                .clamp(64 * MIB, 256 * MIB)
        });
        Resources {
            threads,
            memory_bytes: memory_bytes.max(16 * MIB),
        }
    }

    /// Size at which a pack is sealed: an eighth of the budget, 8 to 32 MiB.
    pub(crate) fn pack_target_bytes(&self) -> usize {
        (self.memory_bytes / 8).clamp(8 * MIB, 32 * MIB) as usize
    }
}

/// A byte semaphore. One holder may exceed the whole budget alone, so that an oversized piece can't deadlock.
pub(crate) struct ByteBudget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

impl ByteBudget {
    pub(crate) fn new(limit: u64) -> Self {
        ByteBudget {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until `bytes` fit; fails when cancelled.
    pub(crate) fn acquire(&self, bytes: u64, cancel: &CancelToken) -> Result<()> {
        let mut used = self.used.lock().unwrap_or_else(|e| e.into_inner());
        while *used > 0 && *used + bytes > self.limit {
            cancel.check()?;
            used = self
                .freed
                .wait_timeout(used, Duration::from_millis(50))
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        *used += bytes;
        Ok(())
    }

    /// Gives `bytes` back.
    pub(crate) fn release(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(|e| e.into_inner());
        *used = used.saturating_sub(bytes);
        drop(used);
        self.freed.notify_all();
    }
}
