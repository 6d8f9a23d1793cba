//! Withdraws the newest Mark, as long as no Sweep names it.

use super::Step;
use super::meta::{new_index, surveyed, write_meta};
use super::record::append_step;
use super::survey::survey;
use crate::beside::Change;
use crate::directories::directory;
use crate::workspace::Access;
use nbws_core::key::ContainerKind;
use nbws_core::ledger::MarkPhase;
use nbws_core::record::{Body, CancelBody};
use nbws_core::{Error, ErrorKind, Result};

const CANCEL: &str = "cancel prune";
const MAX_ATTEMPTS: u32 = 64;

/// Withdraws the newest Mark that is in its grace: what it forgot is back, and what it doomed is in the index again. Returns its
/// number.
///
/// Newest first, because a later Mark was decided on the ground of the earlier ones. The index is put right from the directories of
/// the packs themselves. `NotFound` if no Mark can be cancelled.
pub(crate) async fn cancel(access: &Access) -> Result<u64> {
    access.inner.check_writable()?;
    for _ in 0..MAX_ATTEMPTS {
        access.cancel.check()?;
        let none = || Error::new(ErrorKind::NotFound, CANCEL, "no mark is in its grace");
        let survey = survey(access, true, None).await?.ok_or_else(none)?;
        let marks = survey.log.marks();
        let open = |phase| phase == MarkPhase::Marked;
        let Some(mark) = marks.iter().rfind(|mark| open(mark.phase)) else {
            return Err(none());
        };
        let seq = mark.record.seq;
        let objects = mark.doomed.iter().flat_map(|doomed| &doomed.objects);
        let mut frames = Vec::new();
        for object in objects.filter(|o| o.name.kind == ContainerKind::Pack) {
            let name = object.name.to_string();
            let size = access.store.head(&name).await?.size;
            for slot in directory(access, object.name, size).await? {
                frames.push((object.name.id, slot));
            }
        }
        let index = new_index(surveyed(&survey), |_| true, |_| false, &frames);
        let written = write_meta(access, survey.head.record.epoch, None, Some(index)).await?;
        let change = Change {
            index: written.index,
            added: written.added,
            ..Change::default()
        };
        let body = Body::Cancel(CancelBody { mark: seq });
        let outcome = append_step(access, &survey.log, body, change).await?;
        if let (Step::Again, Some(_)) = outcome {
            return Ok(seq);
        }
    }
    let why = "other writers were faster each time; try again";
    Err(Error::new(ErrorKind::Conflict, CANCEL, why))
}
