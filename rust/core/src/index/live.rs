//! Which chunks of an index are needed, and what that makes of its packs.

use super::{ChunkLocation, Index};
use crate::id::{ChunkId, ContainerId};
use std::collections::BTreeMap;

/// One frame of which at least one chunk is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameUse {
    /// Length of the frame with its header.
    pub stored_len: u32,
    /// Length of the frame after decoding.
    pub plain_len: u32,
    /// Plain bytes of the chunks that are needed.
    pub live_len: u32,
    /// Chunks that are needed.
    pub live_chunks: u32,
}

/// What of a pack is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackUse {
    /// Frames with a chunk that is needed, by their position in the pack.
    pub frames: BTreeMap<u32, FrameUse>,
    /// Where the last frame that the index names ends.
    pub extent: u64,
}

/// The chunks of an index that somebody needs: one bit each, and only the place that lookup finds counts.
pub struct LiveChunks<'a> {
    index: &'a Index,
    bits: Vec<Vec<u64>>,
}

impl<'a> LiveChunks<'a> {
    /// Nothing is needed yet.
    pub fn new(index: &'a Index) -> Self {
        let words = |chunks: usize| vec![0; chunks.div_ceil(64)];
        let bits = index.parts().iter().map(|p| words(p.len())).collect();
        LiveChunks { index, bits }
    }

    /// Notes that chunk `id` is needed. False if the index does not know it.
    #[must_use]
    pub fn mark(&mut self, id: &ChunkId) -> bool {
        let Some(number) = self.index.find(id) else {
            return false;
        };
        self.bits[number.part as usize][number.at as usize / 64] |= 1 << (number.at % 64);
        true
    }

    /// Every chunk that is needed, and the place that counts.
    pub fn iter(&self) -> impl Iterator<Item = (ChunkId, ChunkLocation)> {
        let parts = self.index.parts().iter().zip(&self.bits);
        parts.flat_map(|(part, bits)| {
            let live = |(at, _): &(usize, _)| bits[at / 64] >> (at % 64) & 1 == 1;
            part.iter().enumerate().filter(live).map(|(_, found)| found)
        })
    }

    /// Every pack that the index names, with what is needed of it.
    pub fn packs(&self) -> BTreeMap<ContainerId, PackUse> {
        let mut packs: BTreeMap<ContainerId, PackUse> = BTreeMap::new();
        for (_, at) in self.index.parts().iter().flat_map(|part| part.iter()) {
            let pack = packs.entry(at.pack).or_default();
            pack.extent = pack
                .extent
                .max(u64::from(at.offset) + u64::from(at.stored_len));
        }
        for (_, at) in self.iter() {
            let frames = &mut packs.entry(at.pack).or_default().frames;
            let frame = frames.entry(at.offset).or_default();
            frame.stored_len = at.stored_len;
            frame.plain_len = at.plain_len;
            frame.live_len = frame.live_len.saturating_add(at.chunk_len);
            frame.live_chunks += 1;
        }
        packs
    }
}
