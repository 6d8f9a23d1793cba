//! A verb's hold on a target directory: the lock, what is proven of it, and a record whose fate is open.
//!
//! Saving needs positive proof that the target held the workspace head (`docs/consistency.md`): a failed or interrupted
//! restore can therefore never be followed by a save of the half-empty tree.

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::local::Root;
use crate::local::cache::{KnownTree, Session, StateFolder, boot_id};
use crate::local::lock::{DirectoryLock, lock_directory};
use crate::log::{Appended, LogHead, append};
use crate::place::{Place, place_of};
use crate::workspace::{Access, Inner, Remembered};
use bytes::Bytes;
use nbws_core::id::{SnapshotId, WriterId};
use nbws_core::record::{Body, Record};
use nbws_core::{Error, Result, path};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a verb tries to learn the fate of a record.
pub(crate) const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// In the mark of an unfinished restore: the one that finishes it may remove what it finds.
const MAY_DELETE: &str = " may delete";

fn may_delete(root: &Root) -> bool {
    let mut text = [0; 128];
    root.open_file(path::RESTORING)
        .and_then(|marker| marker.read_at(0, &mut text))
        .is_ok_and(|read| text[..read].ends_with(MAY_DELETE.as_bytes()))
}

/// A locked target directory and what is known of it.
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
    _lock: DirectoryLock,
    pub(crate) folder: Option<StateFolder>,
    pub(crate) session: Session,
    /// The snapshot whose tree the target was last known to hold, and that tree.
    pub(crate) tree: Option<(SnapshotId, Arc<KnownTree>)>,
    /// This process has seen `session.head` itself: it is an open writer.
    pub(crate) is_open: bool,
    /// A restore into the target began and did not end.
    pub(crate) is_half_restored: bool,
    /// That restore began in an empty directory or was allowed to remove what it found: so may the one that finishes it.
    pub(crate) is_half_replaced: bool,
    pub(crate) notices: Vec<String>,
}

impl Target {
    /// Locks `directory` and loads what is known of it. Blocks; waits for other holders until cancelled.
    pub(crate) fn lock(inner: &Inner, directory: &Path, cancel: &CancelToken) -> Result<Target> {
        let Place {
            path,
            folder,
            notice,
        } = place_of(inner, directory)?;
        let lock = lock_directory(&path, cancel)?;
        let root = Root::open(&path)?;
        let remembered = inner.memory().targets.get(&path).cloned();
        let mut notices: Vec<String> = notice.into_iter().collect();
        let stored = folder.as_ref().map_or(Ok(None), StateFolder::load_session);
        let stored = stored.unwrap_or_else(|error| {
            notices.push(format!("local state can't be read ({error})"));
            None
        });
        let stored = stored.filter(|s| s.repository == inner.repository());
        // Another program may have worked here since: what this one remembers is of an older tree then.
        let is_current = |r: &Remembered| {
            r.is_unstored || stored.is_none() || stored.as_ref() == Some(&r.session)
        };
        let remembered = remembered.filter(is_current);
        let session = match (stored, &remembered) {
            (_, Some(known)) if known.is_unstored => known.session.clone(),
            (Some(session), _) => session,
            // Somebody removed it under this process.
            (None, Some(known)) => known.session.clone(),
            (None, None) => Session::new(inner.repository(), WriterId(crate::random::bytes()?)),
        };
        let is_open = remembered
            .as_ref()
            .is_some_and(|r| r.session.head.is_some() && session.head.is_some());
        let is_half_restored = root.stat(path::RESTORING)?.is_some();
        let is_half_replaced = is_half_restored && may_delete(&root);
        let mut target = Target {
            path,
            root,
            _lock: lock,
            folder,
            session,
            tree: None,
            is_open,
            is_half_restored,
            is_half_replaced,
            notices,
        };
        target.load_tree(remembered);
        target.check_identity()?;
        Ok(target)
    }

