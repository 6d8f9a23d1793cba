//! Every store operation of a save and of a restore as the last one that worked, and every piece of local state lost,
//! damaged or not writable at each of these points; then a restart, and what was promised must hold.
//!
//! A crash point is one scene, one operation of it, and one thing that happens there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/faults.rs"]
mod faults;

use faults::*;
use futures::FutureExt;
use futures::future::{BoxFuture, LocalBoxFuture};
use nbws_core::frame::{FrameEncoder, FrameKind};
use nbws_core::header::Header;
use nbws_core::id::{CommitId, ContainerId, FrameHash};
use nbws_core::key::{self, ContainerKey};
use nbws_core::pack::PackBuilder;
use nbws_core::record::{Body, Place, Record, Settings, SettingsBody};
use nbws_engine::options::{Delete, RestoreOptions};
use nbws_engine::store::testkit::{Fault, Faulty, Verb};
use nbws_engine::store::{Store, StoreOptions};
use nbws_engine::{Error, ErrorKind, Result, Workspace};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Handle;

/// Cases that run side by side.
const PARALLEL: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    /// Into a repository that does not exist yet.
    FirstSave,
    /// An edit, by a process that knows the last save from local state.
    SecondSave,
    /// Settings take the slot that the save aims at.
    LosesToSettings,
    /// A rescue of another machine takes the slot.
    LosesToRescue,
    /// A snapshot of another machine takes the slot.
    Fenced,
    /// The process before this one died right before its record was sent.
    AfterCutSave,
    /// The process before this one died right after its record had landed.
    AfterLandedSave,
    /// The head, into a directory that does not exist.
    RestoreNew,
    /// An older snapshot, over a tree with unsaved work.
    RestoreInPlace,
    /// Some paths, over a tree with unsaved work.
    RestorePart,
    /// Some paths, into a workspace that its user has emptied.
    RestorePartIntoEmpty,
}

/// What the partial restores ask for.
const PARTS: [&str; 2] = ["large.bin", "lib"];

const SCENES: [Scene; 11] = [
    Scene::FirstSave,
    Scene::SecondSave,
    Scene::LosesToSettings,
    Scene::LosesToRescue,
    Scene::Fenced,
    Scene::AfterCutSave,
    Scene::AfterLandedSave,
    Scene::RestoreNew,
    Scene::RestoreInPlace,
    Scene::RestorePart,
    Scene::RestorePartIntoEmpty,
];

impl Scene {
    fn parse(name: &str) -> Scene {
        let found = SCENES.into_iter().find(|s| format!("{s:?}") == name);
        found.unwrap()
    }

    fn restores(self) -> bool {
        matches!(self, Scene::RestoreNew | Scene::RestoreInPlace) || self.is_part()
    }

    fn is_part(self) -> bool {
        matches!(self, Scene::RestorePart | Scene::RestorePartIntoEmpty)
    }

    fn has_rival(self) -> bool {
        matches!(
            self,
            Scene::LosesToSettings | Scene::LosesToRescue | Scene::Fenced
        )
    }
}

fn work(root: &Path) -> PathBuf {
    root.join("w")
}

fn state(root: &Path) -> PathBuf {
    root.join("state")
}

/// A scene right before its verb runs.
struct Stage {
    root: TempDir,
    scene: Scene,
    shelf: Arc<Shelf>,
    /// Acknowledged snapshots with their trees, oldest first.
    acknowledged: Vec<(String, Listing)>,
    /// Trees of saves whose fate is open.
    open: Vec<Listing>,
    /// The target before the verb.
    before: Listing,
    /// What the verb saves or restores.
    wanted: Listing,
}

