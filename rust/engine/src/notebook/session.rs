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
        // Where nothing can be kept on disk, this process remembers what it did.
        let targets = inner.memory().targets.clone();
        let mut sessions: Vec<Session> = targets.into_values().map(|r| r.session).collect();
        for place in state_places(inner.options.state_dir.as_deref()) {
            for folder in StateFolder::all(&place, inner.repository())? {
                sessions.extend(folder.load_session()?);
            }
        }
        sessions.retain(|session| session.epoch.is_some() && session.directory.is_some());
        Ok(sessions.into_iter().max_by_key(|session| session.epoch))
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
