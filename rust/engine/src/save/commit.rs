//! Steps 9 and 10 of a save: snapshot root, index and the record; and what happens when somebody else was faster.

use super::pack::Packer;
use super::tree::{NewTree, TypedChunks};
use crate::clock::Deadline;
use crate::log::{Appended, LogHead, append, write_hint};
use crate::session::{COMMIT_PATIENCE, Target};
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::frame::{ChunkSpan, FrameEncoder, FrameKind};
use nbws_core::id::{ChunkId, CommitId, FrameHash, SnapshotId, TreeRoot};
use nbws_core::index::{Index, IndexRoot, PartRef, fold_plan};
use nbws_core::key::ContainerKey;
use nbws_core::lifecycle::check_append;
use nbws_core::pack::FrameSlot;
use nbws_core::record::{
    Body, Head, Kind, Place, Record, RescueBody, SnapshotBody, StateBody, Usage,
};
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::state::State;
use nbws_core::tree::{SegmentRef, cut_nodes, root_level};
use nbws_core::{Error, ErrorKind, Result};

/// Days for which the snapshot before a large loss is kept.
const PIN_DAYS: u64 = 30;
/// The hint is renewed every so many records.
const HINT_EVERY: u64 = 64;

/// Everything of a save that is in the store and waits for its record.
pub(crate) struct Stored {
    pub(crate) snapshot: SnapshotId,
    pub(crate) tree_root: TreeRoot,
    root: Place,
    index: Place,
    /// The index root that `index` was made from, and this save's own part.
    index_base: Option<Place>,
    own_part: PartRef,
    /// Parts that the own part has taken in.
    folded: Vec<FrameHash>,
    base: Option<SnapshotId>,
    files: u64,
    bytes: u64,
    partial: bool,
    comment: Option<String>,
    pin_base_until_ms: Option<u64>,
    pub(crate) packs: u64,
    pub(crate) stored_bytes: u64,
}

/// What a snapshot says beside its tree.
pub(crate) struct Description {
    pub(crate) base: Option<SnapshotId>,
    pub(crate) comment: Option<String>,
    pub(crate) origin: &'static str,
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

/// Stores snapshot root, index part and index root in the last pack, and waits until all packs are stored. Blocks.
pub(crate) fn store_root(
    access: &Access,
    target: &Target,
    chunks: &mut TypedChunks<'_, '_>,
    tree: &NewTree,
    live: (Option<Place>, &IndexRoot, &Index),
    description: &Description,
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
        origin: description.origin.to_owned(),
        framework: String::new(),
        python: String::new(),
        level,
        refs,
    }
    .encode()?;
    let span = ChunkSpan {
        id: ChunkId::of(&root),
        length: root.len() as u32,
    };
    let frame = chunks
        .encoder
        .encode(FrameKind::Chunks, &root, vec![span], chunks.level)?;
    let (key, slot) = chunks.packer.push(frame)?;
    let root_place = place(key, &slot, FrameHash::of(&root));
    let (index_base, index_root, index) = live;
    let (own_part, folded) = store_index_part(chunks, index_root, index)?;
    let index = store_index_root(
        chunks.packer,
        &mut chunks.encoder,
        &merged(index_root, &folded, &own_part),
    )?;
    let (packs, stored_bytes) = chunks.packer.finish()?;
    Ok(Stored {
        snapshot,
        tree_root,
        root: root_place,
        index,
        index_base,
        own_part,
        folded,
        base: description.base,
        files: tree.files,
        bytes: tree.bytes,
        partial: tree.is_partial,
        comment: description.comment.clone(),
        pin_base_until_ms: description.pin_base.then(|| now + PIN_DAYS * 86_400_000),
        packs,
        stored_bytes,
    })
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
    chunks.packer.keep_part(hash, part)?;
    Ok((own, folded))
}

fn merged(live: &IndexRoot, folded: &[FrameHash], own: &PartRef) -> IndexRoot {
    let mut parts: Vec<PartRef> = live
        .parts
        .iter()
        .filter(|p| !folded.contains(&p.hash))
        .cloned()
        .collect();
    parts.push(own.clone());
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
    packer.keep_frame(hash, bytes)?;
    Ok(place(key, &slot, hash))
}

/// Whether the work becomes the head, or is kept beside it and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Head,
    Rescue(String),
}

/// How a commit ended.
pub(crate) enum Committed {
    /// The record is in the log.
    Done { seq: u64, intent: Intent },
    /// Chunks that the work relies on may be doomed: plan again on the newest index.
    Replan(LogHead),
}