async fn prepare(scene: Scene) -> Stage {
    let root = scratch();
    let (work, state) = (work(root.path()), state(root.path()));
    let mut stage = Stage {
        scene,
        shelf: Shelf::new(),
        acknowledged: Vec::new(),
        open: Vec::new(),
        before: Listing::new(),
        wanted: Listing::new(),
        root,
    };
    let shelf: Arc<dyn Store> = stage.shelf.clone();
    make_tree(&work, 7);
    if scene == Scene::FirstSave {
        stage.before = listing(&work);
        stage.wanted = stage.before.clone();
        return stage;
    }
    let ws = open(Arc::clone(&shelf), &state).await.unwrap();
    let first = save(&ws, &work).await.unwrap().snapshot;
    stage.acknowledged.push((first, listing(&work)));
    edit(&work, 1);
    match scene {
        Scene::AfterCutSave | Scene::AfterLandedSave => {
            let faulty = Arc::new(Faulty::new(shelf));
            let fault = match scene {
                Scene::AfterCutSave => Fault::Die,
                _ => Fault::LandThenDie,
            };
            faulty.when(Some(Verb::Create), key::LOG, 0, 1, fault);
            let ws = open(faulty, &state).await.unwrap();
            let error = save(&ws, &work).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CommitUnknown);
            stage.open.push(listing(&work));
            edit(&work, 2);
        }
        Scene::RestoreNew => fs::remove_dir_all(&work).unwrap(),
        Scene::RestorePartIntoEmpty => {
            for entry in fs::read_dir(&work).unwrap() {
                remove(&entry.unwrap().path());
            }
        }
        Scene::RestoreInPlace => {
            let second = save(&ws, &work).await.unwrap().snapshot;
            stage.acknowledged.push((second, listing(&work)));
            edit(&work, 3);
        }
        Scene::Fenced => {
            let (theirs, known) = rival_places(stage.root.path());
            let ws = open(shelf, &known).await.unwrap();
            restore(&ws, &theirs).await.unwrap();
            edit(&theirs, 9);
        }
        Scene::LosesToRescue => write(&rival_places(stage.root.path()).0.join("a"), "stray"),
        _ => {}
    }
    stage.before = listing(&work);
    stage.wanted = match scene.restores() {
        true => stage.acknowledged[0].1.clone(),
        false => stage.before.clone(),
    };
    if scene == Scene::RestoreNew {
        // It knows nothing, as a new machine.
        fs::remove_dir_all(&state).unwrap();
    }
    stage
}

fn rival_places(root: &Path) -> (PathBuf, PathBuf) {
    (root.join("rival"), root.join("rival-state"))
}

/// Somebody else appends a record.
async fn act_as_rival(scene: Scene, store: Arc<dyn Store>, root: PathBuf) {
    let (theirs, known) = rival_places(&root);
    match scene {
        Scene::LosesToSettings => append_settings(&*store).await,
        Scene::LosesToRescue => {
            let ws = look(store, &known).await.unwrap();
            assert!(save(&ws, &theirs).await.unwrap_err().rescue().is_some());
        }
        Scene::Fenced => {
            let ws = look(store, &known).await.unwrap();
            save(&ws, &theirs).await.unwrap();
        }
        _ => {}
    }
}

async fn append_settings(store: &dyn Store) {
    let newest = store.list(key::LOG, None).await.unwrap().pop().unwrap().key;
    let newest = Record::decode(&store.get(&newest).await.unwrap()).unwrap();
    let plain = Settings::default().encode().unwrap();
    let object = ContainerKey::pack(ContainerId {
        epoch: newest.epoch,
        random: [5; 16],
    });
    let header = Header {
        repository: newest.repository,
        key: object,
    };
    let mut pack = PackBuilder::with_capacity(header, 0);
    let frame = FrameEncoder::new()
        .unwrap()
        .encode(FrameKind::Attachment, &plain, Vec::new(), 3)
        .unwrap();
    let slot = pack.push(frame).unwrap().clone();
    let bytes = pack.finish().bytes.into();
    store.put(&object.to_string(), bytes).await.unwrap();
    let attachment = Place {
        hash: FrameHash::of(&plain),
        length: slot.stored_len,
        object,
        offset: slot.offset,
        plain: slot.plain_len,
    };
    let record = Record {
        body: Body::Settings(SettingsBody { attachment }),
        commit: CommitId([6; 16]),
        parent: Some(newest.commit),
        seq: newest.seq + 1,
        settings: Some(attachment),
        ..newest
    };
    let bytes = record.encode().unwrap().into();
    store.put(&key::log(record.seq), bytes).await.unwrap();
}

/// `store`, with a rival who comes right before the first record is sent.
fn with_rival(scene: Scene, store: Arc<dyn Store>, root: &Path) -> Arc<dyn Store> {
    if !scene.has_rival() {
        return store;
    }
    let (inner, root) = (Arc::clone(&store), root.to_path_buf());
    let act = move || -> BoxFuture<'static, ()> {
        let (inner, root, runtime) = (Arc::clone(&inner), root.clone(), Handle::current());
        let rival = move || runtime.block_on(act_as_rival(scene, inner, root));
        tokio::task::spawn_blocking(rival)
            .map(Result::unwrap)
            .boxed()
    };
    Trap::before(store, Verb::Create, key::LOG, act)
}

