//! `tree_root`: one hash for what a tree means (`docs/format.md`, section 6.4).

use super::Entry;
use super::entry::put_logical;
use crate::id::TreeRoot;

/// Enough at a time for the wide code paths of the hash.
const FLUSH_BYTES: usize = 64 << 10;

/// Hashes entries in tree order; equal trees have equal roots on any machine.
#[derive(Debug, Default)]
pub struct TreeRootHasher {
    hasher: blake3::Hasher,
    pending: Vec<u8>,
}

impl TreeRootHasher {
    /// Of no entries yet.
    pub fn new() -> Self {
        TreeRootHasher::default()
    }

    /// Adds the next entry; an omitted one does not count.
    pub fn push(&mut self, entry: &Entry) {
        if entry.is_omitted() {
            return;
        }
        put_logical(&mut self.pending, entry);
        if self.pending.len() >= FLUSH_BYTES {
            self.flush();
        }
    }

    /// The root.
    pub fn finish(mut self) -> TreeRoot {
        self.flush();
        TreeRoot(*self.hasher.finalize().as_bytes())
    }

    fn flush(&mut self) {
        self.hasher.update(&self.pending);
        self.pending.clear();
    }
}
