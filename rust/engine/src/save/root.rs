//! Step 9 of a save, second half: snapshot root, index part and index root, all in the last pack.

use super::chunks::TypedChunks;
use super::pack::{Packer, new_pack};
use super::tree_writer::NewTree;
use crate::base;
use crate::options::Label;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::frame::{ChunkSpan, FrameEncoder, FrameKind};
use nbws_core::id::{ChunkId, FrameHash, SnapshotId, TreeRoot};
use nbws_core::index::{Index, IndexRoot, PartRef, fold_plan};
use nbws_core::key::ContainerKey;
use nbws_core::pack::FrameSlot;
use nbws_core::record::{Place, Record};
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{SegmentRef, cut_nodes, root_level};
use nbws_core::{Error, Result};

/// Days for which the snapshot before a large loss is kept.
const PIN_DAYS: u64 = 30;

/// Everything of a save that is in the store and waits for its record.
pub(crate) struct Stored {
    pub(crate) snapshot: SnapshotId,
    pub(crate) tree_root: TreeRoot,
    pub(crate) root: Place,
    pub(crate) index: Place,
    /// The index root that `index` was made from, and this save's own part.
    index_base: Option<Place>,
    own_part: PartRef,
    /// Parts that the own part has taken in.
    folded: Vec<FrameHash>,
    pub(crate) base: Option<SnapshotId>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) partial: bool,
    pub(crate) comment: Option<String>,
    pub(crate) label: Label,
    pub(crate) pin_base_until_ms: Option<u64>,
    pub(crate) packs: u64,
    pub(crate) stored_bytes: u64,
}

/// What a snapshot says beside its tree.
pub(crate) struct Description {
    pub(crate) base: Option<SnapshotId>,
    pub(crate) comment: Option<String>,
    pub(crate) label: Label,
    pub(crate) root_mode: u16,
    pub(crate) epoch: u64,
    pub(crate) pin_base: bool,
}

fn place(key: ContainerKey, slot: &FrameSlot, hash: FrameHash) -> Place {
    Place {
        hash,
        length: slot.stored_len,
        object: key,
        offset: slot.offset,
        plain: slot.plain_len,
    }
}

/// Stores snapshot root, index part and index root in the last pack, and waits until all packs are stored. Blocks. `check` is asked
/// before the last pack is sent, with the bytes of all.
pub(crate) fn store_root(
    access: &Access,
    target: &Target,
    chunks: &mut TypedChunks<'_, '_>,
    tree: &NewTree,
    live: (Option<Place>, &IndexRoot, &Index),
    description: &Description,
    check: impl Fn(u64) -> Result<()>,
) -> Result<Stored> {
    let snapshot = SnapshotId(crate::random::bytes()?);
    let now = crate::clock::now_ms();
    let tree_root = tree
        .root
        .ok_or_else(|| Error::internal("save", "the tree has no root"))?;
    let (level, refs) = tree_refs(chunks, tree)?;
    chunks.flush()?;
    let root = SnapshotRoot {
        repository: access.inner.repository(),
        snapshot,
        base: description.base,
        writer: target.session.writer,
        epoch: description.epoch,
        time_ms: now,
        partial: tree.is_partial,
        tree_root,
        files: tree.files,
        directories: tree.directories,
        bytes: tree.bytes,
        omitted: tree.omitted_entries(),
        root_mode: description.root_mode,
        comment: description.comment.clone().unwrap_or_default(),
        origin: description.label.origin.clone().unwrap_or_default(),
        framework: description.label.framework.clone().unwrap_or_default(),
        python: description.label.python.clone().unwrap_or_default(),
        level,
        refs,
    }
    .encode()?;
    let root = store_alone(chunks, &root)?;
    let (index_base, index_root, index) = live;
    let (own_part, folded) = store_index_part(chunks, index_root, index)?;
    let index = store_index_root(
        chunks.packer,
        &mut chunks.encoder,
        &merged(index_root, &folded, &own_part),
    )?;
    check(chunks.packer.packed_bytes())?;
    let (packs, stored_bytes) = chunks.packer.finish()?;
    Ok(Stored {
        snapshot,
        tree_root,
        root,
        index,
        index_base,
        own_part,
        folded,
        base: description.base,
        files: tree.files,
        bytes: tree.bytes,
        partial: tree.is_partial,
        comment: description.comment.clone(),
        label: description.label.clone(),
        pin_base_until_ms: description.pin_base.then(|| now + PIN_DAYS * 86_400_000),
        packs,
        stored_bytes,
    })
}

