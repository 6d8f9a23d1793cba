//! Sums by path and by category. Pure: what is read where is decided elsewhere.

use crate::report::{CategoryGrowth, CategoryUsage, PathGrowth, PathUsage};
use nbws_core::filter::{Categories, Sorter};
use nbws_core::index::ChunkLocation;
use nbws_core::path;
use nbws_core::tree::{Body, Entry};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The category of what no other one has.
const REST: &str = "other";

/// Sizes, or their changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    files: i128,
    logical: i128,
    new_unique: i128,
    new_stored: i128,
    gone_unique: i128,
    gone_stored: i128,
}

impl Sum {
    /// An entry without its chunks.
    pub(super) fn of(entry: &Entry) -> Sum {
        let is_file = matches!(entry.body, Body::File { .. } | Body::Symlink { .. });
        Sum {
            files: i128::from(is_file),
            logical: i128::from(entry.size()),
            ..Sum::default()
        }
    }

    /// The entry is there no more.
    pub(super) fn gone(entry: &Entry) -> Sum {
        let sum = Sum::of(entry);
        Sum {
            files: -sum.files,
            logical: -sum.logical,
            ..sum
        }
    }

    pub(super) fn new_chunk(at: &ChunkLocation) -> Sum {
        Sum {
            new_unique: i128::from(at.chunk_len),
            new_stored: i128::from(at.stored_share()),
            ..Sum::default()
        }
    }

    pub(super) fn gone_chunk(at: &ChunkLocation) -> Sum {
        Sum {
            gone_unique: i128::from(at.chunk_len),
            gone_stored: i128::from(at.stored_share()),
            ..Sum::default()
        }
    }

    fn add(&mut self, other: &Sum) {
        self.files += other.files;
        self.logical += other.logical;
        self.new_unique += other.new_unique;
        self.new_stored += other.new_stored;
        self.gone_unique += other.gone_unique;
        self.gone_stored += other.gone_stored;
    }

    pub(super) fn usage(&self, path: Vec<u8>) -> PathUsage {
        PathUsage {
            path,
            logical_bytes: unsigned(self.logical),
            files: unsigned(self.files),
            unique_bytes: unsigned(self.new_unique),
            stored_bytes: unsigned(self.new_stored),
        }
    }

    pub(super) fn growth(&self, path: Vec<u8>) -> PathGrowth {
        PathGrowth {
            path,
            logical_bytes: signed(self.logical),
            files: signed(self.files),
            unique_bytes: signed(self.new_unique - self.gone_unique),
            stored_bytes: signed(self.new_stored - self.gone_stored),
            new_stored_bytes: unsigned(self.new_stored),
            gone_stored_bytes: unsigned(self.gone_stored),
        }
    }

    fn is_zero(&self) -> bool {
        *self == Sum::default()
    }

    /// What comes first among the largest: bytes stored anew or gone, then logical ones.
    fn weight(&self) -> (i128, i128) {
        let stored = (self.new_stored - self.gone_stored).abs();
        (stored, self.logical.abs())
    }
}

// Sizes of real files fit; those of a damaged tree must not wrap.
fn unsigned(n: i128) -> u64 {
    n.clamp(0, i64::MAX.into()) as u64
}

fn signed(n: i128) -> i64 {
    n.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Where an entry is added: its row, and its category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    row: u32,
    category: u32,
}

/// Sums of what lies at and below one path, by path down to some depth, and by category.
pub(super) struct Sums<'a> {
    top: Vec<u8>,
    depth: usize,
    is_there: bool,
    names: &'a [String],
    sorter: Sorter<'a>,
    /// Row 0 is for the top itself.
    rows: Vec<Sum>,
    numbers: BTreeMap<Vec<u8>, u32>,
    /// The row of the last entry: neighbours often share one.
    last: (Vec<u8>, u32),
    categories: Vec<Sum>,
}

impl<'a> Sums<'a> {
    pub(super) fn new(top: Vec<u8>, depth: usize, categories: &'a Categories) -> Self {
        let names = categories.names();
        Sums {
            is_there: top.is_empty(),
            top,
            depth,
            names,
            sorter: Sorter::new(categories),
            rows: vec![Sum::default()],
            numbers: BTreeMap::new(),
            last: (Vec::new(), 0),
            categories: vec![Sum::default(); names.len() + 1],
        }
    }

    /// An empty one of the same shape.
    pub(super) fn fresh(&self, categories: &'a Categories) -> Self {
        Sums::new(self.top.clone(), self.depth, categories)
    }

