//! Step 5 of a save, for large files: cuts a file by content while it is read, and sends its chunks off by the frame.

use super::encode::Job;
use super::pipeline::{LargeFile, Pipeline};
use super::read::BLOCK_BYTES;
use crate::local::OpenFile;
use crossbeam_channel::Sender;
use nbws_core::Result;
use nbws_core::chunker::Cutter;
use nbws_core::limits::FRAME_TARGET_BYTES;
use nbws_core::tree::{Hole, Run};
use std::sync::Arc;

/// The open frame of a large file: closed chunks, then the bytes of the open one.
struct Cutting<'a, 'p> {
    pipeline: &'a Pipeline<'p>,
    jobs: &'a Sender<Job>,
    content: &'a Arc<LargeFile>,
    frame: Vec<u8>,
    lengths: Vec<u32>,
    /// Bytes of the open chunk at the end of `frame`.
    open: usize,
}

/// Cuts the first `size` bytes of a file by content and sends its chunks off. Reads holes as zeros without touching the disk. Returns the bytes read and the holes, `None` if the deadline came
/// first or there is no room; what was sent by then stays in the packs and is known to the next save.
pub(super) fn cut_large(
    pipeline: &Pipeline<'_>,
    jobs: &Sender<Job>,
    content: &Arc<LargeFile>,
    file: &OpenFile,
    size: u64,
) -> Result<Option<(u64, Vec<Hole>)>> {
    let mut cutting = Cutting {
        pipeline,
        jobs,
        content,
        frame: Vec::new(),
        lengths: Vec::new(),
        open: 0,
    };
    let mut cutter = pipeline.chunker.cutter();
    let is_sparse = file.stat()?.blocks.saturating_mul(512) < size;
    let mut holes = Vec::new();
    let mut offset = 0;
    while offset < size {
        pipeline.access.cancel.check()?;
        let (from, to) = if is_sparse {
            file.next_data(offset, size)?.unwrap_or((size, size))
        } else {
            (offset, size)
        };
        if from > offset {
            holes.push(Hole {
                offset,
                length: from - offset,
            });
            cutting.zeros(&mut cutter, from - offset)?;
            offset = from;
        }
        while offset < to {
            pipeline.access.cancel.check()?;
            if pipeline.pace.is_over() || content.is_refused() {
                return Ok(None);
            }
            let want = BLOCK_BYTES.min((to - offset) as usize);
            let start = cutting.frame.len();
            cutting.frame.resize(start + want, 0);
            let read = file.read_at(offset, &mut cutting.frame[start..])?;
            cutting.frame.truncate(start + read);
            pipeline.counts.read(read as u64);
            pipeline.access.meter.add(0, read as u64);
            cutting.feed(&mut cutter, start)?;
            offset += read as u64;
            if read < want {
                // It shrank: what was read is what there is.
                cutting.finish(&mut cutter)?;
                return Ok(Some((offset, trim(holes, offset))));
            }
        }
    }
    cutting.finish(&mut cutter)?;
    Ok(Some((size, holes)))
}

fn trim(mut holes: Vec<Hole>, size: u64) -> Vec<Hole> {
    holes.retain(|hole| hole.offset + hole.length <= size);
    holes
}

impl Cutting<'_, '_> {
    /// Feeds what was appended to the frame from `start` on.
    fn feed(&mut self, cutter: &mut Cutter<'_>, start: usize) -> Result<()> {
        let mut at = start;
        while let Some(n) = cutter.feed(&self.frame[at..]) {
            self.lengths.push((self.open + n) as u32);
            self.open = 0;
            at += n;
        }
        self.open += self.frame.len() - at;
        if self.frame.len() - self.open >= FRAME_TARGET_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// A hole: zeros until the open chunk ends, then whole zero chunks that nobody has to read or hash, then the rest.
    fn zeros(&mut self, cutter: &mut Cutter<'_>, length: u64) -> Result<()> {
        let (id, chunk) = self.pipeline.chunker.zero_chunk();
        let mut left = length;
        while left > 0 {
            if self.open == 0 && left >= u64::from(chunk) {
                self.send()?;
                let count = left / u64::from(chunk);
                self.pipeline.store_zero_chunk(self.jobs)?;
                self.content.push(Run {
                    id,
                    length: chunk,
                    count,
                });
                left %= u64::from(chunk);
                continue;
            }
            let step = left.min(BLOCK_BYTES as u64) as usize;
            // Not more than the open chunk can take, so that whole zero chunks are seen.
            let step = step.min(chunk as usize - self.open);
            let start = self.frame.len();
            self.frame.resize(start + step, 0);
            self.feed(cutter, start)?;
            left -= step as u64;
        }
        Ok(())
    }

    fn finish(&mut self, cutter: &mut Cutter<'_>) -> Result<()> {
        if cutter.finish() > 0 {
            self.lengths.push(self.open as u32);
            self.open = 0;
        }
        self.send()
    }

    /// Sends the closed chunks off; the open one stays.
    fn send(&mut self) -> Result<()> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        let closed = self.frame.len() - self.open;
        let mut next = Vec::with_capacity(FRAME_TARGET_BYTES + 2 * BLOCK_BYTES);
        next.extend_from_slice(&self.frame[closed..]);
        let mut plain = std::mem::replace(&mut self.frame, next);
        plain.truncate(closed);
        let lengths = std::mem::take(&mut self.lengths);
        let slot = self.content.reserve(&lengths);
        self.pipeline.send(
            self.jobs,
            Job::Chunks {
                plain,
                lengths,
                file: Arc::clone(self.content),
                slot,
            },
        )
    }
}
