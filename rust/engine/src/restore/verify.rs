//! Whether a file on disk has the chunks that it should have.

use crate::local::read::OpenFile;
use nbws_core::Result;
use nbws_core::id::ChunkId;
use nbws_core::tree::Run;

/// Reads the file and compares every chunk with its id; false also when the file is shorter or longer.
pub(crate) fn file_holds(file: &OpenFile, runs: &[Run]) -> Result<bool> {
    let mut buffer = Vec::new();
    let mut offset = 0;
    for run in runs {
        buffer.resize(run.length as usize, 0);
        for _ in 0..run.count {
            if file.read_at(offset, &mut buffer)? != buffer.len() || ChunkId::of(&buffer) != run.id {
                return Ok(false);
            }
            offset += u64::from(run.length);
        }
    }
    Ok(file.stat()?.size == offset)
}
