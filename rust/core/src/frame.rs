//! The unit of compression: a 24-byte header and a payload (`docs/format.md`, section 4.2).

use crate::codec::{Codec, Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::{
    MAX_ATTACHMENT_BYTES, MAX_CHUNK_BYTES, MAX_FRAME_PLAIN_BYTES, MAX_INDEX_PART_BYTES,
};
use crate::wire::WireReader;

/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 4] = b"NBfr";
/// Bytes of the header that the checksum covers.
const COVERED_BYTES: usize = 16;
/// The kind reserved for deltas.
const DELTA: u8 = 4;

/// What a frame holds; the discriminant is the byte of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// One or more chunks, one after another.
    Chunks = 1,
    /// One part of the index.
    IndexPart = 2,
    /// The list of live index parts.
    IndexRoot = 3,
    /// A list that a record names.
    Attachment = 5,
}

impl FrameKind {
    /// From the byte of the format: `Unsupported` for the reserved kind 4, `Corrupt` for others.
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(FrameKind::Chunks),
            2 => Ok(FrameKind::IndexPart),
            3 => Ok(FrameKind::IndexRoot),
            DELTA => Err(Error::new(
                ErrorKind::Unsupported,
                "decode frame",
                "is a delta; this program can't read deltas",
            )),
            5 => Ok(FrameKind::Attachment),
            _ => Err(Error::corrupt("decode frame", "unknown frame kind")),
        }
    }

    /// The most plain bytes of a frame of this kind.
    pub const fn limit(self) -> usize {
        match self {
            FrameKind::Chunks => MAX_FRAME_PLAIN_BYTES,
            FrameKind::IndexPart => MAX_INDEX_PART_BYTES,
            FrameKind::IndexRoot | FrameKind::Attachment => MAX_ATTACHMENT_BYTES,
        }
    }
}

/// One chunk of a frame; chunks lie one after another in its plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    /// BLAKE3 of the chunk.
    pub id: ChunkId,
    /// Its length in bytes.
    pub length: u32,
}

/// Fails unless `chunks` fill a frame of `kind` with `plain_len` plain bytes.
pub(crate) fn check_chunks(
    kind: FrameKind,
    plain_len: usize,
    chunks: &[ChunkSpan],
) -> Result<(), &'static str> {
    if plain_len > kind.limit() {
        return Err("a frame is longer than its kind may be");
    }
    if kind != FrameKind::Chunks {
        return if chunks.is_empty() {
            Ok(())
        } else {
            Err("a frame that holds no chunks names some")
        };
    }
    let mut total = 0u64;
    for chunk in chunks {
        if chunk.length == 0 || chunk.length as usize > MAX_CHUNK_BYTES {
            return Err("a chunk is empty or over 1 MiB");
        }
        total += u64::from(chunk.length);
    }
    if chunks.is_empty() || total != plain_len as u64 {
        return Err("the chunks of a frame do not add up to its length");
    }
    Ok(())
}

/// The fixed fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it holds.
    pub kind: FrameKind,
    /// How the payload is coded.
    pub codec: Codec,
    /// Length after decoding, in bytes; within the limit of the kind.
    pub plain_len: u32,
    /// Length of the payload, in bytes.
    pub payload_len: u32,
    /// First 8 bytes of BLAKE3 over the first 16 bytes of the header and the payload.
    pub checksum: [u8; 8],
}

impl FrameHeader {
    /// Reads the first 24 bytes of a frame. `Unsupported` for a delta, `Corrupt` for anything else that is not valid.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = WireReader::new(
            bytes.get(..FRAME_HEADER_BYTES).unwrap_or(bytes),
            "decode frame",
        );
        if reader.array::<4>()? != *MAGIC {
            return Err(reader.corrupt("does not start with a frame"));
        }
        let kind = FrameKind::from_byte(reader.u8()?)?;
        let codec =
            Codec::from_byte(reader.u8()?).ok_or_else(|| reader.corrupt("unknown codec"))?;
        if reader.array::<2>()? != [0; 2] {
            return Err(reader.corrupt("a reserved byte of a frame is not zero"));
        }
        let header = FrameHeader {
            kind,
            codec,
            plain_len: reader.u32()?,
            payload_len: reader.u32()?,
            checksum: reader.array()?,
        };
        reader.end()?;
        if header.plain_len as usize > kind.limit() {
            return Err(reader.corrupt("a frame is longer than its kind may be"));
        }
        if codec == Codec::Raw && header.payload_len != header.plain_len {
            return Err(reader.corrupt("a raw frame has another length than its payload"));
        }
        Ok(header)
    }

    /// Length of the frame with its header, in bytes.
    pub fn stored_len(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.payload_len)
    }
}

/// Splits exactly one stored frame into header and payload.
fn split(stored: &[u8]) -> Result<(FrameHeader, &[u8])> {
    let header = FrameHeader::decode(stored)?;
    if stored.len() as u64 != header.stored_len() {
        return Err(Error::corrupt(
            "decode frame",
            "a frame has another stored length than its header says",
        ));
    }
    Ok((header, &stored[FRAME_HEADER_BYTES..]))
}

