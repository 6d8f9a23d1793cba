//! Codec, frames and containers: round trips, and what happens to damaged bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nbws_core::ErrorKind;
use nbws_core::codec::{Codec, Decoder, Encoder};
use nbws_core::frame::{
    ChunkSpan, EncodedFrame, FRAME_HEADER_BYTES, FrameDecoder, FrameEncoder, FrameHeader,
    FrameKind, verify_checksum,
};
use nbws_core::header::{HEADER_BYTES, Header};
use nbws_core::id::{ChunkId, ContainerId, RepositoryId};
use nbws_core::key::ContainerKey;
use nbws_core::pack::{
    FrameSlot, PackBuilder, SealedPack, TRAILER_BYTES, Trailer, decode_directory, open_container,
};
use proptest::prelude::*;
use std::io::Write;

const REPOSITORY: RepositoryId = RepositoryId([9; 16]);

fn key() -> ContainerKey {
    ContainerKey::pack(ContainerId {
        epoch: 3,
        random: [7; 16],
    })
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = [
        "chunk ", "frame ", "pack\n", "index ", "tree ", "42 ", "0.5,", "\"id\": ",
    ];
    noise(seed, length)
        .iter()
        .flat_map(|b| words[usize::from(b % 8)].bytes())
        .take(length)
        .collect()
}

/// Lengths around every border of the codec, and content of both sorts.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        1usize..200,
        4000usize..4200,
        8100usize..8300,
        1usize..60_000
    ];
    (any::<u64>(), any::<bool>(), length).prop_map(|(seed, random, length)| {
        if random {
            noise(seed, length)
        } else {
            text(seed, length)
        }
    })
}

fn spans(chunks: &[Vec<u8>]) -> Vec<ChunkSpan> {
    chunks
        .iter()
        .map(|c| ChunkSpan {
            id: ChunkId::of(c),
            length: c.len() as u32,
        })
        .collect()
}

fn sealed(frames: &[Vec<Vec<u8>>]) -> SealedPack {
    let mut encoder = FrameEncoder::new().unwrap();
    let mut builder = PackBuilder::new(Header {
        repository: REPOSITORY,
        key: key(),
    });
    for chunks in frames {
        let frame = encoder
            .encode(FrameKind::Chunks, &chunks.concat(), spans(chunks), 3)
            .unwrap();
        let before = builder.len();
        assert_eq!(builder.push(frame).unwrap().offset as usize, before);
    }
    let list = encoder
        .encode(FrameKind::Attachment, b"a list", vec![], 3)
        .unwrap();
    builder.push(list).unwrap();
    builder.finish()
}

fn stored<'a>(pack: &'a [u8], slot: &FrameSlot) -> &'a [u8] {
    &pack[slot.offset as usize..][..slot.stored_len as usize]
}

/// What a full check of a container does.
fn check_all(bytes: &[u8]) -> nbws_core::Result<Vec<FrameSlot>> {
    let frames = open_container(bytes, |r| r == REPOSITORY, key())?;
    for slot in &frames {
        verify_checksum(stored(bytes, slot))?;
    }
    Ok(frames)
}

/// What a reader does: it skips the checksums and verifies the id of each chunk.
fn read_all(bytes: &[u8]) -> nbws_core::Result<Vec<Vec<Vec<u8>>>> {
    let mut decoder = FrameDecoder::new()?;
    let mut out = Vec::new();
    let mut plain = Vec::new();
    for slot in open_container(bytes, |r| r == REPOSITORY, key())? {
        decoder.decode(stored(bytes, &slot), slot.kind, slot.plain_len, &mut plain)?;
        let mut rest = &plain[..];
        let mut chunks = Vec::new();
        for span in &slot.chunks {
            let (chunk, after) = rest.split_at(span.length as usize);
            rest = after;
            if ChunkId::of(chunk) != span.id {
                return Err(nbws_core::Error::corrupt("read", "chunk id"));
            }
            chunks.push(chunk.to_vec());
        }
        if slot.kind == FrameKind::Chunks {
            out.push(chunks);
        } else {
            assert_eq!(rest, b"a list");
        }
    }
    Ok(out)
}

fn small_pack() -> (Vec<Vec<Vec<u8>>>, SealedPack) {
    let frames = vec![
        vec![text(1, 300), text(2, 150), vec![1]],
        vec![noise(3, 90)],
        vec![vec![0; 700]],
    ];
    let pack = sealed(&frames);
    (frames, pack)
}

#[test]
fn every_flipped_byte_of_a_container_is_noticed() {
    let (_, pack) = small_pack();
    let codecs: Vec<Codec> = pack.frames.iter().map(|f| f.codec).collect();
    assert!(codecs.contains(&Codec::Raw) && codecs.contains(&Codec::Zstd));
    assert_eq!(check_all(&pack.bytes).unwrap(), pack.frames);
    for at in 0..pack.bytes.len() {
        for change in [0x01, 0x02, 0x80, 0xff] {
            let mut bytes = pack.bytes.clone();
            bytes[at] ^= change;
            let error = check_all(&bytes).expect_err("a flip went unnoticed");
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
                "byte {at}: {error:?}"
            );
        }
    }
}

