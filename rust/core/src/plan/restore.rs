//! Which byte ranges a restore reads: chunks grouped by frame, frames joined to ranges.

use crate::id::{ChunkId, ContainerId};
use crate::index::{ChunkLocation, ChunkNumber, Index};
use std::collections::HashMap;

/// One chunk that one file needs. A restore has one for each chunk of every file, so it is kept in 40 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    chunk: ChunkNumber,
    /// Number of the pack, in the order of their first needs.
    pack: u32,
    /// Position of the frame in the pack, and of the chunk in the frame.
    frame_offset: u32,
    chunk_offset: u32,
    /// Number of the file, as the caller counts.
    pub file: u32,
    /// Where its bytes go.
    pub file_offset: u64,
    /// How many times in a row.
    pub count: u64,
}

impl Need {
    /// Whether both chunks lie in one frame.
    pub fn shares_frame(&self, other: &Need) -> bool {
        (self.pack, self.frame_offset) == (other.pack, other.frame_offset)
    }
}

/// What a restore needs, found in one index.
pub struct Needs {
    index: Index,
    packs: HashMap<ContainerId, u32>,
    list: Vec<Need>,
}

impl Needs {
    /// Nothing yet, to be found in `index`.
    pub fn new(index: &Index) -> Self {
        Needs {
            index: index.clone(),
            packs: HashMap::new(),
            list: Vec::new(),
        }
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, count: usize) {
        self.list.reserve_exact(count);
    }

    /// Adds chunk `id`, `count` times in a row. Returns where it lies, `None` if the index does not know it.
    pub fn push(
        &mut self,
        id: &ChunkId,
        file: u32,
        file_offset: u64,
        count: u64,
    ) -> Option<ChunkLocation> {
        let chunk = self.index.find(id)?;
        let (_, location) = self.index.get(chunk)?;
        let next = self.packs.len() as u32;
        self.list.push(Need {
            chunk,
            pack: *self.packs.entry(location.pack).or_insert(next),
            frame_offset: location.offset,
            chunk_offset: location.chunk_offset,
            file,
            file_offset,
            count,
        });
        Some(location)
    }

    /// The needs, in the order in which they came, or sorted since [`Needs::plan`].
    pub fn list(&self) -> &[Need] {
        &self.list
    }

    /// Id and location of a need of this list.
    pub fn chunk(&self, need: &Need) -> Option<(ChunkId, ChunkLocation)> {
        self.index.get(need.chunk)
    }

    /// Sorts the needs by place, but packs in the order of their first need, and cuts them into ranges.
    ///
    /// The first need in the caller's order decides which pack comes first, so what the caller lists first is there first.
    pub fn plan(&mut self, limits: RangeLimits) -> Vec<Fetch> {
        // In place: a stable sort would take half as much memory again.
        self.list.sort_unstable_by_key(|n| {
            let place = (n.pack, n.frame_offset, n.chunk_offset);
            (place, n.file, n.file_offset)
        });
        let mut fetches: Vec<Fetch> = Vec::new();
        let mut before: Option<&Need> = None;
        for (i, need) in self.list.iter().enumerate() {
            // Needs of one frame have one range.
            if before.is_some_and(|before| before.shares_frame(need))
                && let Some(open) = fetches.last_mut()
            {
                open.needs.end = i + 1;
                continue;
            }
            before = Some(need);
            let Some((_, location)) = self.chunk(need) else {
                continue;
            };
            let (start, end) = (
                location.offset,
                location.offset.saturating_add(location.stored_len),
            );
            if let Some(open) = fetches.last_mut()
                && open.pack == location.pack
                && start <= open.end.saturating_add(limits.gap_bytes)
                && (end <= open.end || end - open.start <= limits.range_bytes)
            {
                open.end = open.end.max(end);
                open.needs.end = i + 1;
                continue;
            }
            fetches.push(Fetch {
                pack: location.pack,
                start,
                end,
                needs: i..i + 1,
            });
        }
        fetches
    }
}

