//! A full store still takes what frees room: a deletion, a purge, a prune's steps and settings give the ballast up for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/attic.rs"]
mod attic;
#[path = "common/faults.rs"]
mod faults;

use async_trait::async_trait;
use attic::*;
use bytes::Bytes;
use faults::*;
use nbws_core::key;
use nbws_engine::options::PruneOptions;
use nbws_engine::store::testkit::{Fault, Faulty, Recording, Verb};
use nbws_engine::store::{Created, ObjectInfo, Store};
use nbws_engine::{Error, ErrorKind, Result, State, Workspace};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the ballast.
const BALLAST: u64 = 64 << 10;

/// An attic with room for so many bytes, which is full when they are used up.
#[derive(Debug)]
struct Cramped {
    attic: Arc<Attic>,
    room: AtomicU64,
}

impl Cramped {
    /// Without any room beside what is there.
    fn full(attic: Arc<Attic>) -> Arc<Cramped> {
        let room = AtomicU64::new(attic.bytes_below(""));
        Arc::new(Cramped { attic, room })
    }

    fn check(&self, key: &str, bytes: &Bytes) -> Result<()> {
        let others = self.attic.bytes_below("") - self.attic.bytes_below(key);
        if others + bytes.len() as u64 <= self.room.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::QuotaExceeded,
            "store object",
            "the store is full",
        )
        .at(key))
    }
}

#[async_trait]
impl Store for Cramped {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.check(key, &bytes)?;
        self.attic.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.check(key, &bytes)?;
        self.attic.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.attic.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.attic.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.attic.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.attic.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.attic.delete(key).await
    }

    fn describe(&self) -> String {
        self.attic.describe()
    }
}

/// A notebook with so many snapshots and its ballast.
async fn notebook(snapshots: u64) -> Home {
    let home = Home::with(snapshots).await;
    let ws = home.pruner().await;
    ws.change_state(None, State::Stopped, None, None)
        .await
        .unwrap();
    assert!(ws.keep_ballast().await.unwrap());
    assert_eq!(home.attic.bytes_below(key::BALLAST), BALLAST);
    home
}

