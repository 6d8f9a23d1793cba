//! One thread of the walk: takes a directory, has it read, hands its sub-directories on.

use super::directory::{DirectoryReader, Refusal};
use super::order::{Listing, Outcome};
use super::scan::{Board, IgnoreStack, Task, Walk};
use super::{SkipReason, fault};
use nbws_core::{Error, Result, path};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, MutexGuard, PoisonError};

/// How a directory is opened for reading.
const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A directory that was read.
struct Entered {
    fd: OwnedFd,
    listing: Listing,
    /// Length of all its names.
    name_bytes: usize,
    ignores: IgnoreStack,
}

/// One thread of the walk.
pub(super) struct Walker<'a> {
    walk: &'a Walk<'a>,
    reader: DirectoryReader<'a>,
}

impl Drop for Walker<'_> {
    /// Hands over what this thread noted. If it panicked, the others are told, for they would wait for it.
    fn drop(&mut self) {
        let mut board = self.walk.board();
        self.reader.hand_over(&mut board.gathered);
        if std::thread::panicking() {
            board.failed = Some(Error::internal("scan", "a thread of the walk panicked"));
            self.walk.ready.notify_all();
        }
    }
}

impl<'a> Walker<'a> {
    /// The share of thread `number` of `walk`.
    pub(super) fn new(walk: &'a Walk<'a>, number: u32) -> Self {
        Walker {
            walk,
            reader: DirectoryReader::new(walk, number),
        }
    }

    /// Reads directories until none is left.
    pub(super) fn run(mut self) {
        let mut next = self.wait(self.walk.board());
        while let Some(task) = next {
            let directory = task.directory;
            next = match self.enter(task) {
                Ok(entered) => self.settle(directory, entered),
                Err(refusal) => self.refuse(directory, refusal),
            };
        }
    }

    /// Takes the next task, or `None` when nothing more can come.
    fn wait(&mut self, mut board: MutexGuard<'a, Board>) -> Option<Task> {
        loop {
            if board.failed.is_some() {
                return None;
            }
            if let Some(task) = board.waiting.pop() {
                board.busy += 1;
                board.path_of(task.directory, &mut self.reader.path);
                return Some(task);
            }
            if board.busy == 0 {
                self.walk.ready.notify_all();
                return None;
            }
            board.idle += 1;
            board = self
                .walk
                .ready
                .wait(board)
                .unwrap_or_else(PoisonError::into_inner);
            board.idle -= 1;
        }
    }

    fn refuse(&mut self, directory: u32, refusal: Refusal) -> Option<Task> {
        let mut board = self.walk.board();
        board.busy -= 1;
        let mut outcome = Outcome::Gone;
        match refusal {
            Refusal::Stop(error) => board.failed = Some(error),
            Refusal::Gone if directory == 0 => {
                board.failed = Some(fault("scan", b"", Errno::NOENT));
            }
            Refusal::Gone => {}
            Refusal::Skip(reason) if directory == 0 => {
                let cause = std::io::Error::other(reason.text());
                board.failed = Some(Error::local("scan", b"", cause));
            }
            Refusal::Skip(reason) => {
                if let SkipReason::Unreadable(_) = reason {
                    outcome = Outcome::Closed;
                }
                self.reader.note_skipped(reason);
            }
        }
        board.places[directory as usize].outcome = outcome;
        if board.failed.is_some() {
            self.walk.ready.notify_all();
        }
        self.wait(board)
    }

    /// Puts a listing on the board, queues its sub-directories and goes on with the first of them.
    fn settle(&mut self, directory: u32, mut entered: Entered) -> Option<Task> {
        let walk = self.walk;
        let listing = &mut entered.listing;
        let count = listing.children.len();
        let prefix_bytes = self.reader.path.len() + 1;
        let mut board = walk.board();
        board.gathered.entries += listing.records.len();
        board.gathered.path_bytes += listing.records.len() * prefix_bytes + entered.name_bytes;
        let mut next = None;
        if count > 0 {
            let (held, all_may_wait) = walk.hold(entered.fd);
            let waiting_parent = all_may_wait.then(|| Arc::clone(&held));
            let store = self.reader.store();
            board.queue(directory, listing, store, &waiting_parent, &entered.ignores);
            // The one in hand is read at once, so it may have its parent whatever the budget says.
            next = board.waiting.pop();
            if let (Some(task), Some(place)) = (&mut next, board.places.last()) {
                task.parent = Some(held);
                if !self.reader.path.is_empty() {
                    self.reader.path.push(b'/');
                }
                self.reader.path.extend_from_slice(&place.name);
            }
        }
        board.places[directory as usize].outcome = Outcome::Listed(entered.listing);
        if board.failed.is_some() {
            return None;
        }
        for _ in 0..count.saturating_sub(1).min(board.idle) {
            walk.ready.notify_one();
        }
        if next.is_some() {
            return next;
        }
        board.busy -= 1;
        self.wait(board)
    }

    /// Opens and reads the directory of `task`, whose path is in `self.path`.
    fn enter(&mut self, task: Task) -> Result<Entered, Refusal> {
        self.walk.options.cancel.check().map_err(Refusal::Stop)?;
        let fd = self.open(&task)?;
        drop(task.parent);
        let before = self.reader.store().names.len();
        let (listing, ignores) = self.reader.read(fd.as_fd(), task.ignores)?;
        let name_bytes = self.reader.store().names.len() - before;
        Ok(Entered {
            fd,
            listing,
            name_bytes,
            ignores,
        })
    }

    fn open(&self, task: &Task) -> Result<OwnedFd, Refusal> {
        let root = self.walk.root;
        let open = |directory: BorrowedFd<'_>, name: &[u8]| {
            root.open_at(directory, name, READ, Mode::empty(), ResolveFlags::NO_XDEV)
        };
        match &task.parent {
            _ if task.directory == 0 => open(root.descriptor(), b"."),
            Some(parent) => open(parent.fd.as_fd(), path::name(&self.reader.path)),
            None => root.in_parent(&self.reader.path, open),
        }
        .map_err(|errno| Refusal::of(errno, &self.reader.path))
    }
}
