//! Index parts against a map, damaged parts, and what folding costs over many saves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nbws_core::ErrorKind;
use nbws_core::codec::Codec;
use nbws_core::frame::{ChunkSpan, FrameKind};
use nbws_core::id::{ChunkId, ContainerId, FrameHash};
use nbws_core::index::{
    ChunkLocation, Index, IndexPart, IndexPartBuilder, IndexRoot, PartRef, fold_plan,
};
use nbws_core::key::{ContainerKey, ContainerKind};
use nbws_core::limits::LIVE_INDEX_PARTS;
use nbws_core::pack::FrameSlot;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn pack(n: u8) -> ContainerId {
    ContainerId {
        epoch: u64::from(n % 3) << 8,
        random: [n; 16],
    }
}

fn id(n: u32) -> ChunkId {
    ChunkId::of(&n.to_le_bytes())
}

fn slot(offset: u32, chunks: &[(u32, u32)]) -> FrameSlot {
    let chunks: Vec<ChunkSpan> = chunks
        .iter()
        .map(|(n, length)| ChunkSpan {
            id: id(*n),
            length: *length,
        })
        .collect();
    let plain_len = chunks.iter().map(|c| c.length).sum();
    FrameSlot {
        kind: FrameKind::Chunks,
        codec: Codec::Zstd,
        offset,
        stored_len: 100,
        plain_len,
        chunks,
    }
}

/// Frames of packs: (pack, position in the pack, chunks as (id, length)).
type Frames = Vec<(u8, Vec<(u32, u32)>)>;

fn frames() -> impl Strategy<Value = Frames> {
    let chunks = proptest::collection::vec((0u32..60, 1u32..5000), 0..6);
    proptest::collection::vec((0u8..6, chunks), 0..20)
}

/// Gives each frame its own place; `first` keeps the frames of several parts apart.
fn placed(first: u32, frames: &Frames) -> Vec<(ContainerId, FrameSlot)> {
    let place = |n: usize| 64 + (first + n as u32) * 100;
    frames
        .iter()
        .enumerate()
        .map(|(n, (p, chunks))| (pack(*p), slot(place(n), chunks)))
        .collect()
}

fn expected(frames: &[(ContainerId, FrameSlot)]) -> BTreeMap<ChunkId, ChunkLocation> {
    let mut map = BTreeMap::new();
    for (pack, slot) in frames {
        let mut chunk_offset = 0;
        for chunk in &slot.chunks {
            map.entry(chunk.id).or_insert(ChunkLocation {
                pack: *pack,
                offset: slot.offset,
                stored_len: slot.stored_len,
                plain_len: slot.plain_len,
                chunk_offset,
                chunk_len: chunk.length,
            });
            chunk_offset += chunk.length;
        }
    }
    map
}

fn built(frames: &[(ContainerId, FrameSlot)]) -> IndexPart {
    let mut builder = IndexPartBuilder::new();
    for (pack, slot) in frames {
        builder.add_frame(*pack, slot);
    }
    let bound = builder.bytes_bound();
    let part = builder.finish();
    assert!(part.bytes().len() <= bound);
    part
}

