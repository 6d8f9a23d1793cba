//! References to segments, and the nodes that hold many of them (`docs/format.md`, section 6.3).

use crate::error::Result;
use crate::id::ChunkId;
use crate::limits::{
    MAX_CHUNK_BYTES, MAX_DIRECT_REF_BYTES, MAX_DIRECT_REFS, MAX_NODE_REFS, MAX_PATH_BYTES,
    MAX_SEGMENT_ENTRIES, MIN_NODE_REFS, NODE_TARGET_BYTES,
};
use crate::path;
use crate::wire::{WireReader, put_bytes, put_varint};

const TAG: u8 = b'N';
/// An encoded ref has a path of one byte, a count, an id and a length at least.
const MIN_REF_BYTES: usize = 36;

/// Names a segment or a node by its chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// Path of the first entry below it.
    pub first_path: Vec<u8>,
    /// Entries below it.
    pub entries: u64,
    /// The chunk.
    pub id: ChunkId,
    /// Plain bytes of the chunk.
    pub length: u32,
}

/// One finished node: the plain bytes of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Path of the first entry below it.
    pub first_path: Vec<u8>,
    /// Entries below it.
    pub entries: u64,
    /// The encoding, tag and count included.
    pub bytes: Vec<u8>,
}

/// The level of a snapshot root for a tree with these segments: 0 refers to them directly, 1 through [`cut_nodes`].
pub fn root_level(refs: &[SegmentRef]) -> u8 {
    let bytes = || refs.iter().map(encoded_length).sum::<usize>();
    u8::from(refs.len() > MAX_DIRECT_REFS || bytes() > MAX_DIRECT_REF_BYTES)
}

/// Cuts refs to segments into nodes, by content.
pub fn cut_nodes(refs: &[SegmentRef]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = refs;
    while let Some(first) = rest.first() {
        let end = node_end(rest);
        let mut bytes = Vec::with_capacity(4 + end * 100);
        bytes.push(TAG);
        put_refs(&mut bytes, &rest[..end]);
        nodes.push(Node {
            first_path: first.first_path.clone(),
            entries: rest[..end].iter().map(|r| r.entries).sum(),
            bytes,
        });
        rest = &rest[end..];
    }
    nodes
}

/// Decodes a node into its refs. `Corrupt` unless it is the one encoding of sorted refs, cut where the format says.
pub fn decode_node(bytes: &[u8]) -> Result<Vec<SegmentRef>> {
    let mut reader = WireReader::new(bytes, "decode tree node");
    if bytes.len() > MAX_CHUNK_BYTES {
        return Err(reader.corrupt("is larger than a chunk"));
    }
    if reader.u8()? != TAG {
        return Err(reader.corrupt("is not a tree node"));
    }
    let refs = read_refs(&mut reader, MAX_NODE_REFS)?;
    reader.end()?;
    check_refs(&refs, MAX_SEGMENT_ENTRIES as u64).map_err(|why| reader.corrupt(why))?;
    if refs.is_empty() || node_end(&refs) < refs.len() {
        return Err(reader.corrupt("is not cut where the format cuts it"));
    }
    Ok(refs)
}

/// How many of `refs` the next node holds.
fn node_end(refs: &[SegmentRef]) -> usize {
    let mut bytes = 0;
    for (at, reference) in refs.iter().enumerate() {
        let count = at + 1;
        bytes += encoded_length(reference);
        let chosen = || blake3::hash(&reference.first_path).as_bytes()[0] & 0x7f == 0;
        if count >= MAX_NODE_REFS
            || bytes >= NODE_TARGET_BYTES
            || (count >= MIN_NODE_REFS && chosen())
        {
            return count;
        }
    }
    refs.len()
}

/// Says what is wrong with the refs of a node or root, if anything; each has 1 to `max_entries` entries below it.
pub(crate) fn check_refs(refs: &[SegmentRef], max_entries: u64) -> Result<(), &'static str> {
    for reference in refs {
        if !(1..=max_entries).contains(&reference.entries) {
            return Err("a reference has an impossible number of entries");
        }
        if !(1..=MAX_CHUNK_BYTES).contains(&(reference.length as usize)) {
            return Err("a reference has an impossible length");
        }
        if path::check(&reference.first_path).is_err() {
            return Err("a reference starts at an impossible path");
        }
    }
    if refs
        .windows(2)
        .any(|pair| pair[0].first_path >= pair[1].first_path)
    {
        return Err("references are not sorted");
    }
    Ok(())
}

/// Appends the count and the refs.
pub(crate) fn put_refs(out: &mut Vec<u8>, refs: &[SegmentRef]) {
    put_varint(out, refs.len() as u64);
    for reference in refs {
        put_bytes(out, &reference.first_path);
        put_varint(out, reference.entries);
        out.extend_from_slice(&reference.id.0);
        put_varint(out, u64::from(reference.length));
    }
}

/// Reads a count of at most `limit` and the refs; [`check_refs`] must follow.
pub(crate) fn read_refs(reader: &mut WireReader<'_>, limit: usize) -> Result<Vec<SegmentRef>> {
    let count = reader.count(limit)?;
    if count > reader.remaining() / MIN_REF_BYTES {
        return Err(reader.corrupt("truncated"));
    }
    let mut refs = Vec::with_capacity(count);
    for _ in 0..count {
        refs.push(SegmentRef {
            first_path: reader.bytes(MAX_PATH_BYTES)?.to_vec(),
            entries: reader.varint()?,
            id: ChunkId(reader.array()?),
            length: reader.count(MAX_CHUNK_BYTES)? as u32,
        });
    }
    Ok(refs)
}

fn encoded_length(reference: &SegmentRef) -> usize {
    let path = reference.first_path.len();
    varint_length(path as u64)
        + path
        + varint_length(reference.entries)
        + 32
        + varint_length(u64::from(reference.length))
}

fn varint_length(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