/// How the verb ended.
struct Outcome {
    /// The process lives on.
    process: Option<Workspace>,
    /// Id of the snapshot that was saved or restored.
    result: Result<String>,
    died: bool,
}

async fn perform(scene: Scene, root: &Path, store: Arc<dyn Store>) -> Outcome {
    let (process, result) = match open(store, &state(root)).await {
        Err(error) => (None, Err(error)),
        Ok(ws) => {
            let result = run_verb(scene, root, &ws).await;
            (Some(ws), result)
        }
    };
    let died = false;
    Outcome {
        process,
        result,
        died,
    }
}

async fn run_verb(scene: Scene, root: &Path, ws: &Workspace) -> Result<String> {
    let work = work(root);
    match scene {
        Scene::RestoreNew => restore(ws, &work).await.map(|r| r.snapshot),
        Scene::RestoreInPlace => restore_with(ws, &work, of("latest~1"))
            .await
            .map(|r| r.snapshot),
        Scene::RestorePart | Scene::RestorePartIntoEmpty => {
            restore_with(ws, &work, parts()).await.map(|r| r.snapshot)
        }
        _ => save(ws, &work).await.map(|r| r.snapshot),
    }
}

fn parts() -> RestoreOptions {
    let paths = PARTS.map(|path| path.as_bytes().to_vec());
    RestoreOptions {
        paths: Some(paths.to_vec()),
        ..restore_options()
    }
}

async fn head(shelf: &Arc<Shelf>) -> Option<(String, Listing)> {
    match tree_of(shelf.clone(), "latest").await {
        Ok(found) => Some(found),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => panic!("the head is not readable: {e:?}"),
    }
}

async fn assert_clean(shelf: &Arc<Shelf>, acknowledged: &[(String, Listing)]) {
    let machine = scratch();
    let ws = match look(shelf.clone(), machine.path()).await {
        Ok(ws) => ws,
        Err(e) => {
            assert!(acknowledged.is_empty(), "{e:?}");
            return;
        }
    };
    let report = check(&ws).await.unwrap();
    assert!(report.complete, "{report:?}");
    let snapshots = ws.snapshots().await.unwrap();
    for (id, _) in acknowledged {
        assert!(
            snapshots.iter().any(|s| s.snapshot == *id),
            "the acknowledged snapshot {id} is gone"
        );
    }
}

async fn assert_rescued(shelf: &Arc<Shelf>, error: &Error, tree: &Listing) {
    assert!(
        matches!(error.kind(), ErrorKind::Fenced | ErrorKind::InvalidState),
        "{error:?}"
    );
    if tree.is_empty() && error.kind() == ErrorKind::InvalidState {
        assert_eq!(error.rescue(), None, "there is nothing to keep");
        return;
    }
    let rescue = error.rescue().unwrap_or_else(|| panic!("{error:?}"));
    let (_, found) = tree_of(shelf.clone(), rescue).await.unwrap();
    assert_eq!(difference(&found, tree), None, "rescue");
}

async fn assert_head(shelf: &Arc<Shelf>, tree: &Listing) {
    let (_, found) = head(shelf).await.expect("a head");
    assert_eq!(difference(&found, tree), None, "head");
}

/// A machine without local state: it may not move the head by accident, and loses nothing.
async fn save_without_state(shelf: &Arc<Shelf>, directory: &Path) {
    let machine = scratch();
    let tree = listing(directory);
    let before = head(shelf).await;
    let ws = open(shelf.clone(), machine.path()).await.unwrap();
    let outcome = save(&ws, directory).await;
    match before {
        None => drop(outcome.unwrap()),
        Some((_, before)) => {
            assert_rescued(shelf, &outcome.unwrap_err(), &tree).await;
            assert_head(shelf, &before).await;
            take_over(&ws, directory).await.unwrap();
        }
    }
    assert_head(shelf, &tree).await;
    assert_clean(shelf, &[]).await;
}

/// What the damage that a test did to local state allows the next save to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// All is there: the next save works.
    Whole,
    /// Something is gone: the next save works, or keeps the work as a rescue.
    Hurt,
}