    fn load_tree(&mut self, remembered: Option<Remembered>) {
        let Some(base) = self.session.base else {
            return;
        };
        if let Some((id, tree)) = remembered.and_then(|r| r.tree)
            && id == base
        {
            self.tree = Some((id, tree));
        } else if let Some(folder) = &self.folder {
            let tree = folder.load_tree(base).ok().flatten();
            self.tree = tree.map(|tree| (base, Arc::new(tree)));
        }
    }

    /// Forgets what was known of another directory at this path, and distrusts what a crash of the machine may have undone.
    fn check_identity(&mut self) -> Result<()> {
        let identity = self.root.identity()?;
        let boot = boot_id();
        let same_boot = self.session.boot == boot;
        let is_known = self.session.inode != 0;
        // An empty directory may have got the inode number of one that was removed. A directory with files in it is the one it was:
        // some file systems that lie over others give a new time of birth to what is written to for the first time.
        let is_reborn = self.session.birth.is_some()
            && identity.birth.is_some()
            && self.session.birth != identity.birth
            && self.root.is_empty()?;
        let replaced = is_known
            && (self.session.inode != identity.ino
                || is_reborn
                || same_boot && self.session.device != identity.dev);
        if replaced {
            self.notices
                .push("the directory was replaced since it was last saved or restored".to_owned());
            self.session.proof = None;
            self.session.base = None;
            self.tree = None;
        } else if is_known
            && !same_boot
            && (!self.session.synced || self.session.device != identity.dev)
        {
            self.distrust_keys();
        }
        self.session.inode = identity.ino;
        self.session.device = identity.dev;
        self.session.birth = identity.birth;
        self.session.boot = boot;
        Ok(())
    }

    fn distrust_keys(&mut self) {
        if let Some((id, tree)) = self.tree.take() {
            let tree = KnownTree {
                keys: Vec::new(),
                ..(*tree).clone()
            };
            self.tree = Some((id, Arc::new(tree)));
        }
    }

    /// Leaves the mark of an unfinished restore in the target, or nothing.
    pub(crate) fn mark_half_restored(
        &mut self,
        snapshot: SnapshotId,
        may_delete: bool,
    ) -> Result<()> {
        let mut text = snapshot.to_hex();
        if may_delete {
            text.push_str(MAY_DELETE);
        }
        let marker = self.root.create_file(path::RESTORING)?;
        if let Err(error) = marker.write_at(0, text.as_bytes()) {
            let _ = self.root.remove_file(path::RESTORING);
            return Err(error);
        }
        (self.is_half_restored, self.is_half_replaced) = (true, may_delete);
        Ok(())
    }

    /// The target was made the head as it is: whatever restore did not finish no longer matters.
    pub(crate) fn forget_restore(&mut self) {
        if self.is_half_restored && self.root.remove_file(path::RESTORING).is_ok() {
            self.is_half_restored = false;
        }
    }

