//! What a prune did, or would do.

use super::plan::Plan;
use super::survey::Survey;
use crate::report::Requests;
use nbws_core::ledger::MarkPhase;
use nbws_core::record::Pin;
use std::time::Duration;

/// A snapshot that the rules give up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgottenSnapshot {
    /// Its id.
    pub snapshot: String,
    /// Number of its record.
    pub seq: u64,
    /// When it was made, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// The note given by the user.
    pub comment: Option<String>,
    /// Why: `too many`, `too old` or `thinned`.
    pub reason: String,
}

/// A snapshot or rescue that is kept whatever the rules say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedSnapshot {
    /// Its id.
    pub snapshot: String,
    /// When the pin ends, milliseconds since 1970 UTC; never if it is none.
    pub until_ms: Option<u64>,
    /// What was said about it.
    pub comment: Option<String>,
}

impl From<Pin> for PinnedSnapshot {
    fn from(pin: Pin) -> Self {
        PinnedSnapshot {
            snapshot: pin.snapshot.to_hex(),
            until_ms: pin.until_ms,
            comment: pin.comment,
        }
    }
}

/// A mark whose deletes are not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitingMark {
    /// Number of its record.
    pub seq: u64,
    /// Packs that it names.
    pub packs: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Snapshots that it forgets.
    pub snapshots: u64,
    /// When its grace ends, milliseconds since 1970 UTC by the store's clock.
    pub sweep_after_ms: u64,
    /// `marked`, `sweeping`, or `contradicted` if it names something that is needed.
    pub state: String,
}

/// What a prune did, or with `applied` false would do now.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// It was done.
    pub applied: bool,
    /// So much would go that `force` is needed.
    pub needs_force: bool,
    /// Snapshots before it, forgotten ones included.
    pub snapshots: u64,
    /// Snapshots that are given up.
    pub forgotten: Vec<ForgottenSnapshot>,
    /// Ids of rescues that have expired and are dismissed.
    pub rescues_expired: Vec<String>,
    /// Packs and index objects before it.
    pub packs: u64,
    /// Their bytes, without those that marks name already.
    pub stored_bytes: u64,
    /// Packs that are newly named for deletion, those included whose chunks are copied first.
    pub packs_doomed: u64,
    /// Their bytes.
    pub bytes_doomed: u64,
    /// Packs whose chunks were copied; for a plan, would be.
    pub packs_repacked: u64,
    /// Bytes that this has stored anew; for a plan, about so many.
    pub bytes_copied: u64,
    /// Number of the record that names them.
    pub mark: Option<u64>,
    /// Marks whose deletes are not finished.
    pub marks: Vec<WaitingMark>,
    /// Packs deleted.
    pub packs_deleted: u64,
    /// Stored bytes freed by that.
    pub bytes_freed: u64,
    /// Records removed from the log.
    pub records_removed: u64,
    /// The last record that a ledger written now stands for.
    pub ledger: Option<u64>,
    /// Things a person should know.
    pub warnings: Vec<String>,
    /// Requests sent.
    pub requests: Requests,
    /// Wall time in seconds.
    pub duration_s: f64,
}

impl PruneReport {
    /// Says what the first survey of a run has found.
    pub(super) fn describe(&mut self, survey: &Survey, plan: &Plan, grace: Duration) {
        let snapshots = survey.log.snapshots(None);
        self.needs_force = plan.needs_force();
        self.snapshots = snapshots.len() as u64;
        for (id, verdict) in &plan.forgotten {
            let found = snapshots.iter().find(|s| s.body.snapshot == *id);
            self.forgotten.extend(found.map(|s| ForgottenSnapshot {
                snapshot: id.to_hex(),
                seq: s.record.seq,
                time_ms: s.record.time_ms,
                comment: s.body.comment.clone(),
                reason: verdict.name().to_owned(),
            }));
        }
        self.rescues_expired = plan.expired.iter().map(|id| id.to_hex()).collect();
        self.packs = plan.containers;
        self.stored_bytes = plan.disposal.stored_bytes;
        self.packs_doomed = (plan.disposal.doomed.len() + plan.disposal.repack.len()) as u64;
        self.bytes_doomed = plan.bytes_to_delete();
        if !self.applied {
            self.packs_repacked = plan.disposal.repack.len() as u64;
            self.bytes_copied = plan.disposal.copied_bytes;
        }
        self.wait_for(survey, plan, grace);
    }

    /// Says which marks wait for their grace or stand against what is needed.
    pub(super) fn wait_for(&mut self, survey: &Survey, plan: &Plan, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.marks.clear();
        self.warnings.clear();
        for mark in survey.log.marks() {
            let seq = mark.record.seq;
            let hit = plan.contradicted.iter().find(|(at, _)| *at == seq);
            let state = match (mark.phase, hit) {
                (MarkPhase::Marked | MarkPhase::Sweeping, Some((_, name))) => {
                    self.warnings.push(format!(
                        "mark {seq} names {name}, which is needed: it is not swept, and should be cancelled"
                    ));
                    "contradicted"
                }
                (MarkPhase::Marked, None) => "marked",
                (MarkPhase::Sweeping, None) => "sweeping",
                (MarkPhase::Cancelled | MarkPhase::Swept, _) => continue,
            };
            self.marks.push(WaitingMark {
                seq,
                packs: mark.body.packs,
                bytes: mark.body.bytes,
                snapshots: mark.body.snapshots,
                sweep_after_ms: survey
                    .time_of(seq, mark.record.time_ms)
                    .saturating_add(grace_ms),
                state: state.to_owned(),
            });
        }
    }
}
