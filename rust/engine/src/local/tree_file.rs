//! The file `tree` of local state: the segments of a tree and its stat keys, written and read piece by piece, so that neither
//! takes the memory of a second copy.

use super::cache::KnownTree;
use bytes::Bytes;
use nbws_core::diff::StatKey;
use nbws_core::id::SnapshotId;
use nbws_core::tree::Timestamp;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Result, Write};

const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"nbwstree";
const KEY_BYTES: u64 = 20;
const HASH_BYTES: u64 = 32;
const BUFFER_BYTES: usize = 256 << 10;

/// Writes `tree` as the tree of snapshot `id`, with a hash at the end.
pub(super) fn write_tree(file: &mut File, id: SnapshotId, tree: &KnownTree) -> Result<()> {
    let mut out = BufWriter::with_capacity(
        BUFFER_BYTES,
        Hashed {
            inner: file,
            hasher: blake3::Hasher::new(),
        },
    );
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&id.0)?;
    out.write_all(&[u8::from(tree.saved_here)])?;
    out.write_all(&(tree.segments.len() as u32).to_le_bytes())?;
    for segment in &tree.segments {
        out.write_all(&(segment.len() as u32).to_le_bytes())?;
    }
    for segment in &tree.segments {
        out.write_all(segment)?;
    }
    out.write_all(&(tree.keys.len() as u64).to_le_bytes())?;
    for key in &tree.keys {
        out.write_all(&key.ino.to_le_bytes())?;
        out.write_all(&key.ctime.seconds.to_le_bytes())?;
        out.write_all(&key.ctime.nanos.to_le_bytes())?;
    }
    let out = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    let hash = out.hasher.finalize();
    out.inner.write_all(hash.as_bytes())
}

/// Reads the tree, if it is the one of snapshot `id` and undamaged.
pub(super) fn read_tree(file: File, id: SnapshotId) -> Result<Option<KnownTree>> {
    let left = file.metadata()?.len();
    let mut reader = TreeReader {
        inner: Hashed {
            inner: BufReader::with_capacity(BUFFER_BYTES, file),
            hasher: blake3::Hasher::new(),
        },
        left,
    };
    match reader.tree(id) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        outcome => outcome,
    }
}

/// Passes bytes on and hashes them.
struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }
}

struct TreeReader {
    inner: Hashed<BufReader<File>>,
    /// Bytes that the file still has: nothing longer is allocated.
    left: u64,
}

impl TreeReader {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.inner.read_exact(bytes)?;
        self.inner.hasher.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn tree(&mut self, id: SnapshotId) -> Result<Option<KnownTree>> {
        if self.array()? != *MAGIC || self.array()? != VERSION.to_le_bytes() {
            return Ok(None);
        }
        if self.array()? != id.0 {
            return Ok(None);
        }
        let [saved_here] = self.array()?;
        let Some(segments) = self.segments()? else {
            return Ok(None);
        };
        let count = u64::from_le_bytes(self.array()?);
        if count.checked_mul(KEY_BYTES) != self.left.checked_sub(HASH_BYTES) {
            return Ok(None);
        }
        let mut keys = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let ino = u64::from_le_bytes(self.array()?);
            let seconds = i64::from_le_bytes(self.array()?);
            let nanos = u32::from_le_bytes(self.array()?);
            let ctime = Timestamp { seconds, nanos };
            keys.push(StatKey { ino, ctime });
        }
        let expected = self.inner.hasher.finalize();
        let found: [u8; HASH_BYTES as usize] = self.array()?;
        Ok((expected.as_bytes() == &found).then_some(KnownTree {
            saved_here: saved_here != 0,
            segments,
            keys,
        }))
    }

    /// All segments, in one buffer that they share.
    fn segments(&mut self) -> Result<Option<Vec<Bytes>>> {
        let count = u32::from_le_bytes(self.array()?);
        if u64::from(count) > self.left / 4 {
            return Ok(None);
        }
        let mut lengths = Vec::with_capacity(count as usize);
        for _ in 0..count {
            lengths.push(u32::from_le_bytes(self.array()?) as usize);
        }
        let total = lengths.iter().map(|length| *length as u64).sum::<u64>();
        if total > self.left {
            return Ok(None);
        }
        let mut buffer = vec![0; total as usize];
        self.fill(&mut buffer)?;
        let mut rest = Bytes::from(buffer);
        let cut = |length| rest.split_to(length);
        Ok(Some(lengths.into_iter().map(cut).collect()))
    }
}
