//! Where each chunk lies: parts, the root that lists them, and lookup over all of them (`docs/format.md`, section 9).

mod build;
mod counts;
mod fold;
mod live;
mod part;
mod root;

pub use build::IndexPartBuilder;
pub use counts::ChunkCounts;
pub use fold::fold_plan;
pub use live::{FrameUse, LiveChunks, PackUse};
pub use part::IndexPart;
pub use root::{IndexRoot, PartRef};

use crate::id::{ChunkId, ContainerId};
use std::sync::Arc;

/// Where a chunk lies: pack, frame, and its place in the plain bytes of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLocation {
    /// The pack.
    pub pack: ContainerId,
    /// Position of the frame in the pack.
    pub offset: u32,
    /// Length of the frame with its header.
    pub stored_len: u32,
    /// Length of the frame after decoding.
    pub plain_len: u32,
    /// Position of the chunk in the plain bytes of the frame.
    pub chunk_offset: u32,
    /// Length of the chunk.
    pub chunk_len: u32,
}

impl ChunkLocation {
    /// The chunk's part of the stored bytes of its frame, by plain bytes. The parts of all chunks of a frame add up to the whole
    /// frame exactly: what lies before the end of the chunk minus what lies before its start, each rounded down.
    pub fn stored_share(&self) -> u64 {
        let before = |plain: u64| match self.plain_len {
            0 => 0,
            of => u64::from(self.stored_len) * plain / u64::from(of),
        };
        let start = u64::from(self.chunk_offset);
        before(start + u64::from(self.chunk_len)) - before(start)
    }
}

/// Which part of an index names a chunk, and where in it: 8 bytes that stand for id and location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkNumber {
    part: u32,
    at: u32,
}

/// All live parts of one index.
#[derive(Clone, Default)]
pub struct Index {
    parts: Vec<Arc<IndexPart>>,
}

impl Index {
    /// An index of these parts, oldest first.
    pub fn new(parts: Vec<Arc<IndexPart>>) -> Self {
        Index { parts }
    }

    /// Where chunk `id` lies, by the newest part that names it.
    pub fn lookup(&self, id: &ChunkId) -> Option<ChunkLocation> {
        self.parts.iter().rev().find_map(|part| part.lookup(id))
    }

    /// The number of chunk `id`, by the newest part that names it; good for this index only.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkNumber> {
        let named = |(part, named): (usize, &Arc<IndexPart>)| {
            let at = named.find(id)?;
            Some(ChunkNumber {
                part: part as u32,
                at: at as u32,
            })
        };
        self.parts.iter().enumerate().rev().find_map(named)
    }

    /// Id and location of the chunk with this number.
    pub fn get(&self, number: ChunkNumber) -> Option<(ChunkId, ChunkLocation)> {
        self.parts
            .get(number.part as usize)?
            .get(number.at as usize)
    }

    /// Every chunk once, by the newest part that names it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (ChunkId, ChunkLocation)> {
        self.parts.iter().enumerate().flat_map(|(i, part)| {
            let newer = self.parts.get(i + 1..).unwrap_or_default();
            let is_newest = |id: &ChunkId| newer.iter().all(|part| part.find(id).is_none());
            part.iter().filter(move |(id, _)| is_newest(id))
        })
    }

    /// Chunks named by the parts; one that several parts name counts several times.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether no chunk is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts, oldest first.
    pub fn parts(&self) -> &[Arc<IndexPart>] {
        &self.parts
    }
}
