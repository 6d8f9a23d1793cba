//! Puts what the threads of a walk found into the order of full paths.

use super::scan::RuleProblem;
use super::scanned::{Owners, Place, Record, Scanned};
use super::{Skipped, Timestamp};
use std::cmp::Ordering;
use std::ops::Range;

/// All entries that one thread of a walk found. One buffer for a whole thread goes back to the system when it is done with;
/// a buffer for each directory would leave the heap full of holes.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) names: Vec<u8>,
    pub(super) records: Vec<Record>,
}

/// The entries of one directory, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Number of the thread that read the directory.
    pub(super) store: u32,
    /// Its records in that thread's store.
    pub(super) records: Range<usize>,
    /// Its directories, in the order of their name with a slash behind it.
    pub(super) children: Box<[Child]>,
}

/// A directory of a [`Listing`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// Its position among the records of the listing.
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
    /// By number of the thread.
    pub(super) stores: Vec<Store>,
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
    /// Records whose directories are gone.
    gone: Vec<usize>,
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
            let store = &self.stores[top.listing.store as usize];
            let listed = &store.records[top.listing.records.clone()];
            let child = top.listing.children.get(top.next_child).copied();
            let until = child.map_or(listed.len(), |child| top.records_before(store, child));
            for (at, record) in (top.next_record..until).zip(&listed[top.next_record..until]) {
                if top.gone.contains(&at) {
                    continue;
                }
                let name = record.place.of(&store.names);
                let place = Place::push_both(&mut paths, &prefix, name);
                records.push(record.moved_to(place));
            }
            top.next_record = until;
            let Some(child) = child else {
                open.pop();
                continue;
            };
            top.next_child += 1;
            let record = &listed[child.record as usize];
            prefix.extend_from_slice(record.place.of(&store.names));
            prefix.push(b'/');
            open.extend(self.open(child.directory, prefix.len()));
        }
        drop(std::mem::take(&mut self.stores));
        self.skipped.sort_unstable();
        self.excluded.sort_unstable();
        self.problems.sort_unstable();
        let mut scanned = Scanned::new(paths, records, self.owners);
        scanned.skipped = self.skipped;
        scanned.excluded = self.excluded;
        scanned.problems = self.problems;
        scanned.files_opened = self.files_opened;
        scanned.clock = clock;
        scanned
    }

    /// Takes the listing of a directory out; entries of directories that are gone are left out of it.
    fn open(&mut self, directory: u32, prefix_bytes: usize) -> Option<Open> {
        let outcome = std::mem::take(&mut self.directories[directory as usize]);
        let Outcome::Listed(listing) = outcome else {
            return None;
        };
        let is_gone =
            |child: &&Child| matches!(self.directories[child.directory as usize], Outcome::Gone);
        let gone = listing.children.iter().filter(is_gone);
        Some(Open {
            gone: gone.map(|child| child.record as usize).collect(),
            listing,
            next_record: 0,
            next_child: 0,
            prefix_bytes,
        })
    }
}

impl Open {
    /// The end of the records that come before what lies below `child`.
    fn records_before(&self, store: &Store, child: Child) -> usize {
        let records = &store.records[self.listing.records.clone()];
        let directory = records[child.record as usize].place.of(&store.names);
        // The directory itself is before what it holds; so are the names between "a" and "a/".
        let mut until = (child.record as usize + 1).max(self.next_record);
        while let Some(record) = records.get(until) {
            let name = record.place.of(&store.names);
            if compare_with_slash(name, directory) == Ordering::Greater {
                break;
            }
            until += 1;
        }
        until
    }
}

/// Compares `name` with `directory` and a slash behind it.
fn compare_with_slash(name: &[u8], directory: &[u8]) -> Ordering {
    let common = name.len().min(directory.len());
    name[..common].cmp(&directory[..common]).then_with(|| {
        match name.get(directory.len()) {
            // A name that is the directory's own, or shorter, is a prefix of it.
            None => Ordering::Less,
            Some(next) => next.cmp(&b'/'),
        }
    })
}

/// Compares two directory names as what lies below them sorts.
pub(super) fn compare_contents(a: &[u8], b: &[u8]) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let next = |name: &[u8]| name.get(common).copied().unwrap_or(b'/');
        next(a).cmp(&next(b))
    })
}