fn checksum(covered: &[u8], payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(covered);
    hasher.update(payload);
    let mut out = [0; 8];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    out
}

/// Checks that `stored` is exactly one frame and that its checksum matches, without decoding the payload.
pub fn verify_checksum(stored: &[u8]) -> Result<FrameHeader> {
    let (header, payload) = split(stored)?;
    if checksum(&stored[..COVERED_BYTES], payload) != header.checksum {
        return Err(Error::corrupt(
            "verify frame",
            "the checksum of a frame does not match its bytes",
        ));
    }
    Ok(header)
}

/// A frame ready to be placed in a container.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// What it holds.
    pub kind: FrameKind,
    /// How the payload is coded.
    pub codec: Codec,
    /// Length after decoding, in bytes.
    pub plain_len: u32,
    /// The chunks, in the order of their bytes; empty for other kinds.
    pub chunks: Vec<ChunkSpan>,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

/// Makes frames; keeps contexts and buffers from one to the next.
pub struct FrameEncoder {
    encoder: Encoder,
    decoder: Decoder,
    stored: Vec<u8>,
    again: Vec<u8>,
}

impl FrameEncoder {
    /// Allocates the contexts; `Internal` if there is no memory for them.
    pub fn new() -> Result<Self> {
        Ok(FrameEncoder {
            encoder: Encoder::new()?,
            decoder: Decoder::new()?,
            stored: Vec::new(),
            again: Vec::new(),
        })
    }

    /// Encodes one frame, decodes what was made and compares it with `plain`.
    ///
    /// The comparison keeps a defect of memory or codec from reaching the store. `level` as in [`Encoder::encode`].
    /// `Internal` if `plain` is over the limit of its kind, the chunks do not fill it, or the comparison fails.
    pub fn encode(
        &mut self,
        kind: FrameKind,
        plain: &[u8],
        chunks: Vec<ChunkSpan>,
        level: i32,
    ) -> Result<EncodedFrame> {
        check_chunks(kind, plain.len(), &chunks)
            .map_err(|why| Error::internal("encode frame", why))?;
        self.stored.clear();
        self.stored.resize(FRAME_HEADER_BYTES, 0);
        let codec = self.encoder.encode(plain, level, &mut self.stored)?;
        // Copied, so that the frame takes what it needs and the buffer, sized for the worst, serves the next one.
        let mut bytes = if plain.len() > MAX_FRAME_PLAIN_BYTES {
            let mut bytes = std::mem::take(&mut self.stored);
            bytes.shrink_to_fit();
            bytes
        } else {
            self.stored.clone()
        };
        let payload = &bytes[FRAME_HEADER_BYTES..];
        let same = match codec {
            Codec::Raw => payload == plain,
            Codec::Zstd => {
                self.decoder
                    .decode(codec, payload, plain.len(), &mut self.again)?;
                self.again == plain
            }
        };
        // An index part may be hundreds of times larger than the frames that come next.
        if plain.len() > MAX_FRAME_PLAIN_BYTES {
            self.again = Vec::new();
        }
        if !same {
            return Err(Error::internal(
                "encode frame",
                "a frame decodes to other bytes than went in: faulty memory or codec",
            ));
        }
        // The limits of both lengths are far below 4 GiB.
        let (plain_len, payload_len) = (plain.len() as u32, payload.len() as u32);
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[4] = kind as u8;
        bytes[5] = codec as u8;
        bytes[8..12].copy_from_slice(&plain_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&payload_len.to_le_bytes());
        let sum = checksum(&bytes[..COVERED_BYTES], &bytes[FRAME_HEADER_BYTES..]);
        bytes[COVERED_BYTES..FRAME_HEADER_BYTES].copy_from_slice(&sum);
        Ok(EncodedFrame {
            kind,
            codec,
            plain_len,
            chunks,
            bytes,
        })
    }
}

/// Decodes frames; keeps its context from one to the next.
pub struct FrameDecoder {
    decoder: Decoder,
}

impl FrameDecoder {
    /// Allocates the context; `Internal` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Ok(FrameDecoder {
            decoder: Decoder::new()?,
        })
    }

    /// Replaces the content of `out` by the plain bytes of the one frame `stored`.
    ///
    /// `Corrupt` unless the frame is of `kind` and yields `plain_len` bytes. The checksum is not looked at: whoever reads
    /// verifies the id of each chunk or the hash of the whole ([`verify_checksum`] is for checks and recovery).
    pub fn decode(
        &mut self,
        stored: &[u8],
        kind: FrameKind,
        plain_len: u32,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.clear();
        let (header, payload) = split(stored)?;
        if header.kind != kind || header.plain_len != plain_len {
            return Err(Error::corrupt(
                "decode frame",
                "a frame is of another kind or length than asked for",
            ));
        }
        self.decoder
            .decode(header.codec, payload, plain_len as usize, out)
    }
}
