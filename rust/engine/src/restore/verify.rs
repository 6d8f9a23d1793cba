//! Whether a file on disk has the chunks that it should have.

use super::plan::runs_of;
use super::wanted::{Action, Wanted};
use crate::local::{OpenFile, Root};
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

/// Reads every file that was written again; the paths of those that do not hold what the snapshot says.
pub(crate) fn damaged(
    root: &Root,
    segments: &[Vec<u8>],
    lists: &HashMap<ChunkId, Vec<u8>>,
    wanted: &Wanted,
) -> Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
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
            if !holds.unwrap_or(false) {
                out.push(entry.path);
            }
        }
    }
    Ok(out)
}
