//! Step 1 of every verb: newest record and index. Asks memory, then local state, then the store.

use crate::local::cache::StateFolder;
use crate::log::{LogHead, find_head, find_readable_head};
use crate::session::Target;
use crate::stored_chunks::gone;
use crate::workspace::Access;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::id::FrameHash;
use nbws_core::index::{Index, IndexPart, IndexRoot};
use nbws_core::limits::{MAX_ATTACHMENT_BYTES, MAX_INDEX_PART_BYTES};
use nbws_core::record::{Place, Record};
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Requests in flight while small metadata is read.
const CONCURRENCY: usize = 8;

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

/// The newest record that can be understood, for verbs that only read; then errors about newer ones, which are damaged or from a
/// newer program.
pub(crate) async fn newest_readable(access: &Access) -> Result<(Option<LogHead>, Vec<Error>)> {
    let (repository, floor) = (access.inner.repository(), access.inner.options.floor);
    find_readable_head(&*access.store, repository, None, floor).await
}

/// The newest record as far as a save needs it: an open writer trusts what it saw last, because its append finds out.
///
/// `RollbackDetected` if the record that is known here is not in the store any more, or another one is in its slot.
pub(crate) async fn newest_for_save(
    access: &Access,
    target: &mut Target,
) -> Result<Option<LogHead>> {
    let known = target.known_head();
    if target.is_open && known.is_some() {
        return Ok(known);
    }
    let seq = |head: &Option<LogHead>| head.as_ref().map(|head| head.record.seq);
    let floor = access.inner.options.floor.max(seq(&known));
    // The slot is read, not taken as known: a store that was put back may have gone on from there.
    let head = find_head(&*access.store, access.inner.repository(), None, floor).await?;
    if let Some(head) = &head {
        if seq(&known) == Some(head.record.seq) && known.as_ref() != Some(head) {
            return Err(replaced(head));
        }
        target.set_head(&head.bytes);
    }
    Ok(head)
}

fn replaced(head: &LogHead) -> Error {
    Error::new(
        ErrorKind::RollbackDetected,
        "find newest record",
        "another record is where one was committed: the store was put back to an older copy and went on from there. Restore \
         what it holds with discard_changes, or save this directory elsewhere",
    )
    .at(nbws_core::key::log(head.record.seq))
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
