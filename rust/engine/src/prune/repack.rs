//! Copies what is needed out of packs that are mostly dead, so that a Mark can name them.

use super::meta::{new_index, surveyed, write_if_room};
use super::plan::Plan;
use super::record::append_step;
use super::survey::Survey;
use super::{Run, Step};
use crate::beside::Change;
use crate::budget::Resources;
use crate::save::new_pack;
use crate::stored_chunks::gone;
use crate::workspace::Access;
use nbws_core::frame::{ChunkSpan, EncodedFrame, FrameDecoder, FrameEncoder, FrameKind};
use nbws_core::id::{ChunkId, ContainerId};
use nbws_core::key::ContainerKey;
use nbws_core::limits::FRAME_TARGET_BYTES;
use nbws_core::pack::{FrameSlot, PackBuilder, open_container};
use nbws_core::record::{Body, Doomed, DoomedObject, Kind, RepackBody};
use nbws_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Level of frames that are compressed anew.
const LEVEL: i32 = 3;

/// Chunks that were copied for a record that lost its slot.
pub(super) struct Copied {
    /// The log head then.
    since: u64,
    frames: Vec<(ContainerId, FrameSlot)>,
    added: (u64, u64),
}

/// Copies, and appends a Repack with an index that names the copies. The old packs stay until a Mark.
pub(super) async fn repack(run: &mut Run<'_>, survey: &Survey, plan: &Plan) -> Result<Step> {
    if plan.disposal.repack.is_empty() {
        run.copied = None;
        return Ok(Step::Nothing);
    }
    let old: BTreeSet<ContainerId> = plan.disposal.repack.iter().copied().collect();
    let mut copies = Copies::new(run, survey)?;
    for pack in &old {
        run.access.cancel.check()?;
        let wanted = plan.needed.get(pack).cloned().unwrap_or_default();
        copies.take(*pack, wanted).await?;
    }
    let copied = copies.finish().await?;
    let moves = |key: ContainerKey| key == ContainerKey::pack(key.id) && old.contains(&key.id);
    let index = new_index(
        surveyed(survey),
        |_| true,
        |part| moves(part.key),
        &copied.frames,
    );
    let list = Doomed {
        objects: old.iter().map(|id| object(*id)).collect(),
        snapshots: Vec::new(),
    };
    let epoch = survey.head.record.epoch;
    let written = write_if_room(run.access, epoch, &list.encode()?, index).await?;
    let body = Body::Repack(RepackBody {
        count: old.len() as u64,
        packs: written.list()?,
    });
    let change = Change {
        index: written.index,
        added: (
            written.added.0 + copied.added.0,
            written.added.1 + copied.added.1,
        ),
        ..Change::default()
    };
    let (step, seq) = append_step(run.access, &survey.log, body, change).await?;
    if seq.is_some() {
        run.report.packs_repacked += old.len() as u64;
        run.report.bytes_copied += copied.added.1;
    } else {
        run.copied = Some(copied);
    }
    Ok(step)
}

fn object(id: ContainerId) -> DoomedObject {
    DoomedObject {
        bytes: 0,
        name: ContainerKey::pack(id),
    }
}

/// New packs that fill up.
struct Copies<'a> {
    access: &'a Access,
    epoch: u64,
    target_bytes: usize,
    pack: PackBuilder,
    copied: Copied,
    /// What an attempt before has copied.
    known: HashSet<ChunkId>,
    encoder: FrameEncoder,
    decoder: FrameDecoder,
    /// Chunks of frames that are mostly dead: they are compressed anew.
    plain: Vec<u8>,
    spans: Vec<ChunkSpan>,
}

impl<'a> Copies<'a> {
    fn new(run: &mut Run<'a>, survey: &Survey) -> Result<Self> {
        let epoch = survey.head.record.epoch;
        let copied = run
            .copied
            .take()
            .filter(|copied| is_still_there(copied, survey));
        let copied = copied.unwrap_or(Copied {
            since: survey.head.record.seq,
            frames: Vec::new(),
            added: (0, 0),
        });
        let known = copied.frames.iter().flat_map(|(_, slot)| &slot.chunks);
        Ok(Copies {
            access: run.access,
            epoch,
            target_bytes: Resources::choose(None, None).pack_target_bytes(),
            pack: new_pack(run.access, epoch, 0)?,
            known: known.map(|chunk| chunk.id).collect(),
            copied,
            encoder: FrameEncoder::new()?,
            decoder: FrameDecoder::new()?,
            plain: Vec::new(),
            spans: Vec::new(),
        })
    }

