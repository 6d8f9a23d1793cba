//! The tree as it is written: entries into segments, segments into chunks, and the counts of a report.

use super::chunks::TypedChunks;
use super::plan::omit_text;
use super::quota::Largest;
use crate::local::cache::KnownTree;
use crate::report::{Omitted, Skipped};
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::diff::StatKey;
use nbws_core::id::{ChunkId, TreeRoot};
use nbws_core::limits::MAX_INLINE_RUNS;
use nbws_core::tree::{
    Body, Content, Entry, ListRef, OmitReason, Run, Segment, SegmentRef, SegmentWriter,
    TreeRootHasher, cut_lists, join_runs,
};
use std::collections::HashMap;

/// The new tree, and what a report says about it.
#[derive(Default)]
pub(crate) struct NewTree {
    pub(crate) known: KnownTree,
    pub(crate) refs: Vec<SegmentRef>,
    pub(crate) root: Option<TreeRoot>,
    pub(crate) files: u64,
    pub(crate) directories: u64,
    pub(crate) bytes: u64,
    pub(crate) unstable: Vec<Vec<u8>>,
    pub(crate) stale: Vec<Vec<u8>>,
    pub(crate) omitted: Vec<Omitted>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) largest: Largest,
    /// Something was left out by the deadline or a quota in this save.
    pub(crate) is_partial: bool,
    /// Something that is there could not be stored as it is.
    pub(crate) is_lacking: bool,
    omitted_entry_count: u64,
}

/// Writes entries and stores what they are kept in.
pub(crate) struct TreeWriter<'b, 'p, 'a> {
    chunks: &'b mut TypedChunks<'p, 'a>,
    /// The base's segments.
    base: HashMap<ChunkId, &'b Bytes>,
    segments: SegmentWriter,
    hasher: TreeRootHasher,
    pub(crate) tree: NewTree,
}

impl<'b, 'p, 'a> TreeWriter<'b, 'p, 'a> {
    pub(crate) fn new(chunks: &'b mut TypedChunks<'p, 'a>, base: Option<&'b KnownTree>) -> Self {
        let base = base.iter().flat_map(|tree| &tree.segments);
        let mut tree = NewTree::default();
        tree.known.saved_here = true;
        TreeWriter {
            chunks,
            base: base.map(|known| (ChunkId::of(known), known)).collect(),
            segments: SegmentWriter::new(),
            hasher: TreeRootHasher::new(),
            tree,
        }
    }

    /// Makes room for the stat keys of about so many entries.
    pub(crate) fn reserve(&mut self, entries: usize) {
        self.tree.known.keys.reserve_exact(entries);
    }

    /// The content of a file with these chunks; long lists are stored as chunks of their own.
    pub(crate) fn store_content(&mut self, runs: Vec<Run>) -> Result<Content> {
        let runs = join_runs(runs);
        if runs.len() <= MAX_INLINE_RUNS {
            return Ok(Content::Inline(runs));
        }
        let mut lists = Vec::new();
        for list in cut_lists(&runs) {
            lists.push(ListRef {
                id: self.chunks.add(&list)?,
                length: list.len() as u32,
            });
        }
        Ok(Content::Listed {
            run_count: runs.len() as u64,
            lists,
        })
    }

    /// Adds an entry, in order.
    pub(crate) fn push(&mut self, entry: Entry, key: StatKey) -> Result<()> {
        match &entry.body {
            Body::Directory => self.tree.directories += 1,
            Body::File { size, .. } => {
                self.tree.files += 1;
                self.tree.bytes += size;
                self.tree.largest.add(&entry.path, *size);
            }
            Body::Symlink { .. } => self.tree.files += 1,
            Body::Omitted { size, reason } => {
                self.tree.omitted_entry_count += 1;
                if !self.tree.is_listed_omitted(&entry.path) {
                    self.tree.omitted.push(Omitted {
                        path: entry.path.clone(),
                        size: *size,
                        reason: *reason,
                    });
                }
            }
        }
        if entry.unstable {
            self.tree.unstable.push(entry.path.clone());
        }
        self.hasher.push(&entry);
        self.tree.known.keys.push(key);
        if let Some(segment) = self.segments.push(&entry)? {
            self.store_segment(segment)?;
        }
        Ok(())
    }

    fn store_segment(&mut self, segment: Segment) -> Result<()> {
        let id = self.chunks.add(&segment.bytes)?;
        self.tree.refs.push(SegmentRef {
            first_path: segment.first_path,
            entries: segment.entries,
            id,
            length: segment.bytes.len() as u32,
        });
        // What the base has is not held twice.
        let bytes = match self.base.get(&id) {
            Some(known) => Bytes::clone(known),
            None => Bytes::from(segment.bytes),
        };
        self.tree.known.segments.push(bytes);
        Ok(())
    }

    /// The finished tree.
    pub(crate) fn finish(mut self) -> Result<NewTree> {
        if let Some(segment) = std::mem::take(&mut self.segments).finish() {
            self.store_segment(segment)?;
        }
        self.tree.largest.finish();
        self.tree.root = Some(self.hasher.finish());
        Ok(self.tree)
    }
}

impl NewTree {
    /// Notes what could not be stored as it is, and why.
    pub(crate) fn lack(&mut self, path: Vec<u8>, reason: String) {
        self.is_lacking = true;
        self.skipped.push(Skipped { path, reason });
    }

    /// Entries that stand for files whose content is not stored.
    pub(crate) fn omitted_entries(&self) -> u64 {
        self.omitted_entry_count
    }

    fn is_listed_omitted(&self, path: &[u8]) -> bool {
        self.omitted.last().is_some_and(|last| last.path == path)
    }

    /// One sentence for each reason for which a partial save left something out.
    pub(crate) fn partial_warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        for reason in [OmitReason::Deadline, OmitReason::Quota] {
            let count = self.omitted.iter().filter(|o| o.reason == reason).count();
            if count > 0 && self.is_partial {
                out.push(format!(
                    "{count} files are not stored as they are now, because {}",
                    omit_text(reason)
                ));
            }
        }
        out
    }
}
