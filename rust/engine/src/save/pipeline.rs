//! What the threads of a save share: work, results, and the reason to stop.

use super::encode::Job;
use super::pace::Pace;
use super::pack::Lost;
use super::plan::Planned;
use super::quota::Admitted;
use super::read::Found;
use crate::local::Root;
use crate::local::Stat;
use crate::workspace::Access;
use crossbeam_channel::Sender;
use nbws_core::chunker::Chunker;
use nbws_core::id::ChunkId;
use nbws_core::index::Index;
use nbws_core::plan::save_order::Unit;
use nbws_core::tree::{Hole, OmitReason, Run};
use nbws_core::{Error, Result};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What became of a file that had to be read.
pub(crate) enum Outcome {
    /// Nobody has looked at it yet.
    Pending,
    /// Exactly as the scan saw it, one chunk (none if empty), no attributes: most files, kept small in memory.
    AsScanned(Option<ChunkId>),
    /// Read; the stat may have moved on since the scan.
    Stored(Box<StoredFile>),
    /// It can't be read; why.
    Unreadable(Box<str>),
    /// It is gone.
    Vanished,
    /// A partial save did not get to it.
    LeftOut(OmitReason),
    /// Nothing says that it has changed, and there was no time to be sure.
    Kept,
}

/// A file that was read.
pub(crate) struct StoredFile {
    pub(crate) content: Content,
    pub(crate) holes: Vec<Hole>,
    pub(crate) found: Found,
}

pub(crate) enum Content {
    /// One chunk, none if empty.
    Small(Option<ChunkId>),
    Large(Arc<LargeFile>),
}

/// The chunks of a large file; ids come in from the encoders in any order.
#[derive(Default)]
pub(crate) struct LargeFile {
    runs: Mutex<Vec<Run>>,
    /// Its chunks ask for room in the store.
    is_bounded: bool,
    /// There was none.
    is_refused: AtomicBool,
}

impl LargeFile {
    /// A file without chunks, which have to ask for room if it is bounded.
    pub(crate) fn new(is_bounded: bool) -> Self {
        LargeFile {
            is_bounded,
            ..LargeFile::default()
        }
    }

    fn runs(&self) -> MutexGuard<'_, Vec<Run>> {
        self.runs.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// It does not fit: nothing more of it is stored.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Makes room for chunks of these lengths; returns the first slot.
    pub(crate) fn reserve(&self, lengths: &[u32]) -> usize {
        let mut runs = self.runs();
        let slot = runs.len();
        runs.extend(lengths.iter().map(|length| Run {
            id: ChunkId([0; 32]),
            length: *length,
            count: 1,
        }));
        slot
    }

    /// Appends a run that is known already.
    pub(crate) fn push(&self, run: Run) {
        self.runs().push(run);
    }

    /// Names the chunks from `slot` on.
    pub(crate) fn fill(&self, slot: usize, ids: &[ChunkId]) {
        let mut runs = self.runs();
        for (run, id) in runs[slot..].iter_mut().zip(ids) {
            run.id = *id;
        }
    }

    /// All runs; complete once the pipeline has ended.
    pub(crate) fn take(&self) -> Vec<Run> {
        std::mem::take(&mut *self.runs())
    }
}

impl Outcome {
    /// A file that is not whole in the store becomes one that was left out.
    pub(crate) fn leave_out_if_not_whole(&mut self, lost: &Lost) {
        if let Outcome::Stored(file) = self
            && let Content::Large(content) = &file.content
            && content.is_refused()
        {
            *self = Outcome::LeftOut(OmitReason::Quota);
            return;
        }
        if lost.is_empty() {
            return;
        }
        let is_lost = match self {
            Outcome::AsScanned(Some(id)) => lost.has(id),
            Outcome::Stored(file) => match &file.content {
                Content::Small(id) => id.is_some_and(|id| lost.has(&id)),
                Content::Large(file) => file.runs().iter().any(|run| lost.has(&run.id)),
            },
            _ => false,
        };
        if is_lost {
            *self = Outcome::LeftOut(OmitReason::Deadline);
        }
    }
}

/// Chunks that this save stores, in shards so that encoders rarely wait for each other.
pub(crate) struct FreshChunks(Vec<Mutex<ChunkSet>>);

type ChunkSet = HashSet<ChunkId, BuildHasherDefault<FirstBytes>>;

/// Ids are hashes already: eight of their bytes tell them apart.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Chunks of a shard for which a table of 65,536 is just large enough: 43 bytes for each, and none is moved while it fills.
const SHARD_CHUNKS: usize = 50_000;
/// Fewest shards.
const MIN_SHARDS: usize = 16;

impl FreshChunks {
    /// No chunks, with room for about so many.
    pub(crate) fn new(expected: usize) -> Self {
        let shards = expected.div_ceil(SHARD_CHUNKS).max(MIN_SHARDS);
        // Shards fill evenly but not alike.
        let each = expected / shards + expected / shards / 16;
        let shard = || Mutex::new(ChunkSet::with_capacity_and_hasher(each, Default::default()));
        FreshChunks((0..shards).map(|_| shard()).collect())
    }

    /// Whether the caller is the first to bring this chunk.
    pub(crate) fn claim(&self, id: &ChunkId) -> bool {
        self.shard(id).insert(*id)
    }

    /// Whether somebody has brought this chunk.
    pub(crate) fn has(&self, id: &ChunkId) -> bool {
        self.shard(id).contains(id)
    }