/// What records that took the slot mean for pending work.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// None of them concerns it.
    Rebase,
    /// Packs were marked or moved, or records are missing in between.
    Replan,
    /// Another writer owns the head now.
    Fenced,
    /// The data was purged.
    Purged,
}

fn verdict(newer: &[Record], expected_seq: u64) -> Verdict {
    let fences = |r: &Record| matches!(r.kind(), Kind::Claim | Kind::Snapshot | Kind::Tombstone);
    if newer
        .iter()
        .any(|r| matches!(&r.body, Body::Tombstone(body) if body.purge))
    {
        Verdict::Purged
    } else if newer.iter().any(fences) {
        Verdict::Fenced
    } else if newer.first().is_none_or(|r| r.seq != expected_seq)
        || newer
            .iter()
            .any(|r| matches!(r.kind(), Kind::Mark | Kind::Repack))
    {
        Verdict::Replan
    } else {
        Verdict::Rebase
    }
}

/// Appends the record of `stored`; rebases, becomes a rescue, or asks for a new plan when it loses its slot.
///
/// `repack` stores another index root when the newest one is not the one that this work was added to.
pub(crate) async fn commit(
    access: &Access,
    target: &mut Target,
    mut head: Option<LogHead>,
    stored: &mut Stored,
    mut intent: Intent,
) -> Result<Committed> {
    loop {
        let newest = head.as_ref().map(|h| &h.record);
        refresh_index(access, target, newest, stored).await?;
        let record = build_record(access, target, newest, stored, &intent)?;
        check_append(newest, &record)?;
        let bytes = Bytes::from(record.encode()?);
        note_pending(access, target, Some(&bytes));
        let deadline = Deadline::after(COMMIT_PATIENCE);
        match append(&*access.store, &record, &bytes, deadline).await? {
            Appended::Acknowledged => {
                target.set_head(&bytes);
                target.session.pending = None;
                if record.seq.is_multiple_of(HINT_EVERY) {
                    write_hint(&*access.store, record.seq).await;
                }
                return Ok(Committed::Done {
                    seq: record.seq,
                    intent,
                });
            }
            Appended::Lost { newer } => {
                note_pending(access, target, None);
                let found = verdict(&newer, record.seq);
                let last = newer
                    .last()
                    .ok_or_else(|| Error::internal("save", "lost to nobody"))?;
                let new_head = LogHead {
                    record: last.clone(),
                    bytes: Bytes::from(last.encode()?),
                };
                match found {
                    Verdict::Purged => return Err(purged()),
                    Verdict::Replan => return Ok(Committed::Replan(new_head)),
                    Verdict::Fenced => {
                        intent = Intent::Rescue(format!("fenced by writer {}", last.writer))
                    }
                    Verdict::Rebase => {}
                }
                head = Some(new_head);
            }
        }
    }
}

fn purged() -> Error {
    Error::new(
        ErrorKind::InvalidState,
        "save",
        "the notebook was purged; its data can't be brought back by a save",
    )
}

/// A record whose fate may stay open is known on this disk before it is sent.
fn note_pending(access: &Access, target: &mut Target, bytes: Option<&[u8]>) {
    target.session.pending = bytes.and_then(|b| String::from_utf8(b.to_vec()).ok());
    if let Err(error) = target.store_session(&access.inner) {
        target.notices.push(format!(
            "local state can't be written ({error}); the next save reads every file"
        ));
        target.folder = None;
    }
}

/// Makes the index root cover what others have added since it was stored.
async fn refresh_index(
    access: &Access,
    target: &Target,
    newest: Option<&Record>,
    stored: &mut Stored,
) -> Result<()> {
    let live = newest.and_then(|r| r.index);
    if live == stored.index_base {
        return Ok(());
    }
    let root = crate::base::index_root(access, target.folder.as_ref(), newest).await?;
    let merged = merged(&root, &stored.folded, &stored.own_part);
    let epoch = newest.map_or(1, |r| r.epoch + 1);
    let mut encoder = FrameEncoder::new()?;
    let bytes = merged.encode()?;
    let frame = encoder.encode(FrameKind::IndexRoot, &bytes, Vec::new(), 3)?;
    let mut builder = super::pack::new_pack(access, epoch)?;
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
    crate::base::keep_frame(access, target.folder.as_ref(), hash, bytes)
}

