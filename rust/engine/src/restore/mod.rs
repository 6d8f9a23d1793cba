//! Restore: a directory comes to hold a snapshot. Reads from top to bottom like the list in `docs/architecture.md`.

mod finish;
mod plan;
mod verify;
mod wanted;
mod write;

use crate::base;
use crate::budget::Resources;
use crate::clock::Stopwatch;
use crate::local::Root;
use crate::local::cache::KnownTree;
use crate::local::{ScanOptions, Scanned, scan};
use crate::log::LogHead;
use crate::options::{Delete, RestoreOptions, SaveOptions};
use crate::report::{RestoreReport, Skipped};
use crate::resolve::{Resolved, resolve};
use crate::save::{Intent, blocking, lock, run};
use crate::session::Target;
use crate::workspace::Access;
use finish::{Finish, make_directories};
use nbws_core::filter::Rules;
use nbws_core::id::{ChunkId, SnapshotId};
use nbws_core::index::Index;
use nbws_core::plan::restore::{Need, RangeLimits, plan_fetches};
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::{Error, ErrorKind, Result, path};
use plan::{Inputs, RestorePlan, count_written, list_ids, plan};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use write::{STAGING, Writing, without_chunks, write_all};

/// Ranges of a restore: a few frames a request, and small gaps read for nothing.
const RANGES: RangeLimits = RangeLimits {
    range_bytes: 4 << 20,
    gap_bytes: 128 << 10,
};
/// One tick of the coarsest clock that stamps files: later changes get another ctime than what was restored.
const TICK: Duration = Duration::from_millis(10);

/// Everything about the snapshot to restore.
struct Source {
    resolved: Resolved,
    /// The workspace head at this time, and its tree root.
    head: SnapshotId,
    root: SnapshotRoot,
    index: Index,
    segments: Vec<Vec<u8>>,
    lists: HashMap<ChunkId, Vec<u8>>,
}

/// Makes `directory` hold the snapshot that `options` name.
pub(crate) async fn restore(
    access: Access,
    directory: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    let watch = Stopwatch::start();
    let access = Arc::new(access);
    let mut newest = base::newest(&access, None).await?;
    let mut resolved = resolve(&access, newest.as_ref(), &options.snapshot).await?;
    let mut target = open_target(&access, directory).await?;
    if target.settle_pending(&access).await? {
        newest = base::newest(&access, target.known_head().as_ref()).await?;
        resolved = resolve(&access, newest.as_ref(), &options.snapshot).await?;
    }
    let mut rescue = None;
    if !options.discard_changes {
        (target, rescue) = keep_local_work(&access, target).await?;
    }
    let source = load_source(&access, &mut target, resolved, newest).await?;
    let (stage_access, runtime) = (Arc::clone(&access), tokio::runtime::Handle::current());
    let mut report =
        blocking(move || apply(&stage_access, target, source, &options, &runtime)).await?;
    let totals = access.totals();
    report.bytes_downloaded = totals.bytes_down;
    report.requests = totals.into();
    report.rescue = rescue;
    report.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    Ok(report)
}

async fn open_target(access: &Arc<Access>, directory: &Path) -> Result<Target> {
    let path = directory.to_path_buf();
    blocking(move || Root::create(&path).map(drop)).await?;
    lock(access, directory).await
}

/// Work in the target that was never saved is kept as a rescue before anything is replaced.
async fn keep_local_work(access: &Arc<Access>, target: Target) -> Result<(Target, Option<String>)> {
    // A half-restored tree is nobody's work; it is resumed.
    if target.tree.is_none() || target.is_half_restored {
        return Ok((target, None));
    }
    let intent = Intent::Rescue("unsaved local work found by a restore".to_owned());
    let (target, report) = run(access, target, SaveOptions::default(), intent).await?;
    Ok((target, report.rescue))
}

/// Step 1: snapshot root, index, tree. `chosen` is the record by which the snapshot was chosen. Only its head counts as
/// restored: one that somebody else made meanwhile does not. The store is asked again only if something newer is known here.
async fn load_source(
    access: &Access,
    target: &mut Target,
    resolved: Resolved,
    chosen: Option<LogHead>,
) -> Result<Source> {
    let head = chosen
        .as_ref()
        .and_then(|chosen| chosen.record.head)
        .ok_or_else(|| Error::internal("restore", "the workspace head is gone"))?;
    let seq = |head: &Option<LogHead>| head.as_ref().map(|head| head.record.seq);
    let known = target.known_head();
    let newest = if seq(&known) > seq(&chosen) {
        base::newest(access, known.as_ref()).await?
    } else {
        chosen
    };
    if let Some(newest) = &newest {
        target.set_head(&newest.bytes);
    }
    let record = newest.as_ref().map(|newest| &newest.record);
    let index_root = base::index_root(access, target.folder.as_ref(), record).await?;
    let index = base::index(access, target.folder.as_ref(), &index_root).await?;
    let root = base::snapshot_root(access, &resolved.head.root, Some(&index)).await?;
    let segments = base::segments(access, &index, &root).await?;
    let ids = list_ids(&segments)?;
    let lists = ids
        .iter()
        .copied()
        .zip(base::chunks(access, &index, &ids).await?)
        .collect();
    Ok(Source {
        resolved,
        head: head.snapshot,
        root,
        index,
        segments,
        lists,
    })
}