async fn on(home: &Home, store: Arc<Cramped>) -> Workspace {
    home.pruner_on(store).await
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ballast_is_stored_once() {
    let home = notebook(1).await;
    let recording = Arc::new(Recording::new(home.attic.clone()));
    let ws = home.pruner_on(recording.clone()).await;
    recording.take();
    assert!(ws.keep_ballast().await.unwrap());
    let sent: Vec<Verb> = recording.take().iter().map(|r| r.verb).collect();
    assert_eq!(sent, [Verb::Head]);
    home.attic.delete(key::BALLAST).await.unwrap();
    let full = Cramped::full(home.attic.clone());
    assert!(!on(&home, full).await.keep_ballast().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_a_deletion_and_a_purge() {
    let home = notebook(2).await;
    let ws = on(&home, Cramped::full(home.attic.clone())).await;
    ws.delete().await.unwrap();
    assert_eq!(home.attic.bytes_below(key::BALLAST), 0);
    // What the ballast left is room for the second tombstone, too.
    let planned = ws.purge_plan().await.unwrap();
    let packs = home.attic.bytes_below("packs/") + home.attic.bytes_below("index/");
    assert_eq!(planned, packs);
    assert_eq!(ws.purge().await.unwrap(), planned);
    assert_eq!(home.attic.keys("packs/"), [""; 0]);
    assert_eq!(home.attic.kinds()[3..], ["tombstone", "tombstone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_a_purge_of_what_was_deleted_before() {
    let home = notebook(1).await;
    home.pruner().await.delete().await.unwrap();
    let ws = on(&home, Cramped::full(home.attic.clone())).await;
    let planned = ws.purge_plan().await.unwrap();
    let before = home.attic.bytes_below("");
    let log = |home: &Home| home.attic.bytes_below(key::LOG);
    let grown = log(&home);
    let freed = ws.purge().await.unwrap();
    // The ballast went first, for the tombstone.
    assert_eq!(planned, freed + BALLAST);
    assert_eq!(
        before - planned + (log(&home) - grown),
        home.attic.bytes_below("")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ballast_a_full_store_takes_nothing() {
    let home = notebook(2).await;
    home.attic.delete(key::BALLAST).await.unwrap();
    let ws = on(&home, Cramped::full(home.attic.clone())).await;
    assert_eq!(kind(ws.delete().await), ErrorKind::QuotaExceeded);
    let set = ws.set_setting("a".to_owned(), Some("1".to_owned())).await;
    assert_eq!(kind(set), ErrorKind::QuotaExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_settings() {
    let home = notebook(1).await;
    let ws = on(&home, Cramped::full(home.attic.clone())).await;
    ws.set_setting("a".to_owned(), Some("1".to_owned()))
        .await
        .unwrap();
    assert_eq!(ws.setting("a").await.unwrap().as_deref(), Some("1"));
    assert_eq!(home.attic.bytes_below(key::BALLAST), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_of_a_full_store_frees_room_and_puts_the_ballast_back() {
    let home = notebook(5).await;
    let ws = on(&home, Cramped::full(home.attic.clone())).await;
    let marked = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert!(marked.mark.is_some(), "{marked:?}");
    assert_eq!(home.attic.bytes_below(key::BALLAST), 0);
    home.attic.advance(DAY_MS);
    let swept = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert!(swept.bytes_freed > 0, "{swept:?}");
    home.assert_whole().await;
    // This store is too small for both; one with room gets it back.
    let room = Cramped::full(home.attic.clone());
    room.room.fetch_add(1 << 20, Ordering::SeqCst);
    let ws = on(&home, room).await;
    prune(&ws, apply(keep_last(1))).await.unwrap();
    home.attic.advance(DAY_MS);
    assert!(prune(&ws, apply(keep_last(1))).await.unwrap().bytes_freed > 0);
    assert_eq!(home.attic.bytes_below(key::BALLAST), BALLAST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ballast_is_given_up_for_one_attempt_of_these_records_only() {
    let home = notebook(2).await;
    let faulty = Arc::new(Faulty::new(home.attic.clone()));
    let ws = home.writer_on(faulty.clone()).await;
    // A snapshot takes room instead of freeing it.
    edit(&home.work(), 9);
    faulty.when(Some(Verb::Create), key::LOG, 0, 1, Fault::Full);
    assert_eq!(
        kind(save(&ws, &home.work()).await),
        ErrorKind::QuotaExceeded
    );
    assert_eq!(home.attic.bytes_below(key::BALLAST), BALLAST);
    save(&ws, &home.work()).await.unwrap();
    // So does a change of state; a mark does not, and it has one more attempt.
    faulty.when(Some(Verb::Create), key::LOG, 0, 1, Fault::Full);
    let changed = ws.change_state(None, State::Stopped, Some("note".to_owned()), None);
    assert_eq!(kind(changed.await), ErrorKind::QuotaExceeded);
    assert_eq!(home.attic.bytes_below(key::BALLAST), BALLAST);
    faulty.when(Some(Verb::Create), key::LOG, 0, 1, Fault::Full);
    let options = PruneOptions {
        repack: false,
        ..apply(keep_last(1))
    };
    let marked = prune(&ws, options).await.unwrap();
    assert!(marked.mark.is_some() && marked.warnings.is_empty());
    assert_eq!(home.attic.bytes_below(key::BALLAST), 0);
    assert!(ws.keep_ballast().await.unwrap());
    faulty.when(Some(Verb::Create), key::LOG, 0, 2, Fault::Full);
    assert_eq!(kind(ws.delete().await), ErrorKind::QuotaExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_that_has_no_room_for_copies_marks_what_needs_none() {
    let home = notebook(4).await;
    let faulty = Arc::new(Faulty::new(home.attic.clone()));
    let ws = home.pruner_on(faulty.clone()).await;
    let plan = PruneOptions {
        apply: false,
        ..apply(keep_last(1))
    };
    let planned = prune(&ws, plan).await.unwrap();
    assert!(planned.packs_repacked > 0, "{planned:?}");
    // The first pack that it writes is that of the copies.
    faulty.when(Some(Verb::Put), "packs/", 0, 1, Fault::Full);
    let done = prune(&ws, apply(keep_last(1))).await.unwrap();
    assert_eq!(done.packs_repacked, 0, "{done:?}");
    assert!(done.mark.is_some() && done.warnings[0].contains("is full"));
    assert_eq!(home.attic.bytes_below(key::BALLAST), BALLAST);
    home.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_asks_for_no_ballast() {
    let mut home = notebook(1).await;
    let recording = Arc::new(Recording::new(home.attic.clone()));
    let ws = home.writer_on(recording.clone()).await;
    for version in 20..23 {
        edit(&home.work(), version);
        home.save(&ws).await;
    }
    let asked = recording.take();
    assert!(asked.len() > 6);
    assert!(asked.iter().all(|request| request.key != key::BALLAST));
}
