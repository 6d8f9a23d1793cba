//! The tree: sorted entries, cut by content into segments that are chunks like any other (`docs/format.md`, section 6).

mod check;
mod content;
mod entry;
mod node;
mod root;
mod segment;

pub use check::TreeCheck;
pub use content::{check_runs, cut_lists, decode_list, join_runs};
pub use node::{Node, SegmentRef, cut_nodes, decode_node, root_level};
pub(crate) use node::{check_refs, put_refs, read_refs};
pub use root::TreeRootHasher;
pub use segment::{Segment, SegmentReader, SegmentWriter};

use crate::id::ChunkId;

/// A point in time as the file system keeps it. Ordered; `nanos` is below 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// `count` repetitions of one chunk of `length` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The chunk.
    pub id: ChunkId,
    /// Plain bytes of the chunk.
    pub length: u32,
    /// How many times it follows itself; at least 1.
    pub count: u64,
}

/// Names a chunk that holds a chunk list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListRef {
    /// The chunk.
    pub id: ChunkId,
    /// Plain bytes of the chunk.
    pub length: u32,
}

/// What a file consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Up to 1,024 joined runs inside the entry; an empty file has none.
    Inline(Vec<Run>),
    /// More than 1,024 runs, kept in chunk lists.
    Listed {
        /// Runs in all lists.
        run_count: u64,
        /// The lists, in the order of the file.
        lists: Vec<ListRef>,
    },
}

/// A range of zeros that was not allocated on disk. Advisory, never compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hole {
    /// First byte.
    pub offset: u64,
    /// Bytes; at least 1.
    pub length: u64,
}

/// Why a save left a path out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OmitReason {
    /// The deadline came first.
    Deadline = 1,
    /// The quota was used up.
    Quota = 2,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes of the file.
        size: u64,
        /// Its chunks.
        content: Content,
        /// Its holes: increasing, not touching one another.
        holes: Vec<Hole>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points; any bytes but NUL, never followed.
        target: Vec<u8>,
    },
    /// A new path that a save left out: unknown, not removed.
    Omitted {
        /// Bytes that it had.
        size: u64,
        /// Why it was left out.
        reason: OmitReason,
    },
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Full name, such as `user.comment`; 1 to 255 bytes.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative path that passes [`crate::path::check`].
    pub path: Vec<u8>,
    /// The low 12 permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Kept from an earlier snapshot because it could not be read.
    pub stale: bool,
    /// Changed while it was read.
    pub unstable: bool,
    /// Extended attributes, strictly increasing by name.
    pub xattrs: Vec<Xattr>,
    /// Hard link group, named by its smallest member's path; the leader names itself. Files only.
    pub link: Option<Vec<u8>>,
    /// What it is.
    pub body: Body,
}

impl Entry {
    /// Bytes of a file, 0 for everything else: what a snapshot's `bytes` adds up.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// What a file is made of, `None` for everything else.
    pub fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File { content, .. } => Some(content),
            _ => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory)
    }

    /// Whether it stands for a path that a save left out.
    pub fn is_omitted(&self) -> bool {
        matches!(self.body, Body::Omitted { .. })
    }
}
