//! Stores for tests: they record, fail, delay or lie, around any other store.

mod faulty;
mod recording;
mod slow;
mod stale_list;

pub use faulty::{Fault, Faulty};
pub use recording::{Recording, Request};
pub use slow::Slow;
pub use stale_list::{StaleList, Staleness};

/// One verb of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `put`
    Put,
    /// `create`
    Create,
    /// `get`
    Get,
    /// `get_range`
    GetRange,
    /// `head`
    Head,
    /// `list`
    List,
    /// `delete`
    Delete,
}

impl Verb {
    /// Whether it changes the store.
    pub fn writes(self) -> bool {
        matches!(self, Verb::Put | Verb::Create | Verb::Delete)
    }
}

/// The `n`-th number of the sequence named `seed`: the same on every run and machine (SplitMix64).
pub fn random(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
