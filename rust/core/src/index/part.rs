//! One part of the index, used as it is encoded: 44 bytes a chunk, nothing is unpacked.

use super::ChunkLocation;
use crate::error::{Error, Result};
use crate::frame::FRAME_HEADER_BYTES;
use crate::header::HEADER_BYTES;
use crate::id::{ChunkId, ContainerId};
use crate::limits::{
    MAX_CHUNK_BYTES, MAX_CONTAINER_BYTES, MAX_FRAME_PLAIN_BYTES, MAX_INDEX_PART_BYTES,
};
use crate::wire::WireReader;
use std::cmp::Ordering;

pub(super) const TAG: u8 = b'I';
pub(super) const HEAD_BYTES: usize = 13;
pub(super) const PACK_BYTES: usize = 24;
pub(super) const FRAME_BYTES: usize = 16;
pub(super) const ID_BYTES: usize = 32;
pub(super) const PLACE_BYTES: usize = 12;
/// Bytes of one chunk in a part.
pub(super) const CHUNK_BYTES: usize = ID_BYTES + PLACE_BYTES;

/// One part of the index. Lookup works on the encoded bytes, which were validated once.
pub struct IndexPart {
    bytes: Vec<u8>,
    /// Starts of the tables of frames, ids and places in `bytes`.
    frames: usize,
    ids: usize,
    places: usize,
}

#[derive(Clone, Copy)]
struct Frame {
    pack: u32,
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

impl IndexPart {
    /// Takes the plain bytes of a part and checks all of them; `Corrupt` says what is wrong. Allocates nothing.
    pub fn decode(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > MAX_INDEX_PART_BYTES {
            return Err(corrupt("a part is over 256 MiB"));
        }
        let mut reader = WireReader::new(&bytes, "decode index part");
        if reader.u8()? != TAG {
            return Err(corrupt("does not start like an index part"));
        }
        let counts = [reader.u32()?, reader.u32()?, reader.u32()?];
        // Three u32 counts of records below 64 bytes stay far below 2^64.
        let [packs, frames, chunks] = counts.map(u64::from);
        let frames_at = HEAD_BYTES as u64 + packs * PACK_BYTES as u64;
        let ids_at = frames_at + frames * FRAME_BYTES as u64;
        let places_at = ids_at + chunks * ID_BYTES as u64;
        if places_at + chunks * PLACE_BYTES as u64 != bytes.len() as u64 {
            return Err(corrupt("the length does not fit the counts"));
        }
        let part = IndexPart {
            frames: frames_at as usize,
            ids: ids_at as usize,
            places: places_at as usize,
            bytes,
        };
        part.check_packs()?;
        part.check_frames()?;
        part.check_chunks()?;
        Ok(part)
    }

    /// A part that the builder has just encoded.
    pub(super) fn assembled(bytes: Vec<u8>, packs: usize, frames: usize, chunks: usize) -> Self {
        let frames_at = HEAD_BYTES + packs * PACK_BYTES;
        let ids_at = frames_at + frames * FRAME_BYTES;
        IndexPart {
            bytes,
            frames: frames_at,
            ids: ids_at,
            places: ids_at + chunks * ID_BYTES,
        }
    }

    fn check_packs(&self) -> Result<()> {
        if self.packs().is_sorted_by(|a, b| a < b) {
            Ok(())
        } else {
            Err(corrupt("packs are not strictly increasing"))
        }
    }

    fn check_frames(&self) -> Result<()> {
        let packs = self.pack_table().len();
        let mut last = None;
        for bytes in self.frame_table() {
            let frame = Frame::decode(bytes);
            let place = Some((frame.pack, frame.offset));
            if place <= last {
                return Err(corrupt("frames are not strictly increasing"));
            }
            last = place;
            if frame.pack as usize >= packs {
                return Err(corrupt("a frame names a pack that is not there"));
            }
            let end = u64::from(frame.offset) + u64::from(frame.stored_len);
            if (frame.offset as usize) < HEADER_BYTES
                || frame.stored_len as usize <= FRAME_HEADER_BYTES
                || end > MAX_CONTAINER_BYTES
            {
                return Err(corrupt("a frame has an impossible place"));
            }
            if frame.plain_len == 0 || frame.plain_len as usize > MAX_FRAME_PLAIN_BYTES {
                return Err(corrupt("a frame has an impossible length"));
            }
        }
        Ok(())
    }

    fn check_chunks(&self) -> Result<()> {
        if !self.id_table().is_sorted_by(|a, b| a < b) {
            return Err(corrupt("chunks are not strictly increasing"));
        }
        let frames = self.frame_table();
        for place in self.place_table() {
            let [frame, offset, length] = words(place);
            let Some(frame) = frames.get(frame as usize) else {
                return Err(corrupt("a chunk names a frame that is not there"));
            };
            if length == 0 || length as usize > MAX_CHUNK_BYTES {
                return Err(corrupt("a chunk is empty or over 1 MiB"));
            }
            if u64::from(offset) + u64::from(length) > u64::from(Frame::decode(frame).plain_len) {
                return Err(corrupt("a chunk reaches past the end of its frame"));
            }
        }
        Ok(())
    }

