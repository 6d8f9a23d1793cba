//! Saves with a deadline on stores that are slow, hang, fail or die: what is committed is whole, what was not stored in time is
//! said, and what was stored is not sent again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/faults.rs"]
mod faults;

use async_trait::async_trait;
use bytes::Bytes;
use faults::*;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::SaveOptions;
use nbws_engine::report::SaveReport;
use nbws_engine::store::testkit::{Fault, Faulty, Slow};
use nbws_engine::store::{Created, ObjectInfo, Store};
use nbws_engine::{ErrorKind, Result, Workspace};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const LARGE: u64 = 24;
const LARGE_BYTES: usize = 400_000;
const NOTEBOOKS: u64 = 8;

fn fill(work: &Path, seed: u64) {
    for i in 0..LARGE {
        let name = format!("data/{i:02}.bin");
        write(&work.join(name), noise(seed * 1_000 + i, LARGE_BYTES));
    }
    for i in 0..NOTEBOOKS {
        let name = format!("books/{i}.ipynb");
        write(&work.join(name), noise(seed * 1_000 + 500 + i, 4_000));
    }
}

fn within_ms(deadline_ms: u64) -> SaveOptions {
    SaveOptions {
        deadline: Some(Duration::from_millis(deadline_ms)),
        ..save_options()
    }
}

async fn save_as(ws: &Workspace, work: &Path, options: SaveOptions) -> Result<SaveReport> {
    ws.save(work, options, None, CancelToken::new()).await
}

fn left_out(report: &SaveReport) -> BTreeSet<PathBuf> {
    let names = report
        .omitted
        .iter()
        .map(|o| String::from_utf8(o.path.clone()).unwrap());
    names.map(PathBuf::from).collect()
}

/// Everything in the head but what was left out is as it is on the disk, and what was left out is as it was in `before`.
async fn assert_whole(shelf: &Arc<Shelf>, work: &Path, report: &SaveReport, before: &Listing) {
    let late = left_out(report);
    let (id, found) = tree_of(shelf.clone(), "latest").await.unwrap();
    assert_eq!(id, report.snapshot);
    let here = listing(work);
    for (path, fact) in &here {
        let expected = match late.contains(path) {
            true => before.get(path),
            false => Some(fact),
        };
        let content = |fact: Option<&Fact>| fact.map(|f| f.content.clone());
        assert!(content(found.get(path)) == content(expected), "{path:?}");
    }
    assert_eq!(report.partial, !late.is_empty());
    let machine = scratch();
    let ws = look(shelf.clone(), machine.path()).await.unwrap();
    let checked = check(&ws).await.unwrap();
    assert!(checked.damaged.is_empty(), "{checked:?}");
}

/// Packs that are asked for before `until`, beyond the first `allowed`, are never stored and never answered.
#[derive(Debug)]
struct Stalling {
    inner: Arc<Shelf>,
    allowed: AtomicI64,
    until: Instant,
}

impl Stalling {
    fn new(inner: &Arc<Shelf>, allowed: i64, ms: u64) -> Arc<Self> {
        Arc::new(Stalling {
            inner: inner.clone(),
            allowed: AtomicI64::new(allowed),
            until: Instant::now() + Duration::from_millis(ms),
        })
    }
}

