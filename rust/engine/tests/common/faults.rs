//! What the fault tests share: a store that can be cut open, traps in front of stores, small workspaces and exact listings.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "basics.rs"]
mod basics;

use async_trait::async_trait;
pub use basics::*;
use bytes::Bytes;
use futures::future::BoxFuture;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{CheckOptions, Delete, OpenOptions, RestoreOptions, SaveOptions};
use nbws_engine::report::{CheckReport, RestoreReport, SaveReport};
use nbws_engine::store::testkit::Verb;
use nbws_engine::store::{Created, ObjectInfo, Store};
use nbws_engine::{Error, ErrorKind, Result, Workspace};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A store in memory whose objects a test may copy, bend and remove. The engine may not: saves, restores and checks delete
/// nothing, whatever happens to them.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<BTreeMap<String, Bytes>>);

fn missing(key: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "read object",
        "there is no such object",
    )
    .at(key)
}

impl Shelf {
    pub fn new() -> Arc<Shelf> {
        Arc::default()
    }

    /// A second store with the same objects.
    pub fn copy(&self) -> Arc<Shelf> {
        Arc::new(Shelf(Mutex::new(self.0.lock().unwrap().clone())))
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.0.lock().unwrap();
        objects
            .keys()
            .filter(|k| k.starts_with(prefix))
            .cloned()
            .collect()
    }

    pub fn bytes(&self, key: &str) -> Bytes {
        self.0.lock().unwrap()[key].clone()
    }

    pub fn set(&self, key: &str, bytes: impl Into<Bytes>) {
        self.0.lock().unwrap().insert(key.to_owned(), bytes.into());
    }

    pub fn remove(&self, key: &str) {
        assert!(self.0.lock().unwrap().remove(key).is_some(), "{key}");
    }

    /// Flips one bit of the byte at `at`.
    pub fn flip(&self, key: &str, at: usize) {
        let mut bytes = self.bytes(key).to_vec();
        bytes[at] ^= 1 << (at % 8);
        self.set(key, bytes);
    }

    pub fn truncate(&self, key: &str, len: usize) {
        let bytes = self.bytes(key).slice(..len);
        self.set(key, bytes);
    }

    /// Writes every object into the directory of a `file:` store.
    pub fn dump(&self, directory: &Path) {
        for (key, bytes) in self.0.lock().unwrap().iter() {
            write(&directory.join(key), bytes);
        }
    }

    /// Reads what a store holds.
    pub async fn load(store: &dyn Store) -> Arc<Shelf> {
        let shelf = Shelf::new();
        for object in store.list("", None).await.unwrap() {
            shelf.set(&object.key, store.get(&object.key).await.unwrap());
        }
        shelf
    }
}

