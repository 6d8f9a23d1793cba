//! Containers: header, frames, directory, trailer (`docs/format.md`, section 4).

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::frame::{
    ChunkSpan, EncodedFrame, FRAME_HEADER_BYTES, FrameHeader, FrameKind, check_chunks,
};
use crate::header::{HEADER_BYTES, Header};
use crate::id::{ChunkId, RepositoryId};
use crate::key::ContainerKey;
use crate::limits::{MAX_CHUNK_BYTES, MAX_CONTAINER_BYTES};
use crate::wire::{WireReader, put_varint};

/// Length of a trailer.
pub const TRAILER_BYTES: usize = 48;
const MAGIC: &[u8; 8] = b"nbws-end";
/// Fewest bytes of a frame and of a chunk in a directory; they bound what a count may make a reader allocate.
const MIN_SLOT_BYTES: usize = 5;
const MIN_SPAN_BYTES: usize = 33;
/// Most bytes of the frame count: a varint of 30 bits.
const MAX_COUNT_BYTES: usize = 5;

/// Where a frame lies in its container, and the chunks it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSlot {
    /// What it holds.
    pub kind: FrameKind,
    /// How the payload is coded.
    pub codec: Codec,
    /// Position of its header in the container.
    pub offset: u32,
    /// Length with the 24-byte header.
    pub stored_len: u32,
    /// Length after decoding.
    pub plain_len: u32,
    /// The chunks, in the order of their bytes; empty for other kinds.
    pub chunks: Vec<ChunkSpan>,
}

/// Collects frames into one container, in memory.
pub struct PackBuilder {
    header: Header,
    bytes: Vec<u8>,
    directory: Vec<u8>,
    frames: Vec<FrameSlot>,
}

impl PackBuilder {
    /// An empty container with this header.
    pub fn new(header: Header) -> Self {
        PackBuilder {
            bytes: header.encode().to_vec(),
            header,
            directory: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// As [`PackBuilder::new`], with room for so many bytes: a buffer that doubles leaves its smaller selves behind.
    pub fn with_capacity(header: Header, bytes: usize) -> Self {
        let mut builder = PackBuilder::new(header);
        builder
            .bytes
            .reserve_exact(bytes.saturating_sub(HEADER_BYTES));
        builder
    }

    /// The name the container will have.
    pub fn key(&self) -> ContainerKey {
        self.header.key
    }

    /// Bytes so far, with the header and without directory and trailer.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no frame was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Appends a frame and says where it lies. `Internal` if the container would pass 1 GiB; it then stays as it was.
    pub fn push(&mut self, frame: EncodedFrame) -> Result<&FrameSlot> {
        let before = self.directory.len();
        let slot = FrameSlot {
            kind: frame.kind,
            codec: frame.codec,
            offset: self.bytes.len() as u32,
            stored_len: frame.bytes.len() as u32,
            plain_len: frame.plain_len,
            chunks: frame.chunks,
        };
        encode_slot(&mut self.directory, &slot);
        let end = self.bytes.len() + frame.bytes.len() + self.directory.len();
        if (end + MAX_COUNT_BYTES + TRAILER_BYTES) as u64 > MAX_CONTAINER_BYTES {
            self.directory.truncate(before);
            return Err(Error::internal(
                "build pack",
                "a container would pass 1 GiB: seal it earlier",
            ));
        }
        self.bytes.extend_from_slice(&frame.bytes);
        let at = self.frames.len();
        self.frames.push(slot);
        Ok(&self.frames[at])
    }

    /// Appends directory and trailer.
    pub fn finish(mut self) -> SealedPack {
        let mut directory = Vec::with_capacity(MAX_COUNT_BYTES + self.directory.len());
        put_varint(&mut directory, self.frames.len() as u64);
        directory.extend_from_slice(&self.directory);
        let trailer = Trailer {
            directory_len: directory.len() as u32,
            frame_count: self.frames.len() as u32,
            hash: directory_hash(&self.bytes[..HEADER_BYTES], &directory),
        };
        self.bytes.extend_from_slice(&directory);
        self.bytes.extend_from_slice(&trailer.encode());
        SealedPack {
            key: self.header.key,
            bytes: self.bytes,
            frames: self.frames,
        }
    }
}

fn encode_slot(directory: &mut Vec<u8>, slot: &FrameSlot) {
    directory.push(slot.kind as u8);
    directory.push(slot.codec as u8);
    put_varint(
        directory,
        u64::from(slot.stored_len) - FRAME_HEADER_BYTES as u64,
    );
    put_varint(directory, u64::from(slot.plain_len));
    put_varint(directory, slot.chunks.len() as u64);
    for chunk in &slot.chunks {
        directory.extend_from_slice(&chunk.id.0);
        put_varint(directory, u64::from(chunk.length));
    }
}

/// A finished container, ready to be stored under its key.
#[derive(Clone, Debug)]
pub struct SealedPack {
    /// Its name.
    pub key: ContainerKey,
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Its frames in the order of their offsets.
    pub frames: Vec<FrameSlot>,
}

fn directory_hash(header: &[u8], directory: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    hasher.update(directory);
    *hasher.finalize().as_bytes()
}

/// The last 48 bytes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the directory before it, in bytes.
    pub directory_len: u32,
    /// Frames in the directory.
    pub frame_count: u32,
    hash: [u8; 32],
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[0..4].copy_from_slice(&self.directory_len.to_le_bytes());
        out[4..8].copy_from_slice(&self.frame_count.to_le_bytes());
        out[8..40].copy_from_slice(&self.hash);
        out[40..48].copy_from_slice(MAGIC);
        out
    }

