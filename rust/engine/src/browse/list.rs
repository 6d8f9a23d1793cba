//! What a snapshot has at and below a path.

use super::reader::{Part, SnapshotReader, absent, clean};
use crate::report::{Entry, PathUsage};
use bytes::Bytes;
use nbws_core::path::is_within;
use nbws_core::tree::{self, SegmentReader};
use nbws_core::{Error, Result};

impl SnapshotReader {
    /// The entries of the directory at `path`, sorted by path bytes, or with `recursive` all below it; of anything else its own entry.
    ///
    /// Reads the segments that can hold them. `NotFound` if there is no such path.
    pub async fn list(&self, path: &[u8], recursive: bool) -> Result<Vec<Entry>> {
        let top = clean(path)?;
        let mut found = Vec::new();
        let mut is_there = top.is_empty();
        for segment in self.below(&top, !recursive).await? {
            each(&segment, |entry| {
                let Some(rest) = below(&entry.path, &top) else {
                    return;
                };
                is_there = true;
                let wanted = match rest {
                    b"" => !entry.is_directory(),
                    rest => recursive || !rest.contains(&b'/'),
                };
                if wanted {
                    found.push(Entry::from(&entry));
                }
            })?;
        }
        if is_there {
            Ok(found)
        } else {
            Err(absent(&top))
        }
    }

    /// The entry at `path` itself. `NotFound` if there is none; the top of the workspace has none.
    pub async fn stat(&self, path: &[u8]) -> Result<Entry> {
        let path = clean(path)?;
        if path.is_empty() {
            return Err(absent(&path));
        }
        Ok(Entry::from(&self.entry(&path).await?))
    }

    /// What lies below each entry of the directory at `path`, sorted by path; of anything else its own.
    ///
    /// Every name of a hard link group counts for files and logical bytes; a chunk that several paths have counts for the first of
    /// them. `NotFound` if there is no such path.
    pub async fn usage(&self, path: &[u8]) -> Result<Vec<PathUsage>> {
        let opened = self.opened();
        crate::usage::below(&opened.access, &opened.index, &opened.root, clean(path)?).await
    }

    /// The segments with `top` and what lies below it; `direct` leaves out those in which everything lies deeper.
    async fn below(&self, top: &[u8], direct: bool) -> Result<Vec<Bytes>> {
        if top.is_empty() {
            let mut parts = self.parts(b"", None).await?;
            parts.retain(|part| !direct || !lies_deeper(part, top));
            return self.segments(&parts).await;
        }
        // Bytes below `/` sort between a directory and its entries: `a`, `a-b`, `a/c`. Two ranges, so that nothing between is read.
        let (first, after) = ([top, b"/"].concat(), [top, b"0"].concat());
        let own = self.parts(top, Some(&[top, &[0]].concat())).await?;
        let mut parts = own;
        for part in self.parts(&first, Some(&after)).await? {
            let is_known = parts.iter().any(|p| p.reference.id == part.reference.id);
            let is_of_no_use = is_known || (direct && lies_deeper(&part, top));
            if !is_of_no_use {
                parts.push(part);
            }
        }
        self.segments(&parts).await
    }
}

/// What follows `top` and its slash in `path`, nothing for `top` itself; `None` if `path` is elsewhere.
fn below<'a>(path: &'a [u8], top: &[u8]) -> Option<&'a [u8]> {
    if !is_within(path, top) {
        return None;
    }
    let rest = &path[top.len()..];
    Some(rest.strip_prefix(b"/").unwrap_or(rest))
}

/// Whether the first path of the segment and the first one after it lie below the same entry of `top`: then all between do.
fn lies_deeper(part: &Part, top: &[u8]) -> bool {
    let entry = |path: &[u8]| {
        let rest = below(path, top)?;
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        Some(rest[..slash].to_vec())
    };
    let (first, end) = (
        entry(&part.reference.first_path),
        part.end.as_deref().and_then(entry),
    );
    first.is_some() && first == end
}

/// Calls `look` with every entry of an encoded segment.
pub(super) fn each(segment: &[u8], mut look: impl FnMut(tree::Entry)) -> Result<()> {
    for entry in SegmentReader::new(segment)? {
        look(entry?);
    }
    Ok::<(), Error>(())
}
