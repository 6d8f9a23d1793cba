//! Whether a file on disk has the chunks that it should have.

use super::wanted::{Action, Wanted};
use crate::local::{OpenFile, Root, is_closed};
use crate::stored_tree::runs_of;
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::ChunkId;
use nbws_core::tree::{Body, Run, SegmentReader};
use std::collections::HashMap;

/// Bytes that are looked at together.
const BLOCK_BYTES: u64 = 256 << 10;

/// Reads the file and compares every chunk with its id; false also when the file is shorter or longer. Holes are not read where
/// the chunk of zeros, whose id is `zero`, is wanted.
pub(crate) fn file_holds(file: &OpenFile, runs: &[Run], zero: &ChunkId) -> Result<bool> {
    let mut buffer = Vec::new();
    let mut offset = 0;
    for run in runs {
        if run.id == *zero {
            let end = offset + u64::from(run.length) * run.count;
            if !is_zero(file, offset, end, &mut buffer)? {
                return Ok(false);
            }
            offset = end;
            continue;
        }
        buffer.resize(run.length as usize, 0);
        for _ in 0..run.count {
            if file.read_at(offset, &mut buffer)? != buffer.len() || ChunkId::of(&buffer) != run.id
            {
                return Ok(false);
            }
            offset += u64::from(run.length);
        }
    }
    Ok(file.stat()?.size == offset)
}

fn is_zero(file: &OpenFile, mut at: u64, end: u64, buffer: &mut Vec<u8>) -> Result<bool> {
    while let Some((from, to)) = file.next_data(at, end)? {
        let step = (to - from).min(BLOCK_BYTES);
        buffer.resize(step as usize, 0);
        let read = file.read_at(from, buffer)?;
        if read != buffer.len() || buffer.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = from + step;
    }
    Ok(true)
}

/// What a second look at the written files found.
#[derive(Default)]
pub(crate) struct Verified {
    /// Paths that do not hold what the snapshot says.
    pub(crate) damaged: Vec<Vec<u8>>,
    /// Files that could not be read again, because their restored mode forbids it.
    pub(crate) closed: u64,
}

/// Reads every file that was written again.
pub(crate) fn verify(
    root: &Root,
    segments: &[Bytes],
    lists: &HashMap<ChunkId, Vec<u8>>,
    wanted: &Wanted,
    zero: &ChunkId,
) -> Result<Verified> {
    let mut out = Verified::default();
    for segment in segments {
        for entry in SegmentReader::new(segment)? {
            let entry = entry?;
            let Body::File { content, .. } = &entry.body else {
                continue;
            };
            if wanted.action_at(&entry.path) != Some(Action::Write) {
                continue;
            }
            let holds = root
                .open_file(&entry.path)
                .and_then(|file| file_holds(&file, &runs_of(content, lists)?, zero));
            match holds {
                Ok(true) => {}
                Err(error) if is_closed(&error) => out.closed += 1,
                Ok(false) | Err(_) => out.damaged.push(entry.path),
            }
        }
    }
    Ok(out)
}
