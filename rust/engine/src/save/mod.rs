//! Save: the target's tree becomes a snapshot. Reads from top to bottom like the list in `docs/architecture.md`.

mod chunks;
mod commit;
mod cut;
mod encode;
mod lost;
mod orphans;
mod pace;
mod pack;
mod pipeline;
mod plan;
mod quota;
mod read;
mod report;
mod reread;
mod rescued;
mod root;
mod stage;
mod tree;
mod tree_writer;
mod unchanged;
mod upload;

pub(crate) use commit::Intent;
pub(crate) use pack::new_pack;
pub(crate) use plan::{entries, seen};
pub(crate) use quota::is_over_hard;

use crate::base;
use crate::budget::Resources;
use crate::clock::{Deadline, Stopwatch};
use crate::directories::is_damage;
use crate::local::cache::KnownTree;
use crate::log::LogHead;
use crate::options::{Level, SaveOptions};
use crate::report::SaveReport;
use crate::session::Target;
use crate::settings::{check_writers, may_append};
use crate::stored_tree;
use crate::workspace::Access;
use commit::{Committed, commit};
use lost::distrust_lost;
use nbws_core::index::IndexRoot;
use nbws_core::limits::MAX_COMMENT_BYTES;
use nbws_core::record::Place;
use nbws_core::{Error, ErrorKind, Result};
use orphans::load_orphans;
use plan::{Planned, plan};
use report::finish_report;
use rescued::rescued_before;
use stage::{Stage, Staged, Work, store};
use std::path::Path;
use std::sync::Arc;
use unchanged::{nothing_to_rescue, unchanged};

/// A save that keeps losing to prune gives up after so many plans.
const MAX_PLANS: u32 = 8;

/// Saves `directory` as the workspace head.
pub(crate) async fn save(
    access: Access,
    directory: &Path,
    options: SaveOptions,
) -> Result<SaveReport> {
    check_options(&access, &options)?;
    let (access, mut is_trusted) = (Arc::new(access), true);
    loop {
        let mut target = lock(&access, directory).await?;
        target.session.exclude.clone_from(&options.exclude);
        target.session.cachedir_tag = options.cachedir_tag;
        target.is_open &= is_trusted;
        let is_open = target.is_open;
        match run(&access, target, options.clone(), Intent::Head).await {
            // What an open writer knows may be so old that prune has deleted what it names: once more, by what is there now.
            Err(error) if is_open && is_damage(&error) => is_trusted = false,
            outcome => return outcome.map(|(_, report)| report),
        }
    }
}

