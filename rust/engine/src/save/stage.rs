//! Steps 5 to 9 of a save: read, cut, hash, compress, pack and upload; then the tree and its root.

use super::chunks::TypedChunks;
use super::encode::run_encoder;
use super::pace::Pace;
use super::pack::Packer;
use super::pipeline::{Counts, FreshChunks, Outcome, Parts, Pipeline};
use super::plan::Planned;
use super::quota::{Admitted, Limits, refused};
use super::read::run_reader;
use super::report::{as_unchanged, report_of, warn_if_shrunk};
use super::root::{Description, Stored, store_root};
use super::tree::{Sources, build_tree};
use super::tree_writer::NewTree;
use super::{Intent, Start, blocking};
use crate::budget::Resources;
use crate::clock::Deadline;
use crate::options::{Level, SaveOptions};
use crate::report::SaveReport;
use crate::session::Target;
use crate::workspace::Access;
use crossbeam_channel::RecvTimeoutError;
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::id::SnapshotId;
use nbws_core::index::{Index, IndexPart};
use nbws_core::plan::admit::Excess;
use nbws_core::plan::pace;
use nbws_core::record::Record;
use nbws_core::{ErrorKind, Result};
use std::sync::Arc;

/// More recently modified files than this are flushed with one syncfs instead of one fdatasync each.
const MANY_RECENT: usize = 32;

/// Room is made for so many chunks at most.
const MAX_EXPECTED_CHUNKS: u64 = 4 << 20;

/// Everything that the storing half needs.
pub(crate) struct Stage {
    pub(crate) start: Start,
    pub(crate) planned: Planned,
    pub(crate) index: Index,
    pub(crate) orphans: Option<IndexPart>,
    pub(crate) options: SaveOptions,
    pub(crate) deadline: Deadline,
    pub(crate) intent: Intent,
}

/// How the storing half ended.
pub(crate) enum Staged {
    /// What was read again is what the target held: nothing to commit.
    Same(Box<SaveReport>),
    Stored(Box<Work>),
}

/// Work that is stored and waits for its record.
pub(crate) struct Work {
    pub(crate) stored: Stored,
    pub(crate) tree: NewTree,
    pub(crate) report: SaveReport,
    pub(crate) start: Start,
}

/// Steps 5 to 9, on a thread that may block.
pub(crate) async fn store(
    access: &Arc<Access>,
    target: Target,
    stage: Stage,
) -> Result<(Target, Staged)> {
    let access = Arc::clone(access);
    let runtime = tokio::runtime::Handle::current();
    blocking(move || store_blocking(&access, target, stage, runtime)).await
}

fn store_blocking(
    access: &Access,
    mut target: Target,
    stage: Stage,
    runtime: tokio::runtime::Handle,
) -> Result<(Target, Staged)> {
    let record = stage.start.head.as_ref().map(|h| &h.record);
    let at = (
        record.map_or(1, |r| r.epoch + 1),
        record.map_or(0, |r| r.seq),
    );
    let resources = Resources::choose(stage.options.threads, stage.options.memory_bytes);
    let pace = Arc::new(Pace::new(
        stage.deadline,
        stage.options.limit_rate,
        tail_bytes(access, &stage.planned),
    ));
    let folder = target.folder.clone();
    let mut packer = Packer::new(access, runtime, folder, at, resources, pace)?;
    let staged = fill(access, &mut target, stage, &mut packer, resources);
    match &staged {
        Ok(_) => {}
        // What is refused is not sent.
        Err(e) if e.kind() == ErrorKind::QuotaExceeded => drop(packer.wait_for_all()),
        // Nothing may land behind the caller's back; what is stored by then is reused by the next save.
        Err(_) => drop(packer.finish()),
    }
    Ok((target, staged?))
}

