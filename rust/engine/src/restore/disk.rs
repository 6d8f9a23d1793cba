//! What is on disk, walked in step with what is wanted.

use crate::local::Scanned;
use nbws_core::diff::{Pair, StatKey};
use nbws_core::tree::Entry;
use nbws_core::{Error, Result};

/// Position in the scan, and what was known of the path.
pub(crate) type OnDisk = (usize, Option<(Entry, StatKey)>);

/// The entries on disk beside what was known of them, walked in step with the wanted ones.
pub(crate) struct Disk<'a, I: Iterator<Item = Result<Pair>>> {
    pub(crate) pairs: std::iter::Peekable<I>,
    pub(crate) scanned: &'a Scanned,
    pub(crate) extra: Vec<Vec<u8>>,
}

impl<I: Iterator<Item = Result<Pair>>> Disk<'_, I> {
    /// What is on disk at `path`: position in the scan and the known entry. Notes what lies before it as extra.
    pub(crate) fn at(&mut self, path: Option<&[u8]>) -> Result<Option<OnDisk>> {
        loop {
            let here = match self.pairs.peek() {
                None => return Ok(None),
                Some(Err(_)) => return Err(self.failure()),
                Some(Ok(Pair::Base(entry, _))) => entry.path.as_slice(),
                Some(Ok(Pair::Both(_, _, i) | Pair::Seen(i))) => self.scanned.path(*i),
            };
            match path.map(|p| here.cmp(p)) {
                Some(std::cmp::Ordering::Greater) => return Ok(None),
                Some(std::cmp::Ordering::Equal) => {
                    return Ok(match self.pairs.next() {
                        Some(Ok(Pair::Both(entry, key, i))) => Some((i, Some((entry, key)))),
                        Some(Ok(Pair::Seen(i))) => Some((i, None)),
                        _ => None,
                    });
                }
                Some(std::cmp::Ordering::Less) | None => {
                    if let Some(Ok(Pair::Both(_, _, i) | Pair::Seen(i))) = self.pairs.next() {
                        self.extra.push(self.scanned.path(i).to_vec());
                    }
                }
            }
        }
    }

    fn failure(&mut self) -> Error {
        match self.pairs.next() {
            Some(Err(error)) => error,
            _ => Error::internal("plan restore", "no failure where one was seen"),
        }
    }
}
