//! Steps 4 to 6 of a restore: fetch ranges, decode, verify, write. In a fresh target files are created in place; beside an
//! existing tree they are written into a staging directory first.

use super::compare::key_of;
use super::finish::metadata_of;
use super::plan::LocalRun;
use super::wanted::{Action, Wanted};
use crate::local::Root;
use crate::local::{NewFile, Unapplied};
use crate::workspace::Access;
use nbws_core::diff::StatKey;
use nbws_core::id::ChunkId;
use nbws_core::path;
use nbws_core::plan::restore::Need;
use nbws_core::{Error, Result};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Directory at the top of the target that holds new files until all are there.
pub(crate) const STAGING: &[u8] = b".nbws-tmp-restore";

/// A file that several pieces of work write.
struct Shared {
    /// Pieces that are still to come.
    left: AtomicU32,
    is_created: Mutex<bool>,
}

/// What the writing threads share.
pub(crate) struct Writing<'a> {
    pub(crate) access: &'a Access,
    pub(crate) root: &'a Root,
    pub(crate) wanted: &'a Wanted,
    pub(crate) is_staged: bool,
    pub(crate) numeric_ids: bool,
    shared: HashMap<u32, Shared>,
    keys: Mutex<Vec<StatKey>>,
    failed: Mutex<HashMap<u32, String>>,
    unapplied: Mutex<Vec<(u32, Vec<Unapplied>)>>,
    bytes_written: AtomicU64,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
}

