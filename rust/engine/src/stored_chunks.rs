//! Reads chunks out of packs: ranges planned over the index, frames decoded once, every chunk verified.

use crate::store::Store;
use crate::workspace::Access;
use futures::stream::{self, StreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::key::ContainerKey;
use nbws_core::plan::restore::{Fetch, Need, Needs, RangeLimits};
use nbws_core::{Error, ErrorKind, Result};
use std::ops::Range;

/// Requests in flight while small metadata is read.
const CONCURRENCY: usize = 8;
/// Metadata lies close together in the last pack of a save: reading a gap is cheaper than another request.
const METADATA_RANGES: RangeLimits = RangeLimits {
    range_bytes: 8 << 20,
    gap_bytes: 256 << 10,
};

/// The plain bytes of `ids`, in that order, each verified. Neighbours share a request.
pub(crate) async fn chunks(
    access: &Access,
    index: &Index,
    ids: &[ChunkId],
) -> Result<Vec<Vec<u8>>> {
    let mut needs = Needs::new(index);
    for (i, id) in ids.iter().enumerate() {
        if needs.push(id, i as u32, 0, 1).is_none() {
            return Err(missing_chunk(id));
        }
    }
    let fetches = needs.plan(METADATA_RANGES);
    let mut out = vec![Vec::new(); ids.len()];
    let requests: Vec<_> = fetches
        .iter()
        .map(|fetch| fetch_range(&*access.store, fetch))
        .collect();
    let mut ranges = stream::iter(requests).buffered(CONCURRENCY);
    let mut reader = ChunkReader::new()?;
    for fetch in &fetches {
        access.cancel.check()?;
        let Some(bytes) = ranges.next().await else {
            break;
        };
        let bytes = bytes?;
        let some = &needs.list()[fetch.needs.clone()];
        let stored = (&bytes[..], fetch.start);
        reader
            .for_each(stored, &needs, some, |need, chunk| {
                out[need.file as usize] = chunk.to_vec();
                Ok(())
            })
            .map_err(|e| at_pack(e, fetch))?;
    }
    Ok(out)
}

pub(crate) fn missing_chunk(id: &ChunkId) -> Error {
    Error::corrupt("find chunk", "the index does not know it").at(format!("chunk {id}"))
}

/// Names the pack in an error about its bytes.
pub(crate) fn at_pack(error: Error, fetch: &Fetch) -> Error {
    if error.subject().is_empty() {
        error.at(ContainerKey::pack(fetch.pack).to_string())
    } else {
        error
    }
}

/// Reads one range of a pack.
pub(crate) async fn fetch_range(store: &dyn Store, fetch: &Fetch) -> Result<bytes::Bytes> {
    let range: Range<u64> = u64::from(fetch.start)..u64::from(fetch.end);
    store
        .get_range(&ContainerKey::pack(fetch.pack).to_string(), range)
        .await
        .map_err(gone)
}

/// What the log or the index refers to and the store does not have is damage, not a wrong name.
pub(crate) fn gone(error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::corrupt("read", "the object is missing from the store")
        .at(error.subject().to_owned())
        .caused_by(error)
}

/// Decodes frames and takes chunks out of them; keeps context and buffer from one frame to the next.
pub(crate) struct ChunkReader {
    decoder: FrameDecoder,
    plain: Vec<u8>,
}

impl ChunkReader {
    pub(crate) fn new() -> Result<Self> {
        Ok(ChunkReader {
            decoder: FrameDecoder::new()?,
            plain: Vec::new(),
        })
    }

    /// Decodes the frames in `bytes` (which start at `start` of the pack) and hands each of `some` needs its verified chunk.
    /// They are sorted by place, so every frame is decoded once and every chunk is hashed once.
    pub(crate) fn for_each(
        &mut self,
        (bytes, start): (&[u8], u32),
        needs: &Needs,
        some: &[Need],
        mut take: impl FnMut(&Need, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut open: Option<u32> = None;
        let mut verified: Option<(u32, ChunkId)> = None;
        for need in some {
            let (id, at) = needs
                .chunk(need)
                .ok_or_else(|| Error::internal("read pack", "a need of another index"))?;
            if open != Some(at.offset) {
                let from = (at.offset - start) as usize;
                let stored = bytes
                    .get(from..from + at.stored_len as usize)
                    .ok_or_else(|| Error::corrupt("read pack", "range is too short"))?;
                let kind = FrameKind::Chunks;
                self.decoder
                    .decode(stored, kind, at.plain_len, &mut self.plain)?;
                open = Some(at.offset);
                verified = None;
            }
            let from = at.chunk_offset as usize;
            let chunk = self
                .plain
                .get(from..from + at.chunk_len as usize)
                .ok_or_else(|| Error::corrupt("read pack", "a chunk reaches past its frame"))?;
            if verified != Some((at.chunk_offset, id)) {
                if ChunkId::of(chunk) != id {
                    let why = format!("chunk {id} has other bytes");
                    return Err(Error::corrupt("read pack", why));
                }
                verified = Some((at.chunk_offset, id));
            }
            take(need, chunk)?;
        }
        Ok(())
    }
}
