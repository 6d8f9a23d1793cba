//! Preview: what a save would do. The save itself runs, on a store that drops writes and on local state that is only read.

use crate::base;
use crate::clock::Stopwatch;
use crate::local::FileKind;
use crate::log::LogHead;
use crate::options::{Over, PreviewOptions};
use crate::report::{Preview, SaveReport, Skipped};
use crate::save::{Intent, check_options, is_over_hard, lock, plan_for_preview, run};
use crate::session::Target;
use crate::settings::check_writers;
use crate::store::RequestTotals;
use crate::workspace::Access;
use nbws_core::Result;
use std::path::Path;
use std::sync::Arc;

/// Previews a save of `directory`. `access` must be a sandbox: nothing that it writes may last.
pub(crate) async fn preview(
    access: Access,
    directory: &Path,
    mut options: PreviewOptions,
) -> Result<Preview> {
    check_options(&access, &options.save)?;
    options.save.comment = None;
    options.save.deadline = None;
    options.save.limit_rate = None;
    // What would be refused is looked at all the same.
    let refuses = options.save.quota.over == Over::Refuse && !options.save.is_last;
    options.save.quota.over = Over::KeepSmall;
    let watch = Stopwatch::start();
    let access = Arc::new(access);
    let mut target = lock(&access, directory).await?;
    if let Some(folder) = &mut target.folder {
        folder.freeze();
    }
    let (known, memory) = (target.session.head.clone(), access.inner.memory().clone());
    let head = base::newest_for_save(&access, &mut target).await?;
    let record = head.as_ref().map(|head| &head.record);
    check_writers(&access, target.folder.as_ref(), record).await?;
    let rescue = target.unproven(record, options.save.take_over);
    let looked = access.totals();
    let (mut preview, not_asked) = if options.estimate {
        let estimated = estimate(&access, target, head, &options).await?;
        (estimated, RequestTotals::default())
    } else {
        // The save itself asks for all this, and what it asks counts.
        target.session.head = known;
        *access.inner.memory() = memory;
        let intent = rescue.clone().map_or(Intent::Head, Intent::Rescue);
        let (_, report) = run(&access, target, options.save, intent).await?;
        (exact(report), looked)
    };
    if refuses && is_over_hard(&preview.warnings) {
        let text = "such a save would be refused, as the quota says";
        preview.warnings.insert(0, text.to_owned());
    }
    preview.rescue = rescue;
    preview.requests = (access.totals() - not_asked).into();
    preview.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    Ok(preview)
}

fn exact(report: SaveReport) -> Preview {
    Preview {
        files_total: report.files_total,
        files_new: report.files_new,
        files_changed: report.files_changed,
        files_unchanged: report.files_unchanged,
        files_removed: report.files_removed,
        bytes_total: report.bytes_total,
        bytes_read: report.bytes_read,
        bytes_new: report.bytes_new,
        bytes_uploaded: Some(report.bytes_uploaded),
        chunks_new: Some(report.chunks_new),
        exact: true,
        omitted: report.omitted,
        skipped: report.skipped,
        unstable: report.unstable,
        stale: report.stale,
        warnings: report.warnings,
        ..Preview::default()
    }
}

/// From names, times and sizes alone.
async fn estimate(
    access: &Arc<Access>,
    target: Target,
    head: Option<LogHead>,
    options: &PreviewOptions,
) -> Result<Preview> {
    let planned = plan_for_preview(access, target, head, &options.save).await?;
    let work = planned
        .work
        .iter()
        .map(|i| planned.scanned.stat(*i as usize));
    let (mut bytes_read, mut bytes_new) = (0, 0);
    for stat in work {
        // Holes are not read.
        bytes_read += stat.size.min(stat.blocks.saturating_mul(512));
        bytes_new += stat.size;
    }
    let stats = (0..planned.scanned.len()).map(|i| planned.scanned.stat(i));
    let files = stats.filter(|stat| stat.kind == FileKind::File);
    let scanned = planned.scanned.skipped.iter();
    Ok(Preview {
        files_total: planned.files_new + planned.files_changed + planned.files_unchanged,
        files_new: planned.files_new,
        files_changed: planned.files_changed,
        files_unchanged: planned.files_unchanged,
        files_removed: planned.files_removed,
        bytes_total: files.map(|stat| stat.size).sum(),
        bytes_read,
        bytes_new,
        skipped: scanned
            .map(|s| Skipped {
                path: s.path.clone(),
                reason: s.reason.text().into_owned(),
            })
            .collect(),
        warnings: planned
            .scanned
            .problems
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..Preview::default()
    })
}