/// What the writing threads leave behind.
pub(crate) struct Written {
    /// Stat keys by position in the tree.
    pub(crate) keys: Vec<StatKey>,
    /// Items that could not be written, and why.
    pub(crate) failed: HashMap<u32, String>,
    pub(crate) unapplied: Vec<(u32, Vec<Unapplied>)>,
    pub(crate) bytes_written: u64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Where item `number` is written: its place, or its place in the staging directory.
pub(crate) fn destination(wanted: &Wanted, number: u32, is_staged: bool) -> Vec<u8> {
    match is_staged {
        true => path::join(STAGING, number.to_string().as_bytes()),
        false => wanted.path(number).to_vec(),
    }
}

impl<'a> Writing<'a> {
    pub(crate) fn new(
        access: &'a Access,
        root: &'a Root,
        wanted: &'a Wanted,
        (is_staged, numeric_ids): (bool, bool),
        (needs, local): (&[Need], &[LocalRun]),
        keys: Vec<StatKey>,
    ) -> Self {
        let mut pieces: HashMap<u32, u32> = local.iter().map(|l| (l.item, 0)).collect();
        let mut before: Option<u32> = None;
        // Needs come file by file, so a file with one piece is told without a table of all.
        for file in needs
            .iter()
            .map(|n| n.file)
            .chain(local.iter().map(|l| l.item))
        {
            match pieces.get_mut(&file) {
                Some(count) => *count += 1,
                None if before == Some(file) => drop(pieces.insert(file, 2)),
                None => {}
            }
            before = Some(file);
        }
        let shared = pieces
            .into_iter()
            .map(|(file, left)| {
                (
                    file,
                    Shared {
                        left: AtomicU32::new(left),
                        is_created: Mutex::new(false),
                    },
                )
            })
            .collect();
        Writing {
            access,
            root,
            wanted,
            is_staged,
            numeric_ids,
            shared,
            keys: Mutex::new(keys),
            failed: Mutex::default(),
            unapplied: Mutex::default(),
            bytes_written: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    fn destination(&self, number: u32) -> Vec<u8> {
        destination(self.wanted, number, self.is_staged)
    }

    /// Notes that an item can't be restored; the others go on.
    pub(crate) fn fail_item(&self, number: u32, why: String) {
        lock(&self.failed).entry(number).or_insert(why);
    }

    fn is_failed(&self, number: u32) -> bool {
        lock(&self.failed).contains_key(&number)
    }

    pub(super) fn is_doomed(&self, number: u32) -> bool {
        self.shared.contains_key(&number) && self.is_failed(number)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn stop_all(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            *failure = Some(error);
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Files without any chunk: empty ones and pure holes.
    pub(super) fn write_without_chunks(&self, numbers: &[u32]) -> Result<()> {
        for number in numbers {
            self.access.cancel.check()?;
            let file = self.root.create_file(&self.destination(*number))?;
            self.finish(*number, file)?;
        }
        Ok(())
    }

    /// Metadata last; the stat after it is what the next save compares with.
    fn finish(&self, number: u32, file: NewFile) -> Result<()> {
        let item = &self.wanted.items[number as usize];
        if self.wanted.holed.contains(&number) {
            file.set_length(item.size)?;
        }
        let (stat, unapplied) = file.finish(&metadata_of(self.wanted, number, self.numeric_ids))?;
        lock(&self.keys)[item.ordinal as usize] = key_of(&stat);
        if !unapplied.is_empty() {
            lock(&self.unapplied).push((number, unapplied));
        }
        self.access.meter.add(1, 0);
        Ok(())
    }

    /// Writes one chunk `count` times from `offset` on; the last piece of a file finishes it.
    pub(super) fn write_chunk(
        &self,
        open: &mut Option<(u32, NewFile)>,
        number: u32,
        offset: u64,
        count: u64,
        chunk: &[u8],
    ) -> Result<()> {
        if open.as_ref().is_none_or(|(held, _)| *held != number) {
            *open = Some((number, self.open_for_write(number)?));
        }
        let Some((_, file)) = open.as_ref() else {
            return Err(Error::internal("restore", "no open file"));
        };
        for i in 0..count {
            if i % 64 == 63 {
                self.access.cancel.check()?;
            }
            file.write_at(offset + i * chunk.len() as u64, chunk)?;
        }
        let bytes = count * chunk.len() as u64;
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.access.meter.add(0, bytes);
        let is_last = self
            .shared
            .get(&number)
            .is_none_or(|s| s.left.fetch_sub(1, Ordering::AcqRel) == 1);
        if is_last && let Some((_, file)) = open.take() {
            self.finish(number, file)?;
        }
        Ok(())
    }

    fn open_for_write(&self, number: u32) -> Result<NewFile> {
        let path = self.destination(number);
        let Some(shared) = self.shared.get(&number) else {
            return self.root.create_file(&path);
        };
        let mut is_created = lock(&shared.is_created);
        if *is_created {
            return self.root.reopen_file(&path);
        }
        let file = self.root.create_file(&path)?;
        *is_created = true;
        Ok(file)
    }

    /// Copies pieces that an old version of the same file holds; returns those whose bytes have changed.
    pub(crate) fn copy_local<'l>(&self, local: &'l [LocalRun]) -> Result<Vec<&'l LocalRun>> {
        let mut missed = Vec::new();
        let mut open = None;
        let mut source = None;
        for run in local {
            self.access.cancel.check()?;
            if source.as_ref().is_none_or(|(held, _)| *held != run.item) {
                source = self
                    .root
                    .open_file(self.wanted.path(run.item))
                    .ok()
                    .map(|file| (run.item, file));
            }
            let mut bytes = vec![0; run.run.length as usize];
            let read = source
                .as_ref()
                .and_then(|(_, file)| file.read_at(run.from, &mut bytes).ok());
            if read == Some(bytes.len()) && ChunkId::of(&bytes) == run.run.id {
                self.write_chunk(&mut open, run.item, run.to, run.run.count, &bytes)?;
            } else {
                missed.push(run);
            }
        }
        Ok(missed)
    }

    /// Everything that was written, or the first failure.
    pub(crate) fn into_written(self) -> Result<Written> {
        if let Some(error) = self.failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(error);
        }
        Ok(Written {
            keys: self.keys.into_inner().unwrap_or_else(|e| e.into_inner()),
            failed: self.failed.into_inner().unwrap_or_else(|e| e.into_inner()),
            unapplied: self
                .unapplied
                .into_inner()
                .unwrap_or_else(|e| e.into_inner()),
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
        })
    }
}

/// Numbers of the files that are written but need no chunk.
pub(crate) fn without_chunks(wanted: &Wanted, needs: &[Need], local: &[LocalRun]) -> Vec<u32> {
    let mut has_chunks = vec![false; wanted.items.len()];
    needs
        .iter()
        .for_each(|n| has_chunks[n.file as usize] = true);
    local
        .iter()
        .for_each(|l| has_chunks[l.item as usize] = true);
    wanted
        .numbers(super::wanted::WantedKind::File, Action::Write)
        .filter(|n| !has_chunks[*n as usize] && !wanted.leaders.contains_key(n))
        .collect()
}
