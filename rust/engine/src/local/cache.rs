//! Local state: what a target directory is known to hold. Disposable; losing it costs reading, never data.
//!
//! One folder per repository and target: `session.json` (who wrote last, what is proven, a record that is being
//! committed), `tree` (the segments of the tree in the target, with stat keys), `index/` (parts by hash) and `uploaded/`
//! (directories of packs that are stored but not committed yet).

use super::lock::{FileLock, try_lock_file};
use super::tree_file::{read_tree, write_tree};
use bytes::Bytes;
use nbws_core::diff::StatKey;
use nbws_core::id::{ContainerId, FrameHash, RepositoryId, SnapshotId, WriterId, to_hex};
use nbws_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

/// What is known of one target; `session.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) version: u32,
    pub(crate) repository: RepositoryId,
    /// Device and inode of the target directory, and the boot they were seen in.
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) boot: String,
    /// When that directory was made, where its file system tells it: seconds since 1970 UTC, and nanoseconds.
    #[serde(default)]
    pub(crate) birth: Option<(i64, u32)>,
    pub(crate) writer: WriterId,
    /// Exact bytes of the newest record seen.
    pub(crate) head: Option<String>,
    /// The workspace head that the target is proven to hold or to descend from.
    pub(crate) proof: Option<SnapshotId>,
    /// The snapshot whose tree the target was last known to hold; `tree` belongs to it.
    pub(crate) base: Option<SnapshotId>,
    /// All that was written to the target had reached the disk.
    pub(crate) synced: bool,
    /// What the last save left out beside the ignore files: a restore leaves that alone.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) cachedir_tag: bool,
    /// Exact bytes of a record whose fate is not known.
    pub(crate) pending: Option<String>,
    /// The epoch that a claim of this target opened; it means something as long as it is in force.
    #[serde(default)]
    pub(crate) epoch: Option<u64>,
    /// Why saves of this target become rescues until a person clears it.
    #[serde(default)]
    pub(crate) latch: Option<String>,
    /// The target directory of a claim; none if its name is not UTF-8.
    #[serde(default)]
    pub(crate) directory: Option<String>,
    /// What the caller wants to know again of the claim.
    #[serde(default)]
    pub(crate) notes: Option<String>,
}

impl Session {
    pub(crate) fn new(repository: RepositoryId, writer: WriterId) -> Self {
        Session {
            version: VERSION,
            repository,
            device: 0,
            inode: 0,
            boot: String::new(),
            birth: None,
            writer,
            head: None,
            proof: None,
            base: None,
            synced: false,
            exclude: Vec::new(),
            cachedir_tag: false,
            pending: None,
            epoch: None,
            latch: None,
            directory: None,
            notes: None,
        }
    }
}

/// The tree that the target holds, as last saved or restored.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownTree {
    /// It was saved from this target, so a path that it omits and the disk lacks is gone for good.
    pub(crate) saved_here: bool,
    /// Encoded segments, in order.
    pub(crate) segments: Vec<Bytes>,
    /// One key per entry, in order; empty: nothing is known.
    pub(crate) keys: Vec<StatKey>,
}

/// The folder of one repository and target.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    is_frozen: bool,
}

impl StateFolder {
    /// The folder for `target` under `state_root`; made on the first write.
    pub(crate) fn new(state_root: &Path, repository: RepositoryId, target: &Path) -> Self {
        let name = blake3::hash(target.as_os_str().as_bytes());
        StateFolder {
            path: state_root
                .join(repository.to_hex())
                .join(to_hex(&name.as_bytes()[..16])),
            is_frozen: false,
        }
    }

    /// The folders of every target of `repository` under `state_root`.
    pub(crate) fn all(state_root: &Path, repository: RepositoryId) -> Result<Vec<Self>> {
        let path = state_root.join(repository.to_hex());
        let failed = |e| local("list local state", &path, e);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == IoKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        entries
            .map(|entry| {
                Ok(StateFolder {
                    path: entry.map_err(failed)?.path(),
                    is_frozen: true,
                })
            })
            .collect()
    }

