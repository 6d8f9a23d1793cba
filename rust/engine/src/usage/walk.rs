//! The entries of some segments and the chunks of their files, one after another; some megabytes are in memory at a time.

use crate::stored_chunks::{chunks, missing_chunk};
use crate::whole_tree::check_segment;
use crate::workspace::Access;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::path::is_within;
use nbws_core::tree::{Content, Entry, ListRef, SegmentReader, SegmentRef, decode_list};
use nbws_core::{Error, Result};
use std::collections::VecDeque;

/// Plain bytes of segments that are read at once; a segment has up to 1 MiB.
const GROUP_BYTES: u64 = 16 << 20;
/// Chunk lists that are read at once, of at most 155 KB each.
const LISTS: usize = 64;

/// What looks at a tree.
pub(super) trait Visitor: Send {
    /// The next entry. Its chunks follow.
    fn entry(&mut self, entry: &Entry) -> Result<()>;

    /// The next chunk of that entry, or with `is_metadata` one that holds a list of its chunks.
    fn chunk(&mut self, id: &ChunkId, is_metadata: bool) -> Result<()>;
}

/// Shows `visitor` what `segments` have at and below `top`, in order.
pub(super) async fn each(
    access: &Access,
    index: &Index,
    top: &[u8],
    segments: &[SegmentRef],
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let mut rest = segments;
    while !rest.is_empty() {
        let (group, after) = rest.split_at(group_end(rest));
        rest = after;
        let ids: Vec<ChunkId> = group.iter().map(|r| r.id).collect();
        for (reference, segment) in group.iter().zip(chunks(access, index, &ids).await?) {
            check_segment(reference, &segment)?;
            let mut lists = Lists::new(access, index, &segment, top)?;
            for entry in SegmentReader::new(&segment)? {
                let entry = entry?;
                if is_within(&entry.path, top) {
                    visitor.entry(&entry)?;
                    show_chunks(&entry, &mut lists, visitor).await?;
                }
            }
        }
    }
    Ok(())
}

fn group_end(segments: &[SegmentRef]) -> usize {
    let mut bytes = 0;
    let fits = segments.iter().take_while(|segment| {
        bytes += u64::from(segment.length);
        bytes <= GROUP_BYTES
    });
    fits.count().max(1)
}

async fn show_chunks(
    entry: &Entry,
    lists: &mut Lists<'_>,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    match entry.content() {
        None => {}
        Some(Content::Inline(runs)) => {
            for run in runs {
                visitor.chunk(&run.id, false)?;
            }
        }
        Some(Content::Listed { lists: refs, .. }) => {
            for reference in refs {
                visitor.chunk(&reference.id, true)?;
                for run in decode_list(&lists.next(reference).await?)? {
                    visitor.chunk(&run.id, false)?;
                }
            }
        }
    }
    Ok(())
}

/// The chunk lists of one segment's files, in order, read some at a time.
struct Lists<'a> {
    access: &'a Access,
    index: &'a Index,
    wanted: VecDeque<ChunkId>,
    read: VecDeque<Vec<u8>>,
}

impl<'a> Lists<'a> {
    fn new(access: &'a Access, index: &'a Index, segment: &[u8], top: &[u8]) -> Result<Self> {
        let mut wanted = VecDeque::new();
        for entry in SegmentReader::new(segment)? {
            let entry = entry?;
            if let Some(Content::Listed { lists, .. }) = entry.content()
                && is_within(&entry.path, top)
            {
                wanted.extend(lists.iter().map(|list| list.id));
            }
        }
        Ok(Lists {
            access,
            index,
            wanted,
            read: VecDeque::new(),
        })
    }

    async fn next(&mut self, reference: &ListRef) -> Result<Vec<u8>> {
        if self.read.is_empty() {
            let some = self.wanted.len().min(LISTS);
            let ids: Vec<ChunkId> = self.wanted.drain(..some).collect();
            self.read = chunks(self.access, self.index, &ids).await?.into();
        }
        let list = self.read.pop_front();
        let list = list.ok_or_else(|| missing_chunk(&reference.id))?;
        if list.len() == reference.length as usize {
            Ok(list)
        } else {
            let why = "a chunk list has another length than the tree says";
            Err(Error::corrupt("read chunk list", why))
        }
    }
}