    /// The encoded part.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Chunks in this part.
    pub fn len(&self) -> usize {
        self.id_table().len()
    }

    /// Whether it names no chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where chunk `id` lies, if this part names it.
    pub fn lookup(&self, id: &ChunkId) -> Option<ChunkLocation> {
        self.location(self.find(id)?)
    }

    /// The position of chunk `id`, if this part names it.
    pub(super) fn find(&self, id: &ChunkId) -> Option<usize> {
        find(self.id_table(), &id.0)
    }

    /// The chunk at a position.
    pub(super) fn get(&self, at: usize) -> Option<(ChunkId, ChunkLocation)> {
        Some((ChunkId(*self.id_table().get(at)?), self.location(at)?))
    }

    /// Every chunk, by increasing id.
    pub fn iter(&self) -> impl Iterator<Item = (ChunkId, ChunkLocation)> {
        self.id_table()
            .iter()
            .enumerate()
            .filter_map(|(at, id)| Some((ChunkId(*id), self.location(at)?)))
    }

    /// The packs it names, increasing.
    pub fn packs(&self) -> impl Iterator<Item = ContainerId> {
        self.pack_table().iter().map(pack_id)
    }

    pub(super) fn pack_table(&self) -> &[[u8; PACK_BYTES]] {
        self.bytes[HEAD_BYTES..self.frames].as_chunks().0
    }

    pub(super) fn frame_table(&self) -> &[[u8; FRAME_BYTES]] {
        self.bytes[self.frames..self.ids].as_chunks().0
    }

    pub(super) fn id_table(&self) -> &[[u8; ID_BYTES]] {
        self.bytes[self.ids..self.places].as_chunks().0
    }

    pub(super) fn place_table(&self) -> &[[u8; PLACE_BYTES]] {
        self.bytes[self.places..].as_chunks().0
    }

    fn location(&self, at: usize) -> Option<ChunkLocation> {
        let [frame, chunk_offset, chunk_len] = words(self.place_table().get(at)?);
        let frame = Frame::decode(self.frame_table().get(frame as usize)?);
        Some(ChunkLocation {
            pack: pack_id(self.pack_table().get(frame.pack as usize)?),
            offset: frame.offset,
            stored_len: frame.stored_len,
            plain_len: frame.plain_len,
            chunk_offset,
            chunk_len,
        })
    }
}

impl std::fmt::Debug for IndexPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexPart")
            .field("packs", &self.pack_table().len())
            .field("frames", &self.frame_table().len())
            .field("chunks", &self.len())
            .finish()
    }
}

impl Frame {
    fn decode(bytes: &[u8; FRAME_BYTES]) -> Self {
        let [pack, offset, stored_len, plain_len] = words(bytes);
        Frame {
            pack,
            offset,
            stored_len,
            plain_len,
        }
    }
}

pub(super) fn pack_id(bytes: &[u8; PACK_BYTES]) -> ContainerId {
    let (epoch, random) = bytes.split_at(8);
    let mut id = ContainerId {
        epoch: 0,
        random: [0; 16],
    };
    id.random.copy_from_slice(random);
    id.epoch = epoch.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    id
}

/// The little-endian u32 fields of a record.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut out = [0; N];
    for (word, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    out
}

/// The position of `id` in a strictly increasing table.
///
/// Ids are hashes, so the first 8 bytes tell about where to look; the distance doubles until `id` is enclosed, and a
/// binary search ends it. Crafted tables cost twice a binary search, no more.
fn find(table: &[[u8; ID_BYTES]], id: &[u8; ID_BYTES]) -> Option<usize> {
    let (prefix, _) = id.as_chunks::<8>();
    let prefix = u64::from_be_bytes(*prefix.first()?);
    let guess = ((u128::from(prefix) * table.len() as u128) >> 64) as usize;
    let mut reach = table.len().isqrt() / 2 + 1;
    let (mut low, mut high) = (0, table.len());
    match table.get(guess)?.cmp(id) {
        Ordering::Equal => return Some(guess),
        Ordering::Less => {
            low = guess + 1;
            while let Some(probe) = table.get(low.saturating_add(reach)) {
                if probe > id {
                    high = low + reach;
                    break;
                }
                low += reach;
                reach *= 2;
            }
        }
        Ordering::Greater => {
            high = guess;
            while let Some(at) = high.checked_sub(reach) {
                if &table[at] <= id {
                    low = at;
                    break;
                }
                high = at;
                reach *= 2;
            }
        }
    }
    let at = table[low..high].binary_search(id).ok()?;
    Some(low + at)
}

fn corrupt(why: &'static str) -> Error {
    Error::corrupt("decode index part", why)
}
