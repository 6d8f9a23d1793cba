//! The second phase, after the grace: a Sweep, the deletes, and the record that they are done.

use super::plan::Plan;
use super::record::append_step;
use super::survey::Survey;
use super::{Run, Step};
use crate::ballast;
use crate::beside::Change;
use crate::workspace::Access;
use futures::stream::{self, StreamExt, TryStreamExt};
use nbws_core::Result;
use nbws_core::ledger::{LoggedMark, MarkPhase};
use nbws_core::record::{Body, DoomedObject, SweepBody, SweptBody};
use nbws_core::state::State;

/// Deletes in flight.
const CONCURRENCY: usize = 8;
/// A record has room for so many numbers.
const MARKS: usize = 100;

/// Appends a Sweep for the marks whose grace is over. From then on nobody can cancel them.
pub(super) async fn sweep(run: &mut Run<'_>, survey: &Survey, plan: &Plan) -> Result<Step> {
    if plan.sweepable.is_empty() {
        return Ok(Step::Nothing);
    }
    let marks = plan.sweepable.iter().copied().take(MARKS).collect();
    let body = Body::Sweep(SweepBody { marks });
    let (step, _) = append_step(run.access, &survey.log, body, Change::default()).await?;
    Ok(step)
}

/// Deletes what marks name whose Sweep is in the log, whoever wrote it, and says so in the log.
///
/// Names are never used twice, so a delete that comes twice or late hits nothing else. What contradicts the survey is left alone:
/// such a Sweep should not be there.
pub(super) async fn delete(run: &mut Run<'_>, survey: &Survey, plan: &Plan) -> Result<Step> {
    let marks = survey.log.marks();
    let due: Vec<&LoggedMark<'_>> = marks
        .iter()
        .filter(|mark| mark.phase == MarkPhase::Sweeping)
        .filter(|mark| {
            !plan
                .contradicted
                .iter()
                .any(|(seq, _)| *seq == mark.record.seq)
        })
        .take(MARKS)
        .collect();
    if due.is_empty() {
        return Ok(Step::Nothing);
    }
    let lists = due.iter().filter_map(|mark| mark.doomed);
    let objects: Vec<DoomedObject> = lists
        .flat_map(|list| list.objects.iter().copied())
        .collect();
    delete_all(run.access, &objects).await?;
    let freed_bytes = objects.iter().map(|object| object.bytes).sum();
    let body = Body::Swept(SweptBody {
        freed_bytes,
        marks: due.iter().map(|mark| mark.record.seq).collect(),
    });
    let change = Change {
        deleted: (objects.len() as u64, freed_bytes),
        ..Change::default()
    };
    let (step, seq) = append_step(run.access, &survey.log, body, change).await?;
    if seq.is_some() {
        run.report.packs_deleted += objects.len() as u64;
        run.report.bytes_freed += freed_bytes;
        if survey.head.record.state != State::None {
            // There is room again; without it the next one goes without.
            let _ = ballast::keep(run.access).await;
        }
    }
    Ok(step)
}

async fn delete_all(access: &Access, objects: &[DoomedObject]) -> Result<()> {
    access.meter.begin("delete", objects.len() as u64, 0);
    let deletes: Vec<_> = objects
        .iter()
        .map(|object| async move {
            access.cancel.check()?;
            access.store.delete(&object.name.to_string()).await?;
            access.meter.add(1, object.bytes);
            Ok::<(), nbws_core::Error>(())
        })
        .collect();
    stream::iter(deletes)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}