fn assert_holds(part: &IndexPart, map: &BTreeMap<ChunkId, ChunkLocation>) {
    let found: Vec<_> = part.iter().collect();
    let wanted: Vec<_> = map.iter().map(|(id, at)| (*id, *at)).collect();
    assert_eq!(found, wanted);
    assert_eq!(part.len(), map.len());
    for n in 0..80 {
        assert_eq!(part.lookup(&id(n)), map.get(&id(n)).copied());
    }
    let mut packs: Vec<_> = map.values().map(|at| at.pack).collect();
    packs.sort();
    packs.dedup();
    assert_eq!(part.packs().collect::<Vec<_>>(), packs);
    let again = IndexPart::decode(part.bytes().to_vec()).expect("a built part is valid");
    assert_eq!(again.iter().collect::<Vec<_>>(), wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parts_hold_what_was_added_first(a in frames(), b in frames()) {
        let (a, b) = (placed(0, &a), placed(1000, &b));
        let part = built(&a);
        assert_holds(&part, &expected(&a));

        let mut builder = IndexPartBuilder::new();
        for (pack, slot) in &b {
            builder.add_frame(*pack, slot);
        }
        builder.add_part(&part);
        builder.add_part(&part);
        let together = [b.clone(), a.clone()].concat();
        let folded = builder.finish();
        assert_holds(&folded, &expected(&together));

        let newest = Arc::new(built(&b));
        let index = Index::new(vec![Arc::new(part), newest.clone()]);
        prop_assert_eq!(index.parts().len(), 2);
        for n in 0..80 {
            prop_assert_eq!(index.lookup(&id(n)), folded.lookup(&id(n)));
        }
    }

    #[test]
    fn damaged_parts_never_panic_and_stay_in_bounds(
        a in frames(),
        flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let mut bytes = built(&placed(0, &a)).bytes().to_vec();
        for (at, change) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        if let Ok(part) = IndexPart::decode(bytes) {
            for (id, at) in part.iter() {
                prop_assert!(at.chunk_offset + at.chunk_len <= at.plain_len);
                prop_assert_eq!(part.lookup(&id), Some(at));
            }
            // What was accepted can be folded, and the result is valid.
            let mut builder = IndexPartBuilder::new();
            builder.add_part(&part);
            builder.add_part(&built(&placed(0, &a)));
            let folded = builder.finish();
            prop_assert!(IndexPart::decode(folded.bytes().to_vec()).is_ok());
        }
    }

    #[test]
    fn roots_round_trip(parts in proptest::collection::vec(part_ref(), 0..=64)) {
        let root = IndexRoot { parts };
        let bytes = root.encode().unwrap();
        prop_assert_eq!(&IndexRoot::decode(&bytes).unwrap(), &root);
    }

    #[test]
    fn an_accepted_root_is_the_only_spelling(
        parts in proptest::collection::vec(part_ref(), 0..3),
        flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
    ) {
        let mut bytes = IndexRoot { parts }.encode().unwrap();
        for (at, change) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        }
        if let Ok(root) = IndexRoot::decode(&bytes) {
            prop_assert_eq!(root.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), counts: [u8; 3]) {
        let _ = IndexRoot::decode(&bytes);
        let head = counts.map(|n| u32::from(n % 4).to_le_bytes()).concat();
        let _ = IndexPart::decode([b"I", &head[..], &bytes].concat());
        let _ = IndexPart::decode(bytes);
    }

    #[test]
    fn plans_name_live_parts_once_and_leave_few(
        parts in proptest::collection::vec(prop_oneof![0u64..40_000, 0u64..4_000_000], 0..64),
        own in prop_oneof![0u64..1000, 0u64..4_000_000],
    ) {
        let plan = fold_plan(&parts, own);
        prop_assert!(plan.is_sorted_by(|a, b| a < b));
        prop_assert!(plan.iter().all(|at| *at < parts.len()));
        prop_assert!(parts.len() - plan.len() < LIVE_INDEX_PARTS);
    }
}

fn part_ref() -> impl Strategy<Value = PartRef> {
    let numbers = (
        64u32..1 << 29,
        25u32..1 << 29,
        0u32..=256 << 20,
        0u64..=6_000_000,
    );
    (
        any::<bool>(),
        any::<u64>(),
        any::<[u8; 16]>(),
        numbers,
        any::<[u8; 32]>(),
    )
        .prop_map(
            |(merged, epoch, random, (offset, stored_len, plain_len, chunks), hash)| PartRef {
                key: ContainerKey {
                    kind: if merged {
                        ContainerKind::Index
                    } else {
                        ContainerKind::Pack
                    },
                    id: ContainerId { epoch, random },
                },
                offset,
                stored_len,
                plain_len,
                hash: FrameHash(hash),
                chunks,
            },
        )
}

#[test]
fn every_truncation_is_refused() {
    let frames = vec![(0, vec![(1, 10), (2, 20)]), (1, vec![(3, 30)])];
    let part = built(&placed(0, &frames));
    for length in 0..part.bytes().len() {
        let refused = IndexPart::decode(part.bytes()[..length].to_vec());
        assert_eq!(
            refused.map(|_| ()).map_err(|e| e.kind()),
            Err(ErrorKind::Corrupt)
        );
    }
    let longer = [part.bytes(), &[0]].concat();
    assert!(IndexPart::decode(longer).is_err());

    let reference = PartRef {
        key: ContainerKey::pack(pack(1)),
        offset: 300,
        stored_len: 400,
        plain_len: 500,
        hash: FrameHash([1; 32]),
        chunks: 200,
    };
    let root = IndexRoot {
        parts: vec![reference; 2],
    }
    .encode()
    .unwrap();
    for length in 0..root.len() {
        assert!(IndexRoot::decode(&root[..length]).is_err());
    }
    assert!(IndexRoot::decode(&[&root[..], &[0]].concat()).is_err());
    assert!(
        IndexRoot {
            parts: vec![reference; 65]
        }
        .encode()
        .is_err()
    );
}

/// A part with one pack, `frames` as they are in the format, and chunks (id, frame, offset, length).
fn raw_part(packs: &[(u64, u8)], frames: &[[u32; 4]], chunks: &[(u8, [u32; 3])]) -> Vec<u8> {
    let mut bytes = vec![b'I'];
    for count in [packs.len(), frames.len(), chunks.len()] {
        bytes.extend_from_slice(&(count as u32).to_le_bytes());
    }
    for (epoch, random) in packs {
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&[*random; 16]);
    }
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<_>>()
    };
    bytes.extend(frames.iter().flat_map(|f| words(f)));
    bytes.extend(chunks.iter().flat_map(|(id, _)| [*id; 32]));
    bytes.extend(chunks.iter().flat_map(|(_, place)| words(place)));
    bytes
}

