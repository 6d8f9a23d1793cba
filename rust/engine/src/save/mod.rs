//! Save: the target's tree becomes a snapshot. Reads from top to bottom like the list in `docs/architecture.md`.

mod commit;
mod encode;
mod pack;
mod pipeline;
mod plan;
mod read;
mod tree;

pub(crate) use commit::Intent;
pub(crate) use plan::{entries, seen};

use crate::base;
use crate::budget::Resources;
use crate::clock::{Deadline, Stopwatch};
use crate::local::cache::KnownTree;
use crate::log::LogHead;
use crate::options::{Level, SaveOptions};
use crate::report::{SaveReport, Skipped};
use crate::session::Target;
use crate::workspace::Access;
use commit::{Committed, Description, Stored, commit, commit_comment, store_root};
use encode::run_encoder;
use nbws_core::chunker::{Chunker, ChunkerParams};
use nbws_core::id::SnapshotId;
use nbws_core::index::{Index, IndexPart, IndexRoot};
use nbws_core::limits::MAX_COMMENT_BYTES;
use nbws_core::record::{Kind, Place, Record};
use nbws_core::{Error, ErrorKind, Result};
use pack::Packer;
use pipeline::{Counts, FreshChunks, Outcome, Parts, Pipeline};
use plan::{Planned, plan};
use read::run_reader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tree::{NewTree, TypedChunks, build_tree};

/// A save that keeps losing to prune gives up after so many plans.
const MAX_PLANS: u32 = 8;
/// More recently modified files than this are flushed with one syncfs instead of one fdatasync each.
const MANY_RECENT: usize = 32;

/// Saves `directory` as the workspace head.
pub(crate) async fn save(
    access: Access,
    directory: &Path,
    options: SaveOptions,
) -> Result<SaveReport> {
    check_options(&access, &options)?;
    let access = Arc::new(access);
    let target = lock(&access, directory).await?;
    let (_, report) = run(&access, target, options, Intent::Head).await?;
    Ok(report)
}

fn check_options(access: &Access, options: &SaveOptions) -> Result<()> {
    access.inner.format.check_writable()?;
    if let Level::Fixed(level) = options.level
        && !(1..=19).contains(&level)
    {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "save",
            "the level is auto, fast or a number from 1 to 19",
        ));
    }
    if options
        .comment
        .as_ref()
        .is_some_and(|c| c.len() > MAX_COMMENT_BYTES)
    {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "save",
            "the comment is longer than 1,024 bytes; shorten it",
        ));
    }
    Ok(())
}

/// Locks the target on a thread that may block.
pub(crate) async fn lock(access: &Arc<Access>, directory: &Path) -> Result<Target> {
    let (access, directory) = (Arc::clone(access), directory.to_path_buf());
    blocking(move || Target::lock(&access.inner, &directory, &access.cancel)).await
}

/// Runs `work` where blocking is allowed; a panic becomes an `Internal` error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => Err(Error::internal("work", format!("a worker failed: {e}"))),
    }
}

/// What a save starts from.
struct Start {
    head: Option<LogHead>,
    index_place: Option<Place>,
    index_root: IndexRoot,
    base_tree: Option<Arc<KnownTree>>,
    /// The tree in the target is the one of the workspace head.
    is_head_tree: bool,
}

