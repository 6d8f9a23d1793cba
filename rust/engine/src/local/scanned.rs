//! What a walk found, compactly: 64 bytes and the path for each entry, in order of full path bytes.

use super::Timestamp;
use super::meta::{FileKind, Stat};
use super::scan::RuleProblem;
use super::{SkipReason, Skipped};
use nbws_core::path;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The sorted entries of a tree and what was left out of them.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    paths: Vec<u8>,
    records: Vec<Record>,
    owners: Vec<Owner>,
    /// Paths that exist but could not be or are never stored, sorted.
    pub skipped: Vec<Skipped>,
    /// Top-most paths left out by rules, and mounts, sorted; nothing at or below them is an entry.
    pub excluded: Vec<Vec<u8>>,
    /// Ignore files that could not be honoured as a whole or in part, sorted.
    pub problems: Vec<RuleProblem>,
    /// Regular files that were opened: ignore files and cache tags.
    pub files_opened: u64,
    /// The file system's clock when the scan began.
    pub clock: Timestamp,
}

/// One entry of a [`Scanned`].
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScannedEntry<'a> {
    /// Path below the root.
    pub path: &'a [u8],
    /// What the file system said.
    pub stat: Stat,
}

impl Scanned {
    /// The entries alone: `records` in order, their paths in `paths`.
    pub(super) fn new(paths: Vec<u8>, records: Vec<Record>, owners: Owners) -> Self {
        Scanned {
            paths,
            records,
            owners: owners.into_list(),
            ..Scanned::default()
        }
    }

    /// Whether a mount hides `path` or begins there.
    pub(crate) fn is_below_mount(&self, path: &[u8]) -> bool {
        self.skipped
            .iter()
            .any(|s| s.reason == SkipReason::Mount && path::is_within(path, &s.path))
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The path of the entry at position `at`.
    pub(crate) fn path(&self, at: usize) -> &[u8] {
        self.records[at].place.of(&self.paths)
    }

    /// What the file system said of the entry at position `at`.
    pub(crate) fn stat(&self, at: usize) -> Stat {
        self.records[at].stat(&self.owners)
    }
}

/// Where a name or path lies in its arena: offset in the high 48 bits, length in the low 16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

impl Place {
    /// Appends `bytes` to `arena`. Paths are at most 65,535 bytes long.
    pub(super) fn push(arena: &mut Vec<u8>, bytes: &[u8]) -> Self {
        Place::push_both(arena, b"", bytes)
    }

    /// Appends `prefix` and `bytes` to `arena` as one path.
    pub(super) fn push_both(arena: &mut Vec<u8>, prefix: &[u8], bytes: &[u8]) -> Self {
        let length = prefix.len() + bytes.len();
        let place = Place((arena.len() as u64) << 16 | (length as u64 & 0xffff));
        arena.extend_from_slice(prefix);
        arena.extend_from_slice(bytes);
        place
    }

    /// The bytes.
    pub(super) fn of(self, arena: &[u8]) -> &[u8] {
        let offset = (self.0 >> 16) as usize;
        &arena[offset..offset + (self.0 & 0xffff) as usize]
    }
}

/// A stat in 56 bytes, and the place of its name or path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) place: Place,
    size: u64,
    ino: u64,
    mtime_seconds: i64,
    ctime_seconds: i64,
    mtime_nanos: u32,
    ctime_nanos: u32,
    owner: u32,
    nlink: u32,
    blocks_low: u32,
    blocks_high: u16,
    /// Twelve permission bits, above them the kind.
    mode_and_kind: u16,
}

const KINDS: [FileKind; 6] = [
    FileKind::Directory,
    FileKind::File,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::Device,
];

impl Record {
    /// Packs `stat`; `owner` is the number of its device, user and group.
    pub(super) fn new(place: Place, stat: &Stat, owner: u32) -> Self {
        Record {
            place,
            size: stat.size,
            ino: stat.ino,
            mtime_seconds: stat.mtime.seconds,
            ctime_seconds: stat.ctime.seconds,
            mtime_nanos: stat.mtime.nanos,
            ctime_nanos: stat.ctime.nanos,
            owner,
            nlink: stat.nlink,
            blocks_low: stat.blocks as u32,
            blocks_high: (stat.blocks >> 32) as u16,
            mode_and_kind: stat.mode | (stat.kind as u16) << 12,
        }
    }

    /// The same with its name or path elsewhere.
    pub(super) fn moved_to(&self, place: Place) -> Self {
        Record { place, ..*self }
    }

    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.mode_and_kind >> 12 == FileKind::Directory as u16
    }

    fn stat(&self, owners: &[Owner]) -> Stat {
        let owner = &owners[self.owner as usize];
        Stat {
            size: self.size,
            mtime: Timestamp {
                seconds: self.mtime_seconds,
                nanos: self.mtime_nanos,
            },
            ctime: Timestamp {
                seconds: self.ctime_seconds,
                nanos: self.ctime_nanos,
            },
            ino: self.ino,
            dev: owner.dev,
            mode: self.mode_and_kind & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            nlink: self.nlink,
            kind: KINDS[usize::from(self.mode_and_kind >> 12)],
            blocks: u64::from(self.blocks_low) | u64::from(self.blocks_high) << 32,
        }
    }
}

/// Device, user and group: the same for most entries, so each combination is kept once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    dev: u64,
    uid: u32,
    gid: u32,
}

/// All owners of a walk, shared by its threads.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<(Vec<Owner>, HashMap<Owner, u32>)>);

impl Owners {
    fn number(&self, owner: Owner) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, numbers) = &mut *known;
        *numbers.entry(owner).or_insert_with(|| {
            list.push(owner);
            (list.len() - 1) as u32
        })
    }

    fn into_list(self) -> Vec<Owner> {
        self.0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// The last owner that a thread saw, so that it rarely asks for the shared list.
#[derive(Debug, Default)]
pub(super) struct LastOwner(Option<(Owner, u32)>);

impl LastOwner {
    /// The number of the device, user and group of `stat`.
    pub(super) fn number(&mut self, stat: &Stat, owners: &Owners) -> u32 {
        let owner = Owner {
            dev: stat.dev,
            uid: stat.uid,
            gid: stat.gid,
        };
        match self.0 {
            Some((last, number)) if last == owner => number,
            _ => {
                let number = owners.number(owner);
                self.0 = Some((owner, number));
                number
            }
        }
    }
}

#[cfg(test)]
impl Scanned {
    /// The entry at position `at` of the sorted list; panics beyond the end, like a slice.
    pub(crate) fn get(&self, at: usize) -> ScannedEntry<'_> {
        let record = &self.records[at];
        ScannedEntry {
            path: record.place.of(&self.paths),
            stat: record.stat(&self.owners),
        }
    }

    /// The entries in order of their paths.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = ScannedEntry<'_>> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// The position of `path`, or where it would be.
    pub(crate) fn find(&self, path: &[u8]) -> Result<usize, usize> {
        self.records
            .binary_search_by(|record| record.place.of(&self.paths).cmp(path))
    }

    /// Bytes of memory that the entries take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.paths.capacity() + self.records.capacity() * size_of::<Record>()
    }
}
