//! A store in memory that tells the time it is told, and a notebook whose snapshots are known.
#![allow(dead_code, unreachable_pub)]

use crate::faults::*;
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::key;
use nbws_core::record::Record;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{PruneOptions, Retention};
use nbws_engine::store::{Created, ObjectInfo, Store};
use nbws_engine::{Error, ErrorKind, PruneReport, Result, Workspace};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub const HOUR_MS: u64 = 3_600_000;
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// Where the store's clock starts: so long ago that no writer's clock could be taken for it.
pub const START_MS: u64 = 1_000_000_000_000;

/// A store whose clock a test sets.
#[derive(Debug, Default)]
pub struct Attic {
    objects: Mutex<BTreeMap<String, (Bytes, u64)>>,
    now_ms: AtomicU64,
}

impl Attic {
    pub fn new() -> Arc<Attic> {
        let attic = Attic::default();
        attic.now_ms.store(START_MS, Ordering::SeqCst);
        Arc::new(attic)
    }

    pub fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// A store with the same objects and time.
    pub fn copy(&self) -> Arc<Attic> {
        let objects = self.objects.lock().unwrap().clone();
        Arc::new(Attic {
            objects: Mutex::new(objects),
            now_ms: AtomicU64::new(self.now_ms.load(Ordering::SeqCst)),
        })
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let below = objects.keys().filter(|k| k.starts_with(prefix));
        below.cloned().collect()
    }

    pub fn bytes_below(&self, prefix: &str) -> u64 {
        let objects = self.objects.lock().unwrap();
        let below = objects.iter().filter(|(k, _)| k.starts_with(prefix));
        below.map(|(_, (bytes, _))| bytes.len() as u64).sum()
    }

    pub fn record(&self, seq: u64) -> Record {
        let objects = self.objects.lock().unwrap();
        Record::decode(&objects[&key::log(seq)].0).unwrap()
    }

    /// The log's kinds, oldest first.
    pub fn kinds(&self) -> Vec<&'static str> {
        let seqs = self.keys(key::LOG);
        let seqs = seqs.iter().map(|k| key::log_seq(k).unwrap());
        seqs.map(|seq| self.record(seq).kind().name()).collect()
    }

    pub fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        let now = self.now_ms.load(Ordering::SeqCst);
        let mut objects = self.objects.lock().unwrap();
        objects.insert(key.to_owned(), (bytes.into(), now));
    }

    fn find(&self, key: &str) -> Result<(Bytes, u64)> {
        let objects = self.objects.lock().unwrap();
        objects.get(key).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "read object",
                "there is no such object",
            )
            .at(key)
        })
    }
}

#[async_trait]
impl Store for Attic {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.set(key, bytes);
        Ok(())
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let now = self.now_ms.load(Ordering::SeqCst);
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.to_owned(), (bytes, now));
        Ok(Created::Yes)
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        // Others get a turn, as at a real store.
        tokio::task::yield_now().await;
        Ok(self.find(key)?.0)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.get(key).await?;
        if range.end > bytes.len() as u64 {
            return Err(Error::corrupt("read object", "fewer bytes than asked for").at(key));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let (bytes, modified_ms) = self.find(key)?;
        Ok(ObjectInfo {
            key: key.to_owned(),
            size: bytes.len() as u64,
            modified_ms,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        tokio::task::yield_now().await;
        let objects = self.objects.lock().unwrap();
        let below = objects.iter().filter(|(k, _)| k.starts_with(prefix));
        let info = |(key, (bytes, modified_ms)): (&String, &(Bytes, u64))| ObjectInfo {
            key: key.clone(),
            size: bytes.len() as u64,
            modified_ms: *modified_ms,
        };
        let after = below.filter(|(k, _)| after.is_none_or(|a| k.as_str() > a));
        Ok(after.map(info).collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    fn describe(&self) -> String {
        "memory:///attic".to_owned()
    }
}

pub fn keep_last(count: u64) -> Option<Retention> {
    Some(Retention {
        retained_number: Some(count),
        ..Retention::default()
    })
}

/// Applies, whatever share goes.
pub fn apply(retention: Option<Retention>) -> PruneOptions {
    PruneOptions {
        apply: true,
        force: true,
        retention,
        ..PruneOptions::default()
    }
}

pub async fn prune(ws: &Workspace, options: PruneOptions) -> Result<PruneReport> {
    ws.prune(options, None, CancelToken::new()).await
}

/// A repository in an attic, its first writer, and every snapshot that was acknowledged.
pub struct Home {
    pub root: TempDir,
    pub attic: Arc<Attic>,
    pub saved: Vec<(String, Listing)>,
}

impl Home {
    /// With so many snapshots, each an edit of the one before.
    pub async fn with(snapshots: u64) -> Home {
        let mut home = Home {
            root: scratch(),
            attic: Attic::new(),
            saved: Vec::new(),
        };
        make_tree(&home.work(), 7);
        let ws = home.writer().await;
        for i in 0..snapshots {
            if i > 0 {
                edit(&home.work(), i);
            }
            home.save(&ws).await;
        }
        home
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("w")
    }

    pub async fn save(&mut self, ws: &Workspace) {
        let id = save(ws, &self.work()).await.unwrap().snapshot;
        self.saved.push((id, listing(&self.work())));
        self.attic.advance(60_000);
    }

    /// A new process of the first writer.
    pub async fn writer(&self) -> Workspace {
        self.writer_on(self.attic.clone()).await
    }

    pub async fn writer_on(&self, store: Arc<dyn Store>) -> Workspace {
        open(store, &self.root.path().join("state")).await.unwrap()
    }

    /// A process of a machine that knows nothing.
    pub async fn pruner(&self) -> Workspace {
        self.pruner_on(self.attic.clone()).await
    }

    pub async fn pruner_on(&self, store: Arc<dyn Store>) -> Workspace {
        look(store, &self.root.path().join("other-state"))
            .await
            .unwrap()
    }

    /// Every snapshot and rescue that is listed is whole and is what was saved; nothing is damaged.
    pub async fn assert_whole(&self) {
        let store: Arc<dyn Store> = self.attic.clone();
        assert_whole(&store, &self.saved).await;
    }

    pub async fn ids(&self) -> Vec<String> {
        let listed = self.pruner().await.snapshots().await.unwrap();
        listed.into_iter().map(|s| s.snapshot).collect()
    }
}

/// As [`Home::assert_whole`]; returns the ids of the snapshots that are kept.
pub async fn assert_whole(store: &Arc<dyn Store>, saved: &[(String, Listing)]) -> Vec<String> {
    let machine = scratch();
    let ws = look(Arc::clone(store), &machine.path().join("state"))
        .await
        .unwrap();
    let report = check(&ws).await.unwrap();
    assert!(report.complete, "{report:?}");
    let snapshots = ws.snapshots().await.unwrap();
    let rescues = ws.rescues().await.unwrap();
    let kept: Vec<String> = snapshots.iter().map(|s| s.snapshot.clone()).collect();
    for id in kept.iter().chain(rescues.iter().map(|r| &r.snapshot)) {
        let (_, found) = tree_of(Arc::clone(store), id).await.unwrap();
        if let Some((_, tree)) = saved.iter().find(|(saved, _)| saved == id) {
            assert_eq!(difference(&found, tree), None, "{id}");
        }
    }
    kept
}