/// The promises about a save, whatever happened to it.
async fn judge_save(stage: &mut Stage, outcome: Outcome, memory: Memory) {
    let shelf = stage.shelf.clone();
    let directory = work(stage.root.path());
    assert_eq!(difference(&listing(&directory), &stage.before), None);
    let found = head(&shelf).await;
    let is_fenced = note_rival(stage, found.as_ref());
    let last = stage.acknowledged.last().map(|(_, tree)| tree.clone());
    let is_last = |tree: Option<&Listing>| tree == last.as_ref();
    let tree = found.as_ref().map(|(_, tree)| tree);
    let is_wanted = tree == Some(&stage.wanted);
    let is_open = stage.open.iter().any(|open| tree == Some(open));
    match &outcome.result {
        Ok(id) if !is_fenced || id.is_empty() => {
            assert_eq!(difference(tree.unwrap(), &stage.wanted), None);
            if !id.is_empty() {
                assert_eq!(*id, found.as_ref().unwrap().0);
                stage.acknowledged.push((id.clone(), stage.wanted.clone()));
            }
        }
        Ok(_) => panic!("a fenced save was acknowledged"),
        Err(e) if outcome.died || e.kind() == ErrorKind::CommitUnknown => {
            assert!(is_last(tree) || is_wanted || is_open, "a mix is the head");
        }
        Err(e) => {
            assert!(is_last(tree) || is_open, "the head moved, yet: {e:?}");
            if e.rescue().is_some() {
                assert_rescued(&shelf, e, &stage.wanted).await;
            }
        }
    }
    assert_clean(&shelf, &stage.acknowledged).await;
    save_without_state(&shelf.copy(), &directory).await;
    // The process that is still there goes on first; then a new one.
    if let Some(process) = outcome.process.filter(|_| !outcome.died) {
        // What it was told itself it does not need to read.
        let known = if outcome.result.is_ok() {
            Memory::Whole
        } else {
            memory
        };
        next_save(&shelf, &process, stage, is_fenced, known).await;
    }
    let ws = open(shelf.clone(), &state(stage.root.path()))
        .await
        .unwrap();
    let is_head = next_save(&shelf, &ws, stage, is_fenced, memory).await;
    drop(ws);
    if is_head && memory == Memory::Whole {
        let ws = open(shelf.clone(), &state(stage.root.path()))
            .await
            .unwrap();
        let again = save(&ws, &directory).await.unwrap();
        assert_eq!(
            (again.requests.put, again.files_opened),
            (0, 0),
            "{again:?}"
        );
    }
    assert_clean(&shelf, &stage.acknowledged).await;
}

/// Whether the rival's snapshot came in between; it is acknowledged then.
fn note_rival(stage: &mut Stage, found: Option<&(String, Listing)>) -> bool {
    if stage.scene != Scene::Fenced {
        return false;
    }
    let theirs = listing(&rival_places(stage.root.path()).0);
    let Some((id, _)) = found.filter(|(_, tree)| *tree == theirs) else {
        return false;
    };
    stage.acknowledged.push((id.clone(), theirs));
    true
}

/// The next save of the same directory works first time. Returns whether it is the head now.
async fn next_save(
    shelf: &Arc<Shelf>,
    ws: &Workspace,
    stage: &mut Stage,
    is_fenced: bool,
    memory: Memory,
) -> bool {
    let directory = work(stage.root.path());
    let before = head(shelf).await;
    match save(ws, &directory).await {
        Ok(report) if !is_fenced => {
            assert_head(shelf, &stage.wanted).await;
            stage
                .acknowledged
                .push((report.snapshot, stage.wanted.clone()));
            true
        }
        Ok(report) => panic!("a fenced writer moved the head: {report:?}"),
        Err(e) => {
            assert!(is_fenced || memory == Memory::Hurt, "the next save: {e:?}");
            assert_rescued(shelf, &e, &stage.wanted).await;
            assert_eq!(head(shelf).await, before);
            false
        }
    }
}