/// Saves a locked target as head or rescue. A target that is not proven to hold the head is kept as a rescue.
pub(crate) async fn run(
    access: &Arc<Access>,
    mut target: Target,
    options: SaveOptions,
    wished: Intent,
) -> Result<(Target, SaveReport)> {
    let watch = Stopwatch::start();
    let deadline = options.deadline.map_or(Deadline::NEVER, Deadline::after);
    target.settle_pending(access).await?;
    let mut head = base::newest_for_save(access, &mut target).await?;
    target.check_may_write(head.as_ref().map(|h| &h.record), options.take_over)?;
    let intent = match (&wished, unproven(&target, head.as_ref(), options.take_over)) {
        (Intent::Head, Some(why)) => Intent::Rescue(why.text()),
        _ => wished.clone(),
    };
    for _ in 0..MAX_PLANS {
        let start = prepare(access, &target, head, options.take_over).await?;
        let (returned, scanned) = scan_and_plan(access, target, &start, &options).await?;
        target = returned;
        if intent == Intent::Head && !scanned.planned.is_changed && start.is_head_tree {
            let report = unchanged(access, &mut target, &start, &scanned.planned, &options).await?;
            let report = finish_report(access, &target.notices, report, watch);
            return Ok((target, report));
        }
        let index = base::index(access, target.folder.as_ref(), &start.index_root).await?;
        let orphans = load_orphans(access, &target, start.head.as_ref()).await?;
        let stage = Stage {
            start,
            planned: scanned.planned,
            index,
            orphans,
            options: options.clone(),
            deadline,
            intent: intent.clone(),
        };
        let (returned, staged) = store(access, target, stage).await?;
        target = returned;
        let (mut stored, tree, report, start) = match staged {
            Staged::Same(report) => {
                let report = finish_report(access, &target.notices, report, watch);
                return Ok((target, report));
            }
            Staged::Stored(all) => *all,
        };
        access.meter.begin("commit", 0, 0);
        match commit(access, &mut target, start.head, &mut stored, intent.clone()).await? {
            Committed::Replan(newest) => head = Some(newest),
            Committed::Done {
                seq,
                intent: reached,
            } => {
                let report = settle(
                    access,
                    &mut target,
                    &stored,
                    tree,
                    report,
                    seq,
                    &wished,
                    &reached,
                )?;
                let report = finish_report(access, &target.notices, report, watch);
                return Ok((target, report));
            }
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "save",
        "prune kept moving the packs that this save relies on; try again",
    ))
}

fn finish_report(
    access: &Access,
    notices: &[String],
    mut report: SaveReport,
    watch: Stopwatch,
) -> SaveReport {
    let totals = access.totals();
    report.bytes_uploaded = totals.bytes_up;
    report.requests = totals.into();
    report.warnings.extend_from_slice(notices);
    report.complete = !report.partial
        && report.stale.is_empty()
        && report.unstable.is_empty()
        && report.omitted.is_empty()
        && report
            .skipped
            .iter()
            .all(|s| !s.reason.starts_with("unreadable"));
    report.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    report
}

/// Why a target may not become the head.
enum Unproven {
    /// Nothing says that it ever held the head.
    Unknown,
    /// It held an earlier head; somebody has saved since.
    Outdated(SnapshotId),
    /// A restore into it has not finished.
    HalfRestored,
}

impl Unproven {
    fn text(&self) -> String {
        match self {
            Unproven::Unknown => {
                "the directory was never restored from or saved to this repository".to_owned()
            }
            Unproven::Outdated(head) => {
                format!("another writer has saved since; the head is now {head}")
            }
            Unproven::HalfRestored => "a restore into the directory has not finished".to_owned(),
        }
    }
}

fn unproven(target: &Target, head: Option<&LogHead>, take_over: bool) -> Option<Unproven> {
    let head = head?.record.head?;
    if take_over {
        None
    } else if target.is_half_restored {
        Some(Unproven::HalfRestored)
    } else {
        match target.session.proof {
            Some(proof) if proof == head.snapshot => None,
            Some(_) => Some(Unproven::Outdated(head.snapshot)),
            None => Some(Unproven::Unknown),
        }
    }
}

/// Step 1: index root and base tree.
async fn prepare(
    access: &Access,
    target: &Target,
    head: Option<LogHead>,
    take_over: bool,
) -> Result<Start> {
    let record = head.as_ref().map(|h| &h.record);
    let index_root = base::index_root(access, target.folder.as_ref(), record).await?;
    let head_snapshot = record.and_then(|r| r.head).map(|h| h.snapshot);
    let base_tree = match (&target.tree, record.and_then(|r| r.head)) {
        (Some((_, tree)), _) => Some(Arc::clone(tree)),
        // What can't be read is kept from the head.
        (None, Some(head)) if take_over || target.session.proof.is_some() => {
            let index = base::index(access, target.folder.as_ref(), &index_root).await?;
            let root = base::snapshot_root(access, &head.root, Some(&index)).await?;
            let segments = base::segments(access, &index, &root).await?;
            Some(Arc::new(KnownTree {
                saved_here: false,
                segments,
                keys: Vec::new(),
            }))
        }
        _ => None,
    };
    let is_head_tree =
        head_snapshot.is_some() && target.tree.as_ref().map(|(id, _)| *id) == head_snapshot;
    Ok(Start {
        index_place: record.and_then(|r| r.index),
        head,
        index_root,
        base_tree,
        is_head_tree,
    })
}