/// Reads, encodes and packs; then the tree and the snapshot root.
fn fill(
    access: &Access,
    target: &mut Target,
    stage: Stage,
    packer: &mut Packer<'_>,
    resources: Resources,
) -> Result<Staged> {
    let level = zstd_level(stage.options.level, resources.threads);
    let fresh = make_room(access, &stage, packer);
    let counts = Counts::default();
    let newest = stage.start.head.as_ref().map(|h| &h.record);
    let limits = Limits::of(&stage.options, newest, stage.intent == Intent::Head);
    let (mut outcomes, excess) = read_all(
        access,
        target,
        &stage,
        packer,
        (&fresh, &counts),
        (resources, level),
        &limits,
    )?;
    // The tree's own chunks are few, and alike ones among files hardly occur.
    fresh.forget();
    claim_orphans(&fresh, stage.orphans.as_ref());
    let mut chunks = TypedChunks::new(packer, &stage.index, &fresh, level)?;
    let sources = sources_of(access, target, &stage);
    let mut tree = build_tree(&sources, &mut outcomes, &mut chunks)?;
    drop(outcomes);
    let mut report = report_of(&stage.planned, &tree, &counts);
    let told = limits.warnings(excess, &tree, chunks.packer.packed_bytes());
    report.warnings.extend(told);
    if let Some((snapshot, seq)) = same_as_known(access, target, &stage, &mut tree) {
        report.snapshot = snapshot.to_hex();
        report.seq = seq;
        if stage.planned.is_only_doubted {
            as_unchanged(&mut report);
        }
        return Ok(Staged::Same(Box::new(report)));
    }
    let brings_files = counts.brings_chunks();
    // The index is sorted and encoded next: together with the scan that would be the peak.
    drop(stage.planned);
    let is_head = stage.intent == Intent::Head;
    let pin_base = is_head && warn_if_shrunk(newest, &tree, &mut report);
    let description = describe(target, newest, &stage.options, (is_head, pin_base))?;
    let start = &stage.start;
    let live = (start.index_place, &start.index_root, &stage.index);
    let stored = store_root(
        access,
        target,
        &mut chunks,
        &tree,
        live,
        &description,
        |packed| limits.check_packed(packed, brings_files),
    )?;
    Ok(Staged::Stored(Box::new(Work {
        stored,
        tree,
        report,
        start: stage.start,
    })))
}

/// Room for the chunks to come, among them those that an unfinished save has stored.
fn make_room(access: &Access, stage: &Stage, packer: &mut Packer<'_>) -> FreshChunks {
    let expected = expected_chunks(access, &stage.planned);
    let fresh = FreshChunks::new(expected);
    packer.reserve(expected);
    if let Some(part) = &stage.orphans {
        packer.adopt(part);
    }
    claim_orphans(&fresh, stage.orphans.as_ref());
    fresh
}

fn sources_of<'a>(access: &Access, target: &'a Target, stage: &'a Stage) -> Sources<'a> {
    Sources {
        root: &target.root,
        planned: &stage.planned,
        base: stage.start.base_tree.as_deref(),
        numeric_ids: access.inner.format.numeric_ids,
    }
}

/// What the snapshot says beside its tree.
fn describe(
    target: &Target,
    newest: Option<&Record>,
    options: &SaveOptions,
    (is_head, pin_base): (bool, bool),
) -> Result<Description> {
    let base = target.tree.as_ref().map(|(id, _)| *id);
    Ok(Description {
        base: base.or(newest.and_then(|r| r.head).map(|h| h.snapshot)),
        comment: options.comment.clone(),
        label: options.label.of(is_head),
        root_mode: target.root.stat_root()?.mode,
        epoch: newest.map_or(1, |r| r.epoch + u64::from(!target.owns(r))),
        pin_base,
    })
}

/// About as many chunks as the files to read have; tables that double while they fill leave their smaller selves behind.
fn expected_chunks(access: &Access, planned: &Planned) -> usize {
    let spec = &access.inner.format.chunker;
    let chunks = planned.work.iter().map(|i| {
        let stat = planned.scanned.stat(*i as usize);
        // A hole is one chunk, however long it is.
        let bytes = stat.size.min(stat.blocks.saturating_mul(512));
        1 + bytes.saturating_sub(u64::from(spec.whole)) / u64::from(spec.average)
    });
    let chunks = chunks.sum::<u64>();
    // A few more, for the tree's own.
    (chunks + chunks / 32 + 64).min(MAX_EXPECTED_CHUNKS) as usize
}

/// About as many bytes as the last pack will have: an id in the tree and one in the index for each chunk do not compress.
fn tail_bytes(access: &Access, planned: &Planned) -> u64 {
    const ROOTS: u64 = 8 << 10;
    const INDEX_ENTRY: u64 = 44;
    const TREE_ENTRY: u64 = 64;
    let chunks = expected_chunks(access, planned) as u64;
    ROOTS + chunks * INDEX_ENTRY + planned.work.len() as u64 * TREE_ENTRY
}

/// Chunks that an unfinished save has stored are not stored again.
fn claim_orphans(fresh: &FreshChunks, orphans: Option<&IndexPart>) {
    for (id, _) in orphans.into_iter().flat_map(IndexPart::iter) {
        fresh.claim(&id);
    }
}