pub(crate) fn check_options(access: &Access, options: &SaveOptions) -> Result<()> {
    access.inner.check_writable()?;
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

/// How one pass over the list ended.
enum Pass {
    Finished(Box<SaveReport>),
    /// Chunks that the work relies on may be doomed: once more, on the newest index.
    Again(Box<LogHead>, Intent),
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
    access.inner.check_writable()?;
    may_append(access, &target).await?;
    target.settle_pending(access).await?;
    let mut head = base::newest_for_save(access, &mut target).await?;
    let newest = head.as_ref().map(|h| &h.record);
    check_writers(access, target.folder.as_ref(), newest).await?;
    let fenced = match options.in_session {
        true => target.not_in_session(newest),
        false => None,
    };
    if fenced.is_none() {
        target.check_may_write(newest, options.take_over)?;
    }
    let is_fenced = fenced.is_some();
    let unproven = fenced.or_else(|| target.unproven(newest, options.take_over));
    let mut order = Order {
        intent: match (&wished, unproven) {
            (Intent::Head, Some(why)) => Intent::Rescue(why),
            _ => wished.clone(),
        },
        wished,
        options,
        deadline,
        is_fenced,
    };
    for _ in 0..MAX_PLANS {
        let (returned, pass) = pass(access, target, head, &order).await?;
        target = returned;
        match pass {
            Pass::Finished(report) => {
                let report = finish_report(access, &target.notices, *report, watch);
                return Ok((target, report));
            }
            Pass::Again(newest, intent) => (head, order.intent) = (Some(*newest), intent),
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "save",
        "prune kept moving the packs that this save relies on; try again",
    ))
}

/// What was asked for, and what can be had.
pub(crate) struct Order {
    wished: Intent,
    intent: Intent,
    options: SaveOptions,
    deadline: Deadline,
    /// The session of the target has ended: a rescue is an error that says so.
    is_fenced: bool,
}

/// Steps 1 to 10, once.
async fn pass(
    access: &Arc<Access>,
    target: Target,
    head: Option<LogHead>,
    order: &Order,
) -> Result<(Target, Pass)> {
    let start = prepare(access, &target, head, order.options.take_over).await?;
    let (mut target, planned) = scan_and_plan(access, target, &start, &order.options).await?;
    if order.intent == Intent::Head && !planned.is_changed && start.is_head_tree {
        let report = unchanged(access, &mut target, &start, &planned, &order.options).await?;
        return Ok((target, Pass::Finished(Box::new(report))));
    }
    if let (Intent::Rescue(_), false, Some((held, _))) =
        (&order.intent, planned.is_changed, &target.tree)
    {
        if order.is_fenced {
            return Err(fenced(&order.intent));
        }
        let report = nothing_to_rescue(*held, &start, &planned);
        return Ok((target, Pass::Finished(Box::new(report))));
    }
    if let (Intent::Head, Intent::Rescue(why)) = (&order.wished, &order.intent)
        && target.session.proof.is_none()
        && planned.scanned.is_empty()
    {
        return Err(nothing_to_keep(why));
    }
    let index = base::index(access, target.folder.as_ref(), &start.index_root).await?;
    let orphans = load_orphans(access, &target, start.head.as_ref()).await?;
    let stage = Stage {
        start,
        planned,
        index,
        orphans,
        options: order.options.clone(),
        deadline: order.deadline,
        intent: order.intent.clone(),
    };
    let (mut target, staged) = store(access, target, stage).await?;
    let mut work = match staged {
        Staged::Same(report) => return Ok((target, Pass::Finished(report))),
        Staged::Stored(work) => work,
    };
    access.meter.begin("commit", 0, 0);
    access.cancel.check()?;
    let head = work.start.head.take();
    let intent = order.intent.clone();
    if let Intent::Rescue(_) = intent
        && let Some((rescue, seq)) = rescued_before(access, head.as_ref(), &work.stored).await?
    {
        work.stored.snapshot = rescue;
        let report = settle(access, &mut target, *work, seq, (order, &intent))?;
        return Ok((target, Pass::Finished(Box::new(report))));
    }
    match commit(access, &mut target, head, &mut work.stored, intent).await? {
        Committed::Replan { newest, intent } => Ok((target, Pass::Again(newest, intent))),
        Committed::Done { seq, intent } => {
            let report = settle(access, &mut target, *work, seq, (order, &intent))?;
            Ok((target, Pass::Finished(Box::new(report))))
        }
    }
}

/// The session has ended, and there is nothing that it had not saved.
fn fenced(intent: &Intent) -> Error {
    let why = match intent {
        Intent::Rescue(why) => why,
        Intent::Head => "the session has ended",
    };
    let text = format!("{why}; everything here had been saved before");
    Error::new(ErrorKind::Fenced, "save", text)
}

/// The refusal of an empty directory: a rescue of it would hold nothing.
fn nothing_to_keep(why: &str) -> Error {
    let text = format!(
        "{why}; it is empty, so nothing was kept. Restore the head first, or save with take_over"
    );
    Error::new(ErrorKind::InvalidState, "save", text)
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
            let root = stored_tree::snapshot_root(access, &head.root, Some(&index)).await?;
            let segments = stored_tree::segments(access, &index, &root, None).await?;
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
    let base_tree = match base_tree {
        Some(tree) if !is_head_tree && !tree.keys.is_empty() => {
            let index = base::index(access, target.folder.as_ref(), &index_root).await?;
            Some(distrust_lost(access, index, tree).await?)
        }
        tree => tree,
    };
    Ok(Start {
        index_place: record.and_then(|r| r.index),
        head,
        index_root,
        base_tree,
        is_head_tree,
    })
}

/// Steps 2 to 4, on a thread that may block.
async fn scan_and_plan(
    access: &Arc<Access>,
    target: Target,
    start: &Start,
    options: &SaveOptions,
) -> Result<(Target, Planned)> {
    access.meter.begin("scan", 0, 0);
    let (access, options, base) = (Arc::clone(access), options.clone(), start.base_tree.clone());
    blocking(move || {
        let threads = Resources::choose(options.threads, options.memory_bytes).threads;
        let planned = plan(&access, &target, base.as_deref(), &options, threads)?;
        Ok((target, planned))
    })
    .await
}

/// Steps 1 to 4 alone, for an estimate.
pub(crate) async fn plan_for_preview(
    access: &Arc<Access>,
    target: Target,
    head: Option<LogHead>,
    options: &SaveOptions,
) -> Result<Planned> {
    let start = prepare(access, &target, head, options.take_over).await?;
    let (_, planned) = scan_and_plan(access, target, &start, options).await?;
    Ok(planned)
}

/// Writes local state after the acknowledgement, and turns an unwished rescue into the error that names it.
fn settle(
    access: &Access,
    target: &mut Target,
    work: Work,
    seq: u64,
    (order, reached): (&Order, &Intent),
) -> Result<SaveReport> {
    let Work {
        stored,
        tree,
        mut report,
        ..
    } = work;
    report.snapshot = stored.snapshot.to_hex();
    report.seq = seq;
    if let Some(folder) = &target.folder {
        folder.clear_uploaded();
    }
    let Intent::Rescue(reason) = reached else {
        target.session.proof = Some(stored.snapshot);
        target.session.synced = false;
        target.forget_restore();
        target.store_tree_or_go_on(&access.inner, stored.snapshot, tree.known);
        return Ok(report);
    };
    target.store_session_or_go_on(&access.inner);
    if order.wished != Intent::Head {
        report.rescue = Some(report.snapshot.clone());
        return Ok(report);
    }
    let kind = match target.session.proof {
        None if !order.is_fenced => ErrorKind::InvalidState,
        _ => ErrorKind::Fenced,
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
