//! What must hold between the entries of a tree before a restore may trust it (`docs/format.md`, section 6).

use super::content::put_content;
use super::{Body, Entry};
use crate::error::{Error, Result};
use crate::path;
use crate::wire::put_varint;
use std::collections::HashMap;

/// Checks a tree entry by entry: order, parents, hard link groups. Memory: depth, and 32 bytes and a path a hard link group.
#[derive(Debug, Default)]
pub struct TreeCheck {
    previous: Vec<u8>,
    /// Lengths of the prefixes of `previous` that are directories and may still get entries, increasing.
    open: Vec<usize>,
    /// Leader to the hash of its content.
    leaders: HashMap<Vec<u8>, [u8; 32]>,
}

impl TreeCheck {
    /// Of no entries yet.
    pub fn new() -> Self {
        TreeCheck::default()
    }

    /// Checks the next entry against those before it. `Corrupt` if paths do not increase strictly, the parent is missing or no
    /// directory, or a member of a hard link group differs in content from its leader. After an error nothing may be pushed.
    pub fn push(&mut self, entry: &Entry) -> Result<()> {
        let bad = |why: &'static str| Err(Error::corrupt("check tree", why).at_path(&entry.path));
        path::check(&entry.path)?;
        if entry.path <= self.previous {
            return bad("paths are not strictly increasing");
        }
        self.close_directories(&entry.path);
        if let Some(parent) = path::parent(&entry.path)
            && self.open.binary_search(&parent.len()).is_err()
        {
            return bad("the parent is missing or not a directory");
        }
        if entry.is_directory() {
            self.open.push(entry.path.len());
        }
        self.previous.clone_from(&entry.path);
        match &entry.link {
            Some(leader) => self.check_link(entry, leader),
            None => Ok(()),
        }
    }

    /// Drops the directories that can't have entries from `next` on: those that it does not continue, or continues with a byte
    /// above `/`. Bytes below `/` sort between a directory and its entries, so a plain stack of parents would not do.
    fn close_directories(&mut self, next: &[u8]) {
        let common = self
            .previous
            .iter()
            .zip(next)
            .take_while(|(a, b)| a == b)
            .count();
        while let Some(&length) = self.open.last()
            && (length > common || next.get(length).is_none_or(|byte| *byte > b'/'))
        {
            self.open.pop();
        }
    }

    fn check_link(&mut self, entry: &Entry, leader: &[u8]) -> Result<()> {
        let bad = |why: &'static str| Err(Error::corrupt("check tree", why).at_path(&entry.path));
        let Body::File { size, content, .. } = &entry.body else {
            return bad("only files have hard link groups");
        };
        let mut bytes = Vec::new();
        put_varint(&mut bytes, *size);
        put_content(&mut bytes, content, *size);
        let hash = *blake3::hash(&bytes).as_bytes();
        if leader == entry.path {
            self.leaders.insert(entry.path.clone(), hash);
            return Ok(());
        }
        match self.leaders.get(leader) {
            Some(found) if *found == hash => Ok(()),
            Some(_) => bad("differs in content from the leader of its hard link group"),
            None => bad("the leader of its hard link group is missing"),
        }
    }
}
