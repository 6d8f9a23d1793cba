//! Randomness: names of containers, writers and commits. The only file of the engine that asks for it.

use nbws_core::{Error, Result};

/// `N` bytes from the operating system.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|e| Error::internal("read randomness", e.to_string()))?;
    Ok(out)
}