fn build_record(
    access: &Access,
    target: &Target,
    newest: Option<&Record>,
    stored: &Stored,
    intent: &Intent,
) -> Result<Record> {
    let before = newest.map_or(Usage::default(), |r| r.usage);
    let mut usage = Usage {
        objects: before.objects + stored.packs + 1,
        stored_bytes: before.stored_bytes + stored.stored_bytes,
        ..before
    };
    let seq = newest.map_or(1, |r| r.seq + 1);
    let state = newest.map_or(State::None, |r| r.state);
    let (body, head, state, epoch) = match intent {
        Intent::Head => {
            (usage.bytes, usage.files) = (stored.bytes, stored.files);
            let head = Head {
                root: stored.root,
                snapshot: stored.snapshot,
            };
            let epoch = newest.map_or(1, |r| r.epoch + 1);
            (
                Body::Snapshot(snapshot_body(stored)),
                Some(head),
                state_after(state, stored.partial),
                epoch,
            )
        }
        Intent::Rescue(reason) => {
            let epoch = newest.map_or(1, |r| r.epoch);
            (
                Body::Rescue(rescue_body(stored, reason)),
                newest.and_then(|r| r.head),
                state,
                epoch,
            )
        }
    };
    let mut record = Record {
        body,
        commit: CommitId(crate::random::bytes()?),
        epoch,
        head,
        index: Some(stored.index),
        parent: newest.map(|r| r.commit),
        repository: access.inner.repository(),
        seq,
        settings: newest.and_then(|r| r.settings),
        state,
        time_ms: crate::clock::now_ms(),
        usage,
        writer: target.session.writer,
    };
    // The record counts itself; its length hardly depends on the count.
    record.usage.stored_bytes += record.encode()?.len() as u64;
    Ok(record)
}

/// The state after a one-shot snapshot (`docs/consistency.md`): a live notebook that it took over is stopped.
fn state_after(state: State, partial: bool) -> State {
    match state {
        State::Starting | State::Running | State::Stopping | State::Restarting => State::Stopped,
        State::SyncFailed if !partial => State::Stopped,
        other => other,
    }
}

fn snapshot_body(stored: &Stored) -> SnapshotBody {
    SnapshotBody {
        base: stored.base,
        bytes: stored.bytes,
        comment: stored.comment.clone(),
        files: stored.files,
        framework: None,
        one_shot: true,
        origin: "save".to_owned(),
        partial: stored.partial,
        pin_base_until_ms: stored.pin_base_until_ms,
        python: None,
        root: stored.root,
        snapshot: stored.snapshot,
        tree_root: stored.tree_root,
    }
}

fn rescue_body(stored: &Stored, reason: &str) -> RescueBody {
    RescueBody {
        base: stored.base,
        bytes: stored.bytes,
        comment: stored.comment.clone(),
        files: stored.files,
        framework: None,
        origin: "rescue".to_owned(),
        partial: stored.partial,
        python: None,
        reason: reason.to_owned(),
        root: stored.root,
        snapshot: stored.snapshot,
        tree_root: stored.tree_root,
    }
}

/// Appends a comment on the present state; no snapshot changes. Returns the record's number.
pub(crate) async fn commit_comment(
    access: &Access,
    target: &mut Target,
    newest: &Record,
    comment: &str,
) -> Result<u64> {
    let mut newest = newest.clone();
    loop {
        let body = Body::State(StateBody {
            comment: Some(comment.to_owned()),
            info: None,
        });
        let mut record = Record {
            body,
            commit: CommitId(crate::random::bytes()?),
            parent: Some(newest.commit),
            seq: newest.seq + 1,
            time_ms: crate::clock::now_ms(),
            ..newest.clone()
        };
        record.usage.objects += 1;
        record.usage.stored_bytes += record.encode()?.len() as u64;
        check_append(Some(&newest), &record)?;
        let bytes = Bytes::from(record.encode()?);
        match append(
            &*access.store,
            &record,
            &bytes,
            Deadline::after(COMMIT_PATIENCE),
        )
        .await?
        {
            Appended::Acknowledged => {
                target.set_head(&bytes);
                return Ok(record.seq);
            }
            Appended::Lost { newer } => match verdict(&newer, record.seq) {
                Verdict::Rebase | Verdict::Replan => {
                    newest = newer.last().cloned().unwrap_or(newest)
                }
                Verdict::Fenced | Verdict::Purged => {
                    return Err(Error::new(
                        ErrorKind::Fenced,
                        "save",
                        "another writer has saved since; nothing has changed here",
                    ));
                }
            },
        }
    }
}
