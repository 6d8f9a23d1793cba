//! The local tree against a real file system: tmpfs where there is one, because it is quick and has all features.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod metadata;
mod race;
mod scanning;
mod speed;
mod writing;

use super::*;
use crate::cancel::CancelToken;
use nbws_core::filter::Rules;
use std::path::Path;

/// A fresh directory below `NBWS_TEST_TMP`, or on tmpfs where there is one.
fn directory() -> tempfile::TempDir {
    let chosen = std::env::var_os("NBWS_TEST_TMP").map(std::path::PathBuf::from);
    let shared = Some(Path::new("/dev/shm").to_owned()).filter(|path| path.is_dir());
    let base = chosen.or(shared).unwrap_or_else(std::env::temp_dir);
    tempfile::Builder::new()
        .prefix("nbws-test-")
        .tempdir_in(base)
        .unwrap()
}

/// The root as the kernel allows it, and the same with resolution by steps.
fn both_roots(path: &Path) -> [Root; 2] {
    [
        Root::open(path).unwrap(),
        Root::open_stepwise(path).unwrap(),
    ]
}

fn scan_with(root: &Root, rules: &Rules, threads: usize) -> Scanned {
    let cancel = CancelToken::new();
    scan(
        root,
        &ScanOptions {
            rules,
            threads,
            cancel: &cancel,
        },
    )
    .unwrap()
}

fn plain_scan(root: &Root) -> Scanned {
    scan_with(root, &Rules::default(), 2)
}

fn paths(scanned: &Scanned) -> Vec<String> {
    scanned
        .iter()
        .map(|entry| String::from_utf8_lossy(entry.path).into_owned())
        .collect()
}

fn shown(paths: &[Vec<u8>]) -> Vec<String> {
    paths
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect()
}

fn write(path: impl AsRef<Path>, text: &str) {
    if let Some(parent) = path.as_ref().parent() {
        std::fs::create_dir_all(parent).unwrap();
    }
    std::fs::write(path, text).unwrap();
}

fn metadata(mode: u16, seconds: i64) -> Metadata<'static> {
    Metadata {
        mode,
        owner: None,
        mtime: Timestamp { seconds, nanos: 7 },
        xattrs: &[],
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