/// Stores a chunk alone in its frame, so that a record can name it.
fn store_alone(chunks: &mut TypedChunks<'_, '_>, bytes: &[u8]) -> Result<Place> {
    let span = ChunkSpan {
        id: ChunkId::of(bytes),
        length: bytes.len() as u32,
    };
    let frame = chunks
        .encoder
        .encode(FrameKind::Chunks, bytes, vec![span], chunks.level)?;
    let (key, slot) = chunks.packer.push(frame)?;
    Ok(place(key, &slot, FrameHash::of(bytes)))
}

fn tree_refs(chunks: &mut TypedChunks<'_, '_>, tree: &NewTree) -> Result<(u8, Vec<SegmentRef>)> {
    if root_level(&tree.refs) == 0 {
        return Ok((0, tree.refs.clone()));
    }
    let mut refs = Vec::new();
    for node in cut_nodes(&tree.refs) {
        let id = chunks.add(&node.bytes)?;
        let length = node.bytes.len() as u32;
        refs.push(SegmentRef {
            first_path: node.first_path,
            entries: node.entries,
            id,
            length,
        });
    }
    Ok((1, refs))
}

/// Stores what this save has packed as an index part, with small older parts taken in.
fn store_index_part(
    chunks: &mut TypedChunks<'_, '_>,
    live: &IndexRoot,
    index: &Index,
) -> Result<(PartRef, Vec<FrameHash>)> {
    let sizes: Vec<u64> = live.parts.iter().map(|p| u64::from(p.plain_len)).collect();
    let mut builder = std::mem::take(chunks.packer.index_mut());
    let plan = fold_plan(&sizes, builder.bytes_bound() as u64);
    let mut folded = Vec::with_capacity(plan.len());
    for at in plan {
        builder.add_part(&index.parts()[at]);
        folded.push(live.parts[at].hash);
    }
    let part = builder.finish();
    let hash = FrameHash::of(part.bytes());
    let frame =
        chunks
            .encoder
            .encode(FrameKind::IndexPart, part.bytes(), Vec::new(), chunks.level)?;
    let (key, slot) = chunks.packer.push(frame)?;
    let own = PartRef {
        key,
        offset: slot.offset,
        stored_len: slot.stored_len,
        plain_len: slot.plain_len,
        hash,
        chunks: part.len() as u64,
    };
    chunks.packer.keep_part(hash, part);
    Ok((own, folded))
}

fn merged(live: &IndexRoot, folded: &[FrameHash], own: &PartRef) -> IndexRoot {
    let mut parts: Vec<PartRef> = live
        .parts
        .iter()
        .filter(|p| !folded.contains(&p.hash))
        .cloned()
        .collect();
    parts.push(*own);
    IndexRoot { parts }
}

fn store_index_root(
    packer: &mut Packer<'_>,
    encoder: &mut FrameEncoder,
    root: &IndexRoot,
) -> Result<Place> {
    let bytes = root.encode()?;
    let hash = FrameHash::of(&bytes);
    let frame = encoder.encode(FrameKind::IndexRoot, &bytes, Vec::new(), 3)?;
    let (key, slot) = packer.push(frame)?;
    packer.keep_frame(hash, bytes);
    Ok(place(key, &slot, hash))
}

/// Makes the index root cover what others have added since it was stored.
pub(crate) async fn refresh_index(
    access: &Access,
    target: &Target,
    newest: Option<&Record>,
    stored: &mut Stored,
) -> Result<()> {
    let live = newest.and_then(|r| r.index);
    if live == stored.index_base {
        return Ok(());
    }
    let root = base::index_root(access, target.folder.as_ref(), newest).await?;
    let merged = merged(&root, &stored.folded, &stored.own_part);
    let epoch = newest.map_or(1, |r| r.epoch + 1);
    let mut encoder = FrameEncoder::new()?;
    let bytes = merged.encode()?;
    let frame = encoder.encode(FrameKind::IndexRoot, &bytes, Vec::new(), 3)?;
    let mut builder = new_pack(access, epoch, 0)?;
    let key = builder.key();
    let slot = builder.push(frame)?.clone();
    let sealed = builder.finish();
    stored.packs += 1;
    stored.stored_bytes += sealed.bytes.len() as u64;
    access
        .store
        .put(&key.to_string(), sealed.bytes.into())
        .await?;
    let hash = FrameHash::of(&bytes);
    stored.index = place(key, &slot, hash);
    stored.index_base = live;
    base::keep_frame(access, target.folder.as_ref(), hash, bytes);
    Ok(())
}
