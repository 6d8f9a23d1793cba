//! Steps 6 and 7 of a save: hash, drop what is known, compress.

use super::pipeline::{Content, LargeFile, Outcome, Pipeline, StoredFile};
use super::read::Found;
use crossbeam_channel::{Receiver, Sender};
use nbws_core::frame::{ChunkSpan, EncodedFrame, FrameEncoder, FrameKind};
use nbws_core::id::ChunkId;
use nbws_core::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes for one frame.
pub(crate) enum Job {
    /// Small files, one chunk each: work number, start and length in `plain`, and what the reader found.
    Small {
        plain: Vec<u8>,
        spans: Vec<(u32, usize, usize, Found)>,
    },
    /// Neighbouring chunks of a large file.
    Chunks {
        plain: Vec<u8>,
        lengths: Vec<u32>,
        file: Arc<LargeFile>,
        slot: usize,
    },
}

/// Takes jobs until there are no more.
pub(crate) fn run_encoder(
    pipeline: &Pipeline<'_>,
    jobs: &Receiver<Job>,
    frames: &Sender<EncodedFrame>,
) -> Result<()> {
    let mut encoder = FrameEncoder::new()?;
    for job in jobs {
        pipeline.access.cancel.check()?;
        let (plain, chunks, reserved) = match job {
            Job::Small { plain, spans } => {
                let (plain, chunks) = small(pipeline, plain, spans);
                (plain, chunks, 0)
            }
            Job::Chunks {
                plain,
                lengths,
                file,
                slot,
            } => large(pipeline, plain, &lengths, &file, slot),
        };
        if chunks.is_empty() {
            continue;
        }
        let frame = encoder.encode(FrameKind::Chunks, &plain, chunks, pipeline.level)?;
        pipeline
            .admitted
            .store(frame.bytes.len() as u64, reserved)?;
        frames
            .send(frame)
            .map_err(|_| Error::internal("save", "the packer has stopped"))?;
    }
    Ok(())
}

/// Keeps the chunks that nobody has stored, moved together at the front of their buffer.
struct Sieve<'p, 'a> {
    pipeline: &'p Pipeline<'a>,
    plain: Vec<u8>,
    kept: usize,
    chunks: Vec<ChunkSpan>,
}

impl Sieve<'_, '_> {
    fn chunk(&mut self, start: usize, length: usize) -> ChunkId {
        let bytes = &self.plain[start..start + length];
        let id = ChunkId::of(bytes);
        let counts = self.pipeline.counts;
        counts.chunks_total.fetch_add(1, Ordering::Relaxed);
        if self.pipeline.index.lookup(&id).is_none() && self.pipeline.fresh.claim(&id) {
            counts.chunks_new.fetch_add(1, Ordering::Relaxed);
            counts.bytes_new.fetch_add(length as u64, Ordering::Relaxed);
            self.plain.copy_within(start..start + length, self.kept);
            self.kept += length;
            self.chunks.push(ChunkSpan {
                id,
                length: length as u32,
            });
        }
        id
    }

    fn finish(mut self) -> (Vec<u8>, Vec<ChunkSpan>) {
        self.plain.truncate(self.kept);
        (self.plain, self.chunks)
    }
}

fn small(
    pipeline: &Pipeline<'_>,
    plain: Vec<u8>,
    spans: Vec<(u32, usize, usize, Found)>,
) -> (Vec<u8>, Vec<ChunkSpan>) {
    pipeline
        .access
        .meter
        .add(spans.len() as u64, plain.len() as u64);
    let mut sieve = Sieve {
        pipeline,
        plain,
        kept: 0,
        chunks: Vec::new(),
    };
    let mut outcomes = Vec::with_capacity(spans.len());
    for (work, start, length, found) in spans {
        let id = (length > 0).then(|| sieve.chunk(start, length));
        let as_scanned =
            found.trusted && found.xattrs.is_empty() && found.stat == pipeline.scanned(work);
        outcomes.push((
            work,
            if as_scanned {
                Outcome::AsScanned(id)
            } else {
                Outcome::Stored(Box::new(StoredFile {
                    content: Content::Small(id),
                    holes: Vec::new(),
                    found,
                }))
            },
        ));
    }
    pipeline.settle_all(outcomes);
    sieve.finish()
}

fn large(
    pipeline: &Pipeline<'_>,
    plain: Vec<u8>,
    lengths: &[u32],
    file: &LargeFile,
    slot: usize,
) -> (Vec<u8>, Vec<ChunkSpan>, u64) {
    let reserved = match file.is_bounded() {
        true => reserve(pipeline, &plain, lengths, file),
        false => Some(0),
    };
    // What does not fit is claimed by nobody: another file may bring the same chunk.
    let Some(reserved) = reserved else {
        return (Vec::new(), Vec::new(), 0);
    };
    let mut sieve = Sieve {
        pipeline,
        plain,
        kept: 0,
        chunks: Vec::new(),
    };
    let mut start = 0;
    let mut ids = Vec::with_capacity(lengths.len());
    for length in lengths {
        ids.push(sieve.chunk(start, *length as usize));
        start += *length as usize;
    }
    file.fill(slot, &ids);
    let (plain, chunks) = sieve.finish();
    if chunks.is_empty() && reserved > 0 {
        // Somebody else has brought all of them meanwhile; giving room back is never refused.
        let _ = pipeline.admitted.store(0, reserved);
    }
    (plain, chunks, reserved)
}

/// Takes room for those of the chunks that the store lacks, as if they did not compress; `None` if there is not enough, or was not
/// before.
fn reserve(
    pipeline: &Pipeline<'_>,
    plain: &[u8],
    lengths: &[u32],
    file: &LargeFile,
) -> Option<u64> {
    let mut start = 0;
    let mut needed = 0;
    for length in lengths {
        let end = start + *length as usize;
        let id = ChunkId::of(&plain[start..end]);
        if pipeline.index.lookup(&id).is_none() && !pipeline.fresh.has(&id) {
            needed += u64::from(*length);
        }
        start = end;
    }
    if !file.is_refused() && pipeline.admitted.reserve(needed) {
        return Some(needed);
    }
    file.refuse();
    None
}
