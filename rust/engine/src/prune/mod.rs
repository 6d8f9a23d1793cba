//! Prune: snapshots that the rules give up are forgotten, and what nothing needs any more is deleted, in two phases.
//!
//! Every step is one record, decided by a survey of the log up to the slot right before it; whoever loses the slot surveys again.
//! So it does not matter who prunes or saves at the same time, nor where an earlier prune stopped (`docs/consistency.md`, section 4).

mod cancel;
mod keep;
mod log_end;
mod mark;
mod meta;
mod plan;
mod record;
mod repack;
mod report;
mod survey;
mod sweep;
mod trees;

pub(crate) use cancel::cancel;
pub(crate) use meta::write_meta;
pub use report::{ForgottenSnapshot, PinnedSnapshot, PruneReport, WaitingMark};

use crate::clock::Stopwatch;
use crate::options::PruneOptions;
use crate::workspace::Access;
use nbws_core::ledger::Log;
use nbws_core::{Error, ErrorKind, Result};
use plan::{Plan, plan};
use repack::Copied;
use std::time::Duration;
use survey::{Survey, survey};
use trees::Trees;

const PRUNE: &str = "prune";
/// The grace unless somebody says otherwise.
const GRACE: Duration = Duration::from_secs(24 * 3_600);
/// Readers in flight need at least this.
const LEAST_GRACE: Duration = Duration::from_secs(3_600);
/// Where only an external lock keeps writers apart, a write of a dead one may land late.
const EXCLUSIVE_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A prune that keeps losing its slots gives up after so many surveys.
const MAX_SURVEYS: u32 = 64;

/// What a prune says that had no room for copies.
const FULL: &str = "the store is full: mostly dead packs stay until there is room for copies of what is needed of them";

/// What one run remembers between its surveys.
struct Run<'a> {
    access: &'a Access,
    options: &'a PruneOptions,
    grace: Duration,
    trees: Trees,
    /// Chunks that were copied for a repack whose record is not in the log yet.
    copied: Option<Copied>,
    /// The store had no room for copies.
    is_full: bool,
    /// Records were removed in this run.
    is_log_pruned: bool,
    report: PruneReport,
}

/// How a step ended.
enum Step {
    /// There was nothing to do of its kind.
    Nothing,
    /// Something was done, or somebody else was faster: the next survey tells.
    Again,
}

/// Tells what would be done; with `apply` does it.
pub(crate) async fn prune(access: &Access, options: &PruneOptions) -> Result<PruneReport> {
    let watch = Stopwatch::start();
    let mut run = Run {
        access,
        options,
        grace: grace(access, options)?,
        trees: Trees::default(),
        copied: None,
        is_full: false,
        is_log_pruned: false,
        report: PruneReport {
            applied: options.apply,
            ..PruneReport::default()
        },
    };
    access.meter.begin(PRUNE, 0, 0);
    if options.apply {
        access.inner.check_writable()?;
    }
    if let Some(first) = run.look(None).await? {
        run.report.describe(&first.0, &first.1, run.grace);
        if options.apply {
            check_share(&first.1, options)?;
            run.apply(first).await?;
        }
    }
    let mut report = run.report;
    report.requests = access.totals().into();
    report.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    Ok(report)
}

impl Run<'_> {
    /// Surveys and plans; nothing of a log without records.
    async fn look(&mut self, known: Option<Log>) -> Result<Option<(Survey, Plan)>> {
        let Some(survey) = survey(self.access, self.options.apply, known).await? else {
            return Ok(None);
        };
        let plan = plan(self, &survey).await?;
        Ok(Some((survey, plan)))
    }

    /// One step after the other, each by a survey of its own, until nothing is left to do.
    async fn apply(&mut self, first: (Survey, Plan)) -> Result<()> {
        let (mut survey, mut plan) = first;
        for _ in 0..MAX_SURVEYS {
            self.access.cancel.check()?;
            if matches!(self.step(&survey, &plan).await?, Step::Nothing) {
                self.report.wait_for(&survey, &plan, self.grace);
                if self.is_full {
                    self.report.warnings.push(FULL.to_owned());
                }
                return Ok(());
            }
            match self.look(Some(survey.log)).await? {
                Some(next) => (survey, plan) = next,
                None => return Ok(()),
            }
        }
        let why = "other writers were faster each time; try again when less is going on";
        Err(Error::new(ErrorKind::Conflict, PRUNE, why))
    }

    /// The first step that is due.
    async fn step(&mut self, survey: &Survey, plan: &Plan) -> Result<Step> {
        for due in [
            sweep::delete(self, survey, plan).await?,
            sweep::sweep(self, survey, plan).await?,
        ] {
            if let Step::Again = due {
                return Ok(due);
            }
        }
        check_share(plan, self.options)?;
        if let Step::Again = keep::dismiss_expired(self, survey, plan).await? {
            return Ok(Step::Again);
        }
        match repack::repack(self, survey, plan).await {
            Err(e) if e.kind() == ErrorKind::QuotaExceeded && !self.is_full => {
                // What needs no copy can go all the same, and makes room for the next prune's copies.
                (self.is_full, self.copied) = (true, None);
                return Ok(Step::Again);
            }
            Ok(Step::Nothing) => {}
            step => return step,
        }
        if let Step::Again = mark::mark(self, survey, plan).await? {
            return Ok(Step::Again);
        }
        log_end::prune_log(self, survey).await
    }
}

fn grace(access: &Access, options: &PruneOptions) -> Result<Duration> {
    let exclusive = access.inner.options.exclusive;
    let least = if exclusive {
        EXCLUSIVE_GRACE
    } else {
        LEAST_GRACE
    };
    let grace = options.grace.unwrap_or(GRACE.max(least));
    if grace >= least {
        return Ok(grace);
    }
    let why = match exclusive {
        true => "the grace is at least 7 days where writers take turns by an external lock",
        false => "the grace is at least 1 hour: readers need time to finish",
    };
    Err(Error::new(ErrorKind::InvalidInput, PRUNE, why))
}

/// Refuses to give up a large share of the repository unless somebody says so.
fn check_share(plan: &Plan, options: &PruneOptions) -> Result<()> {
    if options.force || !plan.needs_force() {
        return Ok(());
    }
    let (bytes, of) = (plan.bytes_to_delete(), plan.disposal.stored_bytes);
    let why = format!(
        "would delete {bytes} of {of} stored bytes, more than {} %: look at the plan, then add force",
        nbws_core::plan::prune::FREE_PERCENT
    );
    Err(Error::new(ErrorKind::InvalidState, PRUNE, why))
}
