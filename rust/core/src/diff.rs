//! Base and scan walked side by side: what is new, what may be taken over, what is gone.

use crate::error::Result;
use crate::tree::{Body, Entry, Timestamp};
use std::cmp::Ordering;

/// What the disk said of an entry when its content was last known; kept as local state, never stored.
///
/// An inode number of 0 means that nothing is known, so the content is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatKey {
    /// Inode number.
    pub ino: u64,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
}

impl StatKey {
    /// Nothing is known.
    pub const UNKNOWN: StatKey = StatKey {
        ino: 0,
        ctime: Timestamp {
            seconds: 0,
            nanos: 0,
        },
    };
}

/// Kind of an entry on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symlink.
    Symlink,
}

/// What a scan says of one entry.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Relative to the workspace.
    pub path: &'a [u8],
    /// Kind.
    pub kind: SeenKind,
    /// Size in bytes; only a file's is compared.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Inode number and change time.
    pub key: StatKey,
    /// Owner.
    pub owner: (u32, u32),
}

/// Whether `seen` is still what `base` describes: size, mtime, ctime and inode are equal (never compared by order), and
/// the owner where the repository keeps owners.
///
/// A moved ctime alone counts as changed: an unpacker may have set mtime back.
pub fn unchanged(base: &Entry, key: StatKey, seen: &Seen<'_>, numeric_ids: bool) -> bool {
    if key.ino == 0 || key != seen.key || base.mtime != seen.mtime || base.unstable || base.stale {
        return false;
    }
    if numeric_ids && (base.uid, base.gid) != seen.owner {
        return false;
    }
    match (&base.body, seen.kind) {
        (Body::Directory, SeenKind::Directory) | (Body::Symlink { .. }, SeenKind::Symlink) => true,
        (Body::File { size, .. }, SeenKind::File) => *size == seen.size,
        _ => false,
    }
}

/// One path of the walk.
#[derive(Debug)]
pub enum Pair {
    /// In the base only.
    Base(Entry, StatKey),
    /// In both; the number is the position in the scan.
    Both(Entry, StatKey, usize),
    /// In the scan only.
    Seen(usize),
}

/// Walks base entries and scanned paths side by side; both must be sorted by path bytes.
pub struct Merge<B, F> {
    base: B,
    pending: Option<(Entry, StatKey)>,
    path_of: F,
    at: usize,
    len: usize,
}

impl<'s, B, F> Merge<B, F>
where
    B: Iterator<Item = Result<(Entry, StatKey)>>,
    F: Fn(usize) -> &'s [u8],
{
    /// `path_of(i)` is the path of scanned entry i, for i below `len`.
    pub fn new(base: B, len: usize, path_of: F) -> Self {
        Merge {
            base,
            pending: None,
            path_of,
            at: 0,
            len,
        }
    }
}

impl<'s, B, F> Iterator for Merge<B, F>
where
    B: Iterator<Item = Result<(Entry, StatKey)>>,
    F: Fn(usize) -> &'s [u8],
{
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending.is_none() {
            self.pending = match self.base.next() {
                Some(Err(error)) => return Some(Err(error)),
                other => other.and_then(Result::ok),
            };
        }
        let order = match (&self.pending, self.at < self.len) {
            (None, false) => return None,
            (Some(_), false) => Ordering::Less,
            (None, true) => Ordering::Greater,
            (Some((entry, _)), true) => entry.path.as_slice().cmp((self.path_of)(self.at)),
        };
        let at = self.at;
        self.at += usize::from(order != Ordering::Less);
        let base = if order == Ordering::Greater {
            None
        } else {
            self.pending.take()
        };
        Some(Ok(match base {
            None => Pair::Seen(at),
            Some((entry, key)) if order == Ordering::Equal => Pair::Both(entry, key, at),
            Some((entry, key)) => Pair::Base(entry, key),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::tree::Content;
    use proptest::prelude::*;

    fn entry(path: &[u8]) -> Entry {
        Entry {
            path: path.to_vec(),
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: Timestamp {
                seconds: 5,
                nanos: 6,
            },
            stale: false,
            unstable: false,
            xattrs: vec![],
            link: None,
            body: Body::File {
                size: 9,
                content: Content::Inline(vec![]),
                holes: vec![],
            },
        }
    }

    const KEY: StatKey = StatKey {
        ino: 7,
        ctime: Timestamp {
            seconds: 8,
            nanos: 9,
        },
    };

    fn seen() -> Seen<'static> {
        Seen {
            path: b"a",
            kind: SeenKind::File,
            size: 9,
            mtime: Timestamp {
                seconds: 5,
                nanos: 6,
            },
            key: KEY,
            owner: (1, 2),
        }
    }

    #[test]
    fn every_part_of_the_stat_rule_counts() {
        assert!(unchanged(&entry(b"a"), KEY, &seen(), true));
        let later = Timestamp {
            seconds: 5,
            nanos: 7,
        };
        let changes: Vec<Seen<'_>> = vec![
            Seen { size: 8, ..seen() },
            Seen {
                mtime: later,
                ..seen()
            },
            Seen {
                kind: SeenKind::Symlink,
                ..seen()
            },
            Seen {
                key: StatKey { ino: 8, ..KEY },
                ..seen()
            },
            Seen {
                key: StatKey {
                    ctime: later,
                    ..KEY
                },
                ..seen()
            },
        ];
        for change in changes {
            assert!(!unchanged(&entry(b"a"), KEY, &change, false), "{change:?}");
        }
        let other_owner = Seen {
            owner: (3, 2),
            ..seen()
        };
        assert!(unchanged(&entry(b"a"), KEY, &other_owner, false));
        assert!(!unchanged(&entry(b"a"), KEY, &other_owner, true));
        assert!(!unchanged(&entry(b"a"), StatKey::UNKNOWN, &seen(), false));
        for flagged in [
            Entry {
                unstable: true,
                ..entry(b"a")
            },
            Entry {
                stale: true,
                ..entry(b"a")
            },
        ] {
            assert!(!unchanged(&flagged, KEY, &seen(), false));
        }
    }

    proptest! {
        #[test]
        fn every_path_comes_once_and_in_order(
            base in proptest::collection::btree_set("[a-c/]{1,4}", 0..20),
            scan in proptest::collection::btree_set("[a-c/]{1,4}", 0..20),
        ) {
            let scan: Vec<String> = scan.into_iter().collect();
            let entries = base.iter().map(|p| Ok((entry(p.as_bytes()), KEY)));
            let mut out = Vec::new();
            for pair in Merge::new(entries, scan.len(), |i| scan[i].as_bytes()) {
                out.push(match pair.unwrap() {
                    Pair::Base(e, _) => (e.path, true, false),
                    Pair::Both(e, _, i) => { assert_eq!(e.path, scan[i].as_bytes()); (e.path, true, true) }
                    Pair::Seen(i) => (scan[i].as_bytes().to_vec(), false, true),
                });
            }
            let mut all: Vec<_> = base.iter().chain(&scan).cloned().collect();
            all.sort();
            all.dedup();
            let expected: Vec<_> = all.iter()
                .map(|p| (p.as_bytes().to_vec(), base.contains(p), scan.contains(p))).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
