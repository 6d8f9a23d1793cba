//! The doctor against stores that keep their word, and stores that don't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use bytes::Bytes;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, SaveOptions};
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
