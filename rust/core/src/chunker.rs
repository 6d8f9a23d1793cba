//! Cuts files by content: a plain threshold on a gear hash (`docs/format.md`, section 5.1).

use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::MAX_CHUNK_BYTES;
use serde::{Deserialize, Serialize};

/// Bytes that the hash looks at: each step shifts by one bit, so older bytes have left the 64 bits.
const WINDOW: usize = 64;
/// Bytes of a lane of [`scan`].
const LANE: usize = 1024;
const CONTEXT: &str = "nbws 2026-11-22 gear table v0";
type Table = [u64; 256];

/// Parameters of the chunker, in bytes; they live in `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkerParams {
    /// Expected length of a chunk, but for the bound `maximum`.
    pub average: u32,
    /// Shortest chunk that is not the last of its file.
    pub minimum: u32,
    /// Longest chunk.
    pub maximum: u32,
    /// Files of at most this size are one chunk.
    pub whole: u32,
}

impl Default for ChunkerParams {
    fn default() -> Self {
        ChunkerParams {
            average: 64 << 10,
            minimum: 32 << 10,
            maximum: 256 << 10,
            whole: 64 << 10,
        }
    }
}

impl ChunkerParams {
    /// Checks that the parameters make sense together; `InvalidInput` says which one does not.
    pub fn validate(&self) -> Result<()> {
        self.check(&gear_table())
    }

    fn check(&self, table: &Table) -> Result<()> {
        let bad = |why: &'static str| {
            Err(Error::new(
                ErrorKind::InvalidInput,
                "check chunker parameters",
                why,
            ))
        };
        if (self.minimum as usize) < WINDOW {
            return bad("minimum is below 64 bytes, the window of the hash");
        }
        if self.average < self.minimum.saturating_add(2) {
            return bad("average must exceed minimum by 2 bytes or more");
        }
        if self.maximum < self.average {
            return bad("maximum is below average");
        }
        if self.maximum as usize > MAX_CHUNK_BYTES || self.whole as usize > MAX_CHUNK_BYTES {
            return bad("maximum or whole is over 1 MiB, the largest chunk");
        }
        if zero_hash(table) < self.threshold() {
            return bad(
                "a run of zeros would be cut before maximum with these values of average and minimum",
            );
        }
        Ok(())
    }

    /// floor(2^64 / (average - minimum)); the difference is at least 2.
    fn threshold(&self) -> u64 {
        let spread = u128::from(self.average - self.minimum);
        ((1u128 << 64) / spread) as u64
    }
}

fn gear_table() -> Table {
    let mut bytes = [0; 2048];
    blake3::Hasher::new_derive_key(CONTEXT)
        .finalize_xof()
        .fill(&mut bytes);
    let mut table = [0; 256];
    for (entry, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *entry = u64::from_le_bytes(*bytes);
    }
    table
}

/// The hash of 64 zero bytes.
fn zero_hash(table: &Table) -> u64 {
    (0..WINDOW).fold(0, |hash, _| step(table, hash, 0))
}

#[inline(always)]
fn step(table: &Table, hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(table[usize::from(byte)])
}

/// The table, the threshold and the zero chunk for one set of parameters. Cheap to share, immutable.
#[derive(Clone, Debug)]
pub struct Chunker {
    params: ChunkerParams,
    threshold: u64,
    table: Table,
    zero: ChunkId,
}

impl Chunker {
    /// Prepares a chunker; `InvalidInput` for parameters that [`ChunkerParams::validate`] refuses.
    pub fn new(params: ChunkerParams) -> Result<Self> {
        let table = gear_table();
        params.check(&table)?;
        Ok(Chunker {
            params,
            threshold: params.threshold(),
            table,
            zero: ChunkId::of(&vec![0; params.maximum as usize]),
        })
    }

    /// The parameters.
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Starts at the first byte of a file that is longer than `whole`.
    pub fn cutter(&self) -> Cutter<'_> {
        Cutter {
            chunker: self,
            open: 0,
            hash: 0,
        }
    }

    /// Id and length of the chunk that zeros are cut into: `maximum` zero bytes.
    ///
    /// A hole is fed as zeros until the open chunk ends; from there on whole zero chunks follow, which need not be fed
    /// because the hash of zeros never cuts.
    pub fn zero_chunk(&self) -> (ChunkId, u32) {
        (self.zero, self.params.maximum)
    }

    /// The lengths of the chunks of a file that lies in memory.
    pub fn cut(&self, file: &[u8]) -> Vec<usize> {
        if file.len() <= self.params.whole as usize {
            return if file.is_empty() {
                Vec::new()
            } else {
                vec![file.len()]
            };
        }
        let mut cutter = self.cutter();
        let mut lengths = Vec::new();
        let mut rest = file;
        while let Some(n) = cutter.feed(rest) {
            lengths.push(n);
            rest = &rest[n..];
        }
        lengths.extend(Some(cutter.finish()).filter(|last| *last > 0));
        lengths
    }
}