    pub(super) fn top(&self) -> &[u8] {
        &self.top
    }

    /// Whether anything was found at the top.
    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// Where an entry at or below the top is added.
    pub(super) fn slot(&mut self, path: &[u8], is_directory: bool) -> Slot {
        self.is_there = true;
        let rank = self.sorter.rank(path, is_directory);
        let row = match row_length(path, &self.top, self.depth, is_directory) {
            None => 0,
            Some(length) => self.row(&path[..length]),
        };
        Slot {
            row,
            category: rank.unwrap_or(self.names.len()) as u32,
        }
    }

    pub(super) fn add(&mut self, slot: Slot, sum: &Sum) {
        self.rows[slot.row as usize].add(sum);
        self.categories[slot.category as usize].add(sum);
    }

    fn row(&mut self, path: &[u8]) -> u32 {
        if self.last.0 == path {
            return self.last.1;
        }
        let number = match self.numbers.get(path) {
            Some(number) => *number,
            None => {
                let number = self.rows.len() as u32;
                self.rows.push(Sum::default());
                self.numbers.insert(path.to_vec(), number);
                number
            }
        };
        self.last.0.clear();
        self.last.0.extend_from_slice(path);
        self.last.1 = number;
        number
    }

    /// Adds each row to that of its directory, up to the top, whose sum is returned. The last step.
    pub(super) fn roll_up(&mut self) -> Sum {
        let is_above = |path: &[u8], top: &[u8]| path.len() <= top.len();
        // The innermost directories first. Those that were not seen themselves are made on the way, for the next level.
        let mut levels: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for path in self.numbers.keys() {
            levels.entry(slashes(path)).or_default().push(path.clone());
        }
        while let Some((level, paths)) = levels.pop_last() {
            for path in paths {
                let from = self.row(&path);
                let sum = self.rows[from as usize];
                let to = match path::parent(&path) {
                    Some(parent) if !is_above(parent, &self.top) => {
                        if !self.numbers.contains_key(parent) {
                            let above = levels.entry(level - 1).or_default();
                            above.push(parent.to_vec());
                        }
                        self.row(parent)
                    }
                    _ => 0,
                };
                self.rows[to as usize].add(&sum);
            }
        }
        self.rows[0]
    }

    /// The rows, sorted by path; of each directory only the `largest` ones, if that is given.
    pub(super) fn usage_by_path(&self, largest: Option<u64>) -> Vec<PathUsage> {
        let chosen = self.chosen(largest, |_| true);
        let rows = chosen
            .into_iter()
            .map(|(path, sum)| sum.usage(path.clone()));
        rows.collect()
    }

    /// The rows that changed, most first; of each directory only the `largest` ones, if that is given.
    pub(super) fn growth_by_path(&self, largest: Option<u64>) -> Vec<PathGrowth> {
        let mut chosen = self.chosen(largest, |sum| !sum.is_zero());
        chosen.sort_by_key(|(_, sum)| Reverse(sum.weight()));
        let rows = chosen
            .into_iter()
            .map(|(path, sum)| sum.growth(path.clone()));
        rows.collect()
    }

    fn chosen(
        &self,
        largest: Option<u64>,
        is_wanted: impl Fn(&Sum) -> bool,
    ) -> Vec<(&Vec<u8>, &Sum)> {
        let rows = self.numbers.iter();
        let rows = rows.map(|(path, number)| (path, &self.rows[*number as usize]));
        let mut rows: Vec<_> = rows.filter(|(_, sum)| is_wanted(sum)).collect();
        if let Some(largest) = largest {
            rows.sort_by_key(|(path, sum)| (path::parent(path), Reverse(sum.weight()), *path));
            let mut place = (None, 0);
            rows.retain(|(path, _)| {
                let parent = path::parent(path);
                place = if place.0 == Some(parent) {
                    (place.0, place.1 + 1)
                } else {
                    (Some(parent), 1)
                };
                place.1 <= largest
            });
            // A directory that is left out takes what is in it along.
            rows.sort_by_key(|(path, _)| *path);
            let mut kept: BTreeSet<&[u8]> = BTreeSet::new();
            rows.retain(|(path, _)| {
                let parent = path::parent(path).unwrap_or_default();
                let stays = parent.len() <= self.top.len() || kept.contains(parent);
                stays && kept.insert(path)
            });
        }
        rows
    }