#[async_trait]
impl Store for Stalling {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let is_allowed = self.allowed.fetch_sub(1, Ordering::SeqCst) > 0;
        if !is_allowed && Instant::now() < self.until {
            std::future::pending::<()>().await;
        }
        self.inner.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.inner.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// A repository with one snapshot, and a process of its writer on another view of its store.
async fn begun() -> (Repo, Listing) {
    let repo = Repo::with(1).await;
    let before = listing(&repo.work());
    (repo, before)
}

fn pack_bytes(shelf: &Shelf) -> u64 {
    let keys = shelf.keys("packs/");
    keys.iter().map(|key| shelf.bytes(key).len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_gets_what_fits_and_notebooks_first() {
    let (repo, before) = begun().await;
    fill(&repo.work(), 1);
    let slow = Slow::new(repo.shelf.clone(), Duration::from_millis(5), 1_000_000);
    let ws = repo.writer_on(Arc::new(slow)).await;
    let start = pack_bytes(&repo.shelf);
    let report = save_as(&ws, &repo.work(), within_ms(3_000)).await.unwrap();
    let late = left_out(&report);
    assert!(report.partial && !report.complete, "{report:?}");
    assert!(!late.is_empty() && late.len() < LARGE as usize, "{late:?}");
    assert!(late.iter().all(|p| p.starts_with("data")), "{late:?}");
    // Three seconds at a megabyte a second, and what was under way at their end.
    assert!(report.bytes_uploaded < 6_000_000, "{report:?}");
    assert_whole(&repo.shelf, &repo.work(), &report, &before).await;

    let kept = pack_bytes(&repo.shelf) - start;
    let ws = repo.writer().await;
    let report = save(&ws, &repo.work()).await.unwrap();
    assert!(report.complete, "{report:?}");
    let all = LARGE * LARGE_BYTES as u64 + NOTEBOOKS * 4_000;
    assert!(report.bytes_uploaded < all - kept + 100_000, "{report:?}");
    assert_whole(&repo.shelf, &repo.work(), &report, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_hang_are_given_up() {
    for allowed in [0, 1, 2] {
        let (repo, before) = begun().await;
        fill(&repo.work(), 1);
        let packs = repo.shelf.keys("packs/").len();
        let store = Stalling::new(&repo.shelf, allowed, 500);
        let ws = repo.writer_on(store.clone()).await;
        let options = SaveOptions {
            memory_bytes: Some(16 << 20),
            ..within_ms(500)
        };
        let report = save_as(&ws, &repo.work(), options).await.unwrap();
        let late = left_out(&report);
        assert!(!late.is_empty(), "{allowed}: {report:?}");
        assert_eq!(late.len() == (LARGE + NOTEBOOKS) as usize, allowed == 0);
        // Those that were let through, and the one with the tree.
        let stored = repo.shelf.keys("packs/").len() - packs;
        assert_eq!(stored as i64, allowed + 1, "{allowed}: {report:?}");
        // The first one that hung was not alone for long, but nobody sent everything at it.
        let tried = allowed - store.allowed.load(Ordering::SeqCst);
        assert!(tried <= allowed + 5, "{allowed}: {tried}");
        assert_whole(&repo.shelf, &repo.work(), &report, &before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_new_version_did_not_arrive_keeps_the_old_one() {
    let repo = Repo::with(0).await;
    fill(&repo.work(), 1);
    let ws = repo.writer().await;
    let first = save(&ws, &repo.work()).await.unwrap();
    let before = listing(&repo.work());
    fill(&repo.work(), 2);
    write(&repo.work().join("new.bin"), noise(7, 3_000_000));
    let ws = repo.writer_on(Stalling::new(&repo.shelf, 1, 500)).await;
    let report = save_as(&ws, &repo.work(), within_ms(500)).await.unwrap();
    assert_ne!(report.snapshot, first.snapshot);
    assert!(left_out(&report).contains(Path::new("new.bin")));
    assert!(left_out(&report).contains(Path::new("data/23.bin")));
    assert!(!left_out(&report).contains(Path::new("books/0.ipynb")));
    assert_whole(&repo.shelf, &repo.work(), &report, &before).await;
    // An open writer and a new one agree about what is missing.
    let full = save(&ws, &repo.work()).await.unwrap();
    assert!(full.complete, "{full:?}");
    assert_whole(&repo.shelf, &repo.work(), &full, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_far_away_costs_nothing() {
    let (repo, _) = begun().await;
    edit(&repo.work(), 5);
    let ws = repo.writer().await;
    let report = save_as(&ws, &repo.work(), within_ms(600_000))
        .await
        .unwrap();
    assert!(report.complete, "{report:?}");
    // One pack with everything, and the record.
    assert_eq!(report.requests.put, 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_and_a_deadline_together_send_no_more_than_both_allow() {
    let (repo, before) = begun().await;
    fill(&repo.work(), 1);
    let ws = repo.writer().await;
    let options = SaveOptions {
        limit_rate: Some(1_000_000),
        ..within_ms(2_000)
    };
    let report = save_as(&ws, &repo.work(), options).await.unwrap();
    assert!(report.partial, "{report:?}");
    assert!(report.bytes_uploaded < 2_100_000, "{report:?}");
    assert!(report.bytes_uploaded > 500_000, "{report:?}");
    assert_whole(&repo.shelf, &repo.work(), &report, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_no_deadline() {
    let (repo, _) = begun().await;
    fill(&repo.work(), 1);
    let faulty = Arc::new(Faulty::new(repo.shelf.clone()));
    faulty.when(None, "packs/", 0, u64::MAX, Fault::Deny);
    let ws = repo.writer_on(faulty).await;
    let error = save_as(&ws, &repo.work(), within_ms(2_000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    repo.assert_head(&repo.latest().0, &repo.latest().1).await;
}

/// One save with a deadline on a slow store, with one thing that happens at one of its requests; then a restart.
async fn crash_at(operation: Option<u64>, fault: Fault) -> u64 {
    let (repo, before) = begun().await;
    fill(&repo.work(), 1);
    let here = listing(&repo.work());
    let slow = Slow::new(repo.shelf.clone(), Duration::from_millis(1), 8_000_000);
    let faulty = Arc::new(Faulty::new(Arc::new(slow)));
    let ws = repo.writer_on(faulty.clone()).await;
    let opened = faulty.operations();
    if let Some(operation) = operation {
        faulty.at(opened + operation, fault);
    }
    let outcome = save_as(&ws, &repo.work(), within_ms(600)).await;
    let operations = faulty.operations() - opened;
    drop(ws);
    // Whatever became of it: the head is whole, every file in it new or as it was.
    let (id, head) = tree_of(repo.shelf.clone(), "latest").await.unwrap();
    for (path, fact) in &head {
        let known = [before.get(path), here.get(path)];
        let is_whole = known.iter().flatten().any(|f| f.content == fact.content);
        assert!(is_whole, "{operation:?} {fault:?}: {path:?}");
    }
    if let Ok(report) = &outcome {
        assert_eq!(id, report.snapshot, "{operation:?} {fault:?}");
        assert_whole(&repo.shelf, &repo.work(), report, &before).await;
    }
    for path in before.keys() {
        assert!(head.contains_key(path), "{operation:?} {fault:?}: {path:?}");
    }
    let ws = repo.writer().await;
    let report = save(&ws, &repo.work()).await.unwrap();
    assert!(report.complete, "{operation:?} {fault:?}: {report:?}");
    repo.assert_head(&report.snapshot, &here).await;
    repo.assert_clean().await;
    operations
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_save_with_a_deadline_may_be_the_last_one() {
    let operations = crash_at(None, Fault::FailBefore).await;
    assert!(operations > 6, "{operations}");
    let faults = [
        Fault::FailBefore,
        Fault::LandWithoutReply,
        Fault::LandLater,
        Fault::Die,
        Fault::LandThenDie,
    ];
    let mut cases = Vec::new();
    for operation in 0..operations + 2 {
        cases.extend(faults.map(|fault| (operation, fault)));
    }
    for group in cases.chunks(6) {
        let runs = group
            .iter()
            .map(|(operation, fault)| tokio::spawn(crash_at(Some(*operation), *fault)));
        for run in futures::future::join_all(runs).await {
            run.unwrap();
        }
    }
}