#[test]
fn invalid_parts_are_refused_one_rule_at_a_time() {
    let frame = [0, 64, 100, 50];
    let packs = [(1, 1), (256, 0)];
    let frames = [frame, [0, 164, 100, 50], [1, 64, 100, 1 << 20]];
    let chunks = [(1, [0, 0, 50]), (2, [2, 0, 1 << 20]), (3, [1, 49, 1])];
    let check = |packs: &[(u64, u8)], frames: &[[u32; 4]], chunks: &[(u8, [u32; 3])]| {
        IndexPart::decode(raw_part(packs, frames, chunks))
            .map(|_| ())
            .map_err(|e| e.kind())
    };
    assert_eq!(check(&packs, &frames, &chunks), Ok(()));
    let corrupt = Err(ErrorKind::Corrupt);
    assert_eq!(
        check(&[(1, 1), (1, 1)], &frames, &chunks),
        corrupt,
        "equal packs"
    );
    assert_eq!(
        check(&[(256, 0), (1, 1)], &frames, &chunks),
        corrupt,
        "order of packs"
    );
    for (bad, why) in [
        ([0, 64, 100, 50], "equal frames"),
        ([0, 63, 100, 50], "order of frames"),
        ([2, 164, 100, 50], "no such pack"),
        ([0, 164, 24, 50], "no payload"),
        ([0, (1 << 30) - 99, 100, 50], "past 1 GiB"),
        ([0, u32::MAX, u32::MAX, 50], "past 4 GiB"),
        ([0, 164, 100, 0], "empty"),
        ([0, 164, 100, (4 << 20) + 1], "too long"),
    ] {
        assert_eq!(
            check(&packs, &[frame, bad, frames[2]], &[]),
            corrupt,
            "{why}"
        );
    }
    assert_eq!(
        check(&packs, &[[0, 63, 100, 50]], &[]),
        corrupt,
        "in the header"
    );
    assert_eq!(
        check(&packs, &[frames[2], frame], &[]),
        corrupt,
        "order of frames"
    );
    for (bad, why) in [
        ((1, [0, 0, 50]), "equal chunks"),
        ((0, [0, 0, 50]), "order of chunks"),
        ((2, [3, 0, 50]), "no such frame"),
        ((2, [0, 0, 0]), "empty chunk"),
        ((2, [0, 1, 50]), "past the frame"),
        ((2, [0, u32::MAX, u32::MAX]), "overflow"),
        ((2, [2, 0, (1 << 20) + 1]), "chunk too long"),
    ] {
        assert_eq!(check(&packs, &frames, &[chunks[0], bad]), corrupt, "{why}");
    }
    let huge = [&b"I"[..], &[0xff; 12]].concat();
    assert!(IndexPart::decode(huge).is_err());
}

#[test]
fn a_frame_described_in_two_ways_keeps_the_first() {
    let first = slot(64, &[(1, 10), (2, 10)]);
    let second = slot(64, &[(1, 10), (2, 10), (3, 10)]);
    let part = built(&[(pack(1), first.clone()), (pack(1), second)]);
    assert_holds(&part, &expected(&[(pack(1), first)]));
}

