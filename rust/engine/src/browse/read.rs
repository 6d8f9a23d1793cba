//! Reading files of a snapshot: any range, without the rest.

use super::reader::{Opened, SnapshotReader, clean};
use crate::stored_tree::file_runs;
use nbws_core::id::ChunkId;
use nbws_core::tree::{Body, Entry, Run};
use nbws_core::{Error, ErrorKind, Result};

/// Plain bytes that are fetched together: a few requests at the same time, and little memory.
const STEP_BYTES: u64 = 8 << 20;

/// A file of a snapshot. Holds its list of chunks; the bytes come when they are read.
#[derive(Clone)]
pub struct FileReader {
    snapshot: SnapshotReader,
    path: Vec<u8>,
    size: u64,
    runs: Vec<Run>,
    /// Where each run ends.
    ends: Vec<u64>,
}

/// A piece of one chunk that is wanted.
struct Piece {
    /// Position in the list of chunks.
    chunk: usize,
    /// Bytes of the whole chunk.
    length: usize,
    from: usize,
    to: usize,
}

impl SnapshotReader {
    /// Opens the file at `path`; symbolic links are not followed.
    ///
    /// `NotFound` if there is no such path, `InvalidInput` if it is no file.
    pub async fn open_file(&self, path: &[u8]) -> Result<FileReader> {
        let path = clean(path)?;
        if path.is_empty() {
            return Err(no_file("is the top of the workspace, not a file", &path));
        }
        let entry = self.entry(&path).await?;
        let size = entry.size();
        let runs = self.runs(&entry).await?;
        FileReader::new(self.clone(), path, size, runs)
    }

    /// The runs of a file. `InvalidInput` if the entry is no file.
    pub(crate) async fn runs(&self, entry: &Entry) -> Result<Vec<Run>> {
        let (size, content) = match &entry.body {
            Body::File { size, content, .. } => (*size, content),
            Body::Directory => return Err(no_file("is a directory, not a file", &entry.path)),
            Body::Symlink { target } => {
                let to = nbws_core::error::display_path(target);
                let why = format!("is a symbolic link to {to}; read that instead");
                return Err(no_file(why, &entry.path));
            }
            Body::Omitted { .. } => {
                let why = "was left out of this partial snapshot by a deadline or quota";
                return Err(no_file(why, &entry.path));
            }
        };
        let Opened { access, index, .. } = self.opened();
        file_runs(access, index, content, size)
            .await
            .map_err(|e| match e.subject() {
                "" => e.at_path(&entry.path),
                _ => e,
            })
    }
}

fn no_file(why: impl Into<String>, path: &[u8]) -> Error {
    Error::new(ErrorKind::InvalidInput, "read file", why.into()).at_path(path)
}

impl FileReader {
    pub(crate) fn new(
        snapshot: SnapshotReader,
        path: Vec<u8>,
        size: u64,
        runs: Vec<Run>,
    ) -> Result<Self> {
        let mut ends = Vec::with_capacity(runs.len());
        let mut end = 0u64;
        for run in &runs {
            // `check_runs` has added them up.
            end = end.saturating_add(u64::from(run.length).saturating_mul(run.count));
            ends.push(end);
        }
        Ok(FileReader {
            snapshot,
            path,
            size,
            runs,
            ends,
        })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `offset` on, `length` of them or as many as there are; each chunk verified.
    ///
    /// `InvalidInput` if so many bytes don't fit into memory, `Corrupt` if they are damaged or gone.
    pub async fn read_at(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let end = self.size.min(offset.saturating_add(length));
        let mut out = Vec::new();
        let wanted = end.saturating_sub(offset);
        let fits =
            usize::try_from(wanted).is_ok_and(|wanted| out.try_reserve_exact(wanted).is_ok());
        if !fits {
            let why = format!("{wanted} bytes don't fit into memory; read the file piece by piece");
            return Err(no_file(why, &self.path));
        }
        let mut at = offset;
        while at < end {
            let step = end.min(at.saturating_add(STEP_BYTES));
            self.read_step(at, step, &mut out)
                .await
                .map_err(|e| self.named(e))?;
            at = step;
        }
        Ok(out)
    }

    async fn read_step(&self, from: u64, to: u64, out: &mut Vec<u8>) -> Result<()> {
        let (ids, pieces) = self.pieces(from, to);
        let chunks = self.snapshot.chunks(&ids).await?;
        for piece in pieces {
            let chunk = chunks
                .get(piece.chunk)
                .filter(|chunk| chunk.len() == piece.length);
            let some = chunk.and_then(|chunk| chunk.get(piece.from..piece.to));
            let why = "a chunk has another length than the tree says";
            out.extend_from_slice(some.ok_or_else(|| Error::corrupt("read file", why))?);
        }
        Ok(())
    }

    /// The chunks that `from..to` consists of, each once, and what of them goes where.
    fn pieces(&self, from: u64, to: u64) -> (Vec<ChunkId>, Vec<Piece>) {
        let (mut ids, mut pieces) = (Vec::new(), Vec::new());
        let first = self.ends.partition_point(|end| *end <= from);
        for (i, run) in self.runs.iter().enumerate().skip(first) {
            let start = if i == 0 { 0 } else { self.ends[i - 1] };
            if start >= to {
                break;
            }
            let length = u64::from(run.length);
            let chunk = ids.len();
            ids.push(run.id);
            let mut at = start + from.saturating_sub(start) / length * length;
            while at < to.min(self.ends[i]) {
                pieces.push(Piece {
                    chunk,
                    length: run.length as usize,
                    from: from.saturating_sub(at) as usize,
                    to: (to - at).min(length) as usize,
                });
                at += length;
            }
        }
        (ids, pieces)
    }

    /// Says which file a damaged chunk hits.
    fn named(&self, error: Error) -> Error {
        if error.subject().is_empty() {
            error.at_path(&self.path)
        } else {
            error
        }
    }
}
