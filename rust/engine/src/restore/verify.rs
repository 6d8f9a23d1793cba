//! Whether a file on disk has the chunks that it should have.

use super::plan::runs_of;
use super::wanted::{Action, Wanted};
use crate::local::{OpenFile, Root, is_closed};
use bytes::Bytes;
use nbws_core::Result;
use nbws_core::id::ChunkId;
use nbws_core::tree::{Body, Run, SegmentReader};
use std::collections::HashMap;

/// Reads the file and compares every chunk with its id; false also when the file is shorter or longer.
pub(crate) fn file_holds(file: &OpenFile, runs: &[Run]) -> Result<bool> {
    let mut buffer = Vec::new();
    let mut offset = 0;
    for run in runs {
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
                .and_then(|file| file_holds(&file, &runs_of(content, lists)?));
            match holds {
                Ok(true) => {}
                Err(error) if is_closed(&error) => out.closed += 1,
                Ok(false) | Err(_) => out.damaged.push(entry.path),
            }
        }
    }
    Ok(out)
}
