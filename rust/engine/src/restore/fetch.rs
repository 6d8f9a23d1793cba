//! Step 4 of a restore: downloads the planned ranges and hands every chunk to the files that need it.

use super::write::{Writing, lock};
use crate::directories::is_damage;
use crate::stored_chunks::{ChunkReader, at_pack, fetch_range};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use nbws_core::plan::restore::{Fetch, Need, Needs};
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

/// Ranges in flight from the store.
const CONCURRENCY: usize = 8;

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
    if writing.is_stopped() {
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

impl Writing<'_> {
    fn run_worker(
        &self,
        runtime: &tokio::runtime::Handle,
        ranges: &Mutex<mpsc::Receiver<(usize, Result<Bytes>)>>,
        fetches: &[Fetch],
        needs: &Needs,
    ) -> Result<()> {
        let mut reader = ChunkReader::new()?;
        while !self.is_stopped() {
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

    /// Damage in the store, or a frame from a newer program, costs the files that it hits; every other failure ends the restore.
    fn damaged(&self, needs: &[Need], error: Error) -> Result<()> {
        if !is_damage(&error) && error.kind() != ErrorKind::Unsupported {
            return Err(error);
        }
        for need in needs {
            self.fail_item(need.file, error.to_string());
        }
        Ok(())
    }
}
