//! Puts what the threads of a walk found into the order of full paths.

use super::scan::RuleProblem;
use super::scanned::{Owners, Place, Record, Scanned};
use super::{Skipped, Timestamp};
use std::cmp::Ordering;

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
                let place = Place::push_both(&mut paths, &prefix, name);
                records.push(record.moved_to(place));
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
        let mut scanned = Scanned::new(paths, records, self.owners);
        scanned.skipped = self.skipped;
        scanned.excluded = self.excluded;
        scanned.problems = self.problems;
        scanned.files_opened = self.files_opened;
        scanned.clock = clock;
        scanned
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
