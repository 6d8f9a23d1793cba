//! Step 3 of a restore, second half: snapshot against disk. Everything is looked at before anything is written.

use super::disk::{Disk, OnDisk};
use super::wanted::{Action, Wanted, WantedKind};
use crate::local::FileKind;
use crate::local::Root;
use crate::local::Scanned;
use crate::local::cache::KnownTree;
use crate::save::entries;
use crate::stored_chunks::missing_chunk;
use crate::stored_tree::runs_of;
use crate::whole_tree::WholeTree;
use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::diff::{Merge, StatKey};
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::path::{self, is_within};
use nbws_core::plan::restore::Needs;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{Body, Content, Entry, Run, SegmentReader, check_runs};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

/// No entry of a segment has fewer bytes.
const MIN_ENTRY_BYTES: usize = 8;

/// What will be done.
pub(crate) struct RestorePlan {
    pub(crate) wanted: Wanted,
    /// Chunks to fetch; the file number is the item's.
    pub(crate) needs: Needs,
    /// Chunks that the disk holds in the old version of the same file: item, run, offset in the old file, offset in the new.
    pub(crate) local: Vec<LocalRun>,
    /// Paths on disk that the snapshot does not have, sorted.
    pub(crate) extra: Vec<Vec<u8>>,
    /// Entries on disk that would be replaced.
    pub(crate) differing: u64,
    /// Stat keys by position in the tree; unknown until written.
    pub(crate) keys: Vec<StatKey>,
    /// Id of the chunk of zeros that holes are made of.
    pub(crate) zero: ChunkId,
    pub(crate) files_kept: u64,
    pub(crate) bytes_to_write: u64,
    /// Files whose chunks the index does not know.
    pub(crate) lost: Vec<(u32, Error)>,
    /// Wanted paths that a mount hides; nothing is done there.
    pub(crate) hidden: Vec<Vec<u8>>,
    /// Kept files that have further names: a name that comes or goes moves their times.
    pub(crate) linked: HashSet<u32>,
    /// What a person should know of the rules that were found.
    pub(crate) warnings: Vec<String>,
}

/// A piece of a new file that an old one holds.
pub(crate) struct LocalRun {
    pub(crate) item: u32,
    pub(crate) run: Run,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What planning looks at.
pub(crate) struct Inputs<'a> {
    pub(crate) snapshot: &'a SnapshotRoot,
    pub(crate) access: &'a Access,
    pub(crate) root: &'a Root,
    pub(crate) scanned: &'a Scanned,
    pub(crate) known: Option<&'a KnownTree>,
    pub(crate) segments: &'a [Bytes],
    /// Chunk lists of large files, by id.
    pub(crate) lists: &'a HashMap<ChunkId, Vec<u8>>,
    pub(crate) index: &'a Index,
    pub(crate) paths: Option<&'a [Vec<u8>]>,
    pub(crate) numeric_ids: bool,
}

/// Compares the snapshot with the disk. Refuses a tree that breaks the rules of the format before anything is written.
pub(crate) fn plan(inputs: &Inputs<'_>) -> Result<RestorePlan> {
    let scanned = inputs.scanned;
    let mut disk = Disk {
        pairs: Merge::new(entries(inputs.known), scanned.len(), |i| scanned.path(i)).peekable(),
        scanned,
        extra: Vec::new(),
    };
    let mut planner = Planner::new(inputs)?;
    let mut whole = WholeTree::default();
    let mut omitted: Vec<Vec<u8>> = Vec::new();
    for segment in inputs.segments {
        inputs.access.cancel.check()?;
        for entry in SegmentReader::new(segment)? {
            let entry = entry?;
            whole.push(&entry)?;
            let on_disk = disk.at(Some(&entry.path))?;
            if entry.is_omitted() {
                omitted.push(entry.path.clone());
            }
            planner.entry(entry, on_disk)?;
        }
    }
    disk.at(None)?;
    whole.finish(inputs.snapshot)?;
    let mut plan = planner.plan;
    plan.extra = disk.extra;
    // Rules that could not be read may protect anything below their directory.
    let unruled: Vec<&[u8]> = (scanned.problems.iter())
        .filter(|problem| problem.line == 0)
        .map(|problem| path::parent(&problem.path).unwrap_or_default())
        .collect();
    plan.extra.retain(|extra| {
        extra.as_slice() != path::MARKER
            && inputs
                .paths
                .is_none_or(|paths| paths.iter().any(|p| is_within(extra, p)))
            && !omitted.iter().any(|o| is_within(extra, o))
            && !unruled.iter().any(|directory| is_within(extra, directory))
    });
    Ok(plan)
}

pub(super) struct Planner<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) plan: RestorePlan,
}