struct ScannedTarget {
    planned: Planned,
}

/// Steps 2 to 4, on a thread that may block.
async fn scan_and_plan(
    access: &Arc<Access>,
    target: Target,
    start: &Start,
    options: &SaveOptions,
) -> Result<(Target, ScannedTarget)> {
    access.meter.begin("scan", 0, 0);
    let (access, options, base) = (Arc::clone(access), options.clone(), start.base_tree.clone());
    blocking(move || {
        let threads = Resources::choose(options.threads, options.memory_bytes).threads;
        let planned = plan(&access, &target, base.as_deref(), &options, threads)?;
        Ok((target, ScannedTarget { planned }))
    })
    .await
}

/// Nothing differs from the workspace head: no new snapshot. A comment becomes a record of its own.
async fn unchanged(
    access: &Access,
    target: &mut Target,
    start: &Start,
    planned: &Planned,
    options: &SaveOptions,
) -> Result<SaveReport> {
    let Some(known) = &start.head else {
        return Err(Error::internal("save", "no head"));
    };
    let newest = match target.is_open {
        true => base::newest(access, target.known_head().as_ref()).await?,
        false => None,
    };
    let record = newest.as_ref().map_or(&known.record, |h| &h.record);
    let head = record
        .head
        .ok_or_else(|| Error::internal("save", "no workspace head"))?;
    if Some(head.snapshot) != known.record.head.map(|h| h.snapshot) {
        return Err(Error::new(
            ErrorKind::Fenced,
            "save",
            format!(
                "another writer has saved since (the head is {}); nothing has changed here",
                head.snapshot
            ),
        ));
    }
    if let Some(newest) = &newest {
        target.set_head(&newest.bytes);
    }
    let mut seq = record.seq;
    if let Some(comment) = &options.comment {
        seq = commit_comment(access, target, record, comment).await?;
    }
    target.store_session(&access.inner)?;
    let usage = record.usage;
    let mut report = SaveReport {
        snapshot: head.snapshot.to_hex(),
        seq,
        files_total: usage.files,
        bytes_total: usage.bytes,
        ..SaveReport::default()
    };
    describe_scan(&mut report, planned);
    Ok(report)
}

/// Packs that an unfinished save of this target left in the store, unless a Mark may name them.
async fn load_orphans(
    access: &Access,
    target: &Target,
    head: Option<&LogHead>,
) -> Result<Option<IndexPart>> {
    let Some(folder) = &target.folder else {
        return Ok(None);
    };
    let uploaded = folder.load_uploaded();
    let Some(oldest) = uploaded.iter().map(|(seq, _)| *seq).min() else {
        return Ok(None);
    };
    let newest = head.map_or(0, |h| h.record.seq);
    let is_safe = oldest <= newest
        && (oldest == newest || {
            let since = crate::log::read_from(
                &*access.store,
                access.inner.repository(),
                oldest + 1,
                newest,
            )
            .await;
            since.is_ok_and(|records| {
                records
                    .iter()
                    .all(|r| !matches!(r.kind(), Kind::Mark | Kind::Repack))
            })
        });
    if !is_safe {
        folder.clear_uploaded();
        return Ok(None);
    }
    let mut builder = nbws_core::index::IndexPartBuilder::new();
    for (_, bytes) in uploaded {
        builder.add_part(&IndexPart::decode(bytes)?);
    }
    Ok(Some(builder.finish()))
}

/// Everything that the storing half needs.
struct Stage {
    start: Start,
    planned: Planned,
    index: Index,
    orphans: Option<IndexPart>,
    options: SaveOptions,
    deadline: Deadline,
    intent: Intent,
}

enum Staged {
    /// What was read again is what the head holds: nothing to commit.
    Same(SaveReport),
    Stored(Box<(Stored, NewTree, SaveReport, Start)>),
}

