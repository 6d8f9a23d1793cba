//! Step 5 of a save: readers. Each takes a unit of work, and reads files between two stats.

use super::cut::cut_large;
use super::encode::Job;
use super::pipeline::{Content, LargeFile, Outcome, Pipeline, StoredFile};
use crate::local::OpenFile;
use crate::local::{FileKind, Stat, is_gone};
use crossbeam_channel::Sender;
use nbws_core::limits::FRAME_TARGET_BYTES;
use nbws_core::plan::save_order::Unit;
use nbws_core::tree::{OmitReason, Xattr};
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;
/// A file that was modified this recently may have changes in a shared mapping that moved no timestamp yet.
const RECENT_SECONDS: i64 = 60;
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// What two stats around a read say.
enum Stability {
    Same,
    /// The prefix that the first stat promised was read; the file grew meanwhile.
    Grown,
    Changed,
}

/// What was found beside the bytes.
pub(crate) struct Found {
    /// The stat before the read; `size` is what was read.
    pub(crate) stat: Stat,
    pub(crate) xattrs: Vec<Xattr>,
    /// Why the attributes could not be read.
    pub(crate) lacks_xattrs: Option<Box<str>>,
    pub(crate) unstable: bool,
    /// Next time, an equal stat may stand for equal content.
    pub(crate) trusted: bool,
}

/// Takes units until none are left, the deadline passes, or somebody stops the pipeline.
pub(crate) fn run_reader(pipeline: &Pipeline<'_>, jobs: &Sender<Job>) -> Result<()> {
    while let Some(unit) = pipeline.next_unit() {
        pipeline.access.cancel.check()?;
        if pipeline.pace.is_over() {
            leave_out(pipeline, unit);
            continue;
        }
        match unit {
            Unit::Small(files) => read_small(pipeline, files, jobs)?,
            Unit::Large(work) => read_large(pipeline, *work, jobs)?,
        }
    }
    Ok(())
}

fn leave_out(pipeline: &Pipeline<'_>, unit: &Unit) {
    let files = match unit {
        Unit::Small(files) => files.as_slice(),
        Unit::Large(file) => std::slice::from_ref(file),
    };
    for work in files {
        pipeline.settle(*work, pipeline.too_late(*work));
    }
}

fn read_small(pipeline: &Pipeline<'_>, files: &[u32], jobs: &Sender<Job>) -> Result<()> {
    let mut plain = Vec::with_capacity(FRAME_TARGET_BYTES + BLOCK_BYTES);
    let mut spans = Vec::with_capacity(files.len());
    for work in files {
        let start = plain.len();
        match read_whole(pipeline, *work, &mut plain) {
            Ok(Some(found)) => spans.push((*work, start, plain.len() - start, found)),
            // It grew beyond a small file since the scan.
            Ok(None) => {
                plain.truncate(start);
                read_large(pipeline, *work, jobs)?;
            }
            Err(error) => {
                plain.truncate(start);
                pipeline.settle(*work, failed(error)?);
            }
        }
    }
    pipeline.send(jobs, Job::Small { plain, spans })
}

/// A file that can't be read is an outcome; anything else is a failure of the save.
fn failed(error: Error) -> Result<Outcome> {
    match error.kind() {
        _ if is_gone(&error) => Ok(Outcome::Vanished),
        ErrorKind::LocalIo | ErrorKind::Denied => Ok(Outcome::Unreadable(error.message().into())),
        _ => Err(error),
    }
}

/// Opens a file to be stored. If its name has left its hard link group since the scan, another name of the group leads to
/// what the scan saw.
fn open(pipeline: &Pipeline<'_>, work: u32) -> Result<(OpenFile, Stat)> {
    let first = open_name(pipeline, pipeline.path(work));
    let scanned = pipeline.scanned(work);
    let is_it = |opened: &Result<(OpenFile, Stat)>| {
        opened
            .as_ref()
            .is_ok_and(|(_, stat)| stat.is_same_file(&scanned))
    };
    if is_it(&first) {
        return first;
    }
    for name in pipeline.planned.further_names(work) {
        let other = open_name(pipeline, pipeline.planned.scanned.path(name as usize));
        if is_it(&other) {
            return other;
        }
    }
    first
}

/// Opens one name of a file, flushing what a shared mapping may hold back.
fn open_name(pipeline: &Pipeline<'_>, path: &[u8]) -> Result<(OpenFile, Stat)> {
    let file = pipeline.root.open_file(path)?;
    pipeline.counts.opened();
    let mut stat = *file.opened();
    let clock = pipeline.planned.settled.seconds;
    if stat.mtime.seconds >= clock - RECENT_SECONDS && !pipeline.is_flushed {
        // What can't be flushed is read as it is, like everything older.
        if let Err(error) = file.sync_data() {
            tracing::debug!(%error, "could not flush before reading");
        }
        stat = file.stat()?;
    }
    if stat.kind != FileKind::File {
        return Err(Error::new(
            ErrorKind::LocalIo,
            "read",
            "became something else while it was saved",
        ));
    }
    if stat.ctime >= pipeline.planned.settled {
        leave_tick(pipeline, &stat)?;
        stat = file.stat()?;
    }
    Ok((file, stat))
}

