//! Every bound, with its reason. Decoders check lengths against these before they allocate (`docs/format.md`, section 10).

/// Format version that this program reads and writes.
pub const FORMAT_VERSION: u16 = 0;
/// Largest chunk, in bytes: a reader's buffer.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Largest plain size of a frame of chunks: bounds the read amplification of one chunk.
pub const MAX_FRAME_PLAIN_BYTES: usize = 4 << 20;
/// Largest plain size of an index part: bounds memory while opening.
pub const MAX_INDEX_PART_BYTES: usize = 256 << 20;
/// Largest plain size of an attachment or an index root.
pub const MAX_ATTACHMENT_BYTES: usize = 64 << 20;
/// Largest container: offsets are u32, and one PUT must carry it.
pub const MAX_CONTAINER_BYTES: u64 = 1 << 30;
/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 65_535;
/// Longest path component, in bytes (`NAME_MAX` of Linux).
pub const MAX_NAME_BYTES: usize = 255;
/// Longest symlink target, in bytes.
pub const MAX_LINK_BYTES: usize = 65_535;
/// Largest ignore file that is honoured: compiling patterns takes time and memory in proportion.
pub const MAX_IGNORE_FILE_BYTES: usize = 1 << 20;
/// Most extended attributes of one entry.
pub const MAX_XATTRS: usize = 1_024;
/// Most bytes of extended attribute values of one entry.
pub const MAX_XATTR_BYTES: usize = 262_144;
/// Most entries of a tree segment.
pub const MAX_SEGMENT_ENTRIES: usize = 2_048;
/// Fewest entries of a tree segment that is cut by content.
pub const MIN_SEGMENT_ENTRIES: usize = 64;
/// Encoded size at which a tree segment ends.
pub const SEGMENT_TARGET_BYTES: usize = 131_072;
/// Most direct segment refs of a snapshot root; more make it two levels deep.
pub const MAX_DIRECT_REFS: usize = 1_024;
/// Most refs of a root.
pub const MAX_ROOT_REFS: usize = 65_536;
/// Fewest refs of a node that is cut by content.
pub const MIN_NODE_REFS: usize = 64;
/// Most refs of a node.
pub const MAX_NODE_REFS: usize = 1_024;
/// Most runs that a tree entry holds inline.
pub const MAX_INLINE_RUNS: usize = 1_024;
/// Fewest runs of a chunk list that is cut by content.
pub const MIN_LIST_RUNS: usize = 512;
/// Most runs of a chunk list.
pub const MAX_LIST_RUNS: usize = 4_096;
/// Most index parts that a reader accepts.
pub const MAX_INDEX_PARTS: usize = 64;
/// Most index parts that a save leaves live.
pub const LIVE_INDEX_PARTS: usize = 16;
/// Small index parts are folded into a save's own part up to this many plain bytes.
pub const FOLD_INDEX_BYTES: usize = 32 << 10;
/// Largest log record: one small GET answers status.
pub const MAX_RECORD_BYTES: usize = 4_096;
/// Largest ledger.
pub const MAX_LEDGER_BYTES: usize = 64 << 20;
/// The newest so many records are never removed: a log whose newest record is at most this has no ledger.
pub const KEEP_RECORDS: u64 = 1_000;
/// Longest comment, in bytes.
pub const MAX_COMMENT_BYTES: usize = 1_024;
/// Largest integer of canonical JSON: exact in every JSON reader.
pub const MAX_JSON_INTEGER: u64 = (1 << 53) - 1;
/// Plain bytes aimed at per frame.
pub const FRAME_TARGET_BYTES: usize = 1 << 20;
/// Most encoded bytes of one entry: a segment ends at or after its target, so both together fit into a chunk.
pub const MAX_ENTRY_BYTES: usize = MAX_CHUNK_BYTES - SEGMENT_TARGET_BYTES - 16;
/// Encoded bytes of refs at which a tree node ends: long paths must not make it larger than a chunk.
pub const NODE_TARGET_BYTES: usize = 131_072;
/// Most encoded bytes of direct segment refs of a snapshot root; more make it two levels deep.
pub const MAX_DIRECT_REF_BYTES: usize = 524_288;
/// Largest attachment of a settings record, plain: as `format`.
pub const MAX_SETTINGS_BYTES: usize = 64 << 10;
/// Largest `format` object.
pub const MAX_FORMAT_BYTES: usize = 64 << 10;

/// Extended attributes of this namespace are kept; the others belong to the system.
pub const XATTR_NAMESPACE: &[u8] = b"user.";