    /// The newest record that is known here.
    pub(crate) fn known_head(&self) -> Option<LogHead> {
        let text = self.session.head.as_deref()?;
        let record = Record::decode(text.as_bytes()).ok()?;
        Some(LogHead {
            record,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    /// Notes the newest record.
    pub(crate) fn set_head(&mut self, bytes: &[u8]) {
        self.session.head = String::from_utf8(bytes.to_vec()).ok();
    }

    /// Writes the session to disk (durable when this returns) and in any case into the memory of this process.
    pub(crate) fn store_session(&self, inner: &Inner) -> Result<()> {
        let stored = match &self.folder {
            Some(folder) => folder.store_session(&self.session),
            None => Ok(()),
        };
        self.remember(inner, stored.is_err() || self.folder.is_none());
        stored
    }

    /// Notes that the target now holds `tree`, the tree of `snapshot`. Tree first, session second: a crash between the two
    /// leaves a tree that the session does not name, which is not used.
    pub(crate) fn store_tree(
        &mut self,
        inner: &Inner,
        snapshot: SnapshotId,
        tree: KnownTree,
    ) -> Result<()> {
        let stored = match &self.folder {
            Some(folder) => folder.store_tree(snapshot, &tree),
            None => Ok(()),
        };
        // Without the tree the next process reads every file, but it knows what is proven.
        self.session.base = Some(snapshot);
        self.tree = Some((snapshot, Arc::new(tree)));
        self.store_session(inner).and(stored)
    }

    /// A record whose fate may stay open is known on this disk before it is sent.
    pub(crate) fn note_pending(&mut self, inner: &Inner, bytes: Option<&[u8]>) {
        self.session.pending = bytes.and_then(|b| String::from_utf8(b.to_vec()).ok());
        self.store_session_or_go_on(inner);
    }

    /// Decides the fate of a record that an earlier save left open, by sending the same bytes again. Whether there was one.
    pub(crate) async fn settle_pending(&mut self, access: &Access) -> Result<bool> {
        let Some(text) = self.session.pending.clone() else {
            return Ok(false);
        };
        let record = Record::decode(text.as_bytes())?;
        let deadline = Deadline::after(COMMIT_PATIENCE);
        match append(
            &*access.store,
            &record,
            &Bytes::copy_from_slice(text.as_bytes()),
            deadline,
        )
        .await?
        {
            Appended::Acknowledged => {
                self.set_head(text.as_bytes());
                match &record.body {
                    Body::Snapshot(body) => {
                        self.session.proof = Some(body.snapshot);
                        self.find_tree(body.snapshot);
                    }
                    Body::Claim(_) => self.session.epoch = Some(record.epoch),
                    _ => {}
                }
                self.notices.push(format!(
                    "record {}, whose fate was not known, is committed",
                    record.seq
                ));
            }
            Appended::Lost { .. } => {
                self.notices.push(format!(
                    "record {}, whose fate was not known, was not committed; its work is saved again",
                    record.seq
                ));
            }
        }
        self.session.pending = None;
        // Whatever else happened meanwhile is found by asking, not by assuming.
        self.is_open = false;
        self.store_session_or_go_on(&access.inner);
        Ok(true)
    }

    /// Takes up the tree of a save that ended between storing it and naming it. What it says of files is not trusted: nobody knows
    /// whether the machine went down with it.
    fn find_tree(&mut self, snapshot: SnapshotId) {
        let stored = self.folder.as_ref().map(|f| f.load_tree(snapshot));
        if let Some(Ok(Some(tree))) = stored {
            self.session.base = Some(snapshot);
            self.tree = Some((snapshot, Arc::new(tree)));
            self.distrust_keys();
        }
    }

    /// As [`Target::store_session`]; without a place to write to, the verb goes on and the report says so.
    pub(crate) fn store_session_or_go_on(&mut self, inner: &Inner) {
        if let Err(error) = self.store_session(inner) {
            self.lose_state(inner, &error);
        }
    }

    /// As [`Target::store_tree`]; without a place to write to, the verb goes on and the report says so.
    pub(crate) fn store_tree_or_go_on(
        &mut self,
        inner: &Inner,
        snapshot: SnapshotId,
        tree: KnownTree,
    ) {
        if let Err(error) = self.store_tree(inner, snapshot, tree) {
            self.lose_state(inner, &error);
        }
    }

    fn lose_state(&mut self, inner: &Inner, error: &Error) {
        self.notices.push(format!(
            "local state can't be written ({error}); the next save reads every file"
        ));
        self.folder = None;
        self.remember(inner, true);
    }

    fn remember(&self, inner: &Inner, is_unstored: bool) {
        let remembered = Remembered {
            session: self.session.clone(),
            tree: self.tree.clone(),
            is_unstored,
        };
        inner.memory().targets.insert(self.path.clone(), remembered);
    }
}