/// Steps 5 to 8: what became of every file that had to be read.
fn read_all(
    access: &Access,
    target: &Target,
    stage: &Stage,
    packer: &mut Packer<'_>,
    (fresh, counts): (&FreshChunks, &Counts),
    (resources, level): (Resources, i32),
    limits: &Limits,
) -> Result<(Vec<Outcome>, Option<Excess>)> {
    let params = ChunkerParams::from(&access.inner.format.chunker);
    let chunker = Chunker::new(params)?;
    let sending = packer.pace();
    let planned = &stage.planned;
    let frame_bytes = pace::frame_bytes(
        stage.options.limit_rate,
        stage.deadline.remaining().map(|left| left.as_secs_f64()),
        u64::from(access.inner.format.frame.target),
    );
    let whole = u64::from(params.whole);
    let (units, admission) = planned.order(&limits.quota, limits.stored, whole, frame_bytes);
    if let Some(excess) = admission.excess.filter(|_| admission.is_refused) {
        return Err(refused(excess));
    }
    let admitted = Admitted::new(limits.quota, admission.totals, whole);
    let parts = Parts {
        access,
        root: &target.root,
        planned,
        chunker: &chunker,
        index: &stage.index,
        fresh,
        counts,
        pace: &sending,
        admitted: &admitted,
        level,
        is_flushed: flush_recent(target, planned)?,
        units: &units,
    };
    begin_progress(access, planned);
    let mut outcomes = run_pipeline(parts, &admission.left_out, packer, resources)?;
    let lost = packer.settle()?;
    for outcome in &mut outcomes {
        outcome.leave_out_if_not_whole(&lost);
    }
    counts.not_stored(lost.totals());
    Ok((outcomes, admission.excess))
}

/// The zstd level: with few cores compression decides how long a save takes.
fn zstd_level(level: Level, threads: usize) -> i32 {
    match level {
        Level::Fast => -3,
        Level::Auto if threads >= 8 => 3,
        Level::Auto => 2,
        Level::Fixed(level) => level.clamp(1, 19),
    }
}

/// Flushes a workspace in which much was modified a moment ago, once for all files.
fn flush_recent(target: &Target, planned: &Planned) -> Result<bool> {
    let since = planned.settled.seconds - 60;
    let recent = planned
        .work
        .iter()
        .filter(|i| planned.scanned.stat(**i as usize).mtime.seconds >= since);
    if recent.take(MANY_RECENT + 1).count() <= MANY_RECENT {
        return Ok(false);
    }
    target.root.sync_file_system()?;
    Ok(true)
}

fn begin_progress(access: &Access, planned: &Planned) {
    let bytes = planned
        .work
        .iter()
        .map(|i| planned.scanned.stat(*i as usize).size)
        .sum();
    access.meter.begin("save", planned.work.len() as u64, bytes);
}

/// Readers, encoders and this thread as packer, until everything is read, encoded and packed.
fn run_pipeline(
    parts: Parts<'_>,
    left_out: &[u32],
    packer: &mut Packer<'_>,
    resources: Resources,
) -> Result<Vec<Outcome>> {
    let pipeline = Pipeline::new(parts);
    pipeline.settle_all(
        left_out
            .iter()
            .map(|i| (*i, Outcome::LeftOut(nbws_core::tree::OmitReason::Quota))),
    );
    let (jobs, job_queue) = crossbeam_channel::bounded(resources.threads * 2);
    let (frames, frame_queue) = crossbeam_channel::bounded(resources.threads * 2);
    std::thread::scope(|scope| {
        for _ in 0..resources.threads.clamp(1, 8) {
            let (jobs, pipeline) = (jobs.clone(), &pipeline);
            scope.spawn(move || {
                if let Err(error) = run_reader(pipeline, &jobs) {
                    pipeline.fail(error);
                }
            });
        }
        for _ in 0..resources.threads {
            let (job_queue, frames, pipeline) = (job_queue.clone(), frames.clone(), &pipeline);
            scope.spawn(move || {
                if let Err(error) = run_encoder(pipeline, &job_queue, &frames) {
                    pipeline.fail(error);
                }
            });
        }
        // Only the threads hold the channels now: each ends when its feeders have ended.
        drop((jobs, job_queue, frames));
        loop {
            let done = match packer.next_of(&frame_queue) {
                Ok(frame) => packer.push_files(frame),
                Err(RecvTimeoutError::Timeout) => packer.seal_early(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = done {
                pipeline.fail(error);
                break;
            }
        }
        drop(frame_queue);
    });
    pipeline.finish()
}

/// If the new tree is the one that the target held, byte for byte, only the stat keys are news: nothing to commit, unless an
/// older snapshot is to become the head again. Returns the id of the tree and the head's seq.
fn same_as_known(
    access: &Access,
    target: &mut Target,
    stage: &Stage,
    tree: &mut NewTree,
) -> Option<(SnapshotId, u64)> {
    let start = &stage.start;
    let is_same = start
        .base_tree
        .as_ref()
        .is_some_and(|base| base.segments == tree.known.segments);
    let (Some(head), Some((base, _)), true) = (&start.head, &target.tree, is_same) else {
        return None;
    };
    // Work that is kept beside the head is only worth it if it differs from what the target was given.
    if !start.is_head_tree && stage.intent == Intent::Head {
        return None;
    }
    let (snapshot, seq) = (*base, head.record.seq);
    target.store_tree_or_go_on(&access.inner, snapshot, std::mem::take(&mut tree.known));
    Some((snapshot, seq))
}