/// The promises about a restore, whatever happened to it.
async fn judge_restore(stage: &mut Stage, outcome: Outcome, memory: Memory) {
    let shelf = stage.shelf.clone();
    let directory = work(stage.root.path());
    let last = stage.acknowledged.last().unwrap().1.clone();
    assert_head(&shelf, &last).await;
    assert_clean(&shelf, &stage.acknowledged).await;
    let found = listing(&directory);
    let is_marked = directory.join(RESTORING).exists();
    let is_untouched = found == stage.before;
    match &outcome.result {
        Ok(_) if !outcome.died => {
            assert!(!is_marked);
            assert_eq!(difference(&found, &stage.wanted), None);
        }
        _ if is_marked => assert_whole_files(stage, &found),
        _ => assert!(
            is_untouched || outcome.died && found == stage.wanted,
            "a half-restored tree has no marker"
        ),
    }
    if contents(&found) != contents(&stage.before) && !stage.before.is_empty() {
        assert_work_is_kept(&shelf, &stage.before).await;
    }
    if directory.exists() {
        restore_without_state(&shelf.copy(), stage, is_marked).await;
    }
    let ws = match outcome.process.filter(|_| !outcome.died) {
        Some(process) => process,
        None => open(shelf.clone(), &state(stage.root.path()))
            .await
            .unwrap(),
    };
    if is_marked {
        let error = save(&ws, &directory).await.unwrap_err();
        assert_rescued(&shelf, &error, &found).await;
        assert_head(&shelf, &last).await;
        assert!(directory.join(RESTORING).exists());
    }
    let mut options = of(&stage.acknowledged[0].0);
    if memory == Memory::Hurt {
        options = over(&stage.acknowledged[0].0);
    }
    let report = restore_with(&ws, &directory, options).await.unwrap();
    assert!(report.complete, "{report:?}");
    assert!(!directory.join(RESTORING).exists());
    assert_eq!(difference(&listing(&directory), &stage.wanted), None);
    drop(ws);
    let ws = open(shelf.clone(), &state(stage.root.path()))
        .await
        .unwrap();
    match save(&ws, &directory).await {
        Ok(_) => assert_head(&shelf, &stage.wanted).await,
        Err(e) => {
            assert!(memory == Memory::Hurt, "{e:?}");
            assert_rescued(&shelf, &e, &stage.wanted).await;
        }
    }
    assert_clean(&shelf, &stage.acknowledged).await;
}

/// A partial restore changes nothing of what is proven: whole files, no marker, and the next save works.
async fn judge_part(stage: &mut Stage, outcome: Outcome, memory: Memory) {
    let shelf = stage.shelf.clone();
    let directory = work(stage.root.path());
    assert_head(&shelf, &stage.acknowledged[0].1.clone()).await;
    assert_clean(&shelf, &stage.acknowledged).await;
    let found = listing(&directory);
    assert!(!directory.join(RESTORING).exists());
    assert_whole_files(stage, &found);
    if contents(&found) != contents(&stage.before) && !stage.before.is_empty() {
        assert_work_is_kept(&shelf, &stage.before).await;
    }
    let ws = match outcome.process.filter(|_| !outcome.died) {
        Some(process) => process,
        None => open(shelf.clone(), &state(stage.root.path()))
            .await
            .unwrap(),
    };
    match save(&ws, &directory).await {
        Ok(_) => assert_head(&shelf, &found).await,
        Err(e) => {
            assert!(memory == Memory::Hurt, "{e:?}");
            assert_rescued(&shelf, &e, &found).await;
        }
    }
    drop(ws);
    let ws = open(shelf.clone(), &state(stage.root.path()))
        .await
        .unwrap();
    let options = RestoreOptions {
        snapshot: stage.acknowledged[0].0.clone(),
        delete: Delete::Yes,
        ..parts()
    };
    restore_with(&ws, &directory, options).await.unwrap();
    let is_part = |path: &Path| PARTS.iter().any(|part| path.starts_with(part));
    let chosen = |tree: &Listing| -> Listing {
        let entries = tree.iter().filter(|(path, _)| is_part(path));
        // A file with a name outside of what was asked for has fewer names here.
        let one = |(path, fact): (&PathBuf, &Fact)| {
            let fact = Fact {
                nlink: 1,
                ..fact.clone()
            };
            (path.clone(), fact)
        };
        entries.map(one).collect()
    };
    let now = chosen(&listing(&directory));
    assert_eq!(difference(&now, &chosen(&stage.wanted)), None);
    assert_clean(&shelf, &stage.acknowledged).await;
}

/// Over an existing tree, every file is the old one or the new one.
fn assert_whole_files(stage: &Stage, found: &Listing) {
    if stage.scene == Scene::RestoreNew {
        return;
    }
    for (path, fact) in found {
        let known = [&stage.before, &stage.wanted];
        let is_whole = known
            .iter()
            .filter_map(|tree| tree.get(path))
            .any(|k| k.content == fact.content);
        assert!(is_whole, "{path:?} is neither old nor new");
    }
}

