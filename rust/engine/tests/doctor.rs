//! The doctor against stores that keep their word, and stores that don't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use bytes::Bytes;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{CheckOptions, OpenOptions, SaveOptions};
use nbws_engine::report::{DoctorReport, SaveReport};
use nbws_engine::store::{Created, ObjectInfo, Store, StoreOptions, open};
use nbws_engine::{Error, ErrorKind, Result, Workspace, doctor};
use std::ops::Range;
use std::sync::Arc;

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Looks whether the name is free, and writes later.
    LooksFirst,
    /// Ignores the condition.
    Overwrites,
    /// Refuses the second create, and writes it nevertheless.
    LoserWrites,
    /// Offers no conditional create.
    NoCreate,
    /// Never says what became of a create.
    Unclear,
    /// Lists nothing.
    ListsNothing,
    /// Lets nobody write to the log.
    LogDenied,
}

#[derive(Debug)]
struct Faulty(Arc<dyn Store>, Fault);

impl Faulty {
    fn store(name: &str, fault: Fault) -> Arc<dyn Store> {
        let url = format!("memory:///doctor-{name}-{fault:?}");
        Arc::new(Faulty(open(&url, &StoreOptions::new()).unwrap(), fault))
    }
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.0.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let is_free = self.0.head(key).await.is_err();
        match self.1 {
            Fault::LooksFirst if is_free => {
                tokio::task::yield_now().await;
                self.0.put(key, bytes).await.map(|()| Created::Yes)
            }
            Fault::Overwrites => self.0.put(key, bytes).await.map(|()| Created::Yes),
            Fault::LoserWrites if !is_free => {
                self.0.put(key, bytes).await.map(|()| Created::Exists)
            }
            Fault::NoCreate => Err(Error::new(ErrorKind::Unsupported, "create object", "no")),
            Fault::Unclear if key.contains("round") => {
                Err(Error::new(ErrorKind::Unavailable, "create object", "hm"))
            }
            Fault::LogDenied if key.starts_with("log/") => {
                Err(Error::new(ErrorKind::Denied, "create object", "no"))
            }
            _ => self.0.create(key, bytes).await,
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.0.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.0.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        match self.1 {
            Fault::ListsNothing => Ok(Vec::new()),
            _ => self.0.list(prefix, after).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[tokio::test]
async fn every_broken_promise_is_found() {
    for (fault, multi_writer, says) in [
        (Fault::None, true, ""),
        (Fault::LooksFirst, false, "not atomic: up to 16 of 16"),
        (Fault::Overwrites, false, "not atomic"),
        (Fault::LoserWrites, false, "changed the object"),
        (Fault::NoCreate, false, "no conditional create at all"),
        (Fault::Unclear, false, "not answered (128)"),
        (Fault::ListsNothing, true, "was not listed"),
    ] {
        let store = Faulty::store("probe", fault);
        let report = doctor::measure(store.clone()).await.unwrap();
        assert_eq!(report.multi_writer, multi_writer, "{fault:?}: {report:?}");
        let said = report.findings.join("; ");
        assert!(said.contains(says), "{fault:?}: {said}");
        assert_eq!(said.is_empty(), says.is_empty(), "{fault:?}: {said}");
        assert_eq!(said.contains("exclusive="), !multi_writer, "{said}");
        let left = open(&store.describe(), &StoreOptions::new()).unwrap();
        assert_eq!(left.list("", None).await.unwrap(), [], "{fault:?}");
    }
}

#[tokio::test]
async fn a_repository_is_made_there_for_one_writer_only() {
    for fault in [Fault::LooksFirst, Fault::NoCreate] {
        one_writer_only(fault).await;
    }
}

async fn one_writer_only(fault: Fault) {
    let state = tempfile::tempdir().unwrap();
    let options = |create, exclusive| OpenOptions {
        create,
        exclusive,
        probe: true,
        state_dir: Some(state.path().to_owned()),
        ..OpenOptions::default()
    };
    let store = Faulty::store("create", fault);
    let refused = Workspace::with_store(store.clone(), options(true, false)).await;
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(store.list("", None).await.unwrap(), []);

    let writer = Workspace::with_store(store.clone(), options(true, true))
        .await
        .unwrap();
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("f"), "content").unwrap();
    writer
        .save(
            work.path(),
            SaveOptions::default(),
            None,
            CancelToken::new(),
        )
        .await
        .unwrap();
    // The outcome is read, not measured again: reading is free, writing needs the word of the caller.
    let reader = Workspace::with_store(store.clone(), options(false, false))
        .await
        .unwrap();
    assert_eq!(reader.snapshots().await.unwrap().len(), 1);
    let refused = reader.dismiss("00").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.message().contains("LockFile"), "{refused}");
}

/// A repository on a store that can be swapped for one that behaves otherwise, on the same objects.
struct Swap {
    name: String,
    state: tempfile::TempDir,
    work: tempfile::TempDir,
}

impl Swap {
    async fn new(name: &str, fault: Fault) -> Swap {
        let swap = Swap {
            name: format!("memory:///swap-{name}"),
            state: tempfile::tempdir().unwrap(),
            work: tempfile::tempdir().unwrap(),
        };
        let options = OpenOptions {
            create: true,
            probe: true,
            ..swap.options(true)
        };
        let made = Workspace::with_store(swap.store(fault), options).await;
        made.unwrap();
        swap
    }

    fn store(&self, fault: Fault) -> Arc<dyn Store> {
        let objects = open(&self.name, &StoreOptions::new()).unwrap();
        Arc::new(Faulty(objects, fault))
    }

