//! Signs of life. Advisory: what is safe never depends on them.

use crate::workspace::Access;
use bytes::Bytes;
use nbws_core::id::WriterId;
use nbws_core::{ErrorKind, Result, key};
use std::time::Duration;

/// Shows that the session of `writer` lives.
pub(super) async fn beat(access: &Access, writer: &str) -> Result<()> {
    let name = key::heartbeat(WriterId::parse(writer)?);
    access.store.put(&name, Bytes::from_static(b"{}")).await
}

/// When `writer` last showed that it lives, by the store's clock.
pub(super) async fn last(access: &Access, writer: &str) -> Result<Option<u64>> {
    modified(access, &key::heartbeat(WriterId::parse(writer)?)).await
}

/// How long `owner` has been silent: since its last heartbeat or record number `seq`. Both ends are read off the store's clock, so
/// that no clock of a machine counts; for that `own` shows a sign of life, too.
pub(super) async fn silence(access: &Access, own: &str, owner: &str, seq: u64) -> Result<Duration> {
    beat(access, own).await?;
    let now = last(access, own).await?.unwrap_or_default();
    let seen = last(access, owner)
        .await?
        .max(modified(access, &key::log(seq)).await?);
    Ok(Duration::from_millis(
        now.saturating_sub(seen.unwrap_or(now)),
    ))
}

async fn modified(access: &Access, name: &str) -> Result<Option<u64>> {
    match access.store.head(name).await {
        Ok(found) => Ok(Some(found.modified_ms)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
