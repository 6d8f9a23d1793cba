//! What fills a workspace and what made it grow: from records, index and trees alone, never from data of files.
//!
//! Here: the verb. Beside: which parts of trees are read (`parts`), their entries and chunks one after another (`walk`), sums by path
//! and category (`sums`), and the sizes of one snapshot against another (`growth`).

mod growth;
mod parts;
mod sums;
mod walk;

pub(crate) use growth::growth;

use crate::base;
use crate::browse::clean;
use crate::options::UsageOptions;
use crate::report::{PathUsage, UsageReport};
use crate::resolve::resolve_in;
use crate::stored_chunks::missing_chunk;
use crate::stored_tree::snapshot_root;
use crate::whole_log::whole_log;
use crate::workspace::Access;
use nbws_core::filter::Categories;
use nbws_core::id::ChunkId;
use nbws_core::index::{ChunkCounts, Index};
use nbws_core::record::Head;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::Entry;
use nbws_core::{Error, ErrorKind, Result};
use sums::{Slot, Sum, Sums};
use walk::Visitor;

/// Adds up the repository, and a path of one snapshot. No data of files is downloaded.
pub(crate) async fn usage(access: &Access, options: &UsageOptions) -> Result<UsageReport> {
    let top = clean(&options.path)?;
    let categories = Categories::new(&options.categories)?;
    let newest = base::newest(access, None).await?;
    let record = newest.as_ref().map(|h| &h.record);
    let root = base::index_root(access, None, record).await?;
    let index = base::index(access, None, &root).await?;
    let log = whole_log(access, newest.as_ref()).await?;
    let snapshots = log.snapshots(None);
    let usage = record.map(|r| r.usage).unwrap_or_default();
    let mut report = UsageReport {
        stored_bytes: usage.stored_bytes,
        objects: usage.objects,
        snapshots: snapshots.len() as u64,
        snapshot_bytes: snapshots.iter().map(|s| s.body.bytes).sum(),
        ..UsageReport::default()
    };
    let (mut known_bytes, mut unique_bytes) = (0, 0);
    for (_, at) in index.iter() {
        unique_bytes += u64::from(at.chunk_len);
        known_bytes += at.stored_share();
    }
    report.unique_bytes = unique_bytes;
    let is_empty = record.is_none_or(|r| r.head.is_none());
    let asks_for_nothing = options.snapshot == "latest" && top.is_empty();
    let mut found = Found::new(&index, &categories, top, options.depth);
    if !(is_empty && asks_for_nothing) {
        let head = resolve_in(&log, record, &options.snapshot)?;
        let root = opened(access, &index, &head).await?;
        (report.logical_bytes, report.files) = (root.bytes, root.files);
        report.snapshot = Some(head.snapshot.to_hex());
        found.read(access, &index, &root, Some(&head)).await?;
    }
    report.metadata_bytes = found.metadata_bytes;
    let (sums, total) = found.finish()?;
    report.total = total;
    report.other_bytes = known_bytes
        .saturating_sub(report.metadata_bytes)
        .saturating_sub(report.total.stored_bytes);
    report.overhead_bytes = report.stored_bytes as i64 - known_bytes as i64;
    report.by_category = sums.usage_by_category();
    report.by_path = sums.usage_by_path(options.largest);
    report.requests = access.totals().into();
    Ok(report)
}

/// What lies in the directory at `top`, which has been cleaned, of the snapshot with `root`; of anything else its own.
pub(crate) async fn below(
    access: &Access,
    index: &Index,
    root: &SnapshotRoot,
    top: Vec<u8>,
) -> Result<Vec<PathUsage>> {
    let categories = Categories::new(&[])?;
    let mut found = Found::new(index, &categories, top, 1);
    found.read(access, index, root, None).await?;
    Ok(found.finish()?.0.usage_by_path(None))
}

/// The root of a snapshot that the log names.
async fn opened(access: &Access, index: &Index, head: &Head) -> Result<SnapshotRoot> {
    let root = snapshot_root(access, &head.root, Some(index)).await?;
    if root.snapshot != head.snapshot {
        let why = "the root is not that of the snapshot";
        return Err(Error::corrupt("read tree", why).at(head.snapshot.to_hex()));
    }
    Ok(root)
}

fn absent(top: &[u8]) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "usage",
        "the snapshot has no such path",
    )
    .at_path(top)
}

/// Sums of one snapshot: each chunk counts where it is met first.
struct Found<'a> {
    counts: ChunkCounts,
    sums: Sums<'a>,
    slot: Slot,
    metadata_bytes: u64,
}

impl<'a> Found<'a> {
    fn new(index: &Index, categories: &'a Categories, top: Vec<u8>, depth: u32) -> Self {
        Found {
            counts: ChunkCounts::new(index),
            sums: Sums::new(top, depth as usize, categories),
            slot: Slot::default(),
            metadata_bytes: 0,
        }
    }

    async fn read(
        &mut self,
        access: &Access,
        index: &Index,
        root: &SnapshotRoot,
        head: Option<&Head>,
    ) -> Result<()> {
        let top = self.sums.top().to_vec();
        let parts = parts::of(access, index, root, &top).await?;
        let own = head.map(|head| ChunkId(head.root.hash.0));
        let segments = parts.segments.iter().map(|segment| &segment.id);
        for id in own.iter().chain(&parts.nodes).chain(segments) {
            self.chunk(id, true)?;
        }
        walk::each(access, index, &top, &parts.segments, self).await
    }

    fn finish(mut self) -> Result<(Sums<'a>, PathUsage)> {
        if !self.sums.is_there() {
            return Err(absent(self.sums.top()));
        }
        let total = self.sums.roll_up();
        let total = total.usage(self.sums.top().to_vec());
        Ok((self.sums, total))
    }
}

impl Visitor for Found<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.slot = self.sums.slot(&entry.path, entry.is_directory());
        self.sums.add(self.slot, &Sum::of(entry));
        Ok(())
    }

    fn chunk(&mut self, id: &ChunkId, is_metadata: bool) -> Result<()> {
        let (number, before) = self.counts.add(id).ok_or_else(|| missing_chunk(id))?;
        let at = self.counts.location(number).filter(|_| before == 0);
        match at {
            Some(at) if is_metadata => self.metadata_bytes += at.stored_share(),
            Some(at) => self.sums.add(self.slot, &Sum::new_chunk(&at)),
            None => {}
        }
        Ok(())
    }
}
