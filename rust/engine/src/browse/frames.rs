//! Chunks by id with the decoded frames kept: neighbours in one frame cost one request, whoever asks for them and when.

use crate::stored_chunks::{at_pack, fetch_range, missing_chunk};
use crate::workspace::Access;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::id::{ChunkId, ContainerId};
use nbws_core::index::{ChunkLocation, Index};
use nbws_core::plan::restore::{Fetch, Needs, RangeLimits};
use nbws_core::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

/// Requests in flight.
const CONCURRENCY: usize = 8;
/// Plain bytes that are kept for the next call.
const KEPT_BYTES: usize = 64 << 20;
/// A few frames a request. What lies between is read for nothing only where it costs less than a request.
const RANGES: RangeLimits = RangeLimits {
    range_bytes: 4 << 20,
    gap_bytes: 64 << 10,
};

/// Pack, and position of the frame in it.
type Place = (ContainerId, u32);

fn place(at: &ChunkLocation) -> Place {
    (at.pack, at.offset)
}

/// The frames that were decoded last, up to 64 MiB.
#[derive(Default)]
pub(crate) struct FrameCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    frames: HashMap<Place, Bytes>,
    /// Oldest first.
    order: VecDeque<Place>,
    bytes: usize,
}

impl FrameCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is verified again on every use, so a panic elsewhere can't make it wrong.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The plain bytes of `ids`, in that order, each verified. Frames that are not kept are fetched, neighbours together.
    ///
    /// The caller bounds `ids`: the frames of all of them are in memory at once.
    pub(crate) async fn chunks(
        &self,
        access: &Access,
        index: &Index,
        ids: &[ChunkId],
    ) -> Result<Vec<Bytes>> {
        let mut needs = Needs::new(index);
        let mut frames: HashMap<Place, Bytes> = HashMap::new();
        let mut places = Vec::with_capacity(ids.len());
        {
            let kept = self.kept();
            for id in ids {
                let at = index.lookup(id).ok_or_else(|| missing_chunk(id))?;
                match kept.frames.get(&place(&at)) {
                    Some(frame) => drop(frames.insert(place(&at), frame.clone())),
                    None => drop(needs.push(id, 0, 0, 1)),
                }
                places.push(at);
            }
        }
        let fetches = needs.plan(RANGES);
        let requests: Vec<_> = fetches
            .iter()
            .map(|fetch| fetch_range(&*access.store, fetch))
            .collect();
        let mut ranges = stream::iter(requests).buffered(CONCURRENCY);
        let mut decoder = FrameDecoder::new()?;
        for fetch in &fetches {
            access.cancel.check()?;
            let Some(bytes) = ranges.next().await else {
                break;
            };
            decode(&mut decoder, &bytes?, &needs, fetch, &mut frames)
                .map_err(|e| at_pack(e, fetch))?;
        }
        self.keep(&fetches, &needs, &frames);
        let taken = ids
            .iter()
            .zip(&places)
            .map(|(id, at)| take(&frames, id, at));
        taken.collect()
    }

    fn keep(&self, fetches: &[Fetch], needs: &Needs, frames: &HashMap<Place, Bytes>) {
        let mut kept = self.kept();
        for need in fetches.iter().flat_map(|f| &needs.list()[f.needs.clone()]) {
            let Some((_, at)) = needs.chunk(need) else {
                continue;
            };
            let Some(frame) = frames.get(&place(&at)) else {
                continue;
            };
            if kept.frames.insert(place(&at), frame.clone()).is_none() {
                kept.bytes += frame.len();
                kept.order.push_back(place(&at));
            }
        }
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            let gone = kept.frames.remove(&oldest).map_or(0, |frame| frame.len());
            kept.bytes -= gone;
        }
    }
}

/// Decodes the frames that lie in one fetched range.
fn decode(
    decoder: &mut FrameDecoder,
    bytes: &[u8],
    needs: &Needs,
    fetch: &Fetch,
    frames: &mut HashMap<Place, Bytes>,
) -> Result<()> {
    for need in &needs.list()[fetch.needs.clone()] {
        let (_, at) = needs
            .chunk(need)
            .ok_or_else(|| Error::internal("read pack", "a need of another index"))?;
        if frames.contains_key(&place(&at)) {
            continue;
        }
        let from = (at.offset - fetch.start) as usize;
        let stored = bytes
            .get(from..from + at.stored_len as usize)
            .ok_or_else(|| Error::corrupt("read pack", "range is too short"))?;
        let mut plain = Vec::new();
        decoder.decode(stored, FrameKind::Chunks, at.plain_len, &mut plain)?;
        frames.insert(place(&at), Bytes::from(plain));
    }
    Ok(())
}

fn take(frames: &HashMap<Place, Bytes>, id: &ChunkId, at: &ChunkLocation) -> Result<Bytes> {
    let why = || Error::corrupt("read pack", format!("chunk {id} has other bytes"));
    let frame = frames.get(&place(at)).ok_or_else(why)?;
    let (from, to) = (
        at.chunk_offset as usize,
        at.chunk_offset as usize + at.chunk_len as usize,
    );
    if to > frame.len() {
        return Err(why());
    }
    let chunk = frame.slice(from..to);
    if ChunkId::of(&chunk) == *id {
        Ok(chunk)
    } else {
        let pack = nbws_core::key::ContainerKey::pack(at.pack);
        Err(why().at(pack.to_string()))
    }
}
