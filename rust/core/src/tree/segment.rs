//! Segments: the writer that cuts and the reader that streams (`docs/format.md`, section 6.1).

use super::Entry;
use super::entry::{check_shape, put_entry, read_entry};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    MAX_CHUNK_BYTES, MAX_ENTRY_BYTES, MAX_SEGMENT_ENTRIES, MIN_SEGMENT_ENTRIES,
    SEGMENT_TARGET_BYTES,
};
use crate::path;
use crate::wire::{WireReader, put_varint};

const TAG: u8 = b'T';

/// One finished segment: the plain bytes of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Path of its first entry.
    pub first_path: Vec<u8>,
    /// Number of entries.
    pub entries: u64,
    /// The encoding, tag and count included.
    pub bytes: Vec<u8>,
}

/// Encodes sorted entries and cuts them into segments by content, so that an edit moves one segment.
#[derive(Debug, Default)]
pub struct SegmentWriter {
    encoded: Vec<u8>,
    entries: usize,
    first_path: Vec<u8>,
    previous: Vec<u8>,
}

impl SegmentWriter {
    /// An empty writer.
    pub fn new() -> Self {
        SegmentWriter::default()
    }

    /// Adds `entry`, and returns the segment that it ended, if it did.
    ///
    /// `Internal` if paths are not strictly increasing, `InvalidInput` if the entry breaks a rule or limit of the format;
    /// the writer is unchanged then.
    pub fn push(&mut self, entry: &Entry) -> Result<Option<Segment>> {
        if !self.previous.is_empty() && entry.path <= self.previous {
            return Err(Error::internal(
                "encode tree segment",
                "paths are not strictly increasing",
            )
            .at_path(&entry.path));
        }
        path::check(&entry.path).map_err(|e| refused(entry, e.message().to_owned()))?;
        check_shape(entry).map_err(|why| refused(entry, why.to_owned()))?;
        let shared = match self.entries {
            0 => 0,
            _ => shared_prefix(&self.previous, &entry.path),
        };
        let start = self.encoded.len();
        put_entry(&mut self.encoded, entry, shared);
        if self.encoded.len() - start > MAX_ENTRY_BYTES {
            self.encoded.truncate(start);
            return Err(refused(entry, "metadata is too large".to_owned()));
        }
        if self.entries == 0 {
            self.first_path.clone_from(&entry.path);
        }
        self.entries += 1;
        self.previous.truncate(shared);
        self.previous.extend_from_slice(&entry.path[shared..]);
        Ok(self.is_full().then(|| self.cut()))
    }

    /// The last segment, if entries are left.
    pub fn finish(mut self) -> Option<Segment> {
        (self.entries > 0).then(|| self.cut())
    }

    fn is_full(&self) -> bool {
        exceeds(self.entries, self.encoded.len())
            || (self.entries >= MIN_SEGMENT_ENTRIES
                && blake3::hash(&self.previous).as_bytes()[0] == 0)
    }

    fn cut(&mut self) -> Segment {
        let mut bytes = Vec::with_capacity(self.encoded.len() + 3);
        bytes.push(TAG);
        put_varint(&mut bytes, self.entries as u64);
        bytes.extend_from_slice(&self.encoded);
        self.encoded.clear();
        Segment {
            first_path: std::mem::take(&mut self.first_path),
            entries: std::mem::take(&mut self.entries) as u64,
            bytes,
        }
    }
}

/// Whether a segment ends because of its size.
fn exceeds(entries: usize, encoded_bytes: usize) -> bool {
    entries >= MAX_SEGMENT_ENTRIES || encoded_bytes >= SEGMENT_TARGET_BYTES
}

fn refused(entry: &Entry, why: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "encode tree segment", why).at_path(&entry.path)
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Decodes a segment entry by entry; one entry is in memory at a time.
///
/// Everything that the format demands of a segment is checked as it is read, except that the hash of each path does not ask
/// for an earlier cut: that would cost a hash per entry and protects nothing. After an error the reader is at its end.
pub struct SegmentReader<'a> {
    reader: WireReader<'a>,
    left: usize,
    entries: usize,
    encoded_bytes: usize,
    path: Vec<u8>,
}

impl<'a> SegmentReader<'a> {
    /// Starts to read the plain bytes of a segment's chunk. `Corrupt` if they are none.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = WireReader::new(bytes, "decode tree segment");
        if bytes.len() > MAX_CHUNK_BYTES {
            return Err(reader.corrupt("is larger than a chunk"));
        }
        if reader.u8()? != TAG {
            return Err(reader.corrupt("is not a tree segment"));
        }
        let entries = reader.count(MAX_SEGMENT_ENTRIES)?;
        if entries == 0 {
            return Err(reader.corrupt("has no entries"));
        }
        Ok(SegmentReader {
            left: entries,
            entries,
            encoded_bytes: reader.remaining(),
            reader,
            path: Vec::new(),
        })
    }

    /// Entries in the whole segment.
    pub fn entry_count(&self) -> u64 {
        self.entries as u64
    }

    fn read_one(&mut self) -> Result<Entry> {
        let before = self.reader.remaining();
        if exceeds(self.entries - self.left, self.encoded_bytes - before) {
            return Err(self.reader.corrupt("is not cut where the format cuts it"));
        }
        let entry = read_entry(&mut self.reader, &mut self.path)?;
        if before - self.reader.remaining() > MAX_ENTRY_BYTES {
            return Err(self.reader.corrupt("an entry is too large"));
        }
        self.left -= 1;
        if self.left == 0 {
            self.reader.end()?;
        }
        Ok(entry)
    }
}

impl Iterator for SegmentReader<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let entry = self.read_one();
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}