/// Steps 5 to 9, on a thread that may block.
async fn store(access: &Arc<Access>, target: Target, stage: Stage) -> Result<(Target, Staged)> {
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
    let Stage {
        start,
        planned,
        index,
        orphans,
        options,
        deadline,
        intent,
    } = stage;
    let resources = Resources::choose(options.threads, options.memory_bytes);
    let level = zstd_level(options.level, resources.threads);
    let params = chunker_params(access);
    let chunker = Chunker::new(params)?;
    let record = start.head.as_ref().map(|h| &h.record);
    let epoch = record.map_or(1, |r| r.epoch + 1);
    let base_seq = record.map_or(0, |r| r.seq);
    let mut packer = Packer::new(
        access,
        runtime,
        target.folder.clone(),
        (epoch, base_seq),
        resources,
        options.limit_rate,
    )?;
    let fresh = FreshChunks::new();
    if let Some(part) = &orphans {
        packer.adopt(part);
        part.iter().for_each(|(id, _)| {
            fresh.claim(&id);
        });
    }
    let counts = Counts::default();
    let (units, left_out) = planned.order(
        &options,
        u64::from(params.whole),
        u64::from(access.inner.format.frame.target),
    );
    let is_flushed = flush_recent(&target, &planned)?;
    let parts = Parts {
        access,
        root: &target.root,
        planned: &planned,
        chunker: &chunker,
        index: &index,
        fresh: &fresh,
        counts: &counts,
        deadline,
        level,
        is_flushed,
        units: &units,
    };
    begin_progress(access, &planned);
    let outcomes = run_pipeline(parts, &left_out, &mut packer, resources);
    let mut outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // Seal what is there: the next save reuses it.
            let _ = packer.finish();
            return Err(error);
        }
    };
    let numeric_ids = access.inner.format.numeric_ids;
    let mut chunks = TypedChunks::new(&mut packer, &index, &fresh, level)?;
    let base_tree = start.base_tree.as_deref();
    let tree = build_tree(
        &target.root,
        &planned,
        base_tree,
        &mut outcomes,
        numeric_ids,
        &mut chunks,
    )?;
    drop(outcomes);
    let mut report = report_of(&planned, &tree, &counts);
    if let Some(same) = same_as_head(access, &mut target, &start, &intent, &tree)? {
        report.snapshot = same.0.to_hex();
        report.seq = same.1;
        return Ok((target, Staged::Same(report)));
    }
    let description = Description {
        base: target
            .tree
            .as_ref()
            .map(|(id, _)| *id)
            .or(record.and_then(|r| r.head).map(|h| h.snapshot)),
        comment: options.comment.clone(),
        origin: if intent == Intent::Head {
            "save"
        } else {
            "rescue"
        },
        root_mode: target.root.stat_root()?.mode,
        epoch,
        pin_base: intent == Intent::Head && shrank(record, &tree, &mut report),
    };
    let live = (start.index_place, &start.index_root, &index);
    let stored = store_root(access, &target, &mut chunks, &tree, live, &description)?;
    Ok((
        target,
        Staged::Stored(Box::new((stored, tree, report, start))),
    ))
}

fn chunker_params(access: &Access) -> ChunkerParams {
    let spec = &access.inner.format.chunker;
    ChunkerParams {
        average: spec.average,
        minimum: spec.minimum,
        maximum: spec.maximum,
        whole: spec.whole,
    }
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
        for frame in &frame_queue {
            if let Err(error) = packer.push(frame) {
                pipeline.fail(error);
                break;
            }
        }
        drop(frame_queue);
    });
    pipeline.finish()
}

fn describe_scan(report: &mut SaveReport, planned: &Planned) {
    report.files_new = planned.files_new;
    report.files_changed = planned.files_changed;
    report.files_unchanged = planned.files_unchanged;
    report.files_removed = planned.files_removed;
    report.files_opened += planned.scanned.files_opened;
    let scanned = planned.scanned.skipped.iter();
    report.skipped.extend(scanned.map(|s| Skipped {
        path: s.path.clone(),
        reason: s.reason.text().into_owned(),
    }));
    let problems = planned.scanned.problems.iter();
    report.warnings.extend(problems.map(ToString::to_string));
}

