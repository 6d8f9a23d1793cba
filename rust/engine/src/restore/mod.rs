//! Restore: a directory comes to hold a snapshot. Reads from top to bottom like the list in `docs/architecture.md`.

mod compare;
mod disk;
mod fetch;
mod finish;
mod plan;
mod proof;
mod source;
mod verify;
mod wanted;
mod write;

use crate::base;
use crate::budget::Resources;
use crate::clock::Stopwatch;
use crate::local::Root;
use crate::local::Unapplied;
use crate::local::{ScanOptions, scan};
use crate::log::LogHead;
use crate::options::{RestoreOptions, SaveOptions};
use crate::report::{RestoreReport, Skipped};
use crate::resolve::resolve;
use crate::save::{Intent, blocking, lock, run};
use crate::session::Target;
use crate::stored_chunks;
use crate::workspace::Access;
use fetch::write_all;
use finish::{Finish, make_directories};
use nbws_core::Result;
use nbws_core::filter::Rules;
use nbws_core::index::Index;
use nbws_core::plan::restore::{Needs, RangeLimits};
use plan::{Inputs, RestorePlan, count_written, plan};
use proof::{begin, end, give_up_proof, may_delete};
use source::{Source, check_source, load_source};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use verify::file_holds;
use write::{STAGING, Writing, Written, without_chunks};

/// Ranges of a restore: a few frames a request, and small gaps read for nothing.
const RANGES: RangeLimits = RangeLimits {
    range_bytes: 4 << 20,
    gap_bytes: 128 << 10,
};

/// One tick of the coarsest clock that stamps files: later changes get another ctime than what was restored.
const TICK: Duration = Duration::from_millis(10);

/// Makes `directory` hold the snapshot that `options` name.
pub(crate) async fn restore(
    access: Access,
    directory: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    let watch = Stopwatch::start();
    let access = Arc::new(access);
    let (mut newest, unread) = base::newest_readable(&access).await?;
    let mut resolved = resolve(&access, newest.as_ref(), &options.snapshot).await?;
    let mut target = open_target(&access, directory).await?;
    let seq = |head: &Option<LogHead>| head.as_ref().map(|head| head.record.seq);
    // Whoever held the lock before may have saved meanwhile.
    if target.settle_pending(&access).await? || seq(&target.known_head()) > seq(&newest) {
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
    report.warnings.extend(unread.iter().map(|e| {
        format!("{e}; what was restored is the newest state that could be read, and may not be the newest")
    }));
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
    let options = SaveOptions {
        exclude: target.session.exclude.clone(),
        cachedir_tag: target.session.cachedir_tag,
        ..SaveOptions::default()
    };
    let (target, report) = run(access, target, options, intent).await?;
    Ok((target, report.rescue))
}

/// How the disk is changed.
#[derive(Clone, Copy)]
struct Mode {
    /// New files are written beside the tree first.
    is_staged: bool,
    /// Only some paths were asked for: what is proven of the target stays as it was.
    is_part: bool,
    numeric_ids: bool,
    deletes: bool,
    threads: usize,
}

/// Steps 2 to 7. Blocks.
fn apply(
    access: &Access,
    mut target: Target,
    source: Source,
    options: &RestoreOptions,
    runtime: &tokio::runtime::Handle,
) -> Result<RestoreReport> {
    let (mut plan, mode) = look(access, &target, &source, options)?;
    let mut report = RestoreReport {
        snapshot: source.resolved.head.snapshot.to_hex(),
        tree_root: source.root.tree_root.to_hex(),
        files_kept: plan.files_kept,
        files_written: count_written(&plan.wanted),
        warnings: std::mem::take(&mut plan.warnings),
        ..RestoreReport::default()
    };
    begin(access, &mut target, &source, mode)?;
    let prepared = prepare(access, &mut target, &source, &mut plan, (mode, runtime));
    if prepared.is_err() && mode.is_staged {
        // The old tree is what it was; what was written beside it only takes room.
        let _ = target.root.remove_tree(STAGING);
    }
    let (written, skipped) = prepared?;
    report.bytes_written = written.bytes_written;
    report.warnings.extend(unapplied(&plan, &written.unapplied));
    let mut finish = finish(&target.root, &mut plan, mode);
    finish.skipped = skipped;
    finish.put_in_place()?;
    report.files_removed = finish.removed;
    report.files_written -= finish.skipped.len() as u64;
    report.skipped.append(&mut finish.skipped);
    report.skipped.extend(hidden(&plan));
    if options.verify {
        let verified = verify::verify(
            &target.root,
            &source.segments,
            &source.lists,
            &plan.wanted,
            &plan.zero,
        )?;
        let reason = "what was read back is not what was written";
        let skipped = verified.damaged.into_iter().map(|path| Skipped {
            path,
            reason: reason.to_owned(),
        });
        report.skipped.extend(skipped);
        if verified.closed > 0 {
            let text = "files could not be read again: their modes forbid it";
            report.warnings.push(format!("{} {text}", verified.closed));
        }
    }
    report.complete = report.skipped.is_empty();
    end(access, &mut target, source, plan, &mut report, mode)?;
    report.warnings.append(&mut target.notices);
    Ok(report)
}

/// Everything of a restore that can run out of room or be given up: an existing tree is not touched by it. Returns what was
/// written, and what could not be.
fn prepare(
    access: &Access,
    target: &mut Target,
    source: &Source,
    plan: &mut RestorePlan,
    (mode, runtime): (Mode, &tokio::runtime::Handle),
) -> Result<(Written, Vec<Skipped>)> {
    let mut written = write(access, target, plan, mode, runtime)?;
    let mut finish = finish(&target.root, plan, mode);
    finish.complete_files(std::mem::take(&mut written.failed))?;
    let skipped = finish.skipped;
    if mode.is_staged {
        access.cancel.check()?;
        if !mode.is_part {
            give_up_proof(access, target, source, mode.deletes)?;
        }
    }
    Ok((written, skipped))
}

fn finish<'a>(root: &'a Root, plan: &'a mut RestorePlan, mode: Mode) -> Finish<'a> {
    Finish {
        root,
        plan,
        is_staged: mode.is_staged,
        numeric_ids: mode.numeric_ids,
        deletes: mode.deletes,
        removed: 0,
        skipped: Vec::new(),
    }
}

/// What lies below a mount can't be restored, and what is there is nobody's business.
fn hidden(plan: &RestorePlan) -> impl Iterator<Item = Skipped> + '_ {
    plan.hidden.iter().map(|path| Skipped {
        path: path.clone(),
        reason: "another file system is mounted there".to_owned(),
    })
}