/// Steps 2 to 7. Blocks.
fn apply(
    access: &Access,
    mut target: Target,
    source: Source,
    options: &RestoreOptions,
    runtime: &tokio::runtime::Handle,
) -> Result<RestoreReport> {
    let resources = Resources::choose(options.threads, options.memory_bytes);
    let rules = Rules::new(&[], false)?;
    let threads = resources.threads;
    let scanned = scan(
        &target.root,
        &ScanOptions {
            rules: &rules,
            threads,
            cancel: &access.cancel,
        },
    )?;
    let is_empty = scanned.len() == 0 && scanned.skipped.is_empty() && scanned.excluded.is_empty();
    access.meter.begin("plan", 0, 0);
    let known = target.tree.as_ref().map(|(_, tree)| Arc::clone(tree));
    let numeric_ids = options.numeric_ids || access.inner.format.numeric_ids;
    let paths = options.paths.as_deref();
    let mut plan = plan(&Inputs {
        access,
        root: &target.root,
        scanned: &scanned,
        known: known.as_deref(),
        segments: &source.segments,
        lists: &source.lists,
        index: &source.index,
        paths,
        numeric_ids,
    })?;
    check_source(&source, &plan, paths)?;
    let deletes = may_delete(&target, options, &scanned, &plan)?;
    drop(scanned);
    let is_staged = !is_empty;
    let mut report = RestoreReport {
        snapshot: source.resolved.head.snapshot.to_hex(),
        tree_root: plan.tree_root.to_hex(),
        files_kept: plan.files_kept,
        files_written: count_written(&plan.wanted),
        warnings: target.notices.clone(),
        ..RestoreReport::default()
    };
    begin(
        access,
        &mut target,
        is_staged,
        is_empty && paths.is_none(),
        &source,
        numeric_ids,
    )?;
    let mode = Mode {
        is_staged,
        numeric_ids,
        deletes,
        threads,
    };
    write(
        access,
        &target,
        &source.index,
        &mut plan,
        &mut report,
        mode,
        runtime,
    )?;
    if options.verify {
        for path in verify::damaged(&target.root, &source.segments, &source.lists, &plan.wanted)? {
            report.skipped.push(Skipped {
                path,
                reason: "what was read back is not what was written".to_owned(),
            });
        }
    }
    report.complete = report.skipped.is_empty();
    end(
        access,
        &mut target,
        source,
        plan,
        &mut report,
        paths.is_some(),
    )?;
    Ok(report)
}

#[derive(Clone, Copy)]
struct Mode {
    is_staged: bool,
    numeric_ids: bool,
    deletes: bool,
    threads: usize,
}

/// The tree must be the one that was saved, and what was asked for must be in it.
fn check_source(source: &Source, plan: &RestorePlan, paths: Option<&[Vec<u8>]>) -> Result<()> {
    let snapshot = source.resolved.head.snapshot;
    if plan.tree_root != source.root.tree_root || source.root.snapshot != snapshot {
        return Err(
            Error::corrupt("restore", "the tree is not the one that was saved")
                .at(snapshot.to_hex()),
        );
    }
    for wanted in paths.unwrap_or_default() {
        if !wanted.is_empty() && !plan.wanted.contains(wanted) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "restore",
                "the snapshot has no such path",
            )
            .at_path(wanted));
        }
    }
    Ok(())
}

/// Whether extra paths are removed. A target that is not known to come from here is not touched without being told to.
fn may_delete(
    target: &Target,
    options: &RestoreOptions,
    scanned: &Scanned,
    plan: &RestorePlan,
) -> Result<bool> {
    let is_ours = target.session.base.is_some() && target.tree.is_some() || target.is_half_restored;
    match options.delete {
        Delete::Yes => Ok(true),
        Delete::No => Ok(false),
        Delete::Auto if is_ours || scanned.len() == 0 => Ok(true),
        Delete::Auto if plan.extra.is_empty() && plan.differing == 0 => Ok(true),
        Delete::Auto => Err(Error::new(
            ErrorKind::InvalidInput,
            "restore",
            format!(
                "the directory holds {} paths that the snapshot does not have and {} that differ, and nothing says that \
                 they come from this repository; say delete=True (--delete yes) to replace them or delete=False \
                 (--delete no) to keep extra ones",
                plan.extra.len(),
                plan.differing
            ),
        )
        .at_path(target.path.as_os_str().as_bytes())),
    }
}

