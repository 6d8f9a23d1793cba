//! Step 1 of every verb: newest record, index, snapshot root, tree. Asks memory, then local state, then the store.

use crate::local::cache::StateFolder;
use crate::log::{LogHead, find_head};
use crate::session::Target;
use crate::store::Store;
use crate::whole_tree::{check_node, check_segment};
use crate::workspace::Access;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::id::{ChunkId, FrameHash};
use nbws_core::index::{Index, IndexPart, IndexRoot};
use nbws_core::key::ContainerKey;
use nbws_core::limits::{MAX_ATTACHMENT_BYTES, MAX_INDEX_PART_BYTES};
use nbws_core::plan::restore::{Fetch, Need, RangeLimits, plan_fetches};
use nbws_core::record::{Place, Record};
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{SegmentRef, decode_node};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Requests in flight while small metadata is read.
const CONCURRENCY: usize = 8;
/// Metadata lies close together in the last pack of a save: reading a gap is cheaper than another request.
const METADATA_RANGES: RangeLimits = RangeLimits {
    range_bytes: 8 << 20,
    gap_bytes: 256 << 10,
};

/// The newest record, asking the store: from what `known` says onwards (`docs/consistency.md`).
pub(crate) async fn newest(access: &Access, known: Option<&LogHead>) -> Result<Option<LogHead>> {
    find_head(
        &*access.store,
        access.inner.repository(),
        known,
        access.inner.options.floor,
    )
    .await
}

/// The newest record as far as a save needs it: an open writer trusts what it saw last, because its append finds out.
pub(crate) async fn newest_for_save(
    access: &Access,
    target: &mut Target,
) -> Result<Option<LogHead>> {
    let known = target.known_head();
    if target.is_open && known.is_some() {
        return Ok(known);
    }
    let head = newest(access, known.as_ref()).await?;
    if let Some(head) = &head {
        target.set_head(&head.bytes);
    }
    Ok(head)
}

/// The plain bytes of the frame at `place`, verified against its hash.
pub(crate) async fn frame(
    access: &Access,
    folder: Option<&StateFolder>,
    place: &Place,
    kind: FrameKind,
) -> Result<Arc<Vec<u8>>> {
    if let Some(bytes) = access.inner.memory().frames.get(&place.hash) {
        return Ok(Arc::clone(bytes));
    }
    let limit = if kind == FrameKind::IndexPart {
        MAX_INDEX_PART_BYTES
    } else {
        MAX_ATTACHMENT_BYTES
    };
    if place.plain as usize > limit {
        return Err(
            Error::corrupt("read frame", "is larger than its kind may be")
                .at(place.object.to_string()),
        );
    }
    if let Some(bytes) = folder.and_then(|f| f.load_frame(place.hash)) {
        return Ok(remember(access, place.hash, kind, bytes));
    }
    let range = u64::from(place.offset)..u64::from(place.offset) + u64::from(place.length);
    let stored = access
        .store
        .get_range(&place.object.to_string(), range)
        .await
        .map_err(gone)?;
    let mut plain = Vec::new();
    let decoded = FrameDecoder::new()?.decode(&stored, kind, place.plain, &mut plain);
    decoded.map_err(|e| e.at(place.object.to_string()))?;
    if FrameHash::of(&plain) != place.hash {
        return Err(
            Error::corrupt("read frame", "bytes are not the ones that were written")
                .at(place.object.to_string()),
        );
    }
    if let Some(folder) = folder {
        folder.store_frame(place.hash, &plain);
    }
    Ok(remember(access, place.hash, kind, plain))
}

/// Remembers a small frame that was just stored, so that the next save need not fetch it.
pub(crate) fn keep_frame(
    access: &Access,
    folder: Option<&StateFolder>,
    hash: FrameHash,
    bytes: Vec<u8>,
) {
    if let Some(folder) = folder {
        folder.store_frame(hash, &bytes);
    }
    remember(access, hash, FrameKind::IndexRoot, bytes);
}