/// One request: a range of a pack, and the needs that it serves (positions in the sorted list).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The pack.
    pub pack: ContainerId,
    /// First byte.
    pub start: u32,
    /// First byte after the range.
    pub end: u32,
    /// Needs `first..last` of the sorted list.
    pub needs: std::ops::Range<usize>,
}

/// Bounds of a range.
#[derive(Clone, Copy, Debug)]
pub struct RangeLimits {
    /// Longest range, unless one frame is longer.
    pub range_bytes: u32,
    /// Most bytes that may be read for nothing between two frames of a range.
    pub gap_bytes: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::Codec;
    use crate::frame::{ChunkSpan, FrameKind};
    use crate::index::IndexPartBuilder;
    use crate::pack::FrameSlot;
    use std::sync::Arc;

    fn id(pack: u8, offset: u32) -> ChunkId {
        ChunkId::of(&[&[pack][..], &offset.to_le_bytes()].concat())
    }

    /// Needs of frames of one chunk each, in this order: pack, offset, length, file.
    fn needs(frames: &[(u8, u32, u32, u32)]) -> Needs {
        let mut builder = IndexPartBuilder::new();
        for (pack, offset, length, _) in frames {
            let pack_id = ContainerId {
                epoch: 1,
                random: [*pack; 16],
            };
            let slot = FrameSlot {
                kind: FrameKind::Chunks,
                codec: Codec::Raw,
                offset: *offset,
                stored_len: *length,
                plain_len: *length,
                chunks: vec![ChunkSpan {
                    id: id(*pack, *offset),
                    length: *length,
                }],
            };
            builder.add_frame(pack_id, &slot);
        }
        let mut needs = Needs::new(&Index::new(vec![Arc::new(builder.finish())]));
        for (pack, offset, _, file) in frames {
            assert!(needs.push(&id(*pack, *offset), *file, 0, 1).is_some());
        }
        needs
    }

    #[test]
    fn neighbours_share_a_request_and_order_follows_the_first_need() {
        let mut needs = needs(&[
            (9, 64, 100, 0),
            (1, 5_000, 100, 1),
            (9, 164, 100, 2),
            (9, 64, 100, 3),
            (9, 900_000, 10, 4),
        ]);
        let fetches = needs.plan(RangeLimits {
            range_bytes: 1_000,
            gap_bytes: 50,
        });
        let shape: Vec<(u8, u32, u32, usize)> = fetches
            .iter()
            .map(|f| (f.pack.random[0], f.start, f.end, f.needs.len()))
            .collect();
        assert_eq!(
            shape,
            vec![
                (9, 64, 264, 3),
                (9, 900_000, 900_010, 1),
                (1, 5_000, 5_100, 1)
            ]
        );
        let files: Vec<u32> = needs.list().iter().map(|need| need.file).collect();
        assert_eq!(files, [0, 3, 2, 4, 1]);
        for (fetch, need) in fetches.iter().flat_map(|f| {
            let list = &needs.list()[f.needs.clone()];
            list.iter().map(move |need| (f, need))
        }) {
            let (found, location) = needs.chunk(need).unwrap();
            assert_eq!(found, id(location.pack.random[0], location.offset));
            assert!(fetch.start <= location.offset);
            assert!(location.offset + location.stored_len <= fetch.end);
        }
        assert!(needs.push(&ChunkId([7; 32]), 0, 0, 1).is_none());
    }

    #[test]
    fn a_range_stays_within_its_length_unless_one_frame_is_longer() {
        let mut frames: Vec<_> = (0..10).map(|i| (1, 64 + i * 400, 400, i)).collect();
        frames.push((1, 64 + 4_000, 5_000, 10));
        let fetches = needs(&frames).plan(RangeLimits {
            range_bytes: 1_000,
            gap_bytes: 0,
        });
        assert_eq!(fetches.len(), 6);
        assert!(fetches[..5].iter().all(|f| f.end - f.start <= 1_000));
    }
}
