//! `hint`: the number of a record that was seen. It only shortens the search; no answer depends on it.

use crate::store::Store;
use bytes::Bytes;
use nbws_core::{Result, key};

/// Writes the hint. A failure only makes later searches longer, so it is not reported.
pub(crate) async fn write_hint(store: &dyn Store, seq: u64) {
    if let Err(error) = try_write_hint(store, seq).await {
        tracing::debug!(%error, "could not write the hint");
    }
}

/// As [`write_hint`], for who needs to know whether it is there.
pub(crate) async fn try_write_hint(store: &dyn Store, seq: u64) -> Result<()> {
    let bytes = Bytes::from(format!("{{\"seq\":{seq}}}"));
    store.put(key::HINT, bytes).await
}

/// The hint, if there is one that can be read and understood.
pub(super) async fn read_hint(store: &dyn Store) -> Option<u64> {
    let bytes = store.get(key::HINT).await.ok()?;
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(64))?).ok()?;
    let digits = text.strip_prefix("{\"seq\":")?.strip_suffix('}')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
