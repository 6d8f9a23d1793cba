//! The chunker against a transcription of `docs/format.md`, section 5.1, and against golden cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nbws_core::ErrorKind;
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::id::{ChunkId, to_hex};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const GOLDEN: &str = include_str!("golden/chunker.json");

fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn table_bytes() -> [u8; 2048] {
    let mut bytes = [0; 2048];
    blake3::Hasher::new_derive_key("nbws 2026-11-22 gear table v0")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn table() -> Vec<u64> {
    table_bytes()
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// H(p), straight from its definition.
fn hash_at(table: &[u64], bytes: &[u8], p: usize) -> u64 {
    (0..64).fold(0u64, |sum, j| {
        sum.wrapping_add(table[usize::from(bytes[p - 64 + j])] << (63 - j))
    })
}

fn reference(params: ChunkerParams, file: &[u8]) -> Vec<usize> {
    let table = table();
    let threshold = ((1u128 << 64) / u128::from(params.average - params.minimum)) as u64;
    if file.len() <= params.whole as usize {
        return Some(file.len()).filter(|n| *n > 0).into_iter().collect();
    }
    let mut lengths = Vec::new();
    let mut start = 0;
    while start < file.len() {
        let left = file.len() - start;
        let length = (params.minimum as usize..=params.maximum as usize)
            .take_while(|n| *n <= left)
            .find(|n| hash_at(&table, file, start + n) < threshold)
            .unwrap_or(left.min(params.maximum as usize));
        lengths.push(length);
        start += length;
    }
    lengths
}

/// Feeds `file` in slices of the given lengths (then one byte at a time) and checks what the cutter says on the way.
fn cut_in_slices(chunker: &Chunker, file: &[u8], slices: &[usize]) -> Vec<usize> {
    let mut cutter = chunker.cutter();
    let mut lengths = Vec::new();
    let mut slices = slices.iter().copied().chain(std::iter::repeat(1));
    let mut rest = file;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(slices.next().unwrap().min(rest.len()));
        rest = after;
        loop {
            let before = cutter.open_bytes();
            match cutter.feed(piece) {
                Some(n) => {
                    assert!(n >= 1 && n <= piece.len());
                    assert_eq!(cutter.open_bytes(), 0);
                    lengths.push(before + n);
                    piece = &piece[n..];
                }
                None => {
                    assert_eq!(cutter.open_bytes(), before + piece.len());
                    break;
                }
            }
        }
    }
    lengths.extend(Some(cutter.finish()).filter(|n| *n > 0));
    assert_eq!(cutter.finish(), 0);
    lengths
}

fn small() -> ChunkerParams {
    ChunkerParams {
        average: 512,
        minimum: 100,
        maximum: 4096,
        whole: 256,
    }
}

/// Params, and a file whose bytes come from a small or the whole alphabet, with runs of zeros in between.
fn any_case() -> impl Strategy<Value = (ChunkerParams, Vec<u8>)> {
    let params =
        (64u32..400, 16u32..2000, 0u32..9000, 0u32..3000).prop_map(|(min, over, max, whole)| {
            ChunkerParams {
                minimum: min,
                average: min + over,
                maximum: min + over + max,
                whole,
            }
        });
    let piece = prop_oneof![
        (any::<u64>(), 1usize..20_000, 1u8..=255).prop_map(|(seed, length, mask)| {
            let mut bytes = noise(&seed.to_string(), length);
            bytes.iter_mut().for_each(|b| *b &= mask);
            bytes
        }),
        (1usize..10_000).prop_map(|n| vec![0; n]),
    ];
    (
        params,
        proptest::collection::vec(piece, 0..4).prop_map(|p| p.concat()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cuts_follow_the_definition((params, file) in any_case()) {
        let Ok(chunker) = Chunker::new(params) else { return Ok(()) };
        let lengths = chunker.cut(&file);
        prop_assert_eq!(&lengths, &reference(params, &file));
        prop_assert_eq!(lengths.iter().sum::<usize>(), file.len());
        if file.len() > params.whole as usize {
            for length in &lengths[..lengths.len() - 1] {
                prop_assert!((params.minimum as usize..=params.maximum as usize).contains(length));
            }
        }
    }

    #[test]
    fn cuts_do_not_depend_on_how_a_file_is_fed(
        (params, file) in any_case(),
        slices in proptest::collection::vec(0usize..6000, 0..40),
    ) {
        let params = ChunkerParams { whole: 0, ..params };
        let Ok(chunker) = Chunker::new(params) else { return Ok(()) };
        let whole = chunker.cut(&file);
        prop_assert_eq!(&whole, &cut_in_slices(&chunker, &file, &slices));
        prop_assert_eq!(&whole, &cut_in_slices(&chunker, &file, &[]));
    }

    #[test]
    fn an_edit_moves_few_cuts(seed: u64, at in 0usize..300_000, insert in 0usize..3) {
        let chunker = Chunker::new(small()).unwrap();
        let file = noise(&seed.to_string(), 300_000);
        let mut edited = file.clone();
        edited.splice(at..at, std::iter::repeat_n(7, insert));
        let ids = |file: &[u8]| {
            let mut rest = file;
            chunker.cut(file).iter().map(|n| {
                let (chunk, after) = rest.split_at(*n);
                rest = after;
                ChunkId::of(chunk)
            }).collect::<std::collections::HashSet<_>>()
        };
        let fresh = ids(&edited).difference(&ids(&file)).count();
        prop_assert!(fresh <= 40, "{} new chunks", fresh);
    }
}

#[test]
fn chunks_of_noise_are_about_as_long_as_the_average() {
    let params = ChunkerParams::default();
    let file = noise("average", 32 << 20);
    let lengths = Chunker::new(params).unwrap().cut(&file);
    let average = file.len() / lengths.len();
    assert!((60_000..72_000).contains(&average), "{average}");
}

#[test]
fn zeros_are_never_cut_before_the_maximum() {
    let params = ChunkerParams::default();
    let threshold = (1u64 << 63) / u64::from(params.average - params.minimum) * 2;
    assert!(hash_at(&table(), &[0; 64], 64) >= threshold);

    let chunker = Chunker::new(params).unwrap();
    let (id, length) = chunker.zero_chunk();
    assert_eq!(length, params.maximum);
    assert_eq!(id, ChunkId::of(&vec![0; params.maximum as usize]));
    assert_eq!(chunker.cut(&vec![0; 1 << 20]), [262_144; 4]);

    // Content before a hole: after the open chunk only zero chunks follow, whatever the content was.
    for seed in 0..20 {
        let mut file = noise(&seed.to_string(), 40_000 + seed * 10_000);
        file.resize(file.len() + (1 << 20), 0);
        let lengths = chunker.cut(&file);
        let mut end = 0;
        for length in &lengths[..lengths.len() - 1] {
            if end >= 40_000 + seed * 10_000 {
                assert_eq!(*length, 262_144, "seed {seed}");
            }
            end += length;
        }
    }
}

#[test]
fn senseless_parameters_are_refused() {
    let good = ChunkerParams::default();
    assert!(good.validate().is_ok());
    for bad in [
        ChunkerParams {
            minimum: 63,
            ..good
        },
        ChunkerParams {
            average: good.minimum,
            ..good
        },
        ChunkerParams {
            average: good.minimum + 1,
            ..good
        },
        ChunkerParams { average: 0, ..good },
        ChunkerParams {
            minimum: u32::MAX,
            ..good
        },
        ChunkerParams {
            maximum: good.average - 1,
            ..good
        },
        ChunkerParams {
            maximum: (1 << 20) + 1,
            ..good
        },
        ChunkerParams {
            whole: (1 << 20) + 1,
            ..good
        },
        // Nearly every hash is below the threshold, that of zeros too.
        ChunkerParams {
            average: good.minimum + 2,
            ..good
        },
    ] {
        let refused = bad.validate().map_err(|e| e.kind());
        if bad.average == good.minimum + 2 {
            let zeros_cut = hash_at(&table(), &[0; 64], 64) < 1 << 63;
            assert_eq!(refused.is_err(), zeros_cut);
        } else {
            assert_eq!(refused, Err(ErrorKind::InvalidInput), "{bad:?}");
        }
        assert_eq!(Chunker::new(bad).map(|_| ()).map_err(|e| e.kind()), refused);
    }
}

/// The file of golden vectors; the inputs are made from the pieces, one after another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Golden {
    /// BLAKE3 of the 2,048 bytes of the table.
    table_blake3: String,
    table_start: Vec<u64>,
    hash_of_zeros: u64,
    cases: Vec<Case>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Case {
    name: String,
    params: ChunkerParams,
    input: Vec<Piece>,
    /// BLAKE3 of the input, so that a wrong input is not taken for a wrong cut.
    input_blake3: String,
    lengths: Vec<usize>,
}

/// A piece of input: the first `bytes` bytes of the BLAKE3 extendable output for `seed`, `mask` applied to each.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Piece {
    seed: String,
    mask: u8,
    bytes: usize,
}

#[test]
fn golden_vectors_hold() {
    let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
    let table = table();
    assert_eq!(
        golden.table_blake3,
        to_hex(blake3::hash(&table_bytes()).as_bytes())
    );
    assert_eq!(golden.table_start, table[..golden.table_start.len()]);
    assert_eq!(golden.hash_of_zeros, hash_at(&table, &[0; 64], 64));
    assert!(golden.cases.len() >= 8);
    for case in &golden.cases {
        let input = made_of(&case.input);
        assert_eq!(
            case.input_blake3,
            to_hex(blake3::hash(&input).as_bytes()),
            "{}",
            case.name
        );
        let lengths = Chunker::new(case.params).unwrap().cut(&input);
        assert_eq!(case.lengths, lengths, "{}", case.name);
        assert_eq!(reference(case.params, &input), lengths, "{}", case.name);
    }
}

fn made_of(pieces: &[Piece]) -> Vec<u8> {
    let mut input = Vec::new();
    for piece in pieces {
        input.extend(
            noise(&piece.seed, piece.bytes)
                .iter()
                .map(|b| b & piece.mask),
        );
    }
    input
}