/// State of the open chunk of one file; the caller keeps the bytes.
#[derive(Clone, Debug)]
pub struct Cutter<'a> {
    chunker: &'a Chunker,
    open: usize,
    hash: u64,
}

impl Cutter<'_> {
    /// Consumes bytes of `next` up to the end of the open chunk.
    ///
    /// `Some(n)`: the chunk ends after `n` more bytes, n >= 1; the state is reset and the caller passes `next[n..]` on.
    /// `None`: all of `next` was consumed and the chunk is still open.
    pub fn feed(&mut self, next: &[u8]) -> Option<usize> {
        let params = &self.chunker.params;
        let table = &self.chunker.table;
        let minimum = params.minimum as usize;
        let limit = next.len().min(params.maximum as usize - self.open);
        // Nothing before the first window that may cut is looked at.
        let mut at = (minimum - WINDOW).saturating_sub(self.open).min(limit);
        let warm = (minimum - 1).saturating_sub(self.open).min(limit);
        let mut hash = self.hash;
        for byte in &next[at..warm] {
            hash = step(table, hash, *byte);
        }
        at = at.max(warm);
        match scan(table, self.chunker.threshold, &mut hash, &next[at..limit]) {
            Some(n) => {
                self.reset();
                Some(at + n)
            }
            None if self.open + limit == params.maximum as usize => {
                self.reset();
                Some(limit)
            }
            None => {
                self.open += limit;
                self.hash = hash;
                None
            }
        }
    }

    /// Bytes of the open chunk so far.
    pub fn open_bytes(&self) -> usize {
        self.open
    }

    /// Ends the open chunk at the end of the file: its length, 0 if none is open. Resets for another file.
    pub fn finish(&mut self) -> usize {
        let length = self.open;
        self.reset();
        length
    }

    fn reset(&mut self) {
        self.open = 0;
        self.hash = 0;
    }
}

/// The number of bytes up to and including the first that brings the hash below the threshold.
///
/// A hash depends on 64 bytes only, so three lanes of a block are hashed side by side, which hides the latency of each
/// step; a block with a cut is scanned again from its start to find the first one.
fn scan(table: &Table, threshold: u64, hash: &mut u64, bytes: &[u8]) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks::<{ 3 * LANE }>();
    for (n, block) in blocks.iter().enumerate() {
        match lanes(table, threshold, *hash, block) {
            Some(last) => *hash = last,
            None => {
                return scan_serial(table, threshold, hash, block).map(|at| n * block.len() + at);
            }
        }
    }
    scan_serial(table, threshold, hash, tail).map(|at| blocks.len() * 3 * LANE + at)
}

/// The hash after the block, `None` if any hash in it is below the threshold.
fn lanes(table: &Table, threshold: u64, hash: u64, block: &[u8; 3 * LANE]) -> Option<u64> {
    let (first, rest) = block.split_at(LANE);
    let (second, third) = rest.split_at(LANE);
    let warm = |lane: &[u8]| {
        lane[LANE - WINDOW..]
            .iter()
            .fold(0, |hash, byte| step(table, hash, *byte))
    };
    let (mut a, mut b, mut c) = (hash, warm(first), warm(second));
    let (first, second, third) = (
        first.as_chunks::<8>().0,
        second.as_chunks::<8>().0,
        third.as_chunks::<8>().0,
    );
    for ((first, second), third) in first.iter().zip(second).zip(third) {
        for n in 0..8 {
            a = step(table, a, first[n]);
            b = step(table, b, second[n]);
            c = step(table, c, third[n]);
            if a < threshold || b < threshold || c < threshold {
                return None;
            }
        }
    }
    Some(c)
}

fn scan_serial(table: &Table, threshold: u64, hash: &mut u64, bytes: &[u8]) -> Option<usize> {
    let mut h = *hash;
    for (at, byte) in bytes.iter().enumerate() {
        h = step(table, h, *byte);
        if h < threshold {
            return Some(at + 1);
        }
    }
    *hash = h;
    None
}
