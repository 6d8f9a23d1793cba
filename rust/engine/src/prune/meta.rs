//! Writes the pack that a step refers to: its list, the parts of the index that it changes, and the new index root.

use super::survey::Survey;
use crate::ballast;
use crate::save::new_pack;
use crate::workspace::Access;
use nbws_core::frame::{FrameEncoder, FrameKind};
use nbws_core::id::{ContainerId, FrameHash};
use nbws_core::index::{Index, IndexPart, IndexPartBuilder, IndexRoot, PartRef};
use nbws_core::limits::{LIVE_INDEX_PARTS, MAX_INDEX_PART_BYTES};
use nbws_core::pack::{FrameSlot, PackBuilder};
use nbws_core::record::Place;
use nbws_core::{Error, Result};

/// Lists and indexes are small beside what they describe, and read often.
const LEVEL: i32 = 3;

/// A new index: parts that stay where they are, and parts that have to be written.
pub(crate) struct NewIndex {
    kept: Vec<PartRef>,
    written: Vec<IndexPart>,
}

/// Builds an index without the chunks of packs that `keep` is false for.
///
/// Parts that name such a pack, or that `move_part` is true for, are written anew, with `added` frames before them; all of them, if
/// too many would be live otherwise. Of a chunk that several name, the place of the newest stays.
pub(super) fn new_index(
    (root, index): (&IndexRoot, &Index),
    keep: impl Fn(&ContainerId) -> bool,
    move_part: impl Fn(&PartRef) -> bool,
    added: &[(ContainerId, FrameSlot)],
) -> NewIndex {
    let parts: Vec<_> = root.parts.iter().zip(index.parts()).collect();
    let must_move = |(reference, part): &(&PartRef, &std::sync::Arc<IndexPart>)| {
        move_part(reference) || !part.packs().all(|pack| keep(&pack))
    };
    let staying = parts.iter().filter(|pair| !must_move(pair)).count();
    let is_crowded = staying + 1 > LIVE_INDEX_PARTS;
    let (mut kept, mut written) = (Vec::new(), Vec::new());
    let mut builder = IndexPartBuilder::new();
    for (pack, slot) in added {
        builder.add_frame(*pack, slot);
    }
    for pair in parts.iter().rev() {
        if !must_move(pair) && !is_crowded {
            kept.push(*pair.0);
            continue;
        }
        if builder.bytes_bound() + pair.1.bytes().len() > MAX_INDEX_PART_BYTES {
            written.push(std::mem::take(&mut builder).finish());
        }
        builder.add_part_of(pair.1, &keep);
    }
    if !builder.is_empty() {
        written.push(builder.finish());
    }
    kept.reverse();
    // The first holds the newest places, and lookup asks the last part first.
    written.reverse();
    NewIndex { kept, written }
}

/// What was written for a record.
pub(crate) struct Written {
    /// Where the list lies, if there is one.
    attachment: Option<Place>,
    /// Where the index root lies, if there is a new one.
    pub(crate) index: Option<Place>,
    /// Objects and bytes stored.
    pub(crate) added: (u64, u64),
}

/// Stores list and index in one pack, for a record that a full store gives its ballast up for.
pub(crate) async fn write_meta(
    access: &Access,
    epoch: u64,
    list: Option<&[u8]>,
    index: Option<NewIndex>,
) -> Result<Written> {
    let (sealed, written) = build_meta(access, epoch, list, index)?;
    let stored = store(access, &sealed).await;
    if ballast::made_room(access, stored.as_ref().err()).await {
        store(access, &sealed).await?;
        return Ok(written);
    }
    stored.map(|()| written)
}

/// As [`write_meta`], for a record that takes room instead of freeing it.
pub(super) async fn write_if_room(
    access: &Access,
    epoch: u64,
    list: &[u8],
    index: NewIndex,
) -> Result<Written> {
    let (sealed, written) = build_meta(access, epoch, Some(list), Some(index))?;
    store(access, &sealed).await?;
    Ok(written)
}

async fn store(access: &Access, pack: &(String, bytes::Bytes)) -> Result<()> {
    access.store.put(&pack.0, pack.1.clone()).await
}

/// The pack with its name, and where things lie in it.
fn build_meta(
    access: &Access,
    epoch: u64,
    list: Option<&[u8]>,
    index: Option<NewIndex>,
) -> Result<((String, bytes::Bytes), Written)> {
    let mut pack = new_pack(access, epoch, 0)?;
    let mut encoder = FrameEncoder::new()?;
    let mut push = |pack: &mut PackBuilder, kind, plain: &[u8]| -> Result<Place> {
        let slot = pack
            .push(encoder.encode(kind, plain, Vec::new(), LEVEL)?)?
            .clone();
        Ok(Place {
            hash: FrameHash::of(plain),
            length: slot.stored_len,
            object: pack.key(),
            offset: slot.offset,
            plain: slot.plain_len,
        })
    };
    let attachment = list
        .map(|list| push(&mut pack, FrameKind::Attachment, list))
        .transpose()?;
    let mut root_place = None;
    if let Some(NewIndex { mut kept, written }) = index {
        for part in &written {
            let place = push(&mut pack, FrameKind::IndexPart, part.bytes())?;
            kept.push(PartRef {
                key: place.object,
                offset: place.offset,
                stored_len: place.length,
                plain_len: place.plain,
                hash: place.hash,
                chunks: part.len() as u64,
            });
        }
        let root = IndexRoot { parts: kept }.encode()?;
        root_place = Some(push(&mut pack, FrameKind::IndexRoot, &root)?);
    }
    let sealed = pack.finish();
    let added = (1, sealed.bytes.len() as u64);
    let written = Written {
        attachment,
        index: root_place,
        added,
    };
    Ok(((sealed.key.to_string(), sealed.bytes.into()), written))
}

impl Written {
    /// The list that was asked for.
    pub(crate) fn list(&self) -> Result<Place> {
        self.attachment
            .ok_or_else(|| Error::internal("prune", "no list was written"))
    }
}

/// What [`new_index`] builds on, of a survey.
pub(super) fn surveyed(survey: &Survey) -> (&IndexRoot, &Index) {
    (&survey.index_root, &survey.index)
}