    /// From now on only reads; what is written is dropped.
    pub(crate) fn freeze(&mut self) {
        self.is_frozen = true;
    }

    fn make(&self, sub: &str) -> Result<PathBuf> {
        let path = if sub.is_empty() {
            self.path.clone()
        } else {
            self.path.join(sub)
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|e| local("make local state", &path, e))?;
        Ok(path)
    }

    /// Locks the session of the target among the processes of this machine; none if another one holds it.
    pub(crate) fn lock_session(&self) -> Result<Option<FileLock>> {
        try_lock_file(&self.make("")?.join("session.lock"))
    }

    /// Writes `name` by way of a temporary file, synced before and after the rename.
    fn write(
        &self,
        sub: &str,
        name: &str,
        durable: bool,
        content: impl Fn(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        if self.is_frozen {
            return Ok(());
        }
        let folder = self.make(sub)?;
        let (path, temporary) = (folder.join(name), folder.join(format!("{name}.tmp")));
        let attempt = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            content(&mut file)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, &path)?;
            if durable {
                File::open(&folder)?.sync_all()?;
            }
            Ok(())
        };
        attempt().map_err(|e| local("write local state", &path, e))
    }

    fn read(&self, sub: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(sub).join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == IoKind::NotFound => Ok(None),
            Err(e) => Err(local("read local state", &path, e)),
        }
    }

    /// The session; `None` if there is none, or if it is not what was written.
    pub(crate) fn load_session(&self) -> Result<Option<Session>> {
        let Some(bytes) = self.read("", "session.json")? else {
            return Ok(None);
        };
        let Ok(sealed) = serde_json::from_slice::<Sealed<Session>>(&bytes) else {
            return Ok(None);
        };
        let is_whole = sealed.check == check_of(&sealed.session)?;
        Ok(Some(sealed.session).filter(|s| is_whole && s.version == VERSION))
    }

    /// Stores the session; durable when this returns.
    pub(crate) fn store_session(&self, session: &Session) -> Result<()> {
        let check = check_of(session)?;
        let bytes = serde_json::to_vec(&Sealed { check, session }).map_err(unwritable)?;
        self.write("", "session.json", true, |file| file.write_all(&bytes))
    }

    /// Stores the tree of snapshot `id`; durable when this returns.
    pub(crate) fn store_tree(&self, id: SnapshotId, tree: &KnownTree) -> Result<()> {
        self.write("", "tree", true, |file| write_tree(file, id, tree))
    }

    /// The tree, if it is the one of snapshot `id` and undamaged.
    pub(crate) fn load_tree(&self, id: SnapshotId) -> Result<Option<KnownTree>> {
        let path = self.path.join("tree");
        match File::open(&path).and_then(|file| read_tree(file, id)) {
            Ok(tree) => Ok(tree),
            Err(e) if e.kind() == IoKind::NotFound => Ok(None),
            Err(e) => Err(local("read local state", &path, e)),
        }
    }

    /// A frame by the hash of its plain bytes; one that can't be read or is damaged is fetched again.
    pub(crate) fn load_frame(&self, hash: FrameHash) -> Option<Vec<u8>> {
        let name = hash.to_hex();
        let bytes = self.read("index", &name).ok().flatten()?;
        if FrameHash::of(&bytes) != hash {
            if !self.is_frozen {
                // Makes room for a good copy.
                let _ = fs::remove_file(self.path.join("index").join(name));
            }
            return None;
        }
        Some(bytes)
    }

    /// Keeps a frame by its hash: not synced, because the hash tells whether it is whole, and without complaint, because losing it
    /// costs one request.
    pub(crate) fn store_frame(&self, hash: FrameHash, bytes: &[u8]) {
        let name = hash.to_hex();
        if self.path.join("index").join(&name).exists() {
            return;
        }
        if let Err(error) = self.write("index", &name, false, |file| file.write_all(bytes)) {
            tracing::debug!(%error, "a frame is not kept");
        }
    }

    /// Removes index parts that are not in `live`.
    pub(crate) fn retain_index_parts(&self, live: &[FrameHash]) {
        if self.is_frozen {
            return;
        }
        let Ok(folder) = fs::read_dir(self.path.join("index")) else {
            return;
        };
        for file in folder.flatten() {
            let keep = file
                .file_name()
                .to_str()
                .is_some_and(|n| live.iter().any(|h| h.to_hex() == n));
            if !keep {
                // A part that stays behind costs space only.
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Remembers the directory of a pack that is stored but not committed: `seq` is the log head it was made on.
    pub(crate) fn store_uploaded(&self, pack: ContainerId, seq: u64, part: &[u8]) -> Result<()> {
        let hash = journal_hash(seq.to_le_bytes(), part);
        self.write("uploaded", &pack.to_string(), false, |file| {
            file.write_all(&seq.to_le_bytes())?;
            file.write_all(hash.as_bytes())?;
            file.write_all(part)
        })
    }

    /// Directories of packs that are stored but not committed, with the log head they were made on.
    pub(crate) fn load_uploaded(&self) -> Vec<(u64, Vec<u8>)> {
        let Ok(folder) = fs::read_dir(self.path.join("uploaded")) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for file in folder.flatten() {
            let Ok(bytes) = fs::read(file.path()) else {
                continue;
            };
            let Some((seq, rest)) = bytes.split_first_chunk::<8>() else {
                continue;
            };
            let Some((hash, part)) = rest.split_first_chunk::<32>() else {
                continue;
            };
            if journal_hash(*seq, part).as_bytes() == hash {
                out.push((u64::from_le_bytes(*seq), part.to_vec()));
            }
        }
        out
    }

    /// Forgets the uploaded packs: they are committed, or no longer to be trusted.
    pub(crate) fn clear_uploaded(&self) {
        if !self.is_frozen {
            let _ = fs::remove_dir_all(self.path.join("uploaded"));
        }
    }
}

/// What a flipped bit can't change unseen: a session may hold a record that is sent as it stands.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<S> {
    check: FrameHash,
    session: S,
}

fn check_of(session: &Session) -> Result<FrameHash> {
    let bytes = serde_json::to_vec(session).map_err(unwritable)?;
    Ok(FrameHash::of(&bytes))
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::internal("write local state", error.to_string())
}

fn journal_hash(seq: [u8; 8], part: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(&seq).update(part).finalize()
}

fn local(operation: &'static str, path: &Path, cause: std::io::Error) -> Error {
    Error::local(operation, path.as_os_str().as_bytes(), cause)
}

/// Names the present boot of the machine; empty where the kernel does not say.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

/// Memory limit of the control group this process runs in, in bytes.
pub(crate) fn memory_limit_bytes() -> Option<u64> {
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use nbws_core::tree::Timestamp;

    #[test]
    fn a_tree_comes_back_only_for_its_snapshot_and_undamaged() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::new(dir.path(), RepositoryId([1; 16]), Path::new("/w"));
        let tree = KnownTree {
            saved_here: true,
            segments: vec![Bytes::from_static(&[1, 2, 3]), Bytes::new()],
            keys: vec![
                StatKey {
                    ino: 5,
                    ctime: Timestamp {
                        seconds: -1,
                        nanos: 2
                    }
                };
                3
            ],
        };
        let id = SnapshotId([7; 16]);
        folder.store_tree(id, &tree).unwrap();
        let loaded = folder.load_tree(id).unwrap().unwrap();
        assert_eq!(
            (loaded.saved_here, &loaded.segments, &loaded.keys),
            (true, &tree.segments, &tree.keys)
        );
        assert!(folder.load_tree(SnapshotId([8; 16])).unwrap().is_none());
        let file = folder.path.join("tree");
        let mut bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            fs::write(&file, &bytes).unwrap();
            assert!(folder.load_tree(id).unwrap().is_none(), "flip at {at}");
            bytes[at] ^= 1;
        }
    }
}
