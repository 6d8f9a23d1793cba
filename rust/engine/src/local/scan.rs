//! The walk: directories are read by several threads, entries are looked at relative to their directory's descriptor.
//!
//! No regular file is opened but ignore files (and cache tags, if asked for). Descriptors are bounded: a directory's stays open
//! while its sub-directories wait, up to a budget; beyond it they are opened anew from the root. Nothing is followed out of
//! the tree, whatever is swapped under the walk.

use super::meta;
use super::order::{Gathered, Listing, Outcome, Store};
use super::scanned::{Owners, Scanned};
use super::walker::Walker;
use super::{Root, fault};
use crate::cancel::CancelToken;
use nbws_core::filter::{IgnoreFile, Rules};
use nbws_core::{Error, Result};
use rustix::process::{Resource, getrlimit};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How to walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanOptions<'a> {
    /// What to leave out.
    pub rules: &'a Rules,
    /// Threads, at least one.
    pub threads: usize,
    /// Ends the walk early.
    pub cancel: &'a CancelToken,
}

/// An ignore file that was not honoured as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleProblem {
    /// Path of the ignore file.
    pub path: Vec<u8>,
    /// Its bad line, from 1; 0 means the whole file, whose rules are then unknown: nothing below its directory may be removed
    /// as no longer wanted.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = nbws_core::error::display_path(&self.path);
        match self.line {
            0 => write!(f, "{path} is not honoured: {}", self.reason),
            line => write!(f, "{path}, line {line} is not honoured: {}", self.reason),
        }
    }
}

/// Lists the tree of `root`, sorted by path.
///
/// What can't be read is listed in `skipped` and never an error, but for the root itself. Fails with `LocalIo` if that can't be
/// read or no descriptor is left, and with `Cancelled`.
pub(crate) fn scan(root: &Root, options: &ScanOptions<'_>) -> Result<Scanned> {
    let clock = root.file_system_clock()?;
    let top = meta::statx_of(root.descriptor()).map_err(|e| fault("scan", b"", e))?;
    let walk = Walk {
        root,
        options,
        dev: meta::device(&top),
        mount: meta::mount(&top),
        board: Mutex::new(Board::new()),
        ready: Condvar::new(),
        owners: Owners::default(),
        held: Arc::default(),
        held_limit: held_limit(),
    };
    std::thread::scope(|scope| {
        let walk = &walk;
        for number in 1..options.threads.max(1) as u32 {
            let spawned = std::thread::Builder::new()
                .name("nbws-scan".to_owned())
                .spawn_scoped(scope, move || Walker::new(walk, number).run());
            if spawned.is_err() {
                // Fewer threads are slower, not wrong.
                break;
            }
        }
        Walker::new(walk, 0).run();
    });
    let board = walk
        .board
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = board.failed {
        return Err(error);
    }
    let mut gathered = board.gathered;
    gathered.owners = walk.owners;
    gathered.directories = board
        .places
        .into_iter()
        .map(|place| place.outcome)
        .collect();
    Ok(gathered.into_scanned(clock))
}

/// Directories that may stay open for their waiting sub-directories: a quarter of what the process may open.
fn held_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 16);
    usize::try_from(limit / 4).map_or(512, |limit| limit.clamp(4, 512))
}

/// One walk, shared by its threads.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Root,
    pub(super) options: &'a ScanOptions<'a>,
    pub(super) dev: u64,
    pub(super) mount: Option<u64>,
    pub(super) owners: Owners,
    board: Mutex<Board>,
    pub(super) ready: Condvar,
    held: Arc<AtomicUsize>,
    held_limit: usize,
}

impl Walk<'_> {
    /// What the threads share, locked.
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a directory open for its sub-directories; the second value says whether the budget allows all of them to wait.
    pub(super) fn hold(&self, fd: OwnedFd) -> (Arc<Held>, bool) {
        let before = self.held.fetch_add(1, Ordering::Relaxed);
        let count = Arc::clone(&self.held);
        (Arc::new(Held { fd, count }), before < self.held_limit)
    }
}

/// What the threads share.
pub(super) struct Board {
    pub(super) waiting: Vec<Task>,
    /// Threads at work; more tasks can come as long as there is one.
    pub(super) busy: usize,
    /// Threads that wait for a task.
    pub(super) idle: usize,
    pub(super) places: Vec<DirectoryPlace>,
    pub(super) gathered: Gathered,
    pub(super) failed: Option<Error>,
}

/// Where a directory lies, and what became of it.
pub(super) struct DirectoryPlace {
    pub(super) parent: u32,
    pub(super) name: Box<[u8]>,
    pub(super) outcome: Outcome,
}

/// The ignore files above an entry, outermost first; shared by all directories that have the same.
pub(super) type IgnoreStack = Arc<[Arc<IgnoreFile>]>;

/// A directory to be read.
pub(super) struct Task {
    /// Its number; the root is 0.
    pub(super) directory: u32,
    /// Its parent, if that is still open.
    pub(super) parent: Option<Arc<Held>>,
    /// The ignore files above it.
    pub(super) ignores: IgnoreStack,
}

/// A directory that is open for its waiting sub-directories.
pub(super) struct Held {
    pub(super) fd: OwnedFd,
    count: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Board {
    fn new() -> Self {
        Board {
            waiting: vec![Task {
                directory: 0,
                parent: None,
                ignores: Arc::new([]),
            }],
            busy: 0,
            idle: 0,
            places: vec![DirectoryPlace {
                parent: 0,
                name: Box::new([]),
                outcome: Outcome::Closed,
            }],
            gathered: Gathered::default(),
            failed: None,
        }
    }

    /// Numbers the sub-directories of a listing and queues them, the first one last so that it is taken first.
    pub(super) fn queue(
        &mut self,
        directory: u32,
        listing: &mut Listing,
        store: &Store,
        parent: &Option<Arc<Held>>,
        ignores: &IgnoreStack,
    ) {
        for child in listing.children.iter_mut().rev() {
            child.directory = self.places.len() as u32;
            let record = &store.records[listing.records.start + child.record as usize];
            self.places.push(DirectoryPlace {
                parent: directory,
                name: record.place.of(&store.names).into(),
                outcome: Outcome::Closed,
            });
            self.waiting.push(Task {
                directory: child.directory,
                parent: parent.clone(),
                ignores: Arc::clone(ignores),
            });
        }
    }

    /// Writes the path of a directory, from the names of those above it, into `path`.
    pub(super) fn path_of(&self, directory: u32, path: &mut Vec<u8>) {
        let mut chain = Vec::new();
        let mut at = directory;
        while at != 0 {
            chain.push(at);
            at = self.places[at as usize].parent;
        }
        path.clear();
        for at in chain.iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&self.places[*at as usize].name);
        }
    }
}