#[async_trait]
impl Store for Shelf {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.set(key, bytes);
        Ok(())
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let mut objects = self.0.lock().unwrap();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.to_owned(), bytes);
        Ok(Created::Yes)
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let objects = self.0.lock().unwrap();
        objects.get(key).cloned().ok_or_else(|| missing(key))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.get(key).await?;
        if range.end > bytes.len() as u64 {
            return Err(Error::corrupt("read object", "fewer bytes than asked for").at(key));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let size = self.get(key).await?.len() as u64;
        Ok(ObjectInfo {
            key: key.to_owned(),
            size,
            modified_ms: 1,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let objects = self.0.lock().unwrap();
        Ok(objects
            .iter()
            .filter(|(k, _)| k.starts_with(prefix) && after.is_none_or(|a| k.as_str() > a))
            .map(|(key, bytes)| ObjectInfo {
                key: key.clone(),
                size: bytes.len() as u64,
                modified_ms: 1,
            })
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        panic!("nothing that these tests do may delete an object: {key}");
    }

    fn describe(&self) -> String {
        "memory:///shelf".to_owned()
    }
}

type Act = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What springs a trap.
enum Spring {
    Number(u64),
    Request(Verb, String),
}

/// A store that does something else once, right before or right after one request.
pub struct Trap {
    inner: Arc<dyn Store>,
    count: AtomicU64,
    spring: Spring,
    after: bool,
    sprung: AtomicBool,
    act: Act,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trap")
    }
}

impl Trap {
    /// Springs at request `number`, counted from 0.
    pub fn at(
        inner: Arc<dyn Store>,
        number: u64,
        after: bool,
        act: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Trap> {
        Self::new(
            inner,
            Spring::Number(number),
            after,
            Box::new(move || {
                act();
                Box::pin(async {})
            }),
        )
    }

    /// Springs before the first request of `verb` below `prefix`.
    pub fn before(
        inner: Arc<dyn Store>,
        verb: Verb,
        prefix: &str,
        act: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Arc<Trap> {
        let spring = Spring::Request(verb, prefix.to_owned());
        Self::new(inner, spring, false, Box::new(act))
    }

    fn new(inner: Arc<dyn Store>, spring: Spring, after: bool, act: Act) -> Arc<Trap> {
        Arc::new(Trap {
            inner,
            count: AtomicU64::new(0),
            spring,
            after,
            sprung: AtomicBool::new(false),
            act,
        })
    }

    pub fn sprung(&self) -> bool {
        self.sprung.load(Ordering::SeqCst)
    }

    async fn around<T>(
        &self,
        verb: Verb,
        key: &str,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let is_it = match &self.spring {
            Spring::Number(wanted) => number == *wanted,
            Spring::Request(wanted, prefix) => {
                verb == *wanted && key.starts_with(prefix.as_str()) && !self.sprung()
            }
        };
        if !is_it {
            return request.await;
        }
        self.sprung.store(true, Ordering::SeqCst);
        if !self.after {
            (self.act)().await;
        }
        let result = request.await;
        if self.after {
            (self.act)().await;
        }
        result
    }
}

#[async_trait]
impl Store for Trap {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.around(Verb::Put, key, self.inner.put(key, bytes))
            .await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.around(Verb::Create, key, self.inner.create(key, bytes))
            .await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.around(Verb::Get, key, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.around(Verb::GetRange, key, self.inner.get_range(key, range))
            .await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.around(Verb::Head, key, self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.around(Verb::List, prefix, self.inner.list(prefix, after))
            .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.around(Verb::Delete, key, self.inner.delete(key)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

/// A scratch directory, in memory where the machine has that: the tests sync a lot.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A small workspace with one of everything that a tree may hold.
pub fn make_tree(root: &Path, seed: u64) {
    for i in 0..6 {
        let text = format!("seed = {seed}; x = {i}\n").repeat(1 + i);
        write(&root.join(format!("lib/p{}/m{i}.py", i % 2)), text);
    }
    write(&root.join("large.bin"), noise(seed, 300_000));
    write(&root.join("nb.ipynb"), noise(seed + 1, 5_000));
    write(&root.join("empty"), "");
    fs::create_dir_all(root.join("empty-dir")).unwrap();
    std::os::unix::fs::symlink("../nb.ipynb", root.join("lib/link")).unwrap();
    fs::hard_link(root.join("nb.ipynb"), root.join("lib/again.ipynb")).unwrap();
}

/// Changes, adds, removes, and swaps kinds; leaves the rest alone.
pub fn edit(root: &Path, seed: u64) {
    write(
        &root.join("lib/p0/m0.py"),
        format!("edited = {seed}\n").repeat(9),
    );
    write(
        &root.join(format!("new-{seed}/file.txt")),
        noise(seed, 2_000),
    );
    let mut large = fs::read(root.join("large.bin")).unwrap();
    large[150_000..150_008].copy_from_slice(&seed.to_le_bytes());
    write(&root.join("large.bin"), large);
    let _ = fs::remove_file(root.join("lib/p1/m1.py"));
    match fs::remove_dir(root.join("empty-dir")) {
        Ok(()) => write(&root.join("empty-dir"), "a file where a directory was"),
        Err(_) => {
            fs::remove_file(root.join("empty-dir")).unwrap();
            fs::create_dir(root.join("empty-dir")).unwrap();
        }
    }
}

/// What one entry of a tree looks like to a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Fact {
    pub mode: u32,
    pub mtime: (i64, i64),
    pub nlink: u64,
    pub content: Vec<u8>,
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = blake3::hash(&self.content).to_hex();
        write!(
            f,
            "{:o} {:?} x{} {} B {}",
            self.mode,
            self.mtime,
            self.nlink,
            self.content.len(),
            &hash[..8]
        )
    }
}

pub type Listing = BTreeMap<PathBuf, Fact>;

pub const RESTORING: &str = ".nbws-restoring";

/// The whole tree but for what a restore keeps there while it works. A directory that is not there is an empty tree.
pub fn listing(root: &Path) -> Listing {
    let mut out = Listing::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            assert_eq!(dir, root);
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_path_buf();
            let text = name.to_string_lossy();
            if text == RESTORING || text.starts_with(".nbws-tmp-") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() {
                fs::read(&path).unwrap()
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                target.into_os_string().into_encoded_bytes()
            } else {
                todo.push(path.clone());
                Vec::new()
            };
            let fact = Fact {
                mode: meta.mode(),
                mtime: (meta.mtime(), meta.mtime_nsec()),
                nlink: if meta.is_file() { meta.nlink() } else { 1 },
                content,
            };
            out.insert(name, fact);
        }
    }
    out
}

/// Names and contents alone: what must never be mixed within one file.
pub fn contents(listing: &Listing) -> BTreeMap<&Path, &[u8]> {
    listing
        .iter()
        .map(|(path, fact)| (path.as_path(), fact.content.as_slice()))
        .collect()
}

/// Says in what two trees differ; `None` if they don't.
pub fn difference(a: &Listing, b: &Listing) -> Option<String> {
    let mut out = Vec::new();
    for path in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
        if a.get(path) != b.get(path) {
            out.push(format!("{path:?}: {:?} != {:?}", a.get(path), b.get(path)));
        }
    }
    (!out.is_empty()).then(|| out.join("; "))
}

/// Copies a directory with everything in it, times and links included.
pub fn copy_directory(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

pub async fn open(store: Arc<dyn Store>, state: &Path) -> Result<Workspace> {
    let options = OpenOptions {
        create: true,
        state_dir: Some(state.to_path_buf()),
        ..OpenOptions::default()
    };
    Workspace::with_store(store, options).await
}

pub fn save_options() -> SaveOptions {
    SaveOptions {
        threads: Some(1),
        ..SaveOptions::default()
    }
}

pub async fn save(ws: &Workspace, directory: &Path) -> Result<SaveReport> {
    ws.save(directory, save_options(), None, CancelToken::new())
        .await
}

pub async fn take_over(ws: &Workspace, directory: &Path) -> Result<SaveReport> {
    let options = SaveOptions {
        take_over: true,
        ..save_options()
    };
    ws.save(directory, options, None, CancelToken::new()).await
}

pub fn restore_options() -> RestoreOptions {
    RestoreOptions {
        verify: true,
        threads: Some(2),
        ..RestoreOptions::default()
    }
}

pub async fn restore(ws: &Workspace, directory: &Path) -> Result<RestoreReport> {
    restore_with(ws, directory, restore_options()).await
}

pub async fn restore_with(
    ws: &Workspace,
    directory: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport> {
    ws.restore(directory, options, None, CancelToken::new())
        .await
}

/// Restores snapshot or rescue `id` whole.
pub fn of(id: &str) -> RestoreOptions {
    RestoreOptions {
        snapshot: id.to_owned(),
        ..restore_options()
    }
}

/// As `of`, over whatever is there, and without keeping it.
pub fn over(id: &str) -> RestoreOptions {
    RestoreOptions {
        delete: Delete::Yes,
        discard_changes: true,
        ..of(id)
    }
}

pub async fn check(ws: &Workspace) -> Result<CheckReport> {
    ws.check(CheckOptions { read_data: 1.0 }, None, CancelToken::new())
        .await
}

/// Opens what is there, with local state of its own.
pub async fn look(store: Arc<dyn Store>, state: &Path) -> Result<Workspace> {
    let options = OpenOptions {
        state_dir: Some(state.to_path_buf()),
        ..OpenOptions::default()
    };
    Workspace::with_store(store, options).await
}

/// What a machine that knows nothing sees: the tree of snapshot `id`.
pub async fn tree_of(store: Arc<dyn Store>, id: &str) -> Result<(String, Listing)> {
    let machine = scratch();
    let ws = look(store, &machine.path().join("state")).await?;
    let target = machine.path().join("w");
    let report = restore_with(&ws, &target, of(id)).await?;
    assert!(report.complete, "{report:?}");
    Ok((report.snapshot, listing(&target)))
}

/// A repository with its first writer.
pub struct Repo {
    pub root: TempDir,
    pub shelf: Arc<Shelf>,
    /// Ids and trees of the snapshots, oldest first.
    pub saved: Vec<(String, Listing)>,
}

impl Repo {
    /// With so many snapshots, each an edit of the one before.
    pub async fn with(snapshots: u64) -> Repo {
        let repo = Repo {
            root: scratch(),
            shelf: Shelf::new(),
            saved: Vec::new(),
        };
        make_tree(&repo.work(), 7);
        let mut repo = repo;
        let ws = repo.writer().await;
        for i in 0..snapshots {
            if i > 0 {
                edit(&repo.work(), i);
            }
            let id = save(&ws, &repo.work()).await.unwrap().snapshot;
            repo.saved.push((id, listing(&repo.work())));
        }
        repo
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("w")
    }

    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// A new process of the first writer.
    pub async fn writer(&self) -> Workspace {
        self.writer_on(self.shelf.clone()).await
    }

    pub async fn writer_on(&self, store: Arc<dyn Store>) -> Workspace {
        open(store, &self.state()).await.unwrap()
    }

    /// A machine that knows nothing: a process with its state, and a directory that does not exist.
    pub async fn stranger(&self) -> (Workspace, PathBuf) {
        self.stranger_on(self.shelf.clone()).await
    }

    pub async fn stranger_on(&self, store: Arc<dyn Store>) -> (Workspace, PathBuf) {
        let n = fs::read_dir(self.root.path()).unwrap().count();
        let place = self.root.path().join(format!("stranger-{n}"));
        fs::create_dir(&place).unwrap();
        let ws = look(store, &place.join("state")).await.unwrap();
        (ws, place.join("w"))
    }

    pub fn latest(&self) -> &(String, Listing) {
        self.saved.last().unwrap()
    }

    /// The newest record's number.
    pub fn seq(&self) -> u64 {
        self.shelf.keys("log/").len() as u64
    }

    pub async fn assert_head(&self, id: &str, tree: &Listing) {
        let (found, listed) = tree_of(self.shelf.clone(), "latest").await.unwrap();
        assert_eq!(found, id);
        assert_eq!(difference(&listed, tree), None);
    }

    pub async fn assert_clean(&self) {
        let (ws, _) = self.stranger().await;
        let report = check(&ws).await.unwrap();
        assert!(report.complete, "{report:?}");
    }
}
