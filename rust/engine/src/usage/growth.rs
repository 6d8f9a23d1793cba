//! What made a workspace grow: the sizes of snapshots against those of the ones before.
//!
//! The chunks of the first tree are counted once; from one tree to the next only the segments that differ are read, so that
//! all snapshots of a repository cost little more than one of them.

use super::parts::{self, Parts};
use super::sums::{Slot, Sum, Sums};
use super::walk::{self, Visitor};
use super::{absent, opened};
use crate::base;
use crate::browse::clean;
use crate::options::UsageOptions;
use crate::report::{GrowthReport, Requests};
use crate::resolve::resolve_in;
use crate::stored_chunks::missing_chunk;
use crate::whole_log::whole_log;
use crate::workspace::Access;
use nbws_core::filter::Categories;
use nbws_core::id::ChunkId;
use nbws_core::index::{ChunkCounts, ChunkNumber, Index};
use nbws_core::record::Head;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::Entry;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashSet;

/// Compares each of `names` with the one before it; without names all snapshots, oldest first.
pub(crate) async fn growth(
    access: &Access,
    names: &[String],
    options: &UsageOptions,
) -> Result<Vec<GrowthReport>> {
    let top = clean(&options.path)?;
    let categories = Categories::new(&options.categories)?;
    let newest = base::newest(access, None).await?;
    let record = newest.as_ref().map(|h| &h.record);
    let log = whole_log(access, newest.as_ref()).await?;
    let heads = match names {
        [] => log
            .snapshots(None)
            .iter()
            .map(|s| Head {
                root: s.body.root,
                snapshot: s.body.snapshot,
            })
            .collect(),
        [name] => {
            let why = "growth needs two snapshots to compare";
            return Err(Error::new(ErrorKind::InvalidInput, "growth", why).at(name.clone()));
        }
        names => {
            let found = names.iter().map(|name| resolve_in(&log, record, name));
            found.collect::<Result<Vec<_>>>()?
        }
    };
    let root = base::index_root(access, None, record).await?;
    let index = base::index(access, None, &root).await?;
    let mut compared = Compared {
        access,
        index: &index,
        categories: &categories,
        counts: ChunkCounts::new(&index),
        shape: Sums::new(top, options.depth as usize, &categories),
        is_there: false,
    };
    compared.all(&heads, options.largest).await
}

/// The chunks of one tree, and what leads on to the next one.
struct Compared<'a> {
    access: &'a Access,
    index: &'a Index,
    categories: &'a Categories,
    counts: ChunkCounts,
    shape: Sums<'a>,
    is_there: bool,
}

impl Compared<'_> {
    async fn all(&mut self, heads: &[Head], largest: Option<u64>) -> Result<Vec<GrowthReport>> {
        let mut reports = Vec::new();
        let mut before: Option<(Head, SnapshotRoot)> = None;
        let mut counted = Requests::default();
        for head in heads {
            self.access.cancel.check()?;
            let root = opened(self.access, self.index, head).await?;
            match &before {
                None => self.begin(&root).await?,
                Some((_, previous)) => reports.push(self.pair(previous, &root, largest).await?),
            }
            if let (Some(report), Some((first, _))) = (reports.last_mut(), &before) {
                (report.before, report.after) = (first.snapshot.to_hex(), head.snapshot.to_hex());
                report.metadata_bytes += self.share(head) - self.share(first);
                let sent = Requests::from(self.access.totals());
                report.requests = sent.since(&counted);
                counted = sent;
            }
            before = Some((*head, root));
        }
        if self.is_there || self.shape.is_there() {
            Ok(reports)
        } else {
            Err(absent(self.shape.top()))
        }
    }

    fn share(&self, head: &Head) -> i64 {
        stored(self.index, &ChunkId(head.root.hash.0))
    }

    /// Counts the chunks of the first tree.
    async fn begin(&mut self, root: &SnapshotRoot) -> Result<()> {
        let top = self.shape.top();
        let parts = parts::of(self.access, self.index, root, top).await?;
        let mut first = First {
            counts: &mut self.counts,
            is_there: false,
        };
        walk::each(self.access, self.index, top, &parts.segments, &mut first).await?;
        self.is_there |= first.is_there;
        Ok(())
    }

    /// Leads the counts from one tree to the next.
    async fn pair(
        &mut self,
        before: &SnapshotRoot,
        after: &SnapshotRoot,
        largest: Option<u64>,
    ) -> Result<GrowthReport> {
        let (access, index, top) = (self.access, self.index, self.shape.top().to_vec());
        let (gone, new) = parts::differing(access, index, (before, after), &top).await?;
        let mut change = Change {
            counts: &mut self.counts,
            sums: self.shape.fresh(self.categories),
            slot: Slot::default(),
            metadata_bytes: tree_bytes(index, &new) - tree_bytes(index, &gone),
            is_new: true,
            released: Vec::new(),
        };
        // New ones first: a chunk that both trees have is counted all the time, so it is neither new nor gone.
        walk::each(access, index, &top, &new.segments, &mut change).await?;
        change.is_new = false;
        walk::each(access, index, &top, &gone.segments, &mut change).await?;
        change.settle();
        let mut sums = change.sums;
        self.is_there |= sums.is_there();
        let total = sums.roll_up().growth(top);
        Ok(GrowthReport {
            total,
            by_path: sums.growth_by_path(largest),
            by_category: sums.growth_by_category(),
            metadata_bytes: change.metadata_bytes,
            ..GrowthReport::default()
        })
    }
}