impl<'a> Planner<'a> {
    fn new(inputs: &'a Inputs<'a>) -> Result<Self> {
        let params = ChunkerParams::from(&inputs.access.inner.format.chunker);
        // Tables for a million entries must not be doubled and copied while they grow.
        let mut entries = 0;
        for segment in inputs.segments {
            let count = SegmentReader::new(segment)?.entry_count() as usize;
            entries += count.min(segment.len() / MIN_ENTRY_BYTES);
        }
        let mut needs = Needs::new(inputs.index);
        if inputs.scanned.is_empty() {
            needs.reserve(entries);
        }
        let plan = RestorePlan {
            wanted: Wanted::with_capacity(entries),
            needs,
            local: Vec::new(),
            extra: Vec::new(),
            differing: 0,
            keys: Vec::with_capacity(entries),
            zero: Chunker::new(params)?.zero_chunk().0,
            files_kept: 0,
            bytes_to_write: 0,
            lost: Vec::new(),
            hidden: Vec::new(),
            linked: HashSet::new(),
            warnings: Vec::new(),
        };
        Ok(Planner { inputs, plan })
    }

    /// Whether a partial restore takes `path`: it lies within a chosen one, or leads to one.
    fn is_selected(&self, entry: &Entry) -> bool {
        self.inputs.paths.is_none_or(|paths| {
            paths.iter().any(|p| {
                is_within(&entry.path, p) || entry.is_directory() && is_within(p, &entry.path)
            })
        })
    }

    fn is_asked_for(&self, path: &[u8]) -> bool {
        let paths = self.inputs.paths;
        paths.is_none_or(|paths| paths.iter().any(|p| is_within(path, p)))
    }

    /// A directory outside of the chosen paths stays as it is, if it is one.
    fn leads_on(&self, path: &[u8], i: usize) -> Result<()> {
        if self.inputs.scanned.stat(i).kind == FileKind::Directory {
            return Ok(());
        }
        let text = "is no directory here, and lies outside of the paths that were asked for";
        Err(Error::new(ErrorKind::InvalidInput, "restore", text).at_path(path))
    }

    fn entry(&mut self, entry: Entry, on_disk: Option<OnDisk>) -> Result<()> {
        let ordinal = self.plan.keys.len() as u32;
        self.plan.keys.push(StatKey::UNKNOWN);
        if entry.is_omitted() || !self.is_selected(&entry) {
            return Ok(());
        }
        if self.inputs.scanned.is_below_mount(&entry.path) {
            self.plan.hidden.push(entry.path);
            return Ok(());
        }
        if !self.is_asked_for(&entry.path)
            && let Some((i, _)) = on_disk
        {
            return self.leads_on(&entry.path, i);
        }
        let runs = match &entry.body {
            Body::File { content, size, .. } => {
                let runs = self.runs(content)?;
                check_runs(content, *size, &runs)?;
                runs
            }
            _ => Vec::new(),
        };
        let (action, old) = self.compare(&entry, &runs, on_disk, ordinal)?;
        if action == Action::Keep && !entry.is_directory() {
            self.plan.files_kept += 1;
        }
        let item = self.plan.wanted.push(&entry, ordinal, action);
        // A follower of a hard link group is linked, not written.
        if action == Action::Write && !self.plan.wanted.leaders.contains_key(&item) {
            self.plan.bytes_to_write += entry.size();
            self.chunks(item, &entry, runs, old.as_ref())?;
        }
        Ok(())
    }

    pub(super) fn runs(&self, content: &Content) -> Result<Vec<Run>> {
        runs_of(content, self.inputs.lists)
    }

    /// Notes where each chunk of a file that is written comes from.
    fn chunks(
        &mut self,
        item: u32,
        entry: &Entry,
        runs: Vec<Run>,
        old: Option<&Entry>,
    ) -> Result<()> {
        let old = old
            .and_then(|e| self.runs(e.content()?).ok())
            .map(|runs| offsets_of(&runs))
            .unwrap_or_default();
        let mut offset = 0;
        for run in runs {
            let length = u64::from(run.length) * run.count;
            if run.id == self.plan.zero {
                self.plan.wanted.holed.insert(item);
            } else if let Some(from) = old.get(&run.id) {
                self.plan.local.push(LocalRun {
                    item,
                    run,
                    from: *from,
                    to: offset,
                });
            } else {
                self.need(item, run, offset)
                    .map_err(|e| e.at_path(&entry.path))?;
            }
            offset += length;
        }
        debug_assert_eq!(offset, entry.size());
        Ok(())
    }

    fn need(&mut self, item: u32, run: Run, file_offset: u64) -> Result<()> {
        let found = (self.plan.needs).push(&run.id, item, file_offset, run.count);
        let Some(location) = found else {
            self.plan.lost.push((item, missing_chunk(&run.id)));
            return Ok(());
        };
        if location.chunk_len != run.length {
            let why = "a chunk has another length than the tree says";
            return Err(Error::corrupt("plan restore", why));
        }
        Ok(())
    }
}

fn offsets_of(runs: &[Run]) -> HashMap<ChunkId, u64> {
    let mut offset = 0;
    let mut out = HashMap::new();
    for run in runs {
        out.entry(run.id).or_insert(offset);
        offset += u64::from(run.length) * run.count;
    }
    out
}

/// Entries of kinds file and symlink among what is written.
pub(crate) fn count_written(wanted: &Wanted) -> u64 {
    wanted
        .items
        .iter()
        .filter(|item| item.action == Action::Write && item.kind != WantedKind::Directory)
        .count() as u64
}
