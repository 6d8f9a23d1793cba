//! Stand-in for the engine's verbs, on this branch only: copies trees with `cp -a`. Dropped when the engine lands.
#![allow(missing_docs, clippy::pedantic)]
use crate::cancel::CancelToken;
use nbws_core::{Error, ErrorKind, Result};
use crate::options::*; use crate::progress::*; use crate::report::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone)]
pub struct Workspace { root: PathBuf, url: String }

fn err(kind: ErrorKind, op: &'static str, m: &'static str) -> Error { Error::new(kind, op, m) }

fn tally(dir: &Path) -> (u64, u64) {
    let (mut n, mut b) = (0, 0);
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(m) = e.path().symlink_metadata() else { continue };
        if m.is_dir() { let (x, y) = tally(&e.path()); n += x; b += y; } else { n += 1; b += m.len(); }
    }
    (n, b)
}

impl Workspace {
    pub async fn open(url: &str, options: OpenOptions) -> Result<Workspace> {
        let Some(path) = url.strip_prefix("file://") else {
            return Err(err(ErrorKind::InvalidInput, "open store", "unknown scheme; known: file, memory, s3").at(url));
        };
        let root = PathBuf::from(path);
        if !root.join("format").exists() {
            if !options.create { return Err(err(ErrorKind::NotFound, "open repository", "there is no repository here").at(url)); }
            std::fs::create_dir_all(&root).map_err(|e| Error::local("create", path.as_bytes(), e))?;
            std::fs::write(root.join("format"), b"{}").map_err(|e| Error::local("create", path.as_bytes(), e))?;
        }
        Ok(Workspace { root, url: url.into() })
    }
    pub fn repository_id(&self) -> String { "00".repeat(16) }
    pub fn describe(&self) -> String { self.url.clone() }
    fn count(&self) -> u64 { (1..).take_while(|n| self.root.join(format!("{n:032x}")).exists()).count() as u64 }
    pub async fn save(&self, directory: &Path, _o: SaveOptions, progress: Option<ProgressSink>, cancel: CancelToken) -> Result<SaveReport> {
        if !directory.exists() { return Err(err(ErrorKind::NotFound, "open directory", "does not exist").at_path(directory.as_os_str().as_encoded_bytes())); }
        if std::env::var_os("NBWS_STUB_SLOW").is_some() {
            for n in 0..200u64 { cancel.check()?; if let Some(progress) = &progress { progress(Progress { phase: "reading", files_done: n, files_total: 200, bytes_done: n << 20, bytes_total: 200 << 20 }) } tokio::time::sleep(Duration::from_millis(25)).await; }
        }
        let id = format!("{:032x}", self.count() + 1);
        let st = std::process::Command::new("cp").arg("-a").arg(directory).arg(self.root.join(&id)).status();
        if !st.is_ok_and(|s| s.success()) { return Err(err(ErrorKind::LocalIo, "copy", "cp failed")); }
        let (files_total, bytes_total) = tally(directory);
        if let Some(progress) = &progress { progress(Progress { phase: "reading", files_done: files_total, files_total, bytes_done: bytes_total, bytes_total }) }
        Ok(SaveReport { snapshot: id, seq: self.count(), complete: true, files_total, bytes_total, files_new: files_total, bytes_read: bytes_total, ..Default::default() })
    }
    pub async fn restore(&self, directory: &Path, o: RestoreOptions, _p: Option<ProgressSink>, _c: CancelToken) -> Result<RestoreReport> {
        let id = if o.snapshot == "latest" { format!("{:032x}", self.count()) } else { o.snapshot };
        std::fs::create_dir_all(directory).map_err(|e| Error::local("create", directory.as_os_str().as_encoded_bytes(), e))?;
        let st = std::process::Command::new("cp").arg("-aT").arg(self.root.join(&id)).arg(directory).status();
        if !st.is_ok_and(|s| s.success()) { return Err(err(ErrorKind::NotFound, "restore", "no such snapshot").at(id)); }
        let (files_written, bytes_written) = tally(directory);
        Ok(RestoreReport { snapshot: id, complete: true, files_written, bytes_written, ..Default::default() })
    }
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        Ok((1..=self.count()).map(|n| { let id = format!("{n:032x}"); let (files, bytes) = tally(&self.root.join(&id)); SnapshotInfo { snapshot: id, seq: n, time_ms: 1_795_392_000_000 + n, files, bytes, origin: "stub".into(), ..Default::default() } }).collect())
    }
    pub async fn rescues(&self) -> Result<Vec<SnapshotInfo>> { Ok(vec![]) }
    pub async fn dismiss(&self, id: &str) -> Result<()> { Err(err(ErrorKind::NotFound, "dismiss", "no such rescue").at(id)) }
    pub async fn usage(&self) -> Result<UsageReport> { Ok(UsageReport::default()) }
    pub async fn check(&self, _o: CheckOptions, _p: Option<ProgressSink>, _c: CancelToken) -> Result<CheckReport> { Ok(CheckReport { complete: true, ..Default::default() }) }
}