#[test]
fn ids_that_are_not_spread_evenly_are_found() {
    let ids: Vec<u8> = (0..=255).collect();
    for chosen in [&ids[..1], &ids[..20], &ids[200..], &ids[..]] {
        let frames = [[0, 64, 100, 4 << 20]];
        let chunks: Vec<_> = chosen.iter().map(|n| (*n, [0, u32::from(*n), 1])).collect();
        let part = IndexPart::decode(raw_part(&[(1, 1)], &frames, &chunks)).unwrap();
        for n in &ids {
            let found = part.lookup(&ChunkId([*n; 32])).map(|at| at.chunk_offset);
            assert_eq!(found, chosen.contains(n).then_some(u32::from(*n)));
        }
    }
    // Equal in the first 8 bytes, all in one corner.
    let mut builder = IndexPartBuilder::new();
    let crowded = |n: u32| {
        let mut id = [0; 32];
        id[28..].copy_from_slice(&n.to_be_bytes());
        ChunkId(id)
    };
    let chunks = (0..3000).map(|n| ChunkSpan {
        id: crowded(n * 2),
        length: 1,
    });
    let frame = FrameSlot {
        plain_len: 3000,
        chunks: chunks.collect(),
        ..slot(64, &[])
    };
    builder.add_frame(pack(1), &frame);
    let part = builder.finish();
    for n in 0..6001 {
        let wanted = (n % 2 == 0 && n < 6000).then_some(n / 2);
        assert_eq!(part.lookup(&crowded(n)).map(|at| at.chunk_offset), wanted);
    }
}

/// What a series of saves wrote.
struct Series {
    parts: Vec<u64>,
    written: u64,
    own: u64,
}

impl Series {
    fn new(first: u64) -> Self {
        Series {
            parts: vec![first],
            written: 0,
            own: 0,
        }
    }

    fn save(&mut self, own: u64) -> u64 {
        let plan = fold_plan(&self.parts, own);
        let total = own + plan.iter().map(|at| self.parts[*at]).sum::<u64>();
        let mut at = 0;
        self.parts.retain(|_| {
            at += 1;
            !plan.contains(&(at - 1))
        });
        self.parts.push(total);
        self.written += total;
        self.own += own;
        total
    }
}

#[test]
fn small_saves_write_little_index_and_leave_few_parts() {
    for own in [250, 300] {
        let mut series = Series::new(3_000_000);
        for n in 1..=10_000u64 {
            let written = series.save(own);
            // What 15 parts of 128 KiB can't hold needs longer ones: 3 MB in 15 parts are 200,000 bytes each at best.
            let bound = if n * own <= 1_600_000 {
                128 << 10
            } else {
                256 << 10
            };
            assert!(written <= bound, "save {n} of {own}: {written}");
            assert!(series.parts.len() <= LIVE_INDEX_PARTS, "save {n} of {own}");
        }
        assert!(
            series.parts.contains(&3_000_000),
            "the first part is left alone"
        );
        let mean = series.written / 10_000;
        assert!(mean < 20_000, "{own}: {mean} bytes a save");
    }
}

#[test]
fn saves_of_any_size_leave_few_parts_at_a_bounded_cost() {
    let mut random = blake3::Hasher::new().update(b"growth").finalize_xof();
    let mut next = || {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    };
    for largest in [2_000, 60_000, 400_000, 4_000_000] {
        let mut series = Series::new(3_000_000);
        for n in 0..3_000u64 {
            // Mostly small, now and then large.
            let own = if n % 10 == 9 {
                next() % largest
            } else {
                200 + next() % (largest / 40).max(300)
            };
            let before = series.own + 3_000_000;
            let written = series.save(own);
            assert!(series.parts.len() <= LIVE_INDEX_PARTS);
            assert!(
                written <= (512 << 10) + own + before / 2,
                "{largest}: save {n} wrote {written} of {before}"
            );
        }
        // Twenty kilobytes a save for the small part that every save writes again, and few rewrites of the rest.
        assert!(
            series.written <= 8 * series.own + 3_000 * 20_000,
            "{largest}"
        );
    }
}

#[test]
fn a_large_builder_stays_compact() {
    // 200,000 chunks: the part takes 44 bytes for each, its packs and frames little more.
    let mut builder = IndexPartBuilder::new();
    for frame in 0..12_500u32 {
        let chunks: Vec<_> = (0..16).map(|n| (frame * 16 + n, 65_536)).collect();
        builder.add_frame(
            pack((frame / 128) as u8),
            &slot(64 + (frame % 128) * 100, &chunks),
        );
    }
    assert_eq!(builder.len(), 200_000);
    let part = builder.finish();
    assert!(part.bytes().len() < 200_000 * 46);
    for n in (0..200_000).step_by(997) {
        assert_eq!(part.lookup(&id(n)).unwrap().chunk_offset, n % 16 * 65_536);
        assert_eq!(part.lookup(&id(200_000 + n)), None);
    }
    assert!(IndexPart::decode(part.bytes().to_vec()).is_ok());
}
