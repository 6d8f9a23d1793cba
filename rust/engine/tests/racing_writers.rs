//! Many writers at one repository, and many handles on one directory: one winner, and nobody's work is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/faults.rs"]
mod faults;

use faults::*;
use futures::future::join_all;
use nbws_core::key;
use nbws_core::ledger::Log;
use nbws_core::record::Record;
use nbws_engine::store::testkit::{Fault, Faulty};
use nbws_engine::store::{Store, StoreOptions};
use nbws_engine::{ErrorKind, Result, Workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Barrier;

/// One writer: its own process (as far as the engine can tell), directory and local state.
struct Writer {
    ws: Workspace,
    directory: PathBuf,
    /// It holds the workspace head.
    is_current: bool,
}

struct Race {
    root: TempDir,
    url: String,
    writers: Vec<Writer>,
    /// The tree of the workspace head.
    head: Listing,
    snapshots: usize,
    rescues: usize,
}

fn connect(url: &str) -> Arc<dyn Store> {
    nbws_engine::store::open(url, &StoreOptions::new()).unwrap()
}

impl Race {
    /// All writers hold the first snapshot. `wrap` may put something between a writer and the store.
    async fn new(
        url: &str,
        writers: usize,
        wrap: impl Fn(usize, Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Race {
        let root = scratch();
        let url = url.replace("ROOT", root.path().to_str().unwrap());
        let mut race = Race {
            url,
            writers: Vec::new(),
            head: Listing::new(),
            snapshots: 1,
            rescues: 0,
            root,
        };
        for i in 0..writers {
            let directory = race.root.path().join(format!("w{i}"));
            let store = wrap(i, connect(&race.url));
            let state = race.root.path().join(format!("state{i}"));
            let ws = open(store, &state).await.unwrap();
            if i == 0 {
                make_tree(&directory, 7);
                save(&ws, &directory).await.unwrap();
                race.head = listing(&directory);
            } else {
                restore(&ws, &directory).await.unwrap();
            }
            race.writers.push(Writer {
                ws,
                directory,
                is_current: true,
            });
        }
        race
    }

    /// Every writer edits and saves at the same moment.
    async fn round(&mut self, round: u64) {
        let barrier = Arc::new(Barrier::new(self.writers.len()));
        let mut running = Vec::new();
        for (i, writer) in self.writers.iter().enumerate() {
            edit(&writer.directory, 1 + round * 100 + i as u64);
            let (ws, directory) = (writer.ws.clone(), writer.directory.clone());
            let barrier = Arc::clone(&barrier);
            // Now and then somebody insists.
            let insists = (round + i as u64).is_multiple_of(7);
            running.push(tokio::spawn(async move {
                barrier.wait().await;
                match insists {
                    true => take_over(&ws, &directory).await,
                    false => save(&ws, &directory).await,
                }
            }));
        }
        let outcomes = join_all(running).await;
        let mut winner = None;
        for (i, outcome) in outcomes.into_iter().enumerate() {
            let tree = listing(&self.writers[i].directory);
            match outcome.unwrap() {
                Ok(report) => {
                    assert_eq!(winner, None, "two winners in round {round}");
                    winner = Some(i);
                    self.snapshots += 1;
                    assert_eq!(self.head_id().await, report.snapshot);
                    self.head = tree;
                }
                Err(e) => {
                    let kinds = [ErrorKind::Fenced, ErrorKind::InvalidState];
                    assert!(kinds.contains(&e.kind()), "round {round}: {e:?}");
                    let rescue = e.rescue().unwrap_or_else(|| panic!("{e:?}"));
                    let (_, found) = tree_of(connect(&self.url), rescue).await.unwrap();
                    assert_eq!(difference(&found, &tree), None, "round {round}");
                    self.rescues += 1;
                }
            }
        }
        let winner = winner.unwrap_or_else(|| panic!("nobody wins round {round}"));
        let (_, found) = tree_of(connect(&self.url), "latest").await.unwrap();
        assert_eq!(difference(&found, &self.head), None, "round {round}");
        self.catch_up(round, winner).await;
    }

    async fn head_id(&self) -> String {
        let (ws, _) = self.look().await;
        ws.snapshots().await.unwrap().pop().unwrap().snapshot
    }

    async fn look(&self) -> (Workspace, TempDir) {
        let machine = scratch();
        let ws = look(connect(&self.url), machine.path()).await.unwrap();
        (ws, machine)
    }

    /// The losers take the head, but for one that goes on with what it has.
    async fn catch_up(&mut self, round: u64, winner: usize) {
        let count = self.writers.len();
        for (i, writer) in self.writers.iter_mut().enumerate() {
            writer.is_current = i == winner || count == 2 || i as u64 != round % count as u64;
            if i != winner && writer.is_current {
                let report = restore_with(&writer.ws, &writer.directory, over("latest"));
                assert!(report.await.unwrap().complete);
                let found = listing(&writer.directory);
                assert_eq!(difference(&found, &self.head), None);
            }
        }
    }

    /// The log is one chain, and everything that was acknowledged is in it.
    async fn finish(self) {
        let store = connect(&self.url);
        let mut records = Vec::new();
        for object in store.list(key::LOG, None).await.unwrap() {
            records.push(Record::decode(&store.get(&object.key).await.unwrap()).unwrap());
        }
        assert_eq!(records.len(), self.snapshots + self.rescues);
        let log = Log::fold(records).unwrap();
        assert_eq!(log.snapshots(None).len(), self.snapshots);
        assert_eq!(log.rescues().len(), self.rescues);
        let (ws, _machine) = self.look().await;
        let report = check(&ws).await.unwrap();
        assert!(report.complete, "{report:?}");
    }
}

fn direct(_: usize, store: Arc<dyn Store>) -> Arc<dyn Store> {
    store
}

fn rounds() -> u64 {
    if soaks("races") { 500 } else { 50 }
}

async fn race(url: &str, writers: usize) {
    let mut race = Race::new(url, writers, direct).await;
    for round in 0..rounds() {
        race.round(round).await;
    }
    race.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_race_in_memory() {
    race("memory:///two-writers", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_race_in_memory() {
    race("memory:///eight-writers", 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_writers_race_on_disk() {
    race("file://ROOT/objects", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_writers_race_on_disk() {
    race("file://ROOT/objects", 8).await;
}

/// As above, over stores that lose requests and replies, and deliver late what they had called lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_writers_race_over_a_bad_network() {
    let networks: Vec<_> = (0..4).map(|_| std::sync::OnceLock::new()).collect();
    let wrap = |i: usize, store: Arc<dyn Store>| -> Arc<dyn Store> {
        let faulty = Arc::new(Faulty::new(store));
        networks[i].set(faulty.clone()).unwrap();
        faulty
    };
    let mut race = Race::new("memory:///bad-network", 4, wrap).await;
    for round in 0..rounds() / 2 {
        for (i, network) in networks.iter().enumerate() {
            let faults = [Fault::FailBefore, Fault::LandWithoutReply, Fault::LandLater];
            network
                .get()
                .unwrap()
                .roll(round * 10 + i as u64, 80, &faults);
        }
        race.round(round).await;
        for network in &networks {
            network.get().unwrap().calm();
            network.get().unwrap().release().await;
        }
    }
    race.finish().await;
}

// One directory.

struct Shared {
    root: TempDir,
    store: Arc<Shelf>,
}

impl Shared {
    fn new() -> Shared {
        let shared = Shared {
            root: scratch(),
            store: Shelf::new(),
        };
        make_tree(&shared.directory(), 7);
        shared
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("w")
    }

    /// A process of its own, with the local state that all share.
    async fn process(&self) -> Workspace {
        let state = self.root.path().join("state");
        open(self.store.clone(), &state).await.unwrap()
    }

    async fn assert_clean(&self, snapshots: usize) {
        let machine = scratch();
        let ws = look(self.store.clone(), machine.path()).await.unwrap();
        let report = check(&ws).await.unwrap();
        assert!(report.complete, "{report:?}");
        assert_eq!(ws.snapshots().await.unwrap().len(), snapshots);
    }
}

/// Runs `work` on a thread and a runtime of its own.
fn on_a_thread<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(work()))
}

#[tokio::test(flavor = "multi_thread")]
async fn saves_of_one_directory_wait_for_each_other() {
    let shared = Shared::new();
    let processes = [
        shared.process().await,
        shared.process().await,
        shared.process().await,
    ];
    save(&processes[0], &shared.directory()).await.unwrap();
    for round in 0..50 {
        edit(&shared.directory(), 1 + round);
        let running: Vec<_> = processes
            .iter()
            .map(|ws| {
                let (ws, directory) = (ws.clone(), shared.directory());
                on_a_thread(|| async move { save(&ws, &directory).await })
            })
            .collect();
        let reports: Vec<_> = running
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect();
        // One of them stores the edit, the others find it stored.
        for report in &reports {
            assert_eq!(report.snapshot, reports[0].snapshot);
            assert_eq!(report.seq, 2 + round);
        }
        let puts: Vec<u64> = reports.iter().map(|r| r.requests.put).collect();
        assert_eq!(puts.iter().filter(|n| **n > 0).count(), 1, "{puts:?}");
    }
    shared.assert_clean(51).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_edited_while_it_is_saved_by_two() {
    let shared = Shared::new();
    let processes = [shared.process().await, shared.process().await];
    save(&processes[0], &shared.directory()).await.unwrap();
    let running: Vec<_> = processes
        .into_iter()
        .map(|ws| {
            let directory = shared.directory();
            on_a_thread(|| async move {
                for _ in 0..30 {
                    save(&ws, &directory).await.unwrap();
                }
            })
        })
        .collect();
    let mut n = 0;
    while !running.iter().all(|thread| thread.is_finished()) {
        n += 1;
        write(
            &shared.directory().join(format!("f{}", n % 50)),
            noise(n, 900),
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    running.into_iter().for_each(|t| t.join().unwrap());
    let last = shared.process().await;
    save(&last, &shared.directory()).await.unwrap();
    let (_, found) = tree_of(shared.store.clone(), "latest").await.unwrap();
    assert_eq!(difference(&found, &listing(&shared.directory())), None);
    let snapshots = last.snapshots().await.unwrap().len();
    shared.assert_clean(snapshots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_and_a_restore_of_one_directory_lose_nothing() {
    let shared = Shared::new();
    let (saver, restorer) = (shared.process().await, shared.process().await);
    save(&saver, &shared.directory()).await.unwrap();
    for round in 0..30 {
        edit(&shared.directory(), 1 + round);
        let edited = listing(&shared.directory());
        let (ws, directory) = (saver.clone(), shared.directory());
        let saving = on_a_thread(|| async move { save(&ws, &directory).await });
        let (ws, directory) = (restorer.clone(), shared.directory());
        let restoring = on_a_thread(|| async move { restore(&ws, &directory).await });
        let saved = saving.join().unwrap().unwrap();
        let restored = restoring.join().unwrap().unwrap();
        assert!(restored.complete, "{restored:?}");
        // The edit is the head, or the restore came first and kept it.
        let kept = (restored.rescue.as_ref()).unwrap_or(&saved.snapshot);
        let (_, found) = tree_of(shared.store.clone(), kept).await.unwrap();
        let context = format!("round {round}: {saved:?} {restored:?}");
        assert_eq!(difference(&found, &edited), None, "{context}");
        let (_, head) = tree_of(shared.store.clone(), "latest").await.unwrap();
        assert_eq!(difference(&listing(&shared.directory()), &head), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_writer_goes_on_after_it_restored_what_somebody_else_saved() -> Result<()> {
    let (mine, theirs) = (scratch(), scratch());
    let store = Shelf::new();
    let at = |root: &TempDir, name: &str| root.path().join(name);
    let me = open(store.clone(), &at(&mine, "state")).await?;
    let they = open(store.clone(), &at(&theirs, "state")).await?;
    make_tree(&at(&mine, "w"), 7);
    save(&me, &at(&mine, "w")).await?;
    restore(&they, &at(&theirs, "w")).await?;
    for round in 0..6 {
        for (ws, directory, other, others) in [
            (&they, at(&theirs, "w"), &me, at(&mine, "w")),
            (&me, at(&mine, "w"), &they, at(&theirs, "w")),
        ] {
            edit(&directory, 10 + round);
            save(ws, &directory).await?;
            let report = match round % 2 {
                0 => restore(other, &others).await?,
                _ => restore_with(other, &others, over("latest")).await?,
            };
            assert_eq!(report.rescue, None);
            assert_eq!(difference(&listing(&others), &listing(&directory)), None);
        }
    }
    assert_eq!(me.snapshots().await?.len(), 13);
    assert!(me.rescues().await?.is_empty());
    Ok(())
}

/// A directory that another one took the place of is not taken for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_replaced_is_kept_as_a_rescue() {
    let shared = Shared::new();
    let ws = shared.process().await;
    save(&ws, &shared.directory()).await.unwrap();
    let head = listing(&shared.directory());
    fs::rename(shared.directory(), shared.root.path().join("old")).unwrap();
    write(&shared.directory().join("other"), "tree");
    for ws in [ws, shared.process().await] {
        let error = save(&ws, &shared.directory()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
        let rescue = error.rescue().unwrap();
        let (_, found) = tree_of(shared.store.clone(), rescue).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [Path::new("other")]);
    }
    let (_, found) = tree_of(shared.store.clone(), "latest").await.unwrap();
    assert_eq!(difference(&found, &head), None);
}
