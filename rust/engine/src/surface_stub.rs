//! Stand-in for the engine's verbs, on this branch only: copies trees with `cp -a`. Dropped when the engine lands.
#![allow(missing_docs, clippy::pedantic)]
use crate::cancel::CancelToken;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub type StoreOptions = BTreeMap<String, String>;
#[derive(Clone, Debug, Default)]
pub struct OpenOptions { pub create: bool, pub numeric_ids: bool, pub floor: Option<u64>, pub state_dir: Option<PathBuf>, pub store: StoreOptions }
#[derive(Clone, Copy, Debug, Default)]
pub enum Level { #[default] Auto, Fast, Fixed(i32) }
#[derive(Clone, Copy, Debug, Default)]
pub enum Delete { #[default] Auto, Yes, No }
#[derive(Clone, Debug, Default)]
pub struct SaveOptions { pub comment: Option<String>, pub exclude: Vec<String>, pub cachedir_tag: bool, pub hard_bytes: Option<u64>, pub deadline: Option<Duration>, pub level: Level, pub reread: bool, pub take_over: bool, pub threads: Option<usize>, pub memory_bytes: Option<u64>, pub limit_rate: Option<u64> }
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions { pub snapshot: String, pub paths: Option<Vec<Vec<u8>>>, pub delete: Delete, pub verify: bool, pub numeric_ids: bool, pub discard_changes: bool, pub threads: Option<usize>, pub memory_bytes: Option<u64> }
#[derive(Clone, Debug, Default)]
pub struct CheckOptions { pub read_data: f64 }
#[derive(Clone, Copy, Debug)]
pub struct Progress { pub phase: &'static str, pub files_done: u64, pub files_total: u64, pub bytes_done: u64, pub bytes_total: u64 }
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests { pub put: u64, pub get: u64, pub list: u64, pub head: u64, pub delete: u64 }
#[derive(Clone, Debug, Default)]
pub struct Omitted { pub path: Vec<u8>, pub size: u64, pub reason: String }
#[derive(Clone, Debug, Default)]
pub struct SaveReport { pub snapshot: String, pub seq: u64, pub complete: bool, pub partial: bool, pub files_total: u64, pub files_new: u64, pub files_changed: u64, pub files_unchanged: u64, pub files_removed: u64, pub files_opened: u64, pub bytes_total: u64, pub bytes_read: u64, pub bytes_new: u64, pub bytes_uploaded: u64, pub requests: Requests, pub chunks_total: u64, pub chunks_new: u64, pub unstable: Vec<Vec<u8>>, pub stale: Vec<Vec<u8>>, pub omitted: Vec<Omitted>, pub skipped: Vec<(Vec<u8>, String)>, pub warnings: Vec<String>, pub rescue: Option<String>, pub duration_s: f64 }
#[derive(Clone, Debug, Default)]
pub struct RestoreReport { pub snapshot: String, pub complete: bool, pub files_written: u64, pub files_kept: u64, pub files_removed: u64, pub bytes_written: u64, pub bytes_downloaded: u64, pub requests: Requests, pub tree_root: String, pub skipped: Vec<(Vec<u8>, String)>, pub warnings: Vec<String>, pub rescue: Option<String>, pub duration_s: f64 }
#[derive(Clone, Debug, Default)]
pub struct SnapshotInfo { pub snapshot: String, pub seq: u64, pub time_ms: u64, pub comment: Option<String>, pub files: u64, pub bytes: u64, pub tree_root: String, pub framework: Option<String>, pub python: Option<String>, pub partial: bool, pub origin: String, pub pinned: bool, pub eviction_date_ms: Option<u64> }
#[derive(Clone, Debug, Default)]
pub struct RescueInfo { pub snapshot: String, pub seq: u64, pub time_ms: u64, pub reason: String, pub comment: Option<String>, pub files: u64, pub bytes: u64, pub origin: String, pub partial: bool }
#[derive(Clone, Debug, Default)]
pub struct PathUsage { pub path: Vec<u8>, pub files: u64, pub bytes: u64 }
#[derive(Clone, Debug, Default)]
pub struct UsageReport { pub logical_bytes: u64, pub unique_bytes: u64, pub stored_bytes: u64, pub objects: u64, pub snapshots: u64, pub dedup_ratio: f64, pub compression_ratio: f64, pub by_path: Vec<PathUsage> }
#[derive(Clone, Debug, Default)]
pub struct Damage { pub object: String, pub problem: String, pub files: Vec<(String, Vec<u8>)> }
#[derive(Clone, Debug, Default)]
pub struct CheckReport { pub objects: u64, pub bytes_read: u64, pub complete: bool, pub damaged: Vec<Damage>, pub requests: Requests, pub duration_s: f64 }

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
    pub async fn save(&self, directory: &Path, _o: SaveOptions, progress: ProgressSink, cancel: CancelToken) -> Result<SaveReport> {
        if !directory.exists() { return Err(err(ErrorKind::NotFound, "open directory", "does not exist").at_path(directory.as_os_str().as_encoded_bytes())); }
        if std::env::var_os("NBWS_STUB_SLOW").is_some() {
            for n in 0..200u64 { cancel.check()?; progress(Progress { phase: "reading", files_done: n, files_total: 200, bytes_done: n << 20, bytes_total: 200 << 20 }); tokio::time::sleep(Duration::from_millis(25)).await; }
        }
        let id = format!("{:032x}", self.count() + 1);
        let st = std::process::Command::new("cp").arg("-a").arg(directory).arg(self.root.join(&id)).status();
        if !st.is_ok_and(|s| s.success()) { return Err(err(ErrorKind::LocalIo, "copy", "cp failed")); }
        let (files_total, bytes_total) = tally(directory);
        progress(Progress { phase: "reading", files_done: files_total, files_total, bytes_done: bytes_total, bytes_total });
        Ok(SaveReport { snapshot: id, seq: self.count(), complete: true, files_total, bytes_total, files_new: files_total, bytes_read: bytes_total, ..Default::default() })
    }
    pub async fn restore(&self, directory: &Path, o: RestoreOptions, _p: ProgressSink, _c: CancelToken) -> Result<RestoreReport> {
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
    pub async fn rescues(&self) -> Result<Vec<RescueInfo>> { Ok(vec![]) }
    pub async fn dismiss(&self, id: &str) -> Result<()> { Err(err(ErrorKind::NotFound, "dismiss", "no such rescue").at(id)) }
    pub async fn usage(&self) -> Result<UsageReport> { Ok(UsageReport::default()) }
    pub async fn check(&self, _o: CheckOptions, _p: ProgressSink, _c: CancelToken) -> Result<CheckReport> { Ok(CheckReport { complete: true, ..Default::default() }) }
}
