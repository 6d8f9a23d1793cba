//! Reads the tree of a snapshot: root, segments, chunk lists.

use crate::base::frame;
use crate::directories::is_damage;
use crate::local::cache::KnownTree;
use crate::stored_chunks::{chunks, missing_chunk};
use crate::whole_tree::{check_node, check_segment};
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::frame::FrameKind;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::record::Place;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{
    Body, Content, Run, SegmentReader, SegmentRef, check_runs, decode_list, decode_node,
};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

/// The snapshot root at `place`; when the place is gone (its pack was repacked), the index finds the chunk.
pub(crate) async fn snapshot_root(
    access: &Access,
    place: &Place,
    index: Option<&Index>,
) -> Result<SnapshotRoot> {
    let bytes = match frame(access, None, place, FrameKind::Chunks).await {
        Ok(bytes) => bytes.to_vec(),
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            let Some(index) = index else { return Err(e) };
            match chunks(access, index, &[ChunkId(place.hash.0)]).await {
                Ok(found) => single(found)?,
                Err(_) => return Err(e),
            }
        }
        Err(e) => return Err(e),
    };
    let root = SnapshotRoot::decode(&bytes).map_err(|e| e.at(place.object.to_string()))?;
    if !access.inner.format.accepts(root.repository) {
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

/// The encoded segments of the tree under `root`, in order. Those that `known` has are neither fetched nor held twice.
pub(crate) async fn segments(
    access: &Access,
    index: &Index,
    root: &SnapshotRoot,
    known: Option<&KnownTree>,
) -> Result<Vec<Bytes>> {
    let known: HashMap<ChunkId, &Bytes> = known
        .iter()
        .flat_map(|tree| &tree.segments)
        .map(|segment| (ChunkId::of(segment), segment))
        .collect();
    let refs = segment_refs(access, index, root).await?;
    let fetched = chunks(
        access,
        index,
        &distinct(&refs, |id| !known.contains_key(id))?,
    )
    .await?;
    let mut fetched = fetched.into_iter();
    let mut segments = Vec::with_capacity(refs.len());
    for reference in &refs {
        let segment = match known.get(&reference.id) {
            Some(segment) => Bytes::clone(segment),
            None => fetched.next().map(Bytes::from).unwrap_or_default(),
        };
        check_segment(reference, &segment)?;
        segments.push(segment);
    }
    Ok(segments)
}

/// Chunk lists that the files of a tree refer to.
pub(crate) fn list_ids(segments: &[Bytes]) -> Result<Vec<ChunkId>> {
    let mut ids = Vec::new();
    for segment in segments {
        for entry in SegmentReader::new(segment)? {
            if let Body::File {
                content: Content::Listed { lists, .. },
                ..
            } = entry?.body
            {
                ids.extend(lists.iter().map(|list| list.id));
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Those of these chunk lists that the store still has, for work that goes on without them; none if one of them is damaged.
pub(crate) async fn lists_left(
    access: &Access,
    index: &Index,
    mut ids: Vec<ChunkId>,
) -> Result<HashMap<ChunkId, Vec<u8>>> {
    ids.retain(|id| index.lookup(id).is_some());
    match chunks(access, index, &ids).await {
        Ok(lists) => Ok(ids.into_iter().zip(lists).collect()),
        Err(error) if is_damage(&error) => Ok(HashMap::new()),
        Err(error) => Err(error),
    }
}

/// The chunks of `refs`, as far as they are `wanted`. No part of a tree can come twice; one that does could be made to fill the memory.
fn distinct(refs: &[SegmentRef], wanted: impl Fn(&ChunkId) -> bool) -> Result<Vec<ChunkId>> {
    let mut seen = HashSet::with_capacity(refs.len());
    if !refs.iter().all(|r| seen.insert(r.id)) {
        return Err(Error::corrupt("read tree", "refers to one part twice"));
    }
    Ok(refs.iter().map(|r| r.id).filter(wanted).collect())
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
    let nodes = chunks(access, index, &distinct(&root.refs, |_| true)?).await?;
    let mut refs = Vec::new();
    for (reference, node) in root.refs.iter().zip(&nodes) {
        let below = decode_node(node)?;
        check_node(reference, &below, node.len())?;
        refs.extend(below);
    }
    Ok(refs)
}

/// All runs of one file of `size` bytes, checked; its chunk lists are fetched.
pub(crate) async fn file_runs(
    access: &Access,
    index: &Index,
    content: &Content,
    size: u64,
) -> Result<Vec<Run>> {
    let mut lists = HashMap::new();
    if let Content::Listed { lists: refs, .. } = content {
        let ids: Vec<ChunkId> = refs.iter().map(|list| list.id).collect();
        let plain = chunks(access, index, &ids).await?;
        lists.extend(ids.into_iter().zip(plain));
    }
    let runs = runs_of(content, &lists)?;
    check_runs(content, size, &runs)?;
    Ok(runs)
}

/// All runs of a file, from its entry or its chunk lists.
pub(crate) fn runs_of(content: &Content, lists: &HashMap<ChunkId, Vec<u8>>) -> Result<Vec<Run>> {
    match content {
        Content::Inline(runs) => Ok(runs.clone()),
        Content::Listed { lists: refs, .. } => {
            let mut runs = Vec::new();
            for list in refs {
                let bytes = lists.get(&list.id).ok_or_else(|| missing_chunk(&list.id))?;
                if bytes.len() != list.length as usize {
                    let why = "a chunk list has another length than the tree says";
                    return Err(Error::corrupt("read chunk list", why));
                }
                runs.extend(decode_list(bytes)?);
            }
            Ok(runs)
        }
    }
}
