//! Steps 4 to 6 of a restore: fetch ranges, decode, verify, write. In a fresh target files are created in place; beside an
//! existing tree they are written into a staging directory first.

use super::finish::metadata_of;
use super::plan::{LocalRun, key_of};
use super::wanted::{Action, Wanted};
use crate::directories::is_damage;
use crate::local::Root;
use crate::local::{NewFile, Unapplied};
use crate::stored_chunks::{ChunkReader, at_pack, fetch_range};
use crate::workspace::Access;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use nbws_core::diff::StatKey;
use nbws_core::id::ChunkId;
use nbws_core::path;
use nbws_core::plan::restore::{Fetch, Need, Needs};
use nbws_core::{Error, Result};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Ranges in flight from the store.
const CONCURRENCY: usize = 8;
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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

    fn stop_all(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            *failure = Some(error);
        }
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Files without any chunk: empty ones and pure holes.
    fn write_without_chunks(&self, numbers: &[u32]) -> Result<()> {
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
    fn write_chunk(
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

    fn run_worker(
        &self,
        runtime: &tokio::runtime::Handle,
        ranges: &Mutex<mpsc::Receiver<(usize, Result<Bytes>)>>,
        fetches: &[Fetch],
        needs: &Needs,
    ) -> Result<()> {
        let mut reader = ChunkReader::new()?;
        while !self.stop.load(Ordering::Relaxed) {
            self.access.cancel.check()?;
            let next = lock(ranges).blocking_recv();
            let Some((i, bytes)) = next else {
                return Ok(());
            };
            let fetch = &fetches[i];
            let some = &needs.list()[fetch.needs.clone()];
            match bytes {
                Ok(bytes) => self.write_range(&mut reader, (fetch, &bytes), needs, some)?,
                Err(error) if is_damage(&error) => {
                    self.fetch_frames(runtime, &mut reader, fetch, (needs, some))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A range that can't be had as a whole, one frame at a time: a pack that was cut short still has its first frames.
    fn fetch_frames(
        &self,
        runtime: &tokio::runtime::Handle,
        reader: &mut ChunkReader,
        fetch: &Fetch,
        (needs, some): (&Needs, &[Need]),
    ) -> Result<()> {
        for some in some.chunk_by(Need::shares_frame) {
            let first = some.first().and_then(|need| needs.chunk(need));
            let Some((_, location)) = first else { continue };
            let frame = Fetch {
                start: location.offset,
                end: location.offset + location.stored_len,
                ..fetch.clone()
            };
            match runtime.block_on(fetch_range(&*self.access.store, &frame)) {
                Ok(bytes) => self.write_range(reader, (&frame, &bytes), needs, some)?,
                Err(error) => self.damaged(some, at_pack(error, &frame))?,
            }
        }
        Ok(())
    }

    /// Frame by frame, so that a damaged one hits only the files that need it.
    fn write_range(
        &self,
        reader: &mut ChunkReader,
        (fetch, bytes): (&Fetch, &[u8]),
        needs: &Needs,
        some: &[Need],
    ) -> Result<()> {
        let mut open = None;
        for some in some.chunk_by(Need::shares_frame) {
            let done = reader.for_each((bytes, fetch.start), needs, some, |need, chunk| {
                if self.is_doomed(need.file) {
                    return Ok(());
                }
                self.write_chunk(&mut open, need.file, need.file_offset, need.count, chunk)
            });
            if let Err(error) = done {
                open = None;
                self.damaged(some, at_pack(error, fetch))?;
            }
        }
        Ok(())
    }

    fn is_doomed(&self, number: u32) -> bool {
        self.shared.contains_key(&number) && self.is_failed(number)
    }

    /// Damage in the store costs the files that it hits; every other failure ends the restore.
    fn damaged(&self, needs: &[Need], error: Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        for need in needs {
            self.fail_item(need.file, error.to_string());
        }
        Ok(())
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

/// Fetches and writes everything, on `threads` threads. Blocks; requests run on `runtime`.
pub(crate) fn write_all(
    writing: &Writing<'_>,
    runtime: &tokio::runtime::Handle,
    threads: usize,
    (fetches, needs): (&[Fetch], &Needs),
    without_chunks: &[u32],
) {
    let (sender, receiver) = mpsc::channel(2);
    let store = std::sync::Arc::clone(&writing.access.store);
    let ranges: Vec<Fetch> = fetches.to_vec();
    let feeder = runtime.spawn(async move {
        let mut ranges = stream::iter(ranges.into_iter().enumerate())
            .map(|(i, fetch)| {
                let store = std::sync::Arc::clone(&store);
                async move { (i, fetch_range(&*store, &fetch).await) }
            })
            .buffered(CONCURRENCY);
        while let Some(range) = ranges.next().await {
            // A closed channel: the workers have stopped.
            if sender.send(range).await.is_err() {
                break;
            }
        }
    });
    let receiver = Mutex::new(receiver);
    let rest: Vec<&[u32]> = without_chunks.chunks(256).collect();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let work = || -> Result<()> {
                    while let Some(numbers) =
                        rest.get(next.fetch_add(1, Ordering::Relaxed) as usize)
                    {
                        writing.write_without_chunks(numbers)?;
                    }
                    writing.run_worker(runtime, &receiver, fetches, needs)
                };
                if let Err(error) = work() {
                    writing.stop_all(error);
                }
            });
        }
    });
    lock(&receiver).close();
    if writing.stop.load(Ordering::Relaxed) {
        feeder.abort();
    }
    // A feeder that broke off looks to the workers like one that has finished.
    if let Err(error) = runtime.block_on(feeder) {
        writing.stop_all(Error::internal(
            "restore",
            format!("downloading ended: {error}"),
        ));
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