#[test]
fn a_reader_never_gets_wrong_bytes() {
    let (frames, pack) = small_pack();
    for at in 0..pack.bytes.len() {
        let mut bytes = pack.bytes.clone();
        bytes[at] ^= 0x10;
        // An attachment has no chunk id: the hash of the record that names it guards it instead.
        let attachment = pack.frames.last().unwrap();
        let start = attachment.offset as usize;
        if (start..start + attachment.stored_len as usize).contains(&at) {
            continue;
        }
        if let Ok(read) = read_all(&bytes) {
            assert_eq!(read, frames, "byte {at}");
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let (_, pack) = small_pack();
    for length in 0..pack.bytes.len() {
        assert!(check_all(&pack.bytes[..length]).is_err(), "{length}");
        assert!(check_all(&pack.bytes[length + 1..]).is_err(), "{length}");
    }
    let mut longer = pack.bytes.clone();
    longer.push(0);
    assert!(check_all(&longer).is_err());

    let slot = &pack.frames[0];
    let frame = stored(&pack.bytes, slot);
    let mut decoder = FrameDecoder::new().unwrap();
    let mut out = Vec::new();
    for length in 0..frame.len() {
        assert!(verify_checksum(&frame[..length]).is_err());
        assert!(
            decoder
                .decode(&frame[..length], slot.kind, slot.plain_len, &mut out)
                .is_err()
        );
    }
}

#[test]
fn a_container_in_the_place_of_another_is_refused() {
    let (_, pack) = small_pack();
    let mut other = key();
    other.id.random[15] ^= 1;
    assert!(open_container(&pack.bytes, |r| r == REPOSITORY, other).is_err());
    assert!(open_container(&pack.bytes, |r| r == RepositoryId([8; 16]), key()).is_err());
}

#[test]
fn the_end_of_a_container_is_enough_to_list_it() {
    let (_, pack) = small_pack();
    let (rest, trailer) = pack.bytes.split_last_chunk::<TRAILER_BYTES>().unwrap();
    let trailer = Trailer::decode(trailer).unwrap();
    assert_eq!(trailer.frame_count, 4);
    let directory = &rest[rest.len() - trailer.directory_len as usize..];
    let header = &pack.bytes[..HEADER_BYTES];
    let size = pack.bytes.len() as u64;
    let frames = decode_directory(header, directory, &trailer, size).unwrap();
    assert_eq!(frames, pack.frames);
    assert!(decode_directory(header, directory, &trailer, size + 1).is_err());
    assert!(decode_directory(&header[1..], directory, &trailer, size).is_err());
}

#[test]
fn an_empty_container_opens() {
    let pack = PackBuilder::new(Header {
        repository: REPOSITORY,
        key: key(),
    })
    .finish();
    assert_eq!(pack.bytes.len(), HEADER_BYTES + 1 + TRAILER_BYTES);
    assert!(check_all(&pack.bytes).unwrap().is_empty());
}

#[test]
fn a_directory_must_fit_its_frames() {
    let refused = |directory: Vec<u8>, frame_count: u32| {
        let header = Header {
            repository: REPOSITORY,
            key: key(),
        }
        .encode();
        let mut trailer = Vec::new();
        trailer.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        trailer.extend_from_slice(&frame_count.to_le_bytes());
        let hash = blake3::hash(&[&header[..], &directory].concat());
        trailer.extend_from_slice(hash.as_bytes());
        trailer.extend_from_slice(b"nbws-end");
        let trailer = Trailer::decode(&trailer).unwrap();
        let size = 64 + 24 + 10 + directory.len() as u64 + 48;
        decode_directory(&header, &directory, &trailer, size).map_err(|e| e.kind())
    };
    let chunk = |length: u8| [&[1; 32][..], &[length]].concat();
    let good = [&[1, 1, 0, 10, 10, 1][..], &chunk(10)].concat();
    assert!(refused(good.clone(), 1).is_ok());
    let corrupt = Err(ErrorKind::Corrupt);
    assert_eq!(refused(good.clone(), 2), corrupt, "counts differ");
    assert_eq!(refused([&good[..], &[0]].concat(), 1), corrupt, "trailing");
    for (directory, why) in [
        (
            [&[1, 1, 0, 10, 10, 1][..], &chunk(9)].concat(),
            "sum too small",
        ),
        (
            [&[1, 1, 0, 10, 10, 2][..], &chunk(10), &chunk(0)].concat(),
            "empty chunk",
        ),
        (vec![1, 1, 0, 10, 10, 0], "no chunk"),
        (
            [&[1, 2, 0, 10, 10, 1][..], &chunk(10)].concat(),
            "chunks of a part",
        ),
        ([&[1, 6, 0, 10, 10, 1][..], &chunk(10)].concat(), "kind"),
        ([&[1, 1, 2, 10, 10, 1][..], &chunk(10)].concat(), "codec"),
        (
            [&[1, 1, 0, 9, 10, 1][..], &chunk(10)].concat(),
            "raw lengths",
        ),
        (
            [&[1, 1, 1, 11, 10, 1][..], &chunk(10)].concat(),
            "container length",
        ),
        (
            [&[0x81, 0, 1, 0, 10, 10, 1][..], &chunk(10)].concat(),
            "varint",
        ),
        (vec![0xff, 0xff, 0xff, 0xff, 0x0f], "count"),
        (
            vec![1, 1, 0, 10, 10, 0xff, 0xff, 0xff, 0xff, 0x0f],
            "chunk count",
        ),
    ] {
        assert_eq!(refused(directory, 1), corrupt, "{why}");
    }
    let delta = [&[1, 4, 0, 10, 10, 1][..], &chunk(10)].concat();
    assert_eq!(refused(delta, 1), Err(ErrorKind::Unsupported));
}

#[test]
fn frames_that_no_reader_would_take_are_not_made() {
    let mut encoder = FrameEncoder::new().unwrap();
    let chunk = vec![0; 1 << 20];
    let five = vec![chunk.clone(); 5];
    let too_long = vec![vec![0; (1 << 20) + 1]];
    for (kind, chunks) in [
        (FrameKind::Chunks, five),
        (FrameKind::Chunks, too_long),
        (FrameKind::IndexPart, vec![chunk.clone()]),
        (FrameKind::Chunks, vec![vec![]]),
    ] {
        let refused = encoder.encode(kind, &chunks.concat(), spans(&chunks), 1);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Internal);
    }
    assert!(
        encoder
            .encode(FrameKind::Chunks, b"ab", spans(&[vec![b'a']]), 1)
            .is_err()
    );
    assert!(encoder.encode(FrameKind::Chunks, &[], vec![], 1).is_err());
    assert!(
        encoder
            .encode(FrameKind::Attachment, &[], vec![], 1)
            .is_ok()
    );
}

#[test]
fn a_frame_header_has_one_spelling() {
    let mut encoder = FrameEncoder::new().unwrap();
    let chunks = [text(5, 500)];
    let frame = encoder
        .encode(FrameKind::Chunks, &chunks[0], spans(&chunks), 3)
        .unwrap();
    let header = verify_checksum(&frame.bytes).unwrap();
    assert_eq!(header.stored_len(), frame.bytes.len() as u64);
    assert_eq!(
        (header.kind, header.codec, header.plain_len),
        (FrameKind::Chunks, Codec::Zstd, 500)
    );
    let with = |at: usize, value: u8| {
        let mut bytes = frame.bytes.clone();
        bytes[at] = value;
        FrameHeader::decode(&bytes).map_err(|e| e.kind())
    };
    assert_eq!(with(4, 4), Err(ErrorKind::Unsupported));
    for (at, value) in [
        (0, 0),
        (4, 0),
        (4, 6),
        (5, 2),
        (5, 0),
        (6, 1),
        (7, 1),
        (11, 1),
    ] {
        assert_eq!(with(at, value), Err(ErrorKind::Corrupt), "{at}={value}");
    }
}

#[test]
fn hostile_zstd_payloads_are_refused() {
    let mut decoder = Decoder::new().unwrap();
    let mut out = Vec::new();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    assert!(bomb.len() < 16 << 10);
    assert!(
        decoder
            .decode(Codec::Zstd, &bomb, 1 << 20, &mut out)
            .is_err()
    );
    assert!(out.capacity() <= 1 << 20, "allocated {}", out.capacity());

    let one = zstd::bulk::compress(&text(1, 1000), 1).unwrap();
    let empty = zstd::bulk::compress(&[], 1).unwrap();
    // A skippable frame is no content, and a stream does not say how much it holds.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0][..], &one].concat();
    let mut stream = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    stream.write_all(&text(1, 1000)[..500]).unwrap();
    stream.flush().unwrap();
    stream.write_all(&text(1, 1000)[500..]).unwrap();
    let streamed = stream.finish().unwrap();
    for (payload, why) in [
        ([&one[..], &one].concat(), "two frames"),
        ([&one[..], &empty].concat(), "a frame and an empty one"),
        ([&one[..], &[0]].concat(), "trailing byte"),
        (skippable, "skippable"),
        (streamed, "no content size"),
        (vec![], "nothing"),
    ] {
        let refused = decoder.decode(Codec::Zstd, &payload, 1000, &mut out);
        assert_eq!(
            refused.map_err(|e| e.kind()),
            Err(ErrorKind::Corrupt),
            "{why}"
        );
        assert!(out.is_empty());
    }
    decoder.decode(Codec::Zstd, &one, 1000, &mut out).unwrap();
    assert_eq!(out, text(1, 1000));
    assert!(
        decoder
            .decode(Codec::Raw, &one, one.len() + 1, &mut out)
            .is_err()
    );
}

#[test]
fn incompressible_bytes_stay_raw_and_a_compressible_part_is_found() {
    let mut encoder = Encoder::new().unwrap();
    let mut out = b"before".to_vec();
    for length in [0, 1, 100, 4095, 4096, 4097, 9000, 1 << 20] {
        out.truncate(6);
        let plain = noise(length as u64, length);
        assert_eq!(
            encoder.encode(&plain, 3, &mut out).unwrap(),
            Codec::Raw,
            "{length}"
        );
        assert_eq!(&out[..6], b"before");
        assert_eq!(&out[6..], plain);
    }
    for length in [100, 4095, 4096, 9000, 1 << 20] {
        out.clear();
        let plain = text(length as u64, length);
        assert_eq!(
            encoder.encode(&plain, 3, &mut out).unwrap(),
            Codec::Zstd,
            "{length}"
        );
        assert!(out.len() < plain.len());
    }
    // The end of a frame alone compresses.
    out.clear();
    let mut mixed = noise(1, 1 << 20);
    mixed.extend(text(2, 100_000));
    assert_eq!(encoder.encode(&mixed, 1, &mut out).unwrap(), Codec::Zstd);
    // Skewed bytes without repetitions gain by their frequencies alone.
    out.clear();
    let skewed: Vec<u8> = noise(4, 1 << 16)
        .iter()
        .map(|b| b & (b >> 3) & 0x3f)
        .collect();
    assert_eq!(encoder.encode(&skewed, 1, &mut out).unwrap(), Codec::Zstd);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn containers_round_trip(frames in proptest::collection::vec(
        proptest::collection::vec(plain(), 1..5), 0..5)
    ) {
        let pack = sealed(&frames);
        prop_assert_eq!(&check_all(&pack.bytes).unwrap(), &pack.frames);
        prop_assert_eq!(&read_all(&pack.bytes).unwrap(), &frames);
        prop_assert_eq!(pack.key, key());
    }

    #[test]
    fn payloads_round_trip_at_every_level(plain in plain(), level in -5i32..=22) {
        let mut out = Vec::new();
        let codec = Encoder::new().unwrap().encode(&plain, level, &mut out).unwrap();
        prop_assert!(out.len() <= plain.len());
        let mut again = vec![1, 2, 3];
        let mut decoder = Decoder::new().unwrap();
        decoder.decode(codec, &out, plain.len(), &mut again).unwrap();
        prop_assert_eq!(&again, &plain);
        prop_assert!(decoder.decode(codec, &out, plain.len() + 1, &mut again).is_err());
        prop_assert!(decoder.decode(codec, &out, plain.len() - 1, &mut again).is_err());
    }

    #[test]
    fn damaged_payloads_never_panic_or_grow(
        plain in plain(), flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4), cut: prop::sample::Index,
    ) {
        let payload = zstd::bulk::compress(&plain, 3).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut out = Vec::new();
        let mut damaged = payload.clone();
        for (at, change) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= change;
        }
        for bytes in [&damaged[..], &payload[..cut.index(payload.len())]] {
            if decoder.decode(Codec::Zstd, bytes, plain.len(), &mut out).is_ok() {
                prop_assert_eq!(out.len(), plain.len());
            }
        }
        // The context is fit for use afterwards.
        decoder.decode(Codec::Zstd, &payload, plain.len(), &mut out).unwrap();
        prop_assert_eq!(&out, &plain);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check_all(&bytes);
        let _ = FrameHeader::decode(&bytes);
        let _ = Trailer::decode(&bytes);
        let framed = [&b"NBfr\x01\x01\0\0"[..], &bytes].concat();
        let mut out = Vec::new();
        let _ = FrameDecoder::new().unwrap().decode(&framed, FrameKind::Chunks, 100, &mut out);
        prop_assert!(out.capacity() <= 100);
    }

    #[test]
    fn flips_in_a_container_are_noticed(
        frames in proptest::collection::vec(proptest::collection::vec(plain(), 1..4), 1..3),
        at: prop::sample::Index, change in 1u8..,
    ) {
        let mut bytes = sealed(&frames).bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(check_all(&bytes).is_err());
    }
}

#[test]
fn a_frame_can_be_handed_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<FrameEncoder>();
    sendable::<FrameDecoder>();
    sendable::<EncodedFrame>();
    assert_eq!(FRAME_HEADER_BYTES, 24);
}