fn remember(access: &Access, hash: FrameHash, kind: FrameKind, bytes: Vec<u8>) -> Arc<Vec<u8>> {
    let bytes = Arc::new(bytes);
    // Parts are large and remembered in decoded form instead; roots are small, a few of the newest are enough.
    if kind != FrameKind::IndexPart {
        let frames = &mut access.inner.memory().frames;
        if frames.len() >= 64 {
            frames.clear();
        }
        frames.insert(hash, Arc::clone(&bytes));
    }
    bytes
}

/// The index root that `record` refers to; empty before the first save.
pub(crate) async fn index_root(
    access: &Access,
    folder: Option<&StateFolder>,
    record: Option<&Record>,
) -> Result<IndexRoot> {
    match record.and_then(|r| r.index.as_ref()) {
        None => Ok(IndexRoot { parts: Vec::new() }),
        Some(place) => {
            IndexRoot::decode(&frame(access, folder, place, FrameKind::IndexRoot).await?)
        }
    }
}

/// The whole index: at most one request per part that is not known here.
pub(crate) async fn index(
    access: &Access,
    folder: Option<&StateFolder>,
    root: &IndexRoot,
) -> Result<Index> {
    // Collected first: a stream of borrowing closures would keep the verbs' futures from being `Send`.
    let loads = root.parts.iter().map(|part| async move {
        if let Some(known) = access.inner.memory().parts.get(&part.hash) {
            return Ok(Arc::clone(known));
        }
        let place = Place {
            hash: part.hash,
            length: part.stored_len,
            object: part.key,
            offset: part.offset,
            plain: part.plain_len,
        };
        let bytes = frame(access, folder, &place, FrameKind::IndexPart).await?;
        let bytes = Arc::try_unwrap(bytes).unwrap_or_else(|shared| (*shared).clone());
        let decoded = IndexPart::decode(bytes).map_err(|e| e.at(part.key.to_string()))?;
        Ok::<_, Error>(Arc::new(decoded))
    });
    let parts = stream::iter(loads.collect::<Vec<_>>())
        .buffered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await?;
    let mut memory = access.inner.memory();
    memory.parts = root
        .parts
        .iter()
        .map(|p| p.hash)
        .zip(parts.iter().cloned())
        .collect();
    drop(memory);
    if let Some(folder) = folder {
        folder.retain_index_parts(&root.parts.iter().map(|p| p.hash).collect::<Vec<_>>());
    }
    Ok(Index::new(parts))
}

/// The snapshot root at `place`; when the place is gone (its pack was repacked), the index finds the chunk.
pub(crate) async fn snapshot_root(
    access: &Access,
    place: &Place,
    index: Option<&Index>,
) -> Result<SnapshotRoot> {
    let bytes = match frame(access, None, place, FrameKind::Chunks).await {
        Ok(bytes) => bytes.to_vec(),
        Err(e) if e.kind() == ErrorKind::NotFound => match index {
            Some(index) => single(chunks(access, index, &[ChunkId(place.hash.0)]).await?)?,
            None => return Err(e),
        },
        Err(e) => return Err(e),
    };
    let root = SnapshotRoot::decode(&bytes).map_err(|e| e.at(place.object.to_string()))?;
    if root.repository != access.inner.repository() {
        let why = "belongs to another repository";
        return Err(Error::corrupt("read snapshot", why).at(place.object.to_string()));
    }
    Ok(root)
}

fn single(mut chunks: Vec<Vec<u8>>) -> Result<Vec<u8>> {
    chunks
        .pop()
        .ok_or_else(|| Error::internal("read chunk", "nothing came back"))
}

