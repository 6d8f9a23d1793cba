//! Speed of the steps that every byte of a save passes: cutting, compressing, looking up.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::codec::{Codec, Decoder, Encoder};
use nbws_core::frame::{ChunkSpan, FrameKind};
use nbws_core::id::{ChunkId, ContainerId};
use nbws_core::index::{Index, IndexPart, IndexPartBuilder};
use nbws_core::pack::FrameSlot;
use std::hint::black_box;
use std::sync::Arc;

fn noise(seed: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(seed)
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Lines of numbers, like a CSV file or the outputs of a notebook.
fn table(length: usize) -> Vec<u8> {
    let mut text = String::new();
    for (row, random) in noise(b"table", length / 4).chunks_exact(4).enumerate() {
        if text.len() >= length {
            break;
        }
        text.push_str(&format!(
            "{row},station-{},{}.{:02},ok\n",
            random[0] % 32,
            random[1],
            random[2] % 100
        ));
    }
    text.truncate(length);
    text.into_bytes()
}

fn chunker(c: &mut Criterion) {
    let chunker = Chunker::new(ChunkerParams::default()).unwrap();
    let mut group = c.benchmark_group("chunker");
    for (name, input) in [
        ("noise", noise(b"chunker", 32 << 20)),
        ("zeros", vec![0; 32 << 20]),
    ] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |b| b.iter(|| chunker.cut(black_box(&input)).len()));
    }
    group.finish();
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let mut out = Vec::new();
    for (name, input) in [
        ("table", table(1 << 20)),
        ("noise", noise(b"codec", 1 << 20)),
    ] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        for level in [1, 3] {
            let mut encoder = Encoder::new().unwrap();
            group.bench_with_input(
                BenchmarkId::new(format!("encode-{name}"), level),
                &level,
                |b, level| {
                    b.iter(|| {
                        out.clear();
                        encoder.encode(black_box(&input), *level, &mut out).unwrap()
                    });
                },
            );
        }
    }
    let input = table(1 << 20);
    let mut payload = Vec::new();
    let codec = Encoder::new()
        .unwrap()
        .encode(&input, 3, &mut payload)
        .unwrap();
    assert_eq!(codec, Codec::Zstd);
    let mut decoder = Decoder::new().unwrap();
    group.throughput(Throughput::Bytes(input.len() as u64));
    group.bench_function("decode-table", |b| {
        b.iter(|| {
            decoder
                .decode(codec, black_box(&payload), input.len(), &mut out)
                .unwrap()
        });
    });
    group.finish();
}

fn id(n: u64) -> ChunkId {
    ChunkId::of(&n.to_le_bytes())
}

/// A part of `frames` frames with 16 chunks each.
fn part(first: u64, frames: u64) -> IndexPart {
    let mut builder = IndexPartBuilder::new();
    for frame in 0..frames {
        let pack = ContainerId {
            epoch: 1,
            random: (first + frame / 256).to_le_bytes().repeat(2)[..]
                .try_into()
                .unwrap(),
        };
        let spans = (0..16).map(|n| ChunkSpan {
            id: id(first + frame * 16 + n),
            length: 65_536,
        });
        builder.add_frame(
            pack,
            &FrameSlot {
                kind: FrameKind::Chunks,
                codec: Codec::Zstd,
                offset: 64 + (frame % 256) as u32 * 600_000,
                stored_len: 600_000,
                plain_len: 16 * 65_536,
                chunks: spans.collect(),
            },
        );
    }
    builder.finish()
}

fn index(c: &mut Criterion) {
    let large = part(0, 65_536);
    let bytes = large.bytes().to_vec();
    let mut parts = vec![Arc::new(large)];
    parts.extend((1..16).map(|n| Arc::new(part(n << 32, 200))));
    let index = Index::new(parts);
    let known: Vec<ChunkId> = (0..4096).map(|n| id(n * 251)).collect();
    let unknown: Vec<ChunkId> = (0..4096).map(|n| id((1 << 40) + n)).collect();

    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(4096));
    for (name, ids) in [("lookup-known", known), ("lookup-unknown", unknown)] {
        group.bench_function(name, |b| {
            b.iter(|| ids.iter().filter(|id| index.lookup(id).is_some()).count());
        });
    }
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode-1M", |b| {
        b.iter_with_setup(|| bytes.clone(), |bytes| IndexPart::decode(bytes).unwrap());
    });
    group.finish();
}

criterion_group!(benches, chunker, codec, index);
criterion_main!(benches);
