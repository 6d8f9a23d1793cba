//! Files, noise, and whether the long variants run.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::path::Path;

/// Writes a file, its directories too.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Whether the long variants run; prints how to ask for them otherwise.
pub fn soaks(what: &str) -> bool {
    let soaks = std::env::var_os("NBWS_SOAK").is_some_and(|v| v == "1");
    if !soaks {
        eprintln!("{what}: only with NBWS_SOAK=1, which `make soak` sets");
    }
    soaks
}
