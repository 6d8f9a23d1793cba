//! Step 3 of a restore, first half: what the snapshot wants at each path, compact enough for a million entries.

use nbws_core::tree::{Body, Entry, Timestamp, Xattr};
use std::collections::{HashMap, HashSet};

/// What has to happen at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is right already.
    Keep,
    /// The content is right; mode, times or attributes are not.
    Metadata,
    /// It is written.
    Write,
    /// It could not be written; the report says why.
    Failed,
}

/// Kind of a wanted entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantedKind {
    Directory,
    File,
    Symlink,
}

/// One wanted entry; rare parts are kept aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    path_start: u64,
    path_len: u32,
    pub(crate) kind: WantedKind,
    pub(crate) action: Action,
    pub(crate) mode: u16,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: Timestamp,
    pub(crate) size: u64,
    /// Position of the entry in the tree, for its stat key.
    pub(crate) ordinal: u32,
}

/// Everything that a snapshot wants, sorted by path.
#[derive(Default)]
pub(crate) struct Wanted {
    paths: Vec<u8>,
    pub(crate) items: Vec<Item>,
    xattrs: HashMap<u32, Vec<Xattr>>,
    targets: HashMap<u32, Vec<u8>>,
    /// Leader of a hard link group, by follower.
    pub(crate) leaders: HashMap<u32, u32>,
    /// The leaders that have followers.
    leading: HashSet<u32>,
    by_leader_path: HashMap<Vec<u8>, u32>,
    /// Files that end in a hole or consist of one: their length must be set.
    pub(crate) holed: HashSet<u32>,
}

impl Wanted {
    /// Nothing yet, with room for so many entries.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Wanted {
            items: Vec::with_capacity(entries),
            ..Wanted::default()
        }
    }

    /// Adds an entry, in order; returns its number. Omitted entries are not wanted.
    pub(crate) fn push(&mut self, entry: &Entry, ordinal: u32, action: Action) -> u32 {
        let number = self.items.len() as u32;
        let kind = match &entry.body {
            Body::Directory => WantedKind::Directory,
            Body::Symlink { target } => {
                self.targets.insert(number, target.clone());
                WantedKind::Symlink
            }
            Body::File { .. } | Body::Omitted { .. } => WantedKind::File,
        };
        if !entry.xattrs.is_empty() {
            self.xattrs.insert(number, entry.xattrs.clone());
        }
        if let Some(leader) = &entry.link {
            match self.by_leader_path.get(leader) {
                Some(leader) => {
                    self.leaders.insert(number, *leader);
                    self.leading.insert(*leader);
                }
                // The first wanted member leads: a partial restore may not want the group's own leader.
                None => drop(self.by_leader_path.insert(leader.clone(), number)),
            }
        }
        self.items.push(Item {
            path_start: self.paths.len() as u64,
            path_len: entry.path.len() as u32,
            kind,
            action,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            size: entry.size(),
            ordinal,
        });
        self.paths.extend_from_slice(&entry.path);
        number
    }

    pub(crate) fn path(&self, number: u32) -> &[u8] {
        let item = &self.items[number as usize];
        &self.paths[item.path_start as usize..][..item.path_len as usize]
    }

    pub(crate) fn xattrs(&self, number: u32) -> &[Xattr] {
        self.xattrs.get(&number).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn target(&self, number: u32) -> &[u8] {
        self.targets.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Whether the entry belongs to a hard link group of several.
    pub(crate) fn is_linked(&self, number: u32) -> bool {
        self.leaders.contains_key(&number) || self.leading.contains(&number)
    }

    /// What has to happen at `path`, if something is wanted there.
    pub(crate) fn action_at(&self, path: &[u8]) -> Option<Action> {
        let path_of =
            |item: &Item| &self.paths[item.path_start as usize..][..item.path_len as usize];
        let at = self
            .items
            .binary_search_by(|item| path_of(item).cmp(path))
            .ok()?;
        Some(self.items[at].action)
    }

    /// Whether something is wanted at `path`.
    pub(crate) fn contains(&self, path: &[u8]) -> bool {
        self.action_at(path).is_some()
    }

    /// Numbers of the entries with this kind and action.
    pub(crate) fn numbers(
        &self,
        kind: WantedKind,
        action: Action,
    ) -> impl DoubleEndedIterator<Item = u32> + '_ {
        (0..self.items.len() as u32).filter(move |n| {
            let item = &self.items[*n as usize];
            item.kind == kind && item.action == action
        })
    }
}