/// Steps 2 and 3: what is on disk, what is wanted, and whether it may be done. Changes nothing.
fn look(
    access: &Access,
    target: &Target,
    source: &Source,
    options: &RestoreOptions,
) -> Result<(RestorePlan, Mode)> {
    let threads = Resources::choose(options.threads, options.memory_bytes).threads;
    let rules = Rules::new(&target.session.exclude, target.session.cachedir_tag)?;
    let scan_options = ScanOptions {
        rules: &rules,
        threads,
        cancel: &access.cancel,
    };
    let scanned = scan(&target.root, &scan_options)?;
    let is_empty = scanned.is_empty() && scanned.skipped.is_empty() && scanned.excluded.is_empty();
    access.meter.begin("plan", 0, 0);
    let numeric_ids = options.numeric_ids || access.inner.format.numeric_ids;
    let paths = options.paths.as_deref();
    let mut plan = plan(&Inputs {
        snapshot: &source.root,
        access,
        root: &target.root,
        scanned: &scanned,
        known: target.tree.as_ref().map(|(_, tree)| &**tree),
        segments: &source.segments,
        lists: &source.lists,
        index: &source.index,
        paths,
        numeric_ids,
    })?;
    check_source(source, &plan, paths)?;
    let problems = scanned.problems.iter().map(ToString::to_string);
    plan.warnings.extend(problems);
    let damage = source.damage.iter().map(ToString::to_string);
    plan.warnings.extend(damage);
    let mode = Mode {
        // A part leaves no marker behind, so no file of it may be seen half written.
        is_staged: !is_empty || paths.is_some(),
        is_part: paths.is_some(),
        numeric_ids,
        deletes: may_delete(target, options, &scanned, &plan)?,
        threads,
    };
    Ok((plan, mode))
}

/// Steps 4 to 6: fetches, verifies and writes every file.
fn write(
    access: &Access,
    target: &Target,
    plan: &mut RestorePlan,
    mode: Mode,
    runtime: &tokio::runtime::Handle,
) -> Result<Written> {
    let mut needs = std::mem::replace(&mut plan.needs, Needs::new(&Index::default()));
    let local = std::mem::take(&mut plan.local);
    let files = count_written(&plan.wanted);
    access.meter.begin("restore", files, plan.bytes_to_write);
    let flags = (mode.is_staged, mode.numeric_ids);
    let keys = std::mem::take(&mut plan.keys);
    let pieces = (needs.list(), &local[..]);
    let writing = Writing::new(access, &target.root, &plan.wanted, flags, pieces, keys);
    for (item, why) in std::mem::take(&mut plan.lost) {
        writing.fail_item(item, why.to_string());
    }
    if !mode.is_staged {
        make_directories(&writing)?;
    }
    let rest = without_chunks(&plan.wanted, needs.list(), &local);
    for missed in writing.copy_local(&local)? {
        let run = &missed.run;
        if needs
            .push(&run.id, missed.item, missed.to, run.count)
            .is_none()
        {
            return Err(stored_chunks::missing_chunk(&run.id));
        }
    }
    let fetches = needs.plan(RANGES);
    write_all(&writing, runtime, mode.threads, (&fetches, &needs), &rest);
    let mut written = writing.into_written()?;
    plan.keys = std::mem::take(&mut written.keys);
    Ok(written)
}

/// One sentence for each piece of metadata that could not be set.
fn unapplied(plan: &RestorePlan, all: &[(u32, Vec<Unapplied>)]) -> Vec<String> {
    let mut out = Vec::new();
    for (number, unapplied) in all {
        let path = nbws_core::error::display_path(plan.wanted.path(*number));
        let text = |u: &Unapplied| format!("{path}: {} could not be set: {}", u.what, u.reason);
        out.extend(unapplied.iter().map(text));
    }
    out
}
