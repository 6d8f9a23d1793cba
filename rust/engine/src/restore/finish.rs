//! Steps 6 and 7 of a restore: links, renames, removals, metadata of directories; stat keys for the next save.

use super::compare::key_of;
use super::plan::RestorePlan;
use super::wanted::{Action, Wanted, WantedKind};
use super::write::{STAGING, Writing, destination};
use crate::local::Root;
use crate::local::{FileKind, Metadata, Stat};
use crate::report::Skipped;
use nbws_core::diff::StatKey;
use nbws_core::{ErrorKind, Result, path};
use std::collections::{BTreeSet, HashMap, HashSet};

const SET_IDS: u16 = 0o6000;
/// Without these, an owner can't change what a directory holds.
const OWNER_MAY_CHANGE: u16 = 0o300;

/// The mode a restore sets: set-uid and set-gid bits of files only where owners are restored too.
pub(crate) fn mode_to_set(mode: u16, is_directory: bool, numeric_ids: bool) -> u16 {
    if is_directory || numeric_ids {
        mode
    } else {
        mode & !SET_IDS
    }
}

/// The metadata of item `number`.
pub(crate) fn metadata_of(wanted: &Wanted, number: u32, numeric_ids: bool) -> Metadata<'_> {
    let item = &wanted.items[number as usize];
    Metadata {
        mode: mode_to_set(item.mode, item.kind == WantedKind::Directory, numeric_ids),
        owner: numeric_ids.then_some(item.owner),
        mtime: item.mtime,
        xattrs: wanted.xattrs(number),
    }
}

/// What finishing needs to know.
pub(crate) struct Finish<'a> {
    pub(crate) root: &'a Root,
    pub(crate) plan: &'a mut RestorePlan,
    pub(crate) is_staged: bool,
    pub(crate) numeric_ids: bool,
    pub(crate) deletes: bool,
    pub(crate) removed: u64,
    pub(crate) skipped: Vec<Skipped>,
}

/// Makes the directories that files are created in; parents come first in the order of paths.
pub(crate) fn make_directories(writing: &Writing<'_>) -> Result<()> {
    for number in writing.wanted.numbers(WantedKind::Directory, Action::Write) {
        writing.access.cancel.check()?;
        writing.root.make_directory(writing.wanted.path(number))?;
    }
    Ok(())
}

