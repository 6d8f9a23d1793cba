//! Which directory of this machine a notebook runs in, for another process than the one that claimed it.

use super::report::FoundSession;
use crate::base;
use crate::local::cache::{Session, StateFolder};
use crate::local::state_place::state_places;
use crate::save::blocking;
use crate::workspace::Access;
use nbws_core::Result;
use std::sync::Arc;

/// The session of this machine with the newest epoch, as far as local state is kept.
pub(super) async fn session(access: &Arc<Access>) -> Result<Option<FoundSession>> {
    let inner = Arc::clone(&access.inner);
    let found = blocking(move || {
        let mut newest: Option<Session> = None;
        for place in state_places(inner.options.state_dir.as_deref()) {
            for folder in StateFolder::all(&place, inner.repository())? {
                let Some(session) = folder.load_session()? else {
                    continue;
                };
                let is_newer = newest.as_ref().is_none_or(|n| n.epoch < session.epoch);
                if session.epoch.is_some() && session.directory.is_some() && is_newer {
                    newest = Some(session);
                }
            }
        }
        Ok(newest)
    })
    .await?;
    let Some(session) = found else {
        return Ok(None);
    };
    let newest = base::newest(access, None).await?.map(|head| head.record);
    Ok(Some(FoundSession {
        directory: session.directory.unwrap_or_default(),
        epoch: session.epoch.unwrap_or_default(),
        writer: session.writer.to_hex(),
        owns_epoch: newest.is_some_and(|record| Some(record.epoch) == session.epoch),
        notes: session.notes,
    }))
}
