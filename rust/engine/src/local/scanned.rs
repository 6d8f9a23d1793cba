//! What a walk found, compactly: 64 bytes and the path for each entry, in order of full path bytes.

use super::Timestamp;
use super::meta::{FileKind, Stat};
use super::scan::RuleProblem;
use super::{SkipReason, Skipped};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScannedEntry<'a> {
    /// Path below the root.
    pub path: &'a [u8],
    /// What the file system said.
    pub stat: Stat,
}

impl Scanned {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

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

/// Where a name or path lies in its arena: offset in the high 48 bits, length in the low 16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u64);

impl Place {
    /// Appends `bytes` to `arena`. Paths are at most 65,535 bytes long.
    pub(super) fn push(arena: &mut Vec<u8>, bytes: &[u8]) -> Self {
        let place = Place::new(arena.len(), bytes.len());
        arena.extend_from_slice(bytes);
        place
    }

    fn new(offset: usize, length: usize) -> Self {
        Place((offset as u64) << 16 | (length as u64 & 0xffff))
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

/// The entries of one directory, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) names: Box<[u8]>,
    pub(super) records: Box<[Record]>,
    /// Its directories, in the order of their name with a slash behind it.
    pub(super) children: Box<[Child]>,
}

/// A directory of a [`Listing`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) record: u32,
    pub(super) directory: u32,
}

/// What became of a directory of the walk.
#[derive(Debug, Default)]
pub(super) enum Outcome {
    /// Not entered: it could not be read. Its own entry stays.
    #[default]
    Closed,
    /// Went away, was replaced, or is a mount: its own entry goes as well.
    Gone,
    /// Read.
    Listed(Listing),
}

/// Everything that a walk gathered before it is put in order.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// By number of the directory; the root is 0.
    pub(super) directories: Vec<Outcome>,
    pub(super) entries: usize,
    pub(super) path_bytes: usize,
    pub(super) owners: Owners,
    pub(super) skipped: Vec<Skipped>,
    pub(super) excluded: Vec<Vec<u8>>,
    pub(super) problems: Vec<RuleProblem>,
    pub(super) files_opened: u64,
}

/// A directory whose entries are being put out.
struct Open {
    listing: Listing,
    next_record: usize,
    next_child: usize,
    prefix_bytes: usize,
}

impl Gathered {
    /// Puts all entries in the order of their full paths. What lies below "a" sorts like "a/", so behind "a-b" and before "a0":
    /// each directory's entries and its sub-trees are merged by that.
    pub(super) fn into_scanned(mut self, clock: Timestamp) -> Scanned {
        let mut paths = Vec::with_capacity(self.path_bytes);
        let mut records: Vec<Record> = Vec::with_capacity(self.entries);
        let mut prefix: Vec<u8> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        open.extend(self.open(0, 0));
        while let Some(top) = open.last_mut() {
            prefix.truncate(top.prefix_bytes);
            let child = top.listing.children.get(top.next_child).copied();
            let until = child.map_or(top.listing.records.len(), |child| top.records_before(child));
            for record in &top.listing.records[top.next_record..until] {
                let name = record.place.of(&top.listing.names);
                let place = Place::new(paths.len(), prefix.len() + name.len());
                paths.extend_from_slice(&prefix);
                paths.extend_from_slice(name);
                records.push(Record { place, ..*record });
            }
            top.next_record = until;
            let Some(child) = child else {
                open.pop();
                continue;
            };
            top.next_child += 1;
            let record = &top.listing.records[child.record as usize];
            prefix.extend_from_slice(record.place.of(&top.listing.names));
            prefix.push(b'/');
            open.extend(self.open(child.directory, prefix.len()));
        }
        self.skipped.sort_unstable();
        self.excluded.sort_unstable();
        self.problems.sort_unstable();
        Scanned {
            paths,
            records,
            owners: self.owners.into_list(),
            skipped: self.skipped,
            excluded: self.excluded,
            problems: self.problems,
            files_opened: self.files_opened,
            clock,
        }
    }

    /// Takes the listing of a directory out; entries of directories that are gone leave it.
    fn open(&mut self, directory: u32, prefix_bytes: usize) -> Option<Open> {
        let outcome = std::mem::take(&mut self.directories[directory as usize]);
        let Outcome::Listed(mut listing) = outcome else {
            return None;
        };
        let is_gone =
            |child: &&Child| matches!(self.directories[child.directory as usize], Outcome::Gone);
        if listing.children.iter().any(|child| is_gone(&child)) {
            listing.drop_entries(listing.children.iter().filter(is_gone).copied().collect());
        }
        Some(Open {
            listing,
            next_record: 0,
            next_child: 0,
            prefix_bytes,
        })
    }
}

impl Listing {
    fn drop_entries(&mut self, gone: Vec<Child>) {
        let mut kept = Vec::with_capacity(self.records.len());
        let mut moved = vec![u32::MAX; self.records.len()];
        for (at, record) in self.records.iter().enumerate() {
            if !gone.iter().any(|child| child.record as usize == at) {
                moved[at] = kept.len() as u32;
                kept.push(*record);
            }
        }
        let children = self.children.iter().filter_map(|child| {
            let record = moved[child.record as usize];
            (record != u32::MAX).then_some(Child { record, ..*child })
        });
        self.children = children.collect();
        self.records = kept.into_boxed_slice();
    }
}

impl Open {
    /// The end of the records that come before what lies below `child`.
    fn records_before(&self, child: Child) -> usize {
        let listing = &self.listing;
        let directory = listing.records[child.record as usize]
            .place
            .of(&listing.names);
        // The directory itself is before what it holds; so are the names between "a" and "a/".
        let mut until = (child.record as usize + 1).max(self.next_record);
        while let Some(record) = listing.records.get(until) {
            let name = record.place.of(&listing.names);
            if compare_with_slash(name, directory) == std::cmp::Ordering::Greater {
                break;
            }
            until += 1;
        }
        until
    }
}

/// Compares `name` with `directory` and a slash behind it.
fn compare_with_slash(name: &[u8], directory: &[u8]) -> std::cmp::Ordering {
    let common = name.len().min(directory.len());
    name[..common].cmp(&directory[..common]).then_with(|| {
        match name.get(directory.len()) {
            // A name that is the directory's own, or shorter, is a prefix of it.
            None => std::cmp::Ordering::Less,
            Some(next) => next.cmp(&b'/'),
        }
    })
}

/// Compares two directory names as what lies below them sorts.
pub(super) fn compare_contents(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let next = |name: &[u8]| name.get(common).copied().unwrap_or(b'/');
        next(a).cmp(&next(b))
    })
}

impl SkipReason {
    /// What the file kinds that are never stored are reported as.
    pub(super) fn of_kind(kind: FileKind) -> Option<SkipReason> {
        match kind {
            FileKind::Directory | FileKind::File | FileKind::Symlink => None,
            FileKind::Fifo => Some(SkipReason::Fifo),
            FileKind::Socket => Some(SkipReason::Socket),
            FileKind::Device => Some(SkipReason::Device),
        }
    }
}