    /// Reads exactly the 48 bytes at the end of a container; `Corrupt` if they are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = WireReader::new(bytes, "decode container trailer");
        let trailer = Trailer {
            directory_len: reader.u32()?,
            frame_count: reader.u32()?,
            hash: reader.array()?,
        };
        if reader.array::<8>()? != *MAGIC {
            return Err(reader.corrupt("does not end like a container"));
        }
        reader.end()?;
        if u64::from(trailer.directory_len) > MAX_CONTAINER_BYTES {
            return Err(reader.corrupt("a directory is longer than a container"));
        }
        Ok(trailer)
    }
}

/// Reads the frames off `directory`, which the trailer's hash binds to `header`, both as stored.
///
/// `Corrupt` unless the frames fill the container of `container_len` bytes without gaps.
pub fn decode_directory(
    header: &[u8],
    directory: &[u8],
    trailer: &Trailer,
    container_len: u64,
) -> Result<Vec<FrameSlot>> {
    let mut reader = WireReader::new(directory, "decode container directory");
    if header.len() != HEADER_BYTES || directory.len() as u64 != u64::from(trailer.directory_len) {
        return Err(reader.corrupt("header or directory has a wrong length"));
    }
    if container_len > MAX_CONTAINER_BYTES {
        return Err(reader.corrupt("a container is over 1 GiB"));
    }
    if directory_hash(header, directory) != trailer.hash {
        return Err(reader.corrupt("the hash of header and directory does not match"));
    }
    let count = reader.count(directory.len() / MIN_SLOT_BYTES)?;
    if count as u64 != u64::from(trailer.frame_count) {
        return Err(reader.corrupt("directory and trailer count other frames"));
    }
    let mut frames = Vec::with_capacity(count);
    let mut offset = HEADER_BYTES as u64;
    for _ in 0..count {
        let slot = decode_slot(&mut reader, offset)?;
        offset += u64::from(slot.stored_len);
        frames.push(slot);
    }
    reader.end()?;
    if offset + directory.len() as u64 + TRAILER_BYTES as u64 != container_len {
        return Err(reader.corrupt("the frames do not fill the container"));
    }
    Ok(frames)
}

fn decode_slot(reader: &mut WireReader<'_>, offset: u64) -> Result<FrameSlot> {
    let kind = FrameKind::from_byte(reader.u8()?)?;
    let codec = Codec::from_byte(reader.u8()?).ok_or_else(|| reader.corrupt("unknown codec"))?;
    let payload_len = reader.count(MAX_CONTAINER_BYTES as usize)?;
    let plain_len = reader.count(kind.limit())?;
    let stored_len = (FRAME_HEADER_BYTES + payload_len) as u64;
    if offset + stored_len > MAX_CONTAINER_BYTES {
        return Err(reader.corrupt("a frame reaches past 1 GiB"));
    }
    if codec == Codec::Raw && payload_len != plain_len {
        return Err(reader.corrupt("a raw frame has another length than its payload"));
    }
    let count = reader.count(reader.remaining() / MIN_SPAN_BYTES)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(ChunkSpan {
            id: ChunkId(reader.array()?),
            length: reader.count(MAX_CHUNK_BYTES)? as u32,
        });
    }
    check_chunks(kind, plain_len, &chunks).map_err(|why| reader.corrupt(why))?;
    Ok(FrameSlot {
        kind,
        codec,
        offset: offset as u32,
        stored_len: stored_len as u32,
        plain_len: plain_len as u32,
        chunks,
    })
}

/// Opens a whole container in memory: it must be `key` of `repository`, and every frame header must agree with the directory.
///
/// Payloads are not looked at: [`crate::frame::verify_checksum`] or the ids of the chunks do that.
pub fn open_container(
    bytes: &[u8],
    accepted: impl Fn(RepositoryId) -> bool,
    key: ContainerKey,
) -> Result<Vec<FrameSlot>> {
    let corrupt = |why: &'static str| Error::corrupt("open container", why).at(key.to_string());
    Header::expect(bytes, accepted, key)?;
    let Some((rest, trailer)) = bytes.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(corrupt("truncated"));
    };
    let trailer = Trailer::decode(trailer).map_err(|e| e.at(key.to_string()))?;
    let start = rest
        .len()
        .checked_sub(trailer.directory_len as usize)
        .filter(|start| *start >= HEADER_BYTES)
        .ok_or_else(|| corrupt("the directory is longer than the container"))?;
    let frames = decode_directory(
        &bytes[..HEADER_BYTES],
        &rest[start..],
        &trailer,
        bytes.len() as u64,
    )
    .map_err(|e| e.at(key.to_string()))?;
    for slot in &frames {
        let found = FrameHeader::decode(&rest[slot.offset as usize..start])
            .map_err(|e| e.at(key.to_string()))?;
        if (found.kind, found.codec) != (slot.kind, slot.codec)
            || found.plain_len != slot.plain_len
            || found.stored_len() != u64::from(slot.stored_len)
        {
            return Err(corrupt("a frame's header differs from the directory"));
        }
    }
    Ok(frames)
}
