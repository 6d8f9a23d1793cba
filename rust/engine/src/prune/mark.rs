//! The first phase: a Mark names what nothing needs, forgets snapshots, and takes both out of the index.

use super::meta::{new_index, surveyed, write_meta};
use super::plan::Plan;
use super::record::append_step;
use super::survey::Survey;
use super::{Run, Step};
use crate::beside::Change;
use nbws_core::Result;
use nbws_core::id::ContainerId;
use nbws_core::record::{Body, Doomed, MarkBody};
use std::collections::HashSet;

/// Appends a Mark for what the plan dooms and forgets, if that is anything.
///
/// The record aims at the slot right behind the log that was surveyed: a save that came in between makes it lose, and the next
/// survey counts what that save needs. A save that comes later has to read the Mark to get its slot.
pub(super) async fn mark(run: &mut Run<'_>, survey: &Survey, plan: &Plan) -> Result<Step> {
    if plan.disposal.doomed.is_empty() && plan.forgotten.is_empty() {
        return Ok(Step::Nothing);
    }
    let list = Doomed {
        objects: plan.disposal.doomed.clone(),
        snapshots: plan.forgotten.iter().map(|(id, _)| *id).collect(),
    };
    let doomed: HashSet<ContainerId> = list.objects.iter().map(|object| object.name.id).collect();
    let index = new_index(
        surveyed(survey),
        |pack| !doomed.contains(pack),
        |_| false,
        &[],
    );
    let (bytes, packs) = (list.bytes(), list.objects.len() as u64);
    let snapshots = list.snapshots.len() as u64;
    let epoch = survey.head.record.epoch;
    let written = write_meta(run.access, epoch, Some(&list.encode()?), Some(index)).await?;
    let body = MarkBody {
        attachment: written.list()?,
        bytes,
        packs,
        snapshots,
    };
    let change = Change {
        index: written.index,
        added: written.added,
        ..Change::default()
    };
    let (step, seq) = append_step(run.access, &survey.log, Body::Mark(body), change).await?;
    run.report.mark = seq.or(run.report.mark);
    Ok(step)
}