async fn assert_work_is_kept(shelf: &Arc<Shelf>, tree: &Listing) {
    let machine = scratch();
    let ws = look(shelf.clone(), machine.path()).await.unwrap();
    for rescue in ws.rescues().await.unwrap() {
        let (_, found) = tree_of(shelf.clone(), &rescue.snapshot).await.unwrap();
        if found == *tree {
            return;
        }
    }
    panic!("unsaved work was overwritten and no rescue holds it");
}

async fn restore_without_state(shelf: &Arc<Shelf>, stage: &Stage, is_marked: bool) {
    let machine = scratch();
    let copy = machine.path().join("w");
    copy_directory(&work(stage.root.path()), &copy);
    let found = listing(&copy);
    let id = &stage.acknowledged[0].0;
    let ws = open(shelf.clone(), &machine.path().join("state"))
        .await
        .unwrap();
    let error = save(&ws, &copy).await.unwrap_err();
    assert_rescued(shelf, &error, &found).await;
    let mut outcome = restore_with(&ws, &copy, of(id)).await;
    // Nothing says where the tree comes from, and hard links alone can't be compared without that.
    if !is_marked && !found.is_empty() {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(difference(&listing(&copy), &found), None);
        outcome = restore_with(&ws, &copy, over(id)).await;
    }
    assert!(outcome.unwrap().complete);
    assert_eq!(difference(&listing(&copy), &stage.wanted), None);
    assert!(!copy.join(RESTORING).exists());
    save(&ws, &copy).await.unwrap();
    assert_head(shelf, &stage.wanted).await;
}

async fn judge(stage: &mut Stage, outcome: Outcome, memory: Memory) {
    match stage.scene.restores() {
        true if stage.scene.is_part() => judge_part(stage, outcome, memory).await,
        true => judge_restore(stage, outcome, memory).await,
        false => judge_save(stage, outcome, memory).await,
    }
}

/// How many operations the verb of a scene takes when nothing goes wrong, and how many microseconds.
async fn count(scene: Scene) -> (u64, u64) {
    let mut stage = prepare(scene).await;
    let store = with_rival(scene, stage.shelf.clone(), stage.root.path());
    let faulty = Arc::new(Faulty::new(store));
    let begun = Instant::now();
    let outcome = perform(scene, stage.root.path(), faulty.clone()).await;
    let took = begun.elapsed().as_micros() as u64;
    let operations = faulty.operations();
    assert_eq!(outcome.result.is_ok(), scene != Scene::Fenced);
    judge(&mut stage, outcome, Memory::Whole).await;
    (operations, took)
}

/// Runs every case, a few at a time, and fails with all that failed.
fn run_all<C: std::fmt::Debug + Copy + Send + Sync>(
    title: &str,
    cases: &[C],
    run: impl Fn(C) -> LocalBoxFuture<'static, ()> + Sync,
) -> usize {
    let begun = Instant::now();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| block_on(run(*case))));
                    if let Err(panic) = outcome {
                        let text = match panic.downcast::<String>() {
                            Ok(text) => *text,
                            Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
                        };
                        failed.lock().unwrap().push(format!("{case:?}: {text}"));
                    }
                }
            });
        }
    });
    let (total, failed) = (cases.len(), failed.into_inner().unwrap());
    assert!(
        failed.is_empty(),
        "{title}: {} of {total} crash points fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{title}: {total} crash points in {seconds:.1} s");
    total
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(work)
}

fn operations() -> BTreeMap<Scene, (u64, u64)> {
    let out = SCENES.map(|scene| (scene, block_on(count(scene))));
    let out = BTreeMap::from(out);
    eprintln!("store operations and microseconds by scene: {out:?}");
    out
}