    fn options(&self, exclusive: bool) -> OpenOptions {
        OpenOptions {
            exclusive,
            state_dir: Some(self.state.path().to_owned()),
            ..OpenOptions::default()
        }
    }

    async fn open(&self, fault: Fault, exclusive: bool) -> Workspace {
        let opened = Workspace::with_store(self.store(fault), self.options(exclusive)).await;
        opened.unwrap()
    }

    async fn doctor(&self, fault: Fault, exclusive: bool) -> DoctorReport {
        let examined = doctor::examine(self.store(fault), self.options(exclusive)).await;
        examined.unwrap()
    }

    /// Saves something new.
    async fn save(&self, workspace: &Workspace, text: &str) -> Result<SaveReport> {
        std::fs::write(self.work.path().join("f"), text).unwrap();
        let options = SaveOptions::default();
        let saved = workspace.save(self.work.path(), options, None, CancelToken::new());
        saved.await
    }

    async fn records(&self) -> usize {
        let store = self.store(Fault::None);
        store.list("log/", None).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_store_that_was_mended_lets_several_writers_in_again() {
    let swap = Swap::new("mended", Fault::LooksFirst).await;
    // Before the first save, too: the log is empty then.
    let report = swap.doctor(Fault::None, true).await;
    assert_eq!(report.recorded, Some(1), "{report:?}");
    let workspace = swap.open(Fault::None, false).await;
    let first = swap.save(&workspace, "one").await.unwrap();
    assert_eq!(first.seq, 2);
    // The same outcome within a day is not kept again.
    let report = swap.doctor(Fault::None, false).await;
    assert_eq!((report.recorded, report.findings.len()), (None, 0));
    assert_eq!(swap.records().await, 2);
    // An open writer that knows its settings asks for nothing more than one that has none.
    let report = swap.save(&workspace, "two").await.unwrap();
    let requests = (
        report.requests.put,
        report.requests.list,
        report.requests.get,
    );
    assert_eq!(requests, (2, 1, 0));
    let check = workspace
        .check(CheckOptions { read_data: 1.0 }, None, CancelToken::new())
        .await
        .unwrap();
    assert!(check.complete, "{check:?}");
}

#[tokio::test]
async fn a_store_that_became_worse_lets_one_writer_in() {
    let swap = Swap::new("worse", Fault::None).await;
    let workspace = swap.open(Fault::LooksFirst, false).await;
    swap.save(&workspace, "one").await.unwrap();
    // Without the lock the doctor would be one more writer, on a store that can't decide between them.
    let report = swap.doctor(Fault::LooksFirst, false).await;
    assert_eq!(report.recorded, None);
    let said = report.findings.join("; ");
    assert!(said.contains("is not kept with the repository"), "{said}");
    assert_eq!(swap.records().await, 1);

    let report = swap.doctor(Fault::LooksFirst, true).await;
    assert_eq!(report.recorded, Some(2), "{report:?}");
    // An open writer finds out at its next commit, a new one before it reads anything.
    for workspace in [workspace, swap.open(Fault::LooksFirst, false).await] {
        let refused = swap.save(&workspace, "two").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        let refused = workspace.dismiss("00").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }
    assert_eq!(swap.records().await, 2);
    let turns = swap.open(Fault::LooksFirst, true).await;
    assert_eq!(swap.save(&turns, "two").await.unwrap().seq, 3);
    assert_eq!(turns.snapshots().await.unwrap().len(), 2);
}

#[tokio::test]
async fn settings_that_are_damaged_let_one_writer_in_until_the_doctor_has_looked() {
    let swap = Swap::new("damaged", Fault::LooksFirst).await;
    let report = swap.doctor(Fault::None, true).await;
    assert_eq!(report.recorded, Some(1));
    let store = swap.store(Fault::None);
    let packs = store.list("packs/", None).await.unwrap();
    assert_eq!(packs.len(), 1);
    let mut bytes = store.get(&packs[0].key).await.unwrap().to_vec();
    bytes[100] ^= 1;
    store.put(&packs[0].key, bytes.into()).await.unwrap();

    let workspace = swap.open(Fault::None, false).await;
    let refused = swap.save(&workspace, "one").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.message().contains("nbws doctor"), "{refused}");
    let report = swap.doctor(Fault::None, false).await;
    assert_eq!(report.recorded, None, "{report:?}");
    let report = swap.doctor(Fault::None, true).await;
    assert_eq!(report.recorded, Some(2), "{report:?}");
    assert_eq!(swap.save(&workspace, "one").await.unwrap().seq, 3);
}

/// Nothing is decided, nothing is kept; and what can't be kept is still measured.
#[tokio::test]
async fn a_doctor_that_may_not_write_to_the_log_measures_nevertheless() {
    let swap = Swap::new("denied", Fault::None).await;
    let before = swap.records().await;
    let report = swap.doctor(Fault::Unclear, true).await;
    assert_eq!((report.multi_writer, report.recorded), (false, None));
    assert_eq!(swap.records().await, before);
    // A report that differs from the one at creation, so that it is news.
    let report = swap.doctor(Fault::ListsNothing, false).await;
    assert!(report.multi_writer);
    let swap = Swap::new("denied-log", Fault::ListsNothing).await;
    let report = swap.doctor(Fault::LogDenied, false).await;
    assert_eq!((report.multi_writer, report.recorded), (true, None));
    let said = report.findings.join("; ");
    assert!(said.contains("is not kept with the repository"), "{said}");
}
