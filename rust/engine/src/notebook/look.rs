//! What is known of a directory, and the latch that keeps its saves from the head.

use super::report::TargetState;
use crate::base;
use crate::local::Root;
use crate::save::{blocking, lock};
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

pub(super) async fn look(access: &Arc<Access>, directory: &Path) -> Result<TargetState> {
    let newest = base::newest(access, None).await?.map(|head| head.record);
    let described = TargetState {
        is_empty: true,
        state: newest
            .as_ref()
            .map_or("none", |r| r.state.name())
            .to_owned(),
        snapshot: newest
            .as_ref()
            .and_then(|r| r.head)
            .map(|head| head.snapshot.to_hex()),
        ..TargetState::default()
    };
    let path = directory.to_path_buf();
    let exists = blocking(move || match Root::open(&path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    });
    if !exists.await? {
        return Ok(described);
    }
    let mut target = lock(access, directory).await?;
    // Whoever died between the record and the note of it held the head.
    target.believe_head(newest.as_ref());
    blocking(move || {
        let has_base = target.session.base.is_some() || target.session.proof.is_some();
        Ok(TargetState {
            is_empty: target.root.is_empty()?,
            is_known: has_base,
            is_proven: newest.as_ref().and_then(|r| r.head).is_some()
                && target.unproven(newest.as_ref(), false).is_none(),
            is_half_restored: target.is_half_restored,
            epoch: target.session.epoch,
            writer: target.session.writer.to_hex(),
            owns_epoch: newest.as_ref().is_some_and(|r| target.owns(r)),
            latch: target.session.latch.clone(),
            has_state: target.folder.is_some(),
            notices: target.notices.clone(),
            ..described
        })
    })
    .await
}

pub(super) async fn set_latch(access: &Arc<Access>, directory: &Path, why: String) -> Result<()> {
    let mut target = lock(access, directory).await?;
    target.session.latch = Some(why);
    let access = Arc::clone(access);
    blocking(move || target.store_session(&access.inner)).await
}

pub(super) async fn clear_latch(access: &Arc<Access>, directory: &Path) -> Result<()> {
    let mut target: Target = lock(access, directory).await?;
    if target.session.latch.is_none() && !target.is_half_restored {
        let why = "no latch is set there";
        return Err(Error::new(ErrorKind::InvalidState, "clear latch", why));
    }
    let newest = base::newest(access, None).await?.map(|head| head.record);
    target.session.latch = None;
    target.session.proof = newest.and_then(|r| r.head).map(|head| head.snapshot);
    target.forget_restore();
    let access = Arc::clone(access);
    blocking(move || target.store_session(&access.inner)).await
}