#[test]
fn every_store_operation_fails_or_is_the_last() {
    let mut cases = Vec::new();
    for (scene, (operations, _)) in operations() {
        for operation in 0..operations {
            for fault in [
                Fault::FailBefore,
                Fault::LandWithoutReply,
                Fault::Die,
                Fault::LandThenDie,
            ] {
                cases.push((scene, operation, fault));
            }
        }
    }
    let total = run_all("store faults", &cases, |(scene, operation, fault)| {
        async move {
            let mut stage = prepare(scene).await;
            let store = with_rival(scene, stage.shelf.clone(), stage.root.path());
            let faulty = Arc::new(Faulty::new(store));
            faulty.at(operation, fault);
            let mut outcome = perform(scene, stage.root.path(), faulty.clone()).await;
            faulty.revive();
            outcome.died = matches!(fault, Fault::Die | Fault::LandThenDie);
            judge(&mut stage, outcome, Memory::Whole).await;
        }
        .boxed_local()
    });
    assert!(total >= 300, "{total}");
}

/// What happens to the local state of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// The file or folder of this name is gone; "" is all of it.
    Remove(&'static str),
    /// One bit of it, or of the first file in it, is flipped.
    Flip(&'static str),
    /// It, or the first file in it, ends early.
    Cut(&'static str),
    /// It can't be written: there is no space left for it.
    Full(&'static str),
    /// It can't be written: something else is in its place.
    Block(&'static str),
}

const DAMAGES: [Damage; 18] = [
    Damage::Remove(""),
    Damage::Remove("session.json"),
    Damage::Remove("tree"),
    Damage::Remove("index"),
    Damage::Remove("uploaded"),
    Damage::Flip("session.json"),
    Damage::Flip("tree"),
    Damage::Flip("index"),
    Damage::Flip("uploaded"),
    Damage::Cut("session.json"),
    Damage::Cut("tree"),
    Damage::Cut("index"),
    Damage::Full("session.json"),
    Damage::Full("tree"),
    Damage::Block(""),
    Damage::Block("session.json"),
    Damage::Block("index"),
    Damage::Block("uploaded"),
];

impl Damage {
    /// Hurts the local state of the target below `root`; `n` says where to flip.
    fn inflict(self, root: &Path, n: u64) {
        let Some(folder) = state_folder(root) else {
            return;
        };
        let (Damage::Remove(name)
        | Damage::Flip(name)
        | Damage::Cut(name)
        | Damage::Full(name)
        | Damage::Block(name)) = self;
        let path = match name {
            "" => folder.clone(),
            name => folder.join(name),
        };
        match self {
            Damage::Remove(_) => remove(&path),
            Damage::Flip(_) => bend(&path, |bytes| {
                let bit = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }),
            Damage::Cut(_) => bend(&path, |bytes| bytes.truncate(bytes.len() / 2)),
            Damage::Full(_) => {
                let temporary = folder.join(format!("{name}.tmp"));
                remove(&temporary);
                std::os::unix::fs::symlink("/dev/full", temporary).unwrap();
            }
            Damage::Block("session.json") => {
                remove(&path);
                fs::create_dir(&path).unwrap();
                write(&path.join("in-the-way"), "");
            }
            Damage::Block(_) => {
                remove(&path);
                write(&path, "");
            }
        }
    }
}

/// The folder of the only target that is known in the state directory.
fn state_folder(root: &Path) -> Option<PathBuf> {
    let first = |path: &Path| Some(fs::read_dir(path).ok()?.next()?.unwrap().path());
    first(&first(&state(root))?)
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

fn bend(path: &Path, act: impl Fn(&mut Vec<u8>)) {
    let file = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().map(|e| e.unwrap().path()),
        Err(_) => Some(path.to_path_buf()),
    };
    let bytes = file.as_ref().and_then(|file| fs::read(file).ok());
    if let (Some(file), Some(mut bytes)) = (file, bytes.filter(|b| !b.is_empty())) {
        act(&mut bytes);
        fs::write(file, bytes).unwrap();
    }
}

/// A case: at this operation of the scene the local state is damaged, and the process goes on or is dead.
type Hurt = (Scene, u64, bool, Damage);

async fn hurt((scene, operation, dies, damage): Hurt) {
    let mut stage = prepare(scene).await;
    let root = stage.root.path().to_path_buf();
    let store = with_rival(scene, stage.shelf.clone(), &root);
    let mut outcome;
    if dies {
        let faulty = Arc::new(Faulty::new(store));
        faulty.at(operation, Fault::Die);
        outcome = perform(scene, &root, faulty).await;
        outcome.process = None;
        outcome.died = true;
        damage.inflict(&root, operation);
    } else {
        let place = root.clone();
        let trap = Trap::at(store, operation, false, move || {
            damage.inflict(&place, operation);
        });
        outcome = perform(scene, &root, trap).await;
        if let Err(e) = &outcome.result {
            // Without knowing where the tree comes from, a restore asks before it replaces anything.
            let asks = scene.restores() && e.kind() == ErrorKind::InvalidInput;
            assert!(asks || e.rescue().is_some(), "{e:?}");
        }
    }
    judge(&mut stage, outcome, Memory::Hurt).await;
}

#[test]
fn local_state_is_lost_damaged_or_not_writable_at_every_operation() {
    let mut cases = Vec::new();
    for (scene, (operations, _)) in operations() {
        for operation in 0..operations {
            for damage in DAMAGES {
                cases.push((scene, operation, false, damage));
                cases.push((scene, operation, true, damage));
            }
        }
    }
    if !soaks("local state") {
        // Odd, so that the share has every damage both before and after an operation.
        cases = cases.into_iter().step_by(LOCAL_STATE_SHARE).collect();
    }
    run_all("local state", &cases, |case| hurt(case).boxed_local());
}

/// Of how many cases the short variant takes one.
const LOCAL_STATE_SHARE: usize = 7;

/// A verb for [`kill`] to run in a process of its own.
const CHILD: &str = "NBWS_CRASH_CHILD";

/// When the child kills itself.
#[derive(Clone, Copy, Debug)]
enum Death {
    Before(u64),
    After(u64),
    /// So many microseconds after the verb began.
    Time(u64),
}

fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::thread::sleep(Duration::from_secs(60));
}

fn objects(root: &Path) -> Arc<dyn Store> {
    let url = format!("file://{}", root.join("objects").display());
    nbws_engine::store::open(&url, &StoreOptions::new()).unwrap()
}

/// Not a test of its own: what the processes do that the tests below start and kill.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(spec) = std::env::var(CHILD) else {
        return;
    };
    let spec: Vec<&str> = spec.split('\n').collect();
    let (scene, root) = (Scene::parse(spec[0]), PathBuf::from(spec[1]));
    let number: u64 = spec[3].parse().unwrap();
    let mut store = with_rival(scene, objects(&root), &root);
    match spec[2] {
        "before" => store = Trap::at(store, number, false, die),
        "after" => store = Trap::at(store, number, true, die),
        _ => drop(std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(number));
            die();
        })),
    }
    let outcome = perform(scene, &root, store).await;
    let text = match outcome.result {
        Ok(id) => id,
        Err(e) => format!("{e:?}"),
    };
    write(&root.join("result"), text);
}