/// The encoded segments of the tree under `root`, in order.
pub(crate) async fn segments(
    access: &Access,
    index: &Index,
    root: &SnapshotRoot,
) -> Result<Vec<Vec<u8>>> {
    let refs = segment_refs(access, index, root).await?;
    let segments = chunks(access, index, &distinct(&refs)?).await?;
    for (reference, segment) in refs.iter().zip(&segments) {
        check_segment(reference, segment)?;
    }
    Ok(segments)
}

/// The chunks of `refs`. No part of a tree can come twice; one that does could be made to fill the memory.
fn distinct(refs: &[SegmentRef]) -> Result<Vec<ChunkId>> {
    let ids: Vec<ChunkId> = refs.iter().map(|r| r.id).collect();
    if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
        return Err(Error::corrupt("read tree", "refers to one part twice"));
    }
    Ok(ids)
}

/// The references to all segments of the tree under `root`.
pub(crate) async fn segment_refs(
    access: &Access,
    index: &Index,
    root: &SnapshotRoot,
) -> Result<Vec<SegmentRef>> {
    if root.level == 0 {
        return Ok(root.refs.clone());
    }
    let nodes = chunks(access, index, &distinct(&root.refs)?).await?;
    let mut refs = Vec::new();
    for (reference, node) in root.refs.iter().zip(&nodes) {
        let below = decode_node(node)?;
        check_node(reference, &below, node.len())?;
        refs.extend(below);
    }
    Ok(refs)
}

/// The plain bytes of `ids`, in that order, each verified. Neighbours share a request.
pub(crate) async fn chunks(
    access: &Access,
    index: &Index,
    ids: &[ChunkId],
) -> Result<Vec<Vec<u8>>> {
    let mut needs = Vec::with_capacity(ids.len());
    for (i, id) in ids.iter().enumerate() {
        let location = index.lookup(id).ok_or_else(|| missing_chunk(id))?;
        needs.push(Need {
            id: *id,
            location,
            file: i as u32,
            file_offset: 0,
            count: 1,
        });
    }
    let fetches = plan_fetches(&mut needs, METADATA_RANGES);
    let mut out = vec![Vec::new(); ids.len()];
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
        let bytes = bytes?;
        for_each_chunk(
            &mut decoder,
            &bytes,
            fetch.start,
            &needs[fetch.needs.clone()],
            |need, chunk| {
                out[need.file as usize] = chunk.to_vec();
                Ok(())
            },
        )
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
fn gone(error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::corrupt("read", "the object is missing from the store")
        .at(error.subject().to_owned())
        .caused_by(error)
}

/// Decodes the frames in `bytes` (which start at `start` of the pack) and hands each need its verified chunk. `needs` are
/// sorted by place, so every frame is decoded once and every chunk is hashed once.
pub(crate) fn for_each_chunk(
    decoder: &mut FrameDecoder,
    bytes: &[u8],
    start: u32,
    needs: &[Need],
    mut take: impl FnMut(&Need, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut plain = Vec::new();
    let mut open: Option<u32> = None;
    let mut verified: Option<(u32, ChunkId)> = None;
    for need in needs {
        let at = &need.location;
        if open != Some(at.offset) {
            let from = (at.offset - start) as usize;
            let stored = bytes
                .get(from..from + at.stored_len as usize)
                .ok_or_else(|| Error::corrupt("read pack", "range is too short"))?;
            decoder.decode(stored, FrameKind::Chunks, at.plain_len, &mut plain)?;
            open = Some(at.offset);
            verified = None;
        }
        let from = at.chunk_offset as usize;
        let chunk = plain
            .get(from..from + at.chunk_len as usize)
            .ok_or_else(|| Error::corrupt("read pack", "a chunk reaches past its frame"))?;
        if verified != Some((at.chunk_offset, need.id)) {
            if ChunkId::of(chunk) != need.id {
                return Err(Error::corrupt(
                    "read pack",
                    format!("chunk {} has other bytes", need.id),
                ));
            }
            verified = Some((at.chunk_offset, need.id));
        }
        take(need, chunk)?;
    }
    Ok(())
}