    fn shard(&self, id: &ChunkId) -> MutexGuard<'_, ChunkSet> {
        let [.., a, b, c, d] = id.0;
        let shard = u32::from_le_bytes([a, b, c, d]) as usize % self.0.len();
        self.0[shard].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets all chunks and gives their memory back.
    pub(crate) fn forget(&self) {
        for shard in &self.0 {
            *shard.lock().unwrap_or_else(|e| e.into_inner()) = ChunkSet::default();
        }
    }
}

/// Counts for the report.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) files_opened: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_new: AtomicU64,
    pub(crate) chunks_total: AtomicU64,
    pub(crate) chunks_new: AtomicU64,
}

impl Counts {
    pub(crate) fn opened(&self) {
        self.files_opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any file brought something that the store lacks.
    pub(crate) fn brings_chunks(&self) -> bool {
        self.chunks_new.load(Ordering::Relaxed) > 0
    }

    /// Chunks that counted as new, and their bytes, did not reach the store.
    pub(crate) fn not_stored(&self, (chunks, bytes): (u64, u64)) {
        self.chunks_new.fetch_sub(chunks, Ordering::Relaxed);
        self.bytes_new.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Everything that readers and encoders share.
pub(crate) struct Pipeline<'a> {
    parts: Parts<'a>,
    next: AtomicUsize,
    outcomes: Mutex<Vec<Outcome>>,
    has_zero_chunk: AtomicBool,
    is_stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl<'a> Deref for Pipeline<'a> {
    type Target = Parts<'a>;

    fn deref(&self) -> &Parts<'a> {
        &self.parts
    }
}

/// What a pipeline is made of.
pub(crate) struct Parts<'a> {
    pub(crate) access: &'a Access,
    pub(crate) root: &'a Root,
    pub(crate) planned: &'a Planned,
    pub(crate) chunker: &'a Chunker,
    pub(crate) index: &'a Index,
    pub(crate) fresh: &'a FreshChunks,
    pub(crate) counts: &'a Counts,
    pub(crate) pace: &'a Pace,
    pub(crate) admitted: &'a Admitted,
    pub(crate) level: i32,
    /// Everything that was modified recently has been flushed at once.
    pub(crate) is_flushed: bool,
    pub(crate) units: &'a [Unit],
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(parts: Parts<'a>) -> Self {
        let outcomes = parts
            .planned
            .work
            .iter()
            .map(|_| Outcome::Pending)
            .collect();
        Pipeline {
            parts,
            next: AtomicUsize::new(0),
            outcomes: Mutex::new(outcomes),
            has_zero_chunk: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// The next unit of work, until none is left or the pipeline was stopped.
    pub(crate) fn next_unit(&self) -> Option<&'a Unit> {
        if self.is_stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.units.get(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn path(&self, work: u32) -> &'a [u8] {
        self.planned
            .scanned
            .path(self.planned.work[work as usize] as usize)
    }

    /// What the scan saw of a file.
    pub(crate) fn scanned(&self, work: u32) -> Stat {
        self.planned
            .scanned
            .stat(self.planned.work[work as usize] as usize)
    }

    /// What becomes of a file that the deadline came before.
    pub(crate) fn too_late(&self, work: u32) -> Outcome {
        match self.planned.doubted[work as usize] {
            true => Outcome::Kept,
            false => Outcome::LeftOut(OmitReason::Deadline),
        }
    }

    /// Whether a file may go in with the size that it has now.
    pub(crate) fn admits(&self, work: u32, size: u64) -> Result<bool> {
        self.admitted.admits(self.planned, work, size)
    }

    /// Whether the chunks of a file of this size have to ask for room.
    pub(crate) fn bounds(&self, work: u32, size: u64) -> bool {
        self.admitted.bounds(self.path(work), size)
    }

    /// Notes what became of a file.
    pub(crate) fn settle(&self, work: u32, outcome: Outcome) {
        self.settle_all([(work, outcome)]);
    }

    /// Notes what became of several files.
    pub(crate) fn settle_all(&self, all: impl IntoIterator<Item = (u32, Outcome)>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(|e| e.into_inner());
        for (work, outcome) in all {
            outcomes[work as usize] = outcome;
        }
    }

    /// Hands a job to the encoders; a closed channel means that somebody stopped the pipeline.
    pub(crate) fn send(&self, jobs: &Sender<Job>, job: Job) -> Result<()> {
        jobs.send(job)
            .map_err(|_| Error::internal("save", "the encoders have stopped"))
    }

    /// Makes sure that the chunk of zeros is stored.
    pub(crate) fn store_zero_chunk(&self, jobs: &Sender<Job>) -> Result<()> {
        if self.has_zero_chunk.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (_, length) = self.chunker.zero_chunk();
        let file = Arc::new(LargeFile::default());
        let slot = file.reserve(&[length]);
        self.send(
            jobs,
            Job::Chunks {
                plain: vec![0; length as usize],
                lengths: vec![length],
                file,
                slot,
            },
        )
    }

    /// Keeps the first failure and stops everybody.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(|e| e.into_inner());
        if failure.is_none() {
            *failure = Some(error);
        }
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// The outcomes by work number, or the first failure.
    pub(crate) fn finish(self) -> Result<Vec<Outcome>> {
        match self.failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(self
                .outcomes
                .into_inner()
                .unwrap_or_else(|e| e.into_inner())),
        }
    }
}
