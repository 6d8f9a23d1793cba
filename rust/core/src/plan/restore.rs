//! Which byte ranges a restore reads: chunks grouped by frame, frames joined to ranges.

use crate::id::{ChunkId, ContainerId};
use crate::index::ChunkLocation;

/// One chunk that one file needs.
#[derive(Clone, Debug)]
pub struct Need {
    /// The chunk.
    pub id: ChunkId,
    /// Where it lies.
    pub location: ChunkLocation,
    /// Number of the file, as the caller counts.
    pub file: u32,
    /// Where its bytes go.
    pub file_offset: u64,
    /// How many times in a row.
    pub count: u64,
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

/// Sorts `needs` by place, but packs in the order of their first need, and cuts them into ranges.
///
/// The first need in the caller's order decides which pack comes first, so what the caller lists first is there first.
pub fn plan_fetches(needs: &mut [Need], limits: RangeLimits) -> Vec<Fetch> {
    let mut rank: std::collections::HashMap<ContainerId, usize> = std::collections::HashMap::new();
    for need in needs.iter() {
        let next = rank.len();
        rank.entry(need.location.pack).or_insert(next);
    }
    needs.sort_by_key(|n| {
        let rank = rank.get(&n.location.pack).copied().unwrap_or(usize::MAX);
        (
            rank,
            n.location.offset,
            n.location.chunk_offset,
            n.file,
            n.file_offset,
        )
    });
    let mut fetches: Vec<Fetch> = Vec::new();
    for (i, need) in needs.iter().enumerate() {
        let (start, end) = (
            need.location.offset,
            need.location
                .offset
                .saturating_add(need.location.stored_len),
        );
        if let Some(open) = fetches.last_mut()
            && open.pack == need.location.pack
            && start <= open.end.saturating_add(limits.gap_bytes)
            && (end <= open.end || end - open.start <= limits.range_bytes)
        {
            open.end = open.end.max(end);
            open.needs.end = i + 1;
            continue;
        }
        fetches.push(Fetch {
            pack: need.location.pack,
            start,
            end,
            needs: i..i + 1,
        });
    }
    fetches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(pack: u8, offset: u32, len: u32, file: u32) -> Need {
        Need {
            id: ChunkId([0; 32]),
            location: ChunkLocation {
                pack: ContainerId {
                    epoch: 1,
                    random: [pack; 16],
                },
                offset,
                stored_len: len,
                plain_len: len,
                chunk_offset: 0,
                chunk_len: len,
            },
            file,
            file_offset: 0,
            count: 1,
        }
    }

    #[test]
    fn neighbours_share_a_request_and_order_follows_the_first_need() {
        let mut needs = vec![
            need(9, 64, 100, 0),
            need(1, 5_000, 100, 1),
            need(9, 164, 100, 2),
            need(9, 64, 100, 3),
            need(9, 900_000, 10, 4),
        ];
        let fetches = plan_fetches(
            &mut needs,
            RangeLimits {
                range_bytes: 1_000,
                gap_bytes: 50,
            },
        );
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
        assert_eq!(
            fetches.iter().map(|f| f.needs.len()).sum::<usize>(),
            needs.len()
        );
    }

    #[test]
    fn a_range_stays_within_its_length_unless_one_frame_is_longer() {
        let mut needs: Vec<Need> = (0..10).map(|i| need(1, 64 + i * 400, 400, i)).collect();
        needs.push(need(1, 64 + 4_000, 5_000, 10));
        let fetches = plan_fetches(
            &mut needs,
            RangeLimits {
                range_bytes: 1_000,
                gap_bytes: 0,
            },
        );
        assert_eq!(fetches.len(), 6);
        assert!(fetches[..5].iter().all(|f| f.end - f.start <= 1_000));
    }
}