/// From here on the target is half restored, and no save can make it the head.
fn begin(
    access: &Access,
    target: &mut Target,
    is_staged: bool,
    sets_root: bool,
    source: &Source,
    numeric_ids: bool,
) -> Result<()> {
    target.session.proof = None;
    if let Err(error) = target.store_session(&access.inner) {
        target.notices.push(format!(
            "local state can't be written ({error}); the next save reads every file"
        ));
        target.folder = None;
    }
    if !target.is_half_restored {
        let marker = target.root.create_file(path::RESTORING)?;
        marker.write_at(0, source.resolved.head.snapshot.to_hex().as_bytes())?;
    }
    if is_staged {
        target.root.remove_tree(STAGING)?;
        target.root.make_directory(STAGING)?;
    }
    if sets_root {
        target.root.set_root_mode(finish::mode_to_set(
            source.root.root_mode,
            true,
            numeric_ids,
        ))?;
    }
    Ok(())
}

/// Steps 4 to 7: everything that changes the disk.
fn write(
    access: &Access,
    target: &Target,
    index: &Index,
    plan: &mut RestorePlan,
    report: &mut RestoreReport,
    mode: Mode,
    runtime: &tokio::runtime::Handle,
) -> Result<()> {
    let mut needs = std::mem::take(&mut plan.needs);
    let local = std::mem::take(&mut plan.local);
    access
        .meter
        .begin("restore", report.files_written, plan.bytes_to_write);
    let flags = (mode.is_staged, mode.numeric_ids);
    let writing = Writing::new(access, &target.root, &plan.wanted, flags, &needs, &local);
    for (item, why) in std::mem::take(&mut plan.lost) {
        writing.fail_item(item, why.to_string());
    }
    if !mode.is_staged {
        make_directories(&writing)?;
    }
    let rest = without_chunks(&plan.wanted, &needs, &local);
    for missed in writing.copy_local(&local)? {
        let location = index
            .lookup(&missed.run.id)
            .ok_or_else(|| base::missing_chunk(&missed.run.id))?;
        needs.push(Need {
            id: missed.run.id,
            location,
            file: missed.item,
            file_offset: missed.to,
            count: missed.run.count,
        });
    }
    let fetches = plan_fetches(&mut needs, RANGES);
    write_all(&writing, runtime, mode.threads, (&fetches, &needs), &rest);
    let written = writing.into_written()?;
    for (ordinal, key) in written.keys {
        plan.keys[ordinal as usize] = key;
    }
    report.bytes_written = written.bytes_written;
    for (number, unapplied) in written.unapplied {
        for what in unapplied {
            let text = format!("{} could not be set: {}", what.what, what.reason);
            report.warnings.push(format!(
                "{}: {text}",
                nbws_core::error::display_path(plan.wanted.path(number))
            ));
        }
    }
    let mut finish = Finish {
        access,
        root: &target.root,
        plan,
        is_staged: mode.is_staged,
        numeric_ids: mode.numeric_ids,
        deletes: mode.deletes,
        failed: written.failed,
        removed: 0,
        skipped: Vec::new(),
    };
    finish.run()?;
    report.files_removed = finish.removed;
    report.files_written -= finish.skipped.len() as u64;
    report.skipped.extend(
        std::mem::take(&mut finish.skipped)
            .into_iter()
            .map(|(path, reason)| Skipped { path, reason }),
    );
    Ok(())
}

/// What the next save relies on. A whole restore is the proof that the target holds the workspace head.
fn end(
    access: &Access,
    target: &mut Target,
    source: Source,
    plan: RestorePlan,
    report: &mut RestoreReport,
    is_part: bool,
) -> Result<()> {
    if !report.complete {
        report.warnings.push("the restore is incomplete; until it is repeated, saves of this directory become rescues".to_owned());
        return Ok(());
    }
    std::thread::sleep(TICK);
    target.root.sync_file_system()?;
    if is_part {
        target.root.remove_file(path::RESTORING)?;
        return Ok(());
    }
    target.session.proof = Some(source.head);
    target.session.synced = true;
    let known = KnownTree {
        saved_here: false,
        segments: source.segments,
        keys: plan.keys,
    };
    target.is_half_restored = false;
    if let Err(error) = target.store_tree(&access.inner, source.resolved.head.snapshot, known) {
        report.warnings.push(format!(
            "local state can't be written ({error}); the next save reads every file"
        ));
    }
    target.root.remove_file(path::RESTORING)
}