    /// Copies the chunks `wanted` out of a pack: whole frames while at least half of one is needed.
    async fn take(&mut self, pack: ContainerId, mut wanted: HashSet<ChunkId>) -> Result<()> {
        wanted.retain(|id| !self.known.contains(id));
        if wanted.is_empty() {
            return Ok(());
        }
        let key = ContainerKey::pack(pack);
        let bytes = self
            .access
            .store
            .get(&key.to_string())
            .await
            .map_err(gone)?;
        for slot in open_container(&bytes, |r| self.access.inner.format.accepts(r), key)? {
            let live: u64 = slot
                .chunks
                .iter()
                .filter(|chunk| wanted.contains(&chunk.id))
                .map(|chunk| u64::from(chunk.length))
                .sum();
            if live == 0 {
                continue;
            }
            let end = (slot.offset + slot.stored_len) as usize;
            let stored = &bytes[slot.offset as usize..end];
            let mut plain = Vec::new();
            self.decoder
                .decode(stored, FrameKind::Chunks, slot.plain_len, &mut plain)?;
            verify(&plain, &slot, key)?;
            self.known.extend(
                slot.chunks
                    .iter()
                    .map(|chunk| chunk.id)
                    .filter(|id| wanted.contains(id)),
            );
            if live * 2 >= u64::from(slot.plain_len) {
                let frame = EncodedFrame {
                    kind: FrameKind::Chunks,
                    codec: slot.codec,
                    plain_len: slot.plain_len,
                    chunks: slot.chunks.clone(),
                    bytes: stored.to_vec(),
                };
                self.push(frame).await?;
            } else {
                self.gather(&plain, &slot, &mut wanted).await?;
            }
        }
        Ok(())
    }

    /// Puts single chunks of a frame with those of others.
    async fn gather(
        &mut self,
        plain: &[u8],
        slot: &FrameSlot,
        wanted: &mut HashSet<ChunkId>,
    ) -> Result<()> {
        let mut at = 0;
        for chunk in &slot.chunks {
            let end = at + chunk.length as usize;
            if wanted.remove(&chunk.id) {
                self.plain.extend_from_slice(&plain[at..end]);
                self.spans.push(*chunk);
            }
            at = end;
            if self.plain.len() >= FRAME_TARGET_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let spans = std::mem::take(&mut self.spans);
        let frame = self
            .encoder
            .encode(FrameKind::Chunks, &self.plain, spans, LEVEL)?;
        self.plain.clear();
        self.push(frame).await
    }

    async fn push(&mut self, frame: EncodedFrame) -> Result<()> {
        if !self.pack.is_empty() && self.pack.len() + frame.bytes.len() > self.target_bytes {
            self.send().await?;
        }
        let id = self.pack.key().id;
        let slot = self.pack.push(frame)?.clone();
        self.copied.frames.push((id, slot));
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let next = new_pack(self.access, self.epoch, 0)?;
        let sealed = std::mem::replace(&mut self.pack, next).finish();
        self.copied.added.0 += 1;
        self.copied.added.1 += sealed.bytes.len() as u64;
        let name = sealed.key.to_string();
        self.access.store.put(&name, sealed.bytes.into()).await
    }

    async fn finish(mut self) -> Result<Copied> {
        self.flush().await?;
        self.send().await?;
        Ok(self.copied)
    }
}

/// Copies of an earlier attempt are good as long as no Mark may name them; a log that was pruned meanwhile does not tell.
fn is_still_there(copied: &Copied, survey: &Survey) -> bool {
    let newer: BTreeMap<u64, Kind> = survey
        .log
        .records()
        .iter()
        .filter(|record| record.seq > copied.since)
        .map(|record| (record.seq, record.kind()))
        .collect();
    let whole = newer
        .keys()
        .copied()
        .eq(copied.since + 1..=survey.head.record.seq);
    whole && !newer.values().any(|kind| *kind == Kind::Mark)
}

/// Damage is never copied.
fn verify(plain: &[u8], slot: &FrameSlot, key: ContainerKey) -> Result<()> {
    let mut rest = plain;
    for chunk in &slot.chunks {
        let (bytes, after) = rest.split_at(chunk.length as usize);
        if ChunkId::of(bytes) != chunk.id {
            let why = format!("chunk {} has other bytes; run check", chunk.id);
            return Err(Error::corrupt("repack", why).at(key.to_string()));
        }
        rest = after;
    }
    Ok(())
}