/// Runs the verb of a scene in a process that dies for real.
async fn kill(scene: Scene, death: Death) {
    let mut stage = prepare(scene).await;
    let root = stage.root.path().to_path_buf();
    fs::create_dir(root.join("objects")).unwrap();
    stage.shelf.dump(&root.join("objects"));
    let (when, number) = match death {
        Death::Before(n) => ("before", n),
        Death::After(n) => ("after", n),
        Death::Time(n) => ("time", n),
    };
    let spec = format!("{scene:?}\n{}\n{when}\n{number}", root.display());
    let status = tokio::task::spawn_blocking(move || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(CHILD, spec)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
    })
    .await
    .unwrap();
    let said = fs::read_to_string(root.join("result")).ok();
    assert!(!status.success() || said.is_some(), "{status:?}");
    stage.shelf = Shelf::load(&*objects(&root)).await;
    let error = || Error::internal("test", "killed");
    let result = said.filter(|_| scene != Scene::Fenced).ok_or_else(error);
    let outcome = Outcome {
        process: None,
        died: result.is_err(),
        result,
    };
    judge(&mut stage, outcome, Memory::Whole).await;
}

#[test]
fn a_process_is_killed_at_every_store_operation_and_in_between() {
    let soaks = soaks("kills");
    let mut cases = Vec::new();
    for (scene, (operations, took)) in operations() {
        for n in 0..operations {
            cases.extend([(scene, Death::Before(n)), (scene, Death::After(n))]);
        }
        // Half as long again: another process and a store on disk are slower.
        let steps = match (soaks, scene.restores()) {
            (true, _) => 400,
            (false, true) => 60,
            (false, false) => 20,
        };
        let step = took * 3 / 2 / steps;
        cases.extend((0..steps).map(|i| (scene, Death::Time(i * step))));
    }
    run_all("kills", &cases, |(scene, death)| {
        kill(scene, death).boxed_local()
    });
}
