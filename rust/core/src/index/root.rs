//! The list of live index parts.

use crate::error::{Error, Result};
use crate::frame::FRAME_HEADER_BYTES;
use crate::header::HEADER_BYTES;
use crate::id::{ContainerId, FrameHash};
use crate::key::{ContainerKey, ContainerKind};
use crate::limits::{MAX_CONTAINER_BYTES, MAX_INDEX_PART_BYTES, MAX_INDEX_PARTS};
use crate::wire::{WireReader, put_varint};

const TAG: u8 = b'R';

/// Where one part lies, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRef {
    /// The container.
    pub key: ContainerKey,
    /// Position of the frame in the container.
    pub offset: u32,
    /// Length of the frame with its header.
    pub stored_len: u32,
    /// Length of the part.
    pub plain_len: u32,
    /// BLAKE3 of the part.
    pub hash: FrameHash,
    /// Chunks in the part.
    pub chunks: u64,
}

/// The live parts, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexRoot {
    /// At most 64 parts.
    pub parts: Vec<PartRef>,
}

impl IndexRoot {
    /// The plain bytes; `Internal` for more than 64 parts, which no reader accepts.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if self.parts.len() > MAX_INDEX_PARTS {
            return Err(Error::internal(
                "encode index root",
                "more than 64 live parts",
            ));
        }
        let mut out = vec![TAG];
        put_varint(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            out.push(match part.key.kind {
                ContainerKind::Pack => 1,
                ContainerKind::Index => 2,
            });
            out.extend_from_slice(&part.key.id.epoch.to_le_bytes());
            out.extend_from_slice(&part.key.id.random);
            put_varint(&mut out, u64::from(part.offset));
            put_varint(&mut out, u64::from(part.stored_len));
            put_varint(&mut out, u64::from(part.plain_len));
            out.extend_from_slice(&part.hash.0);
            put_varint(&mut out, part.chunks);
        }
        Ok(out)
    }

    /// Reads the plain bytes; `Corrupt` for anything that `encode` does not make or that passes a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = WireReader::new(bytes, "decode index root");
        if reader.u8()? != TAG {
            return Err(reader.corrupt("does not start like an index root"));
        }
        let count = reader.count(MAX_INDEX_PARTS)?;
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            parts.push(decode_ref(&mut reader)?);
        }
        reader.end()?;
        Ok(IndexRoot { parts })
    }
}

fn decode_ref(reader: &mut WireReader<'_>) -> Result<PartRef> {
    let kind = match reader.u8()? {
        1 => ContainerKind::Pack,
        2 => ContainerKind::Index,
        _ => return Err(reader.corrupt("unknown container kind")),
    };
    let id = ContainerId {
        epoch: reader.u64()?,
        random: reader.array()?,
    };
    let offset = reader.count(MAX_CONTAINER_BYTES as usize)?;
    let stored_len = reader.count(MAX_CONTAINER_BYTES as usize)?;
    if offset < HEADER_BYTES
        || stored_len <= FRAME_HEADER_BYTES
        || (offset + stored_len) as u64 > MAX_CONTAINER_BYTES
    {
        return Err(reader.corrupt("a part has an impossible place"));
    }
    Ok(PartRef {
        key: ContainerKey { kind, id },
        offset: offset as u32,
        stored_len: stored_len as u32,
        plain_len: reader.count(MAX_INDEX_PART_BYTES)? as u32,
        hash: FrameHash(reader.array()?),
        chunks: reader.count(MAX_INDEX_PART_BYTES)? as u64,
    })
}
