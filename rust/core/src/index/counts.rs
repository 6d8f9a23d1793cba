//! How often each chunk of an index is referred to: one number a chunk, whatever its id.

use super::{ChunkLocation, ChunkNumber, Index};
use crate::id::ChunkId;

/// References to the chunks of one index: 4 bytes for each chunk that it names.
pub struct ChunkCounts {
    index: Index,
    counts: Vec<Vec<u32>>,
}

impl ChunkCounts {
    /// Nothing is referred to yet.
    pub fn new(index: &Index) -> Self {
        let counts = index.parts().iter().map(|part| vec![0; part.len()]);
        ChunkCounts {
            counts: counts.collect(),
            index: index.clone(),
        }
    }

    /// Adds a reference to chunk `id`; its number, and how many there were before. `None` if the index does not know it.
    pub fn add(&mut self, id: &ChunkId) -> Option<(ChunkNumber, u32)> {
        let number = self.index.find(id)?;
        let count = self.count(number)?;
        let before = *count;
        *count = before.saturating_add(1);
        Some((number, before))
    }

    /// Takes a reference to chunk `id` away; its number. `None` if the index does not know it.
    pub fn remove(&mut self, id: &ChunkId) -> Option<ChunkNumber> {
        let number = self.index.find(id)?;
        let count = self.count(number)?;
        *count = count.saturating_sub(1);
        Some(number)
    }

    /// Whether nothing refers to the chunk with this number.
    pub fn is_unused(&self, number: ChunkNumber) -> bool {
        let part = self.counts.get(number.part as usize);
        part.and_then(|part| part.get(number.at as usize)) == Some(&0)
    }

    /// Where the chunk with this number lies.
    pub fn location(&self, number: ChunkNumber) -> Option<ChunkLocation> {
        self.index.get(number).map(|(_, at)| at)
    }

    fn count(&mut self, number: ChunkNumber) -> Option<&mut u32> {
        let part = self.counts.get_mut(number.part as usize)?;
        part.get_mut(number.at as usize)
    }
}
