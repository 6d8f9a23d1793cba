//! Machines with their own state directory, generated trees, and what the newest record says.
#![allow(dead_code)]

#[path = "basics.rs"]
mod basics;

pub(crate) use basics::*;
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::index::IndexRoot;
use nbws_core::key;
use nbws_core::record::Record;
use nbws_engine::Workspace;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, RestoreOptions, SaveOptions};
use nbws_engine::report::{RestoreReport, SaveReport};
use nbws_engine::store::Store;
use nbws_engine::store::testkit::{Recording, Request, Verb};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A directory on tmpfs where there is one: what is counted here does not depend on the disk, and the disk is slow.
pub(crate) fn scratch() -> TempDir {
    let fast = Path::new("/dev/shm");
    tempfile::Builder::new()
        .prefix("nbws-test-")
        .tempdir_in(fast)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A store in this process that remembers every request; `name` must be the test's own.
pub(crate) fn recorded(name: &str) -> Arc<Recording> {
    let store = nbws_engine::store::open(&format!("memory:///{name}"), &Default::default());
    Arc::new(Recording::new(store.unwrap()))
}

/// A machine: its own state directory and paths.
pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        Machine(scratch())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A process of this machine: it knows what the state directory says and nothing else.
    pub(crate) async fn open(&self, store: Arc<dyn Store>) -> Workspace {
        let options = OpenOptions {
            create: true,
            state_dir: Some(self.path("state")),
            ..OpenOptions::default()
        };
        Workspace::with_store(store, options).await.unwrap()
    }
}

/// The file that is edited: in the middle of the tree, so that its segment is as large as others.
pub(crate) const NOTEBOOK: &str = "lib/package025/notebook.ipynb";

/// `files` small files of text, 40 to a directory, and a notebook of 5 KB.
pub(crate) fn make_tree(root: &Path, files: usize) {
    for i in 0..files {
        let directory = root.join(format!("lib/package{:03}/part{}", i / 200, i / 40 % 5));
        if i % 40 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let text = format!("value_{i} = {i}\n").repeat(1 + i % 7);
        fs::write(directory.join(format!("module_{i:06}.py")), text).unwrap();
    }
    write(&root.join(NOTEBOOK), noise(0, 5_000));
}

pub(crate) async fn save(workspace: &Workspace, directory: &Path) -> SaveReport {
    save_with(workspace, directory, SaveOptions::default()).await
}

pub(crate) async fn save_with(
    workspace: &Workspace,
    directory: &Path,
    options: SaveOptions,
) -> SaveReport {
    let report = workspace
        .save(directory, options, None, CancelToken::new())
        .await
        .unwrap();
    assert!(report.complete, "{report:?}");
    report
}

pub(crate) async fn restore(workspace: &Workspace, directory: &Path) -> RestoreReport {
    restore_with(workspace, directory, RestoreOptions::default()).await
}

pub(crate) async fn restore_with(
    workspace: &Workspace,
    directory: &Path,
    options: RestoreOptions,
) -> RestoreReport {
    let report = workspace
        .restore(directory, options, None, CancelToken::new())
        .await
        .unwrap();
    assert!(report.complete, "{report:?}");
    report
}

/// Requests since the last call, one word each: verb and the kind of the object; of records the number.
pub(crate) fn words(store: &Recording) -> Vec<String> {
    store.take().iter().map(word).collect()
}

pub(crate) fn word(request: &Request) -> String {
    let verb = match request.verb {
        Verb::Put => "put",
        Verb::Create => "create",
        Verb::Get => "get",
        Verb::GetRange => "range",
        Verb::Head => "head",
        Verb::List => "list",
        Verb::Delete => "delete",
    };
    let object = match key::log_seq(&request.key) {
        Some(seq) => seq.to_string(),
        None => request.key.split('/').next().unwrap_or_default().to_owned(),
    };
    format!("{verb} {object}")
}

/// Record `seq`.
pub(crate) async fn record(store: &dyn Store, seq: u64) -> Record {
    Record::decode(&store.get(&key::log(seq)).await.unwrap()).unwrap()
}

/// The index root that record `seq` names.
pub(crate) async fn index_root(store: &dyn Store, seq: u64) -> IndexRoot {
    let place = record(store, seq).await.index.unwrap();
    let range = u64::from(place.offset)..u64::from(place.offset + place.length);
    let stored = store.get_range(&place.object.to_string(), range).await;
    let mut plain = Vec::new();
    FrameDecoder::new()
        .unwrap()
        .decode(
            &stored.unwrap(),
            FrameKind::IndexRoot,
            place.plain,
            &mut plain,
        )
        .unwrap();
    IndexRoot::decode(&plain).unwrap()
}