impl Finish<'_> {
    /// Makes everything that is still missing once the bytes of all files are written. `failed` could not be written.
    pub(crate) fn complete_files(&mut self, failed: HashMap<u32, String>) -> Result<()> {
        self.remove_failed(failed);
        self.links()?;
        if self.is_staged {
            self.stage_directories()?;
            self.root.sync_file_system()?;
        }
        Ok(())
    }

    /// Changes the tree: from here on a failure leaves it half restored.
    pub(crate) fn put_in_place(&mut self) -> Result<()> {
        let mut opened = Vec::new();
        if self.is_staged {
            opened = self.open_directories()?;
            self.make_room()?;
            self.rename_all()?;
            if self.deletes {
                self.remove_extra()?;
            }
            self.root.remove_tree(STAGING)?;
        }
        self.metadata()?;
        self.close_directories(&opened)?;
        self.restat();
        Ok(())
    }

    /// New directories are made beside the tree as well, so that nothing runs out of room once it changes.
    fn stage_directories(&mut self) -> Result<()> {
        let wanted = &self.plan.wanted;
        for number in wanted.numbers(WantedKind::Directory, Action::Write) {
            // Below a directory that is closed to its owner nothing is known yet; it is opened later.
            let is_there = self.root.stat(wanted.path(number)).ok().flatten();
            if is_there.is_none_or(|stat| stat.kind != FileKind::Directory) {
                self.root.make_directory(&self.destination(number))?;
            }
        }
        Ok(())
    }

    /// Lets the owner into directories whose modes forbid the changes to come. Returns their paths and modes.
    fn open_directories(&self) -> Result<Vec<(Vec<u8>, u16)>> {
        let wanted = &self.plan.wanted;
        let written = (0..wanted.items.len() as u32)
            .filter(|n| wanted.items[*n as usize].action == Action::Write)
            .map(|n| wanted.path(n));
        let removed = self
            .plan
            .extra
            .iter()
            .filter(|_| self.deletes)
            .map(Vec::as_slice);
        let parents: BTreeSet<&[u8]> = written.chain(removed).filter_map(path::parent).collect();
        let mut opened = Vec::new();
        for parent in parents {
            if let Some(stat) = self.root.stat(parent)?
                && stat.kind == FileKind::Directory
                && stat.mode & OWNER_MAY_CHANGE != OWNER_MAY_CHANGE
            {
                self.root.set_directory_mode(parent, stat.mode | 0o700)?;
                opened.push((parent.to_vec(), stat.mode));
            }
        }
        Ok(opened)
    }

    /// Puts the modes of opened directories back that the snapshot says nothing about.
    fn close_directories(&self, opened: &[(Vec<u8>, u16)]) -> Result<()> {
        for (path, mode) in opened {
            if !self.plan.wanted.contains(path) && self.root.stat(path)?.is_some() {
                self.root.set_directory_mode(path, *mode)?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, number: u32, why: String) {
        self.plan.wanted.items[number as usize].action = Action::Failed;
        let path = self.plan.wanted.path(number).to_vec();
        self.skipped.push(Skipped { path, reason: why });
    }

    fn remove_failed(&mut self, failed: HashMap<u32, String>) {
        for (number, why) in failed {
            // What is left of it must not look like the file.
            let _ = self
                .root
                .remove_file(&destination(&self.plan.wanted, number, self.is_staged));
            self.skip(number, why);
        }
    }

    fn destination(&self, number: u32) -> Vec<u8> {
        destination(&self.plan.wanted, number, self.is_staged)
    }

    /// Symlinks and further names of files, after everything that they could lead astray is written.
    fn links(&mut self) -> Result<()> {
        let symlinks: Vec<u32> = self
            .plan
            .wanted
            .numbers(WantedKind::Symlink, Action::Write)
            .collect();
        for number in symlinks {
            let path = self.destination(number);
            self.root
                .make_symlink(&path, self.plan.wanted.target(number))?;
            let metadata = metadata_of(&self.plan.wanted, number, self.numeric_ids);
            self.root
                .set_metadata(&path, FileKind::Symlink, &metadata)?;
        }
        let mut followers: Vec<(u32, u32)> = self
            .plan
            .wanted
            .leaders
            .iter()
            .map(|(f, l)| (*f, *l))
            .collect();
        followers.sort_unstable();
        for (follower, leader) in followers {
            if self.plan.wanted.items[follower as usize].action != Action::Write {
                continue;
            }
            let existing = match self.plan.wanted.items[leader as usize].action {
                Action::Write => self.destination(leader),
                Action::Failed => {
                    self.skip(
                        follower,
                        "the file that it is a further name of could not be restored".to_owned(),
                    );
                    continue;
                }
                Action::Keep | Action::Metadata => self.plan.wanted.path(leader).to_vec(),
            };
            self.root
                .make_hard_link(&existing, &self.destination(follower))?;
        }
        Ok(())
    }

    /// Makes new directories, and removes what stands where something of another kind is wanted.
    fn make_room(&mut self) -> Result<()> {
        let extra: HashSet<Vec<u8>> = self.plan.extra.iter().cloned().collect();
        let numbers: Vec<u32> = (0..self.plan.wanted.items.len() as u32).collect();
        for number in numbers {
            let item = self.plan.wanted.items[number as usize];
            if item.action != Action::Write {
                continue;
            }
            let wanted_path = self.plan.wanted.path(number).to_vec();
            let found = self.root.stat(&wanted_path)?.map(|stat| stat.kind);
            match (item.kind, found) {
                (WantedKind::Directory, Some(FileKind::Directory)) => {}
                (WantedKind::Directory, other) => {
                    if other.is_some() {
                        self.root.remove_file(&wanted_path)?;
                    }
                    self.root.rename(&self.destination(number), &wanted_path)?;
                }
                (_, None) => {}
                (_, Some(FileKind::Directory)) => {
                    if self.deletes {
                        self.remove_below(&wanted_path, &extra)?;
                    }
                    if let Err(error) = self.root.remove_directory(&wanted_path) {
                        let _ = self.root.remove_file(&self.destination(number));
                        self.skip(
                            number,
                            format!(
                                "a directory that can't be removed is in its place: {}",
                                error.message()
                            ),
                        );
                    }
                }
                (_, Some(_)) => {}
            }
        }
        Ok(())
    }

    fn remove_below(&mut self, directory: &[u8], extra: &HashSet<Vec<u8>>) -> Result<()> {
        let mut below: Vec<&Vec<u8>> = extra
            .iter()
            .filter(|p| p.as_slice() != directory && path::is_within(p, directory))
            .collect();
        below.sort_unstable_by(|a, b| b.cmp(a));
        for path in below {
            self.removed += u64::from(remove_any(self.root, path)?);
        }
        Ok(())
    }

    /// Each file appears by one rename: whole, or not at all.
    fn rename_all(&mut self) -> Result<()> {
        for number in 0..self.plan.wanted.items.len() as u32 {
            let item = &self.plan.wanted.items[number as usize];
            if item.action == Action::Write && item.kind != WantedKind::Directory {
                self.root
                    .rename(&self.destination(number), self.plan.wanted.path(number))?;
            }
        }
        Ok(())
    }

    /// Removals last, children before their directories.
    fn remove_extra(&mut self) -> Result<()> {
        for extra in self.plan.extra.iter().rev() {
            if !self.plan.wanted.contains(extra) {
                self.removed += u64::from(remove_any(self.root, extra)?);
            }
        }
        Ok(())
    }

    /// Files whose content was right, then directories from the bottom up: nothing moves their times after that.
    fn metadata(&mut self) -> Result<()> {
        let wanted = &self.plan.wanted;
        for number in wanted
            .numbers(WantedKind::File, Action::Metadata)
            .chain(wanted.numbers(WantedKind::Symlink, Action::Metadata))
        {
            let kind = match wanted.items[number as usize].kind {
                WantedKind::Symlink => FileKind::Symlink,
                _ => FileKind::File,
            };
            self.root.set_metadata(
                wanted.path(number),
                kind,
                &metadata_of(wanted, number, self.numeric_ids),
            )?;
        }
        for number in (0..wanted.items.len() as u32).rev() {
            let item = &wanted.items[number as usize];
            if item.kind != WantedKind::Directory || item.action == Action::Failed {
                continue;
            }
            let metadata = metadata_of(wanted, number, self.numeric_ids);
            let is_right = item.action == Action::Keep
                && self
                    .root
                    .stat(wanted.path(number))?
                    .is_some_and(|s| s.mtime == item.mtime && s.mode == metadata.mode);
            if !is_right {
                self.root
                    .set_metadata(wanted.path(number), FileKind::Directory, &metadata)?;
            }
        }
        Ok(())
    }

    /// Stat keys of everything whose ctime moved after it was written: directories, links, renamed and further-named files.
    fn restat(&mut self) {
        let wanted = &self.plan.wanted;
        for number in 0..wanted.items.len() as u32 {
            let item = wanted.items[number as usize];
            let moved = match (item.kind, item.action) {
                (_, Action::Failed) => false,
                (WantedKind::File, Action::Write) => self.is_staged || wanted.is_linked(number),
                (WantedKind::File, Action::Keep) => self.plan.linked.contains(&number),
                _ => true,
            };
            if !moved {
                continue;
            }
            // Below a directory that its restored mode closes nothing can be looked at, and what somebody has changed meanwhile
            // is not what was restored: the next save relies on neither.
            let is_file = item.kind == WantedKind::File;
            let is_it =
                |stat: &Stat| !is_file || (stat.mtime, stat.size) == (item.mtime, item.size);
            self.plan.keys[item.ordinal as usize] = match self.root.stat(wanted.path(number)) {
                Ok(Some(stat)) if is_it(&stat) => key_of(&stat),
                Ok(_) | Err(_) => StatKey::UNKNOWN,
            };
        }
    }
}

/// Removes a file, link or empty directory; true if it is gone. A directory that holds protected paths stays.
fn remove_any(root: &Root, path: &[u8]) -> Result<bool> {
    match root.stat(path)? {
        None => Ok(false),
        Some(stat) if stat.kind != FileKind::Directory => root.remove_file(path).map(|()| true),
        Some(_) => match root.remove_directory(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::LocalIo || e.kind() == ErrorKind::AlreadyExists => {
                Ok(false)
            }
            Err(e) => Err(e),
        },
    }
}
