//! The snapshot root: what one save stored, and where its tree begins (`docs/format.md`, section 7).

use crate::error::{Error, ErrorKind, Result};
use crate::id::{RepositoryId, SnapshotId, TreeRoot, WriterId};
use crate::limits::{
    MAX_CHUNK_BYTES, MAX_COMMENT_BYTES, MAX_DIRECT_REFS, MAX_ROOT_REFS, MAX_SEGMENT_ENTRIES,
};
use crate::tree::{SegmentRef, check_refs, put_refs, read_refs};
use crate::wire::{WireReader, put_bytes, put_varint};

const TAG: u8 = b'S';
const PARTIAL: u8 = 1;
const NO_BASE: [u8; 16] = [0; 16];

/// The immutable state of a whole tree at one save. Encoded, it is a chunk, alone in its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRoot {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Its own id.
    pub snapshot: SnapshotId,
    /// The snapshot that the save was compared with.
    pub base: Option<SnapshotId>,
    /// Who saved.
    pub writer: WriterId,
    /// Epoch of the writer, at least 1.
    pub epoch: u64,
    /// Writer's clock, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// The deadline or the quota left work out.
    pub partial: bool,
    /// Hash of the logical tree.
    pub tree_root: TreeRoot,
    /// Entries of kinds file and symlink.
    pub files: u64,
    /// Directory entries.
    pub directories: u64,
    /// Sum of file sizes; every hard link member counts.
    pub bytes: u64,
    /// Omitted entries.
    pub omitted: u64,
    /// Permission bits of the workspace's root directory.
    pub root_mode: u16,
    /// Comment, at most 1,024 bytes, as are the next three.
    pub comment: String,
    /// Where it was saved, such as a host name.
    pub origin: String,
    /// Framework of the notebook, or "".
    pub framework: String,
    /// Version of Python, or "".
    pub python: String,
    /// 0: `refs` name segments; 1: they name nodes.
    pub level: u8,
    /// The tree, in order; none if it is empty.
    pub refs: Vec<SegmentRef>,
}

impl SnapshotRoot {
    /// The bytes of the chunk. `InvalidInput` if a text is too long, or the refs are too many or too long for one chunk;
    /// `Internal` if the counts contradict each other.
    pub fn encode(&self) -> Result<Vec<u8>> {
        for text in self.texts() {
            if text.len() > MAX_COMMENT_BYTES {
                let why = "comment, origin, framework and python have at most 1,024 bytes each";
                return Err(Error::new(ErrorKind::InvalidInput, "encode snapshot", why));
            }
        }
        self.check()
            .map_err(|why| Error::internal("encode snapshot", why))?;
        let mut out = Vec::with_capacity(256 + self.refs.len() * 100);
        out.push(TAG);
        out.extend_from_slice(&self.repository.0);
        out.extend_from_slice(&self.snapshot.0);
        out.extend_from_slice(&self.base.map_or(NO_BASE, |base| base.0));
        out.extend_from_slice(&self.writer.0);
        put_varint(&mut out, self.epoch);
        put_varint(&mut out, self.time_ms);
        out.push(if self.partial { PARTIAL } else { 0 });
        out.extend_from_slice(&self.tree_root.0);
        for count in [self.files, self.directories, self.bytes, self.omitted] {
            put_varint(&mut out, count);
        }
        put_varint(&mut out, u64::from(self.root_mode));
        for text in self.texts() {
            put_bytes(&mut out, text.as_bytes());
        }
        out.push(self.level);
        put_refs(&mut out, &self.refs);
        if out.len() > MAX_CHUNK_BYTES {
            let why = "too many long paths: the root of the tree does not fit into a chunk";
            return Err(Error::new(ErrorKind::InvalidInput, "encode snapshot", why));
        }
        Ok(out)
    }

    /// Decodes the plain bytes of a root's chunk. `Corrupt` unless they are the one encoding of a valid root.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = WireReader::new(bytes, "decode snapshot");
        if bytes.len() > MAX_CHUNK_BYTES {
            return Err(reader.corrupt("is larger than a chunk"));
        }
        if reader.u8()? != TAG {
            return Err(reader.corrupt("is not a snapshot root"));
        }
        let root = SnapshotRoot {
            repository: RepositoryId(reader.array()?),
            snapshot: SnapshotId(reader.array()?),
            base: Some(reader.array()?)
                .filter(|base| *base != NO_BASE)
                .map(SnapshotId),
            writer: WriterId(reader.array()?),
            epoch: reader.varint()?,
            time_ms: reader.varint()?,
            partial: match reader.u8()? {
                0 => false,
                PARTIAL => true,
                _ => return Err(reader.corrupt("unknown flags")),
            },
            tree_root: TreeRoot(reader.array()?),
            files: reader.varint()?,
            directories: reader.varint()?,
            bytes: reader.varint()?,
            omitted: reader.varint()?,
            root_mode: reader.count(0o7777)? as u16,
            comment: reader.text(MAX_COMMENT_BYTES)?.to_owned(),
            origin: reader.text(MAX_COMMENT_BYTES)?.to_owned(),
            framework: reader.text(MAX_COMMENT_BYTES)?.to_owned(),
            python: reader.text(MAX_COMMENT_BYTES)?.to_owned(),
            level: reader.u8()?,
            refs: read_refs(&mut reader, MAX_ROOT_REFS)?,
        };
        reader.end()?;
        root.check().map_err(|why| reader.corrupt(why))?;
        Ok(root)
    }

    fn texts(&self) -> [&str; 4] {
        [&self.comment, &self.origin, &self.framework, &self.python]
    }

    /// Says what the format forbids, if anything.
    fn check(&self) -> Result<(), &'static str> {
        if self.epoch == 0 || self.snapshot.0 == NO_BASE || self.base == Some(SnapshotId(NO_BASE)) {
            return Err("epoch or snapshot id is zero");
        }
        if self.root_mode > 0o7777 {
            return Err("mode has more than 12 bits");
        }
        match self.level {
            0 if self.refs.len() > MAX_DIRECT_REFS => return Err("too many direct references"),
            0 => check_refs(&self.refs, MAX_SEGMENT_ENTRIES as u64)?,
            // Fewer nodes would have fitted into the root directly.
            1 if self.refs.len() < 2 => return Err("nodes without need"),
            1 => check_refs(&self.refs, u64::MAX)?,
            _ => return Err("unknown level"),
        }
        let below = self
            .refs
            .iter()
            .try_fold(0u64, |sum, reference| sum.checked_add(reference.entries));
        let counted = self
            .files
            .checked_add(self.directories)
            .and_then(|sum| sum.checked_add(self.omitted));
        if below.is_none() || below != counted {
            return Err("files, directories and omitted do not add up to the entries of the tree");
        }
        Ok(())
    }
}