/// Waits until the file system's clock has passed the last change of a file: most kernels move no time for a second change
/// within one tick, so two equal stats would hide it. At most one tick, and only for what changed a moment ago.
fn leave_tick(pipeline: &Pipeline<'_>, stat: &Stat) -> Result<()> {
    for _ in 0..25 {
        if pipeline.root.file_system_clock()? > stat.ctime {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn compare(before: &Stat, after: &Stat, read: u64) -> Stability {
    let same =
        before.mtime == after.mtime && before.ctime == after.ctime && before.size == after.size;
    if same && read == before.size {
        Stability::Same
    } else if after.size > before.size && read == before.size {
        Stability::Grown
    } else {
        Stability::Changed
    }
}

/// Reads a small file to the end of `plain`; `None` if it is not small any more.
fn read_whole(pipeline: &Pipeline<'_>, work: u32, plain: &mut Vec<u8>) -> Result<Option<Found>> {
    let start = plain.len();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (file, mut stat) = open(pipeline, work)?;
        if stat.size > u64::from(pipeline.chunker.params().whole) {
            return Ok(None);
        }
        plain.resize(start + stat.size as usize, 0);
        let read = file.read_at(0, &mut plain[start..])?;
        plain.truncate(start + read);
        let after = file.stat()?;
        pipeline.counts.read(read as u64);
        let stability = compare(&stat, &after, read as u64);
        if matches!(stability, Stability::Changed | Stability::Grown) && attempt < TRIES {
            plain.truncate(start);
            continue;
        }
        stat.size = read as u64;
        // Small files always go in; one that has grown may still be what a refusal is about.
        pipeline.admits(work, stat.size)?;
        return Ok(Some(found(pipeline, &file, stat, &stability)));
    }
}

/// What goes with the bytes of a file that was read. Attributes that can't be read cost no content; they are asked for again by
/// the next save.
fn found(pipeline: &Pipeline<'_>, file: &OpenFile, stat: Stat, stability: &Stability) -> Found {
    let (xattrs, lacks_xattrs) = match file.xattrs() {
        Ok(xattrs) => (xattrs, None),
        Err(error) => (Vec::new(), Some(error.message().into())),
    };
    Found {
        unstable: matches!(stability, Stability::Changed),
        trusted: matches!(stability, Stability::Same)
            && stat.ctime < pipeline.planned.settled
            && lacks_xattrs.is_none(),
        stat,
        xattrs,
        lacks_xattrs,
    }
}

fn read_large(pipeline: &Pipeline<'_>, work: u32, jobs: &Sender<Job>) -> Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (file, mut stat) = match open(pipeline, work) {
            Ok(opened) => opened,
            Err(error) => {
                pipeline.settle(work, failed(error)?);
                return Ok(());
            }
        };
        if !pipeline.admits(work, stat.size)? {
            pipeline.settle(work, Outcome::LeftOut(OmitReason::Quota));
            return Ok(());
        }
        let content = Arc::new(LargeFile::new(pipeline.bounds(work, stat.size)));
        let (read, holes) = match cut_large(pipeline, jobs, &content, &file, stat.size) {
            Ok(Some(done)) => done,
            Ok(None) => {
                let outcome = match content.is_refused() {
                    true => Outcome::LeftOut(OmitReason::Quota),
                    false => pipeline.too_late(work),
                };
                pipeline.settle(work, outcome);
                return Ok(());
            }
            Err(error) => {
                pipeline.settle(work, failed(error)?);
                return Ok(());
            }
        };
        let after = file.stat()?;
        // The end of a file that shrank looks like a hole: only what was read byte by byte has only grown.
        let stability = match compare(&stat, &after, read) {
            Stability::Grown if !holes.is_empty() => Stability::Changed,
            found => found,
        };
        if matches!(stability, Stability::Changed | Stability::Grown)
            && attempt < TRIES
            && !pipeline.pace.is_over()
        {
            // The chunks that were sent stay in the packs; the next prune finds them unused.
            continue;
        }
        stat.size = read;
        pipeline.access.meter.add(1, 0);
        let found = found(pipeline, &file, stat, &stability);
        let stored = StoredFile {
            content: Content::Large(content),
            holes,
            found,
        };
        pipeline.settle(work, Outcome::Stored(Box::new(stored)));
        return Ok(());
    }
}