fn stored(index: &Index, id: &ChunkId) -> i64 {
    index.lookup(id).map_or(0, |at| at.stored_share() as i64)
}

fn tree_bytes(index: &Index, parts: &Parts) -> i64 {
    let segments = parts.segments.iter().map(|segment| &segment.id);
    let ids = parts.nodes.iter().chain(segments);
    ids.map(|id| stored(index, id)).sum()
}

/// Counts, and nothing else.
struct First<'a> {
    counts: &'a mut ChunkCounts,
    is_there: bool,
}

impl Visitor for First<'_> {
    fn entry(&mut self, _: &Entry) -> Result<()> {
        self.is_there = true;
        Ok(())
    }

    fn chunk(&mut self, id: &ChunkId, _: bool) -> Result<()> {
        let added = self.counts.add(id).map(|_| ());
        added.ok_or_else(|| missing_chunk(id))
    }
}

/// What only one of two trees has: first the entries of the second tree, then those of the first one.
struct Change<'a> {
    counts: &'a mut ChunkCounts,
    sums: Sums<'a>,
    slot: Slot,
    metadata_bytes: i64,
    is_new: bool,
    /// References that were taken away, and whence; whether it was a list of chunks.
    released: Vec<(ChunkNumber, Slot, bool)>,
}

impl Change<'_> {
    /// What is referred to no more is gone from the first place that had it.
    fn settle(&mut self) {
        let mut seen = HashSet::new();
        for (number, slot, is_metadata) in std::mem::take(&mut self.released) {
            if !self.counts.is_unused(number) || !seen.insert(number) {
                continue;
            }
            match self.counts.location(number) {
                Some(at) if is_metadata => self.metadata_bytes -= at.stored_share() as i64,
                Some(at) => self.sums.add(slot, &Sum::gone_chunk(&at)),
                None => {}
            }
        }
    }
}

impl Visitor for Change<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.slot = self.sums.slot(&entry.path, entry.is_directory());
        let sum = if self.is_new {
            Sum::of(entry)
        } else {
            Sum::gone(entry)
        };
        self.sums.add(self.slot, &sum);
        Ok(())
    }

    fn chunk(&mut self, id: &ChunkId, is_metadata: bool) -> Result<()> {
        if !self.is_new {
            let number = self.counts.remove(id).ok_or_else(|| missing_chunk(id))?;
            self.released.push((number, self.slot, is_metadata));
            return Ok(());
        }
        let (number, before) = self.counts.add(id).ok_or_else(|| missing_chunk(id))?;
        match self.counts.location(number).filter(|_| before == 0) {
            Some(at) if is_metadata => self.metadata_bytes += at.stored_share() as i64,
            Some(at) => self.sums.add(self.slot, &Sum::new_chunk(&at)),
            None => {}
        }
        Ok(())
    }
}
