//! Room that a managed repository keeps so that a full store still takes the few small records that free more of it.

use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::record::Body;
use nbws_core::{Error, ErrorKind, Result, key};

/// Room for a few records and the packs that they refer to.
const BYTES: usize = 64 << 10;

/// Stores the ballast if it is missing; whether it is there now. A store without room for it goes without.
pub(crate) async fn keep(access: &Access) -> Result<bool> {
    match access.store.head(key::BALLAST).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        found => return found.map(|_| true),
    }
    // Random, so that no store makes it smaller than what it stands for.
    let bytes = Bytes::from(crate::random::bytes::<BYTES>()?.to_vec());
    match access.store.put(key::BALLAST, bytes).await {
        Err(e) if e.kind() == ErrorKind::QuotaExceeded => Ok(false),
        stored => stored.map(|()| true),
    }
}

/// Whether a record is one of those that the ballast is kept for: it frees room, or says what may be freed.
pub(crate) fn is_for(body: &Body) -> bool {
    match body {
        Body::Mark(_)
        | Body::Cancel(_)
        | Body::Sweep(_)
        | Body::Swept(_)
        | Body::Dismiss(_)
        | Body::Settings(_)
        | Body::Tombstone(_) => true,
        Body::Claim(_) | Body::State(_) | Body::Snapshot(_) | Body::Rescue(_) | Body::Repack(_) => {
            false
        }
    }
}

/// Gives the ballast up if the store has just said that it is full; whether trying again may help.
pub(crate) async fn made_room(access: &Access, failure: Option<&Error>) -> bool {
    if failure.is_none_or(|e| e.kind() != ErrorKind::QuotaExceeded) {
        return false;
    }
    // Without one there is nothing to gain, and the first error says what is wrong.
    access.store.head(key::BALLAST).await.is_ok() && access.store.delete(key::BALLAST).await.is_ok()
}