fn report_of(planned: &Planned, tree: &NewTree, counts: &Counts) -> SaveReport {
    let mut report = SaveReport {
        partial: tree.is_partial,
        files_total: tree.files,
        files_opened: counts.files_opened.load(Ordering::Relaxed),
        bytes_total: tree.bytes,
        bytes_read: counts.bytes_read.load(Ordering::Relaxed),
        bytes_new: counts.bytes_new.load(Ordering::Relaxed),
        chunks_total: counts.chunks_total.load(Ordering::Relaxed),
        chunks_new: counts.chunks_new.load(Ordering::Relaxed),
        unstable: tree.unstable.clone(),
        stale: tree.stale.clone(),
        omitted: tree.omitted.clone(),
        skipped: tree.skipped.clone(),
        ..SaveReport::default()
    };
    report.warnings.extend(tree.partial_warning());
    describe_scan(&mut report, planned);
    report
}

/// If the new tree is the one that the target held, byte for byte, only the stat keys are news: nothing to commit, unless an
/// older snapshot is to become the head again. Returns the id of the tree and the head's seq.
fn same_as_head(
    access: &Access,
    target: &mut Target,
    start: &Start,
    intent: &Intent,
    tree: &NewTree,
) -> Result<Option<(SnapshotId, u64)>> {
    let is_same = start
        .base_tree
        .as_ref()
        .is_some_and(|base| base.segments == tree.known.segments);
    let (Some(head), Some((base, _)), true) = (&start.head, &target.tree, is_same) else {
        return Ok(None);
    };
    // Work that is kept beside the head is only worth it if it differs from what the target was given.
    if !start.is_head_tree && *intent == Intent::Head {
        return Ok(None);
    }
    let (snapshot, seq) = (*base, head.record.seq);
    target.store_tree(&access.inner, snapshot, tree.known.clone())?;
    Ok(Some((snapshot, seq)))
}

/// Whether more than half of the files or bytes went since the head, in which case the head is worth keeping.
fn shrank(record: Option<&Record>, tree: &NewTree, report: &mut SaveReport) -> bool {
    let Some(before) = record.filter(|r| r.head.is_some()).map(|r| r.usage) else {
        return false;
    };
    let is_less = tree.files < before.files / 2 || tree.bytes < before.bytes / 2;
    if is_less {
        report.warnings.push(format!(
            "more than half is gone since the last save ({} of {} files, {} of {} bytes are left); that snapshot is kept for 30 days",
            tree.files, before.files, tree.bytes, before.bytes
        ));
    }
    is_less
}

/// Writes local state after the acknowledgement, and turns an unwished rescue into the error that names it.
#[allow(clippy::too_many_arguments)]
fn settle(
    access: &Access,
    target: &mut Target,
    stored: &Stored,
    tree: NewTree,
    mut report: SaveReport,
    seq: u64,
    wished: &Intent,
    reached: &Intent,
) -> Result<SaveReport> {
    report.snapshot = stored.snapshot.to_hex();
    report.seq = seq;
    if let Some(folder) = &target.folder {
        folder.clear_uploaded();
    }
    let Intent::Rescue(reason) = reached else {
        target.session.proof = Some(stored.snapshot);
        target.session.proof_root = Some(stored.tree_root);
        target.session.synced = false;
        if let Err(error) = target.store_tree(&access.inner, stored.snapshot, tree.known) {
            target.notices.push(format!(
                "local state can't be written ({error}); the next save reads every file"
            ));
        }
        return Ok(report);
    };
    target.store_session(&access.inner)?;
    if wished != &Intent::Head {
        report.rescue = Some(report.snapshot.clone());
        return Ok(report);
    }
    let kind = if target.session.proof.is_some() {
        ErrorKind::Fenced
    } else {
        ErrorKind::InvalidState
    };
    Err(Error::new(
        kind,
        "save",
        format!(
            "{reason}; nothing is lost: this directory is kept as rescue {}. Restore the head first, or save with take_over",
            report.snapshot
        ),
    )
    .with_rescue(report.snapshot))
}