    pub(super) fn usage_by_category(&self) -> Vec<CategoryUsage> {
        let row = |(category, sum): (&str, &Sum)| {
            let usage = sum.usage(Vec::new());
            CategoryUsage {
                category: category.to_owned(),
                logical_bytes: usage.logical_bytes,
                files: usage.files,
                unique_bytes: usage.unique_bytes,
                stored_bytes: usage.stored_bytes,
            }
        };
        self.named().map(row).collect()
    }

    pub(super) fn growth_by_category(&self) -> Vec<CategoryGrowth> {
        let mut changed: Vec<_> = self.named().filter(|(_, sum)| !sum.is_zero()).collect();
        changed.sort_by_key(|(_, sum)| Reverse(sum.weight()));
        let row = |(category, sum): (&str, &Sum)| {
            let growth = sum.growth(Vec::new());
            CategoryGrowth {
                category: category.to_owned(),
                logical_bytes: growth.logical_bytes,
                files: growth.files,
                unique_bytes: growth.unique_bytes,
                stored_bytes: growth.stored_bytes,
                new_stored_bytes: growth.new_stored_bytes,
                gone_stored_bytes: growth.gone_stored_bytes,
            }
        };
        changed.into_iter().map(row).collect()
    }

    fn named(&self) -> impl Iterator<Item = (&str, &Sum)> {
        let names = self.names.iter().map(String::as_str).chain([REST]);
        names.zip(&self.categories)
    }
}

fn slashes(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

/// How much of `path` names its row: as many names below `top` as `depth` says. None for the top's own row.
fn row_length(path: &[u8], top: &[u8], depth: usize, is_directory: bool) -> Option<usize> {
    if depth == 0 {
        return None;
    }
    if path.len() == top.len() {
        // A file that was asked for is the only row.
        return (!is_directory).then_some(path.len());
    }
    let start = if top.is_empty() { 0 } else { top.len() + 1 };
    let ends = path.iter().enumerate().skip(start);
    let mut ends = ends.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    Some(ends.nth(depth - 1).unwrap_or(path.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sum(logical: i128) -> Sum {
        Sum {
            logical,
            new_stored: logical,
            ..Sum::default()
        }
    }

    fn summed(top: &str, depth: usize, largest: Option<u64>) -> (i128, Vec<(String, u64)>) {
        let categories = Categories::new(&[]).unwrap();
        let mut sums = Sums::new(top.into(), depth, &categories);
        for (path, size) in [
            ("a/b/c", 1),
            ("a/b/d", 2),
            ("a/e", 4),
            ("f", 8),
            ("a/b/x/y/z", 16),
        ] {
            if path::is_within(path.as_bytes(), top.as_bytes()) {
                let slot = sums.slot(path.as_bytes(), false);
                sums.add(slot, &sum(size));
            }
        }
        let total = sums.roll_up();
        let rows = sums.usage_by_path(largest);
        let row = |r: PathUsage| (String::from_utf8(r.path).unwrap(), r.logical_bytes);
        (total.logical, rows.into_iter().map(row).collect())
    }

    fn rows(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        let row = |(path, size): &(&str, u64)| ((*path).to_owned(), *size);
        expected.iter().map(row).collect()
    }

    #[test]
    fn rows_of_any_depth_add_up() {
        assert_eq!(summed("", 0, None), (31, rows(&[])));
        assert_eq!(summed("", 1, None), (31, rows(&[("a", 23), ("f", 8)])));
        let two = [("a", 23), ("a/b", 19), ("a/e", 4), ("f", 8)];
        assert_eq!(summed("", 2, None), (31, rows(&two)));
        let all = [
            ("a", 23),
            ("a/b", 19),
            ("a/b/c", 1),
            ("a/b/d", 2),
            ("a/b/x", 16),
            ("a/b/x/y", 16),
            ("a/b/x/y/z", 16),
            ("a/e", 4),
            ("f", 8),
        ];
        assert_eq!(summed("", 9, None), (31, rows(&all)));
        assert_eq!(summed("a/b", 1, None), (19, rows(&all[2..5])));
        assert_eq!(summed("f", 1, None), (8, rows(&[("f", 8)])));
    }

    #[test]
    fn the_largest_of_each_directory() {
        let kept = [("a", 23), ("a/b", 19), ("a/b/x", 16)];
        assert_eq!(summed("", 3, Some(1)), (31, rows(&kept)));
        let below = [("a/b/x", 16), ("a/b/x/y", 16)];
        assert_eq!(summed("a/b", 2, Some(1)), (19, rows(&below)));
        assert_eq!(summed("", 3, Some(0)), (31, rows(&[])));
    }
}
