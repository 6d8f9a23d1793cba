//! What a save says about itself.

use super::pipeline::Counts;
use super::plan::Planned;
use super::tree_writer::NewTree;
use crate::clock::Stopwatch;
use crate::report::{SaveReport, Skipped};
use crate::workspace::Access;
use nbws_core::record::Record;
use std::sync::atomic::Ordering;

pub(crate) fn report_of(planned: &Planned, tree: &NewTree, counts: &Counts) -> SaveReport {
    let mut report = SaveReport {
        complete: !tree.is_lacking,
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
    report.warnings.extend(tree.partial_warnings());
    describe_scan(&mut report, planned);
    report
}

/// What was read to be sure is as it was: a save that had not looked would not repeat what the snapshot lacks either.
pub(crate) fn as_unchanged(report: &mut SaveReport) {
    report.omitted.clear();
    report.stale.clear();
}

pub(crate) fn describe_scan(report: &mut SaveReport, planned: &Planned) {
    report.files_new = planned.files_new;
    report.files_changed = planned.files_changed;
    report.files_unchanged = planned.files_unchanged;
    report.files_removed = planned.files_removed;
    report.complete &= !planned
        .scanned
        .skipped
        .iter()
        .any(|s| s.reason.keeps_base());
    report.files_opened += planned.scanned.files_opened;
    let scanned = planned.scanned.skipped.iter();
    report.skipped.extend(scanned.map(|s| Skipped {
        path: s.path.clone(),
        reason: s.reason.text().into_owned(),
    }));
    let problems = planned.scanned.problems.iter();
    report.warnings.extend(problems.map(ToString::to_string));
}

/// Whether more than half of the files or bytes went since the head, in which case the head is worth keeping.
pub(crate) fn warn_if_shrunk(
    record: Option<&Record>,
    tree: &NewTree,
    report: &mut SaveReport,
) -> bool {
    let Some(before) = record.filter(|r| r.head.is_some()).map(|r| r.usage) else {
        return false;
    };
    let is_less = tree.files < before.files.div_ceil(2) || tree.bytes < before.bytes.div_ceil(2);
    if is_less {
        report.warnings.push(format!(
            "more than half is gone since the last save ({} of {} files, {} of {} bytes are left); that snapshot is kept for 30 days",
            tree.files, before.files, tree.bytes, before.bytes
        ));
    }
    is_less
}

pub(crate) fn finish_report(
    access: &Access,
    notices: &[String],
    mut report: SaveReport,
    watch: Stopwatch,
) -> SaveReport {
    let totals = access.totals();
    report.bytes_uploaded = totals.bytes_up;
    report.requests = totals.into();
    report.warnings.extend_from_slice(notices);
    let is_whole = !report.partial && report.stale.is_empty() && report.unstable.is_empty();
    report.complete &= is_whole && report.omitted.is_empty();
    report.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    report
}
