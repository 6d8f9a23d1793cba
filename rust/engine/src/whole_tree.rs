//! A tree that is read as a whole: the rules between its entries, and what its root says of it.

use nbws_core::filter::is_reserved;
use nbws_core::snapshot::SnapshotRoot;
use nbws_core::tree::{Body, Entry, SegmentReader, SegmentRef, TreeCheck, TreeRootHasher};
use nbws_core::{Error, Result};

/// Checks entry by entry, in order; nothing may be believed of the tree before [`WholeTree::finish`] has agreed.
#[derive(Default)]
pub(crate) struct WholeTree {
    check: TreeCheck,
    hasher: TreeRootHasher,
    files: u64,
    directories: u64,
    bytes: u64,
    omitted: u64,
}

impl WholeTree {
    /// The next entry; `Corrupt` if it does not fit to those before it.
    pub(crate) fn push(&mut self, entry: &Entry) -> Result<()> {
        self.check.push(entry)?;
        check_name(entry)?;
        self.hasher.push(entry);
        match &entry.body {
            Body::Directory => self.directories += 1,
            Body::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(*size);
            }
            Body::Symlink { .. } => self.files += 1,
            Body::Omitted { .. } => self.omitted += 1,
        }
        Ok(())
    }

    /// Compares all four counts and the hash with `root`; `Corrupt` unless they are equal.
    pub(crate) fn finish(self, root: &SnapshotRoot) -> Result<()> {
        let found = (self.files, self.directories, self.bytes, self.omitted);
        let said = (root.files, root.directories, root.bytes, root.omitted);
        let why = if found != said {
            "the counts of the snapshot are not those of its tree"
        } else if self.hasher.finish() != root.tree_root {
            "the tree is not the one that was saved"
        } else {
            return Ok(());
        };
        Err(Error::corrupt("check tree", why).at(root.snapshot.to_hex()))
    }
}

/// What a restore needs for itself at the top of its target can't be wanted there.
fn check_name(entry: &Entry) -> Result<()> {
    let top = entry.path.split(|byte| *byte == b'/').next();
    if top.is_some_and(is_reserved) {
        let why = "has a name that is kept for unfinished restores";
        return Err(Error::corrupt("check tree", why).at_path(&entry.path));
    }
    Ok(())
}

/// Whether `bytes` are the segment that `reference` speaks of.
pub(crate) fn check_segment(reference: &SegmentRef, bytes: &[u8]) -> Result<()> {
    let mut reader = SegmentReader::new(bytes)?;
    let entries = reader.entry_count();
    let first = reader.next().transpose()?;
    let first_path = first.map(|entry| entry.path).unwrap_or_default();
    check_reference(reference, (&first_path, entries, bytes.len()))
}

/// Whether a node holds what `reference` says of it.
pub(crate) fn check_node(reference: &SegmentRef, refs: &[SegmentRef], length: usize) -> Result<()> {
    let sum = |sum: u64, r: &SegmentRef| sum.saturating_add(r.entries);
    let entries = refs.iter().fold(0, sum);
    let first_path = refs.first().map_or(&[][..], |r| &r.first_path);
    check_reference(reference, (first_path, entries, length))
}

fn check_reference(reference: &SegmentRef, found: (&[u8], u64, usize)) -> Result<()> {
    let said = (
        &reference.first_path[..],
        reference.entries,
        reference.length as usize,
    );
    if said == found {
        return Ok(());
    }
    let why = "a part of the tree is not what the reference to it says";
    Err(Error::corrupt("check tree", why).at(format!("chunk {}", reference.id)))
}
