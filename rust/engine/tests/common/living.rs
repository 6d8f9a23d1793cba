//! Workspaces that change: directories to save, stores in memory, and comparisons of whole trees.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "basics.rs"]
mod basics;

pub use basics::*;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Delete, OpenOptions, RestoreOptions, SaveOptions};
use nbws_engine::report::{RestoreReport, SaveReport};
use nbws_engine::store::{Store, StoreOptions};
use nbws_engine::{Error, Workspace};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, StatxFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

/// A repository in memory, and directories on this machine.
pub struct Lab {
    dir: TempDir,
    pub store: Arc<dyn Store>,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Lab {
    /// Directories in memory if there is room, else in the temporary directory.
    pub fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let has_room = rustix::fs::statvfs(shm)
            .is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) > 2 << 30)
            && !fs::read_to_string("/proc/mounts")
                .unwrap_or_default()
                .lines()
                .any(|l| l.contains(" /dev/shm ") && l.contains("noexec"));
        match has_room.then(|| tempfile::tempdir_in(shm)) {
            Some(Ok(dir)) => Lab::at(dir),
            _ => Lab::on_disk(),
        }
    }

    /// Directories in the temporary directory, which is a disk as a rule.
    pub fn on_disk() -> Self {
        Lab::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: TempDir) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let url = format!("memory:///living-{}-{number}", std::process::id());
        let store = nbws_engine::store::open(&url, &StoreOptions::default()).unwrap();
        Lab { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory that exists and is empty.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The repository as the machine with the state directory `state` opens it.
    pub async fn open_as(&self, state: &str) -> Workspace {
        self.open_on(Arc::clone(&self.store), state).await
    }

    pub async fn open(&self) -> Workspace {
        self.open_as("state").await
    }

    pub async fn open_on(&self, store: Arc<dyn Store>, state: &str) -> Workspace {
        let options = OpenOptions {
            create: true,
            state_dir: Some(self.path(state)),
            ..OpenOptions::default()
        };
        Workspace::with_store(store, options).await.unwrap()
    }

    /// Restores `snapshot` into a new directory of a machine that knows nothing, verified.
    pub async fn copy_of(&self, snapshot: &str) -> PathBuf {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ws = self.open_as(&format!("copy-state-{number}")).await;
        let target = self.path(&format!("copy-{number}"));
        let options = RestoreOptions {
            snapshot: snapshot.to_owned(),
            verify: true,
            ..RestoreOptions::default()
        };
        let report = ws
            .restore(&target, options, None, CancelToken::new())
            .await
            .unwrap();
        assert!(report.complete, "{report:?}");
        target
    }

    /// Asserts that `snapshot` holds what is in `directory`.
    pub async fn assert_holds(&self, snapshot: &str, directory: &Path) {
        let copy = self.copy_of(snapshot).await;
        assert_same(directory, &copy);
        fs::remove_dir_all(copy).unwrap();
    }
}

pub async fn try_save(
    ws: &Workspace,
    dir: &Path,
    options: SaveOptions,
) -> Result<SaveReport, Error> {
    ws.save(dir, options, None, CancelToken::new()).await
}

pub async fn save_with(ws: &Workspace, dir: &Path, options: SaveOptions) -> SaveReport {
    try_save(ws, dir, options).await.unwrap()
}

pub async fn save(ws: &Workspace, dir: &Path) -> SaveReport {
    save_with(ws, dir, SaveOptions::default()).await
}

pub async fn try_restore(
    ws: &Workspace,
    dir: &Path,
    options: RestoreOptions,
) -> Result<RestoreReport, Error> {
    ws.restore(dir, options, None, CancelToken::new()).await
}

pub async fn restore_with(ws: &Workspace, dir: &Path, options: RestoreOptions) -> RestoreReport {
    try_restore(ws, dir, options).await.unwrap()
}

pub async fn restore(ws: &Workspace, dir: &Path) -> RestoreReport {
    restore_with(ws, dir, RestoreOptions::default()).await
}

pub fn of(snapshot: &str) -> RestoreOptions {
    RestoreOptions {
        snapshot: snapshot.to_owned(),
        ..RestoreOptions::default()
    }
}

pub fn deleting(delete: Delete) -> RestoreOptions {
    RestoreOptions {
        delete,
        ..RestoreOptions::default()
    }
}

/// The snapshot that is the workspace head, and how many there are.
pub async fn head(ws: &Workspace) -> (String, usize) {
    let all = ws.snapshots().await.unwrap();
    (all.last().unwrap().snapshot.clone(), all.len())
}

/// A small tree with every kind of entry.
pub fn make_tree(root: &Path, files: usize) {
    for i in 0..files {
        write(
            &root.join(format!("lib/pkg{}/m{i}.py", i % 7)),
            format!("x = {i}\n").repeat(i % 40 + 1),
        );
    }
    write(&root.join("big.bin"), noise(1, 700_000));
    write(&root.join("nb.ipynb"), noise(2, 5_000));
    fs::create_dir_all(root.join("empty/dir")).unwrap();
    std::os::unix::fs::symlink("../nb.ipynb", root.join("lib/link")).unwrap();
    fs::hard_link(root.join("nb.ipynb"), root.join("lib/again.ipynb")).unwrap();
}

/// What a path is, as far as a snapshot keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: FileType,
    pub mode: u16,
    pub mtime: (i64, u32),
    pub size: u64,
    /// Hash of a file's blocks that are not zero, or a link's target.
    pub content: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Smallest path of the same file.
    pub leader: Option<Vec<u8>>,
    pub owner: (u32, u32),
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:o} {:?} {} B {} xattrs {:?} leader {:?} owner {:?}",
            self.kind,
            self.mode,
            self.mtime,
            self.size,
            self.content
                .iter()
                .take(8)
                .map(|b| format!("{b:02x}"))
                .collect::<String>(),
            self.xattrs
                .iter()
                .map(|(n, v)| (String::from_utf8_lossy(n), v.len()))
                .collect::<Vec<_>>(),
            self.leader.as_ref().map(|l| String::from_utf8_lossy(l)),
            self.owner,
        )
    }
}

/// Every path below `root`, however long, with what is there. Sockets, FIFOs and devices are in it too, unopened.
pub fn tree(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut walk = Walk::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    walk.directory(fd, b"");
    walk.out
}

#[derive(Default)]
struct Walk {
    out: BTreeMap<Vec<u8>, Node>,
    leaders: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Walk {
    fn directory(&mut self, fd: OwnedFd, prefix: &[u8]) {
        let mut names: Vec<Vec<u8>> = rustix::fs::Dir::read_from(&fd)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_bytes().to_vec())
            .filter(|n| n != b"." && n != b"..")
            .collect();
        names.sort();
        for name in names {
            let mut path = prefix.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            self.entry(&fd, &name, path);
        }
    }

    fn entry(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>) {
        let stat = rustix::fs::statx(
            parent,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        )
        .unwrap();
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        let mut node = Node {
            kind,
            mode: stat.stx_mode & 0o7777,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            size: if kind == FileType::RegularFile {
                stat.stx_size
            } else {
                0
            },
            content: Vec::new(),
            xattrs: Vec::new(),
            leader: None,
            owner: (stat.stx_uid, stat.stx_gid),
        };
        let open = |more: OFlags| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
            rustix::fs::openat(parent, name, flags, Mode::empty())
                .unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(&path)))
        };
        let mut below = None;
        match kind {
            FileType::RegularFile => {
                let fd = open(OFlags::empty());
                node.content = content_of(&fd, stat.stx_size);
                node.xattrs = xattrs_of(&fd);
                if stat.stx_nlink > 1 {
                    let dev = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
                    let group = (dev, stat.stx_ino);
                    let leader = self.leaders.entry(group).or_insert_with(|| path.clone());
                    node.leader = Some(leader.clone());
                }
            }
            FileType::Symlink => {
                node.content = rustix::fs::readlinkat(parent, name, Vec::new())
                    .unwrap()
                    .into_bytes();
            }
            FileType::Directory => {
                let fd = open(OFlags::DIRECTORY);
                node.xattrs = xattrs_of(&fd);
                below = Some(fd);
            }
            _ => {}
        }
        // Paths are visited in another order than they sort in: the smallest path of a group is settled at the end.
        self.out.insert(path.clone(), node);
        if let Some(fd) = below {
            self.directory(fd, &path);
        }
    }
}

fn content_of(fd: &OwnedFd, size: u64) -> Vec<u8> {
    const BLOCK: u64 = 64 << 10;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BLOCK as usize];
    let mut at = 0;
    while at < size {
        let Ok(start) = rustix::fs::seek(fd, SeekFrom::Data(at)) else {
            break;
        };
        at = start / BLOCK * BLOCK;
        let want = BLOCK.min(size - at) as usize;
        let mut filled = 0;
        while filled < want {
            let n = rustix::io::pread(fd, &mut buffer[filled..want], at + filled as u64).unwrap();
            if n == 0 {
                break;
            }
            filled += n;
        }
        if buffer[..filled].iter().any(|b| *b != 0) {
            hasher.update(&at.to_le_bytes());
            hasher.update(&buffer[..filled]);
        }
        at += BLOCK;
    }
    hasher.finalize().as_bytes().to_vec()
}

fn xattrs_of(fd: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 65_536];
    let Ok(len) = rustix::fs::flistxattr(fd, &mut names[..]) else {
        return Vec::new();
    };
    let mut out: Vec<(Vec<u8>, Vec<u8>)> = names[..len]
        .split(|b| *b == 0)
        .filter(|n| n.starts_with(b"user."))
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = rustix::fs::fgetxattr(fd, name, &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect();
    out.sort();
    out
}

/// Asserts that two trees are alike in everything that a snapshot keeps (owners aside).
pub fn assert_same(expected: &Path, found: &Path) {
    assert_alike(&tree(expected), &tree(found));
}

pub fn assert_alike(expected: &BTreeMap<Vec<u8>, Node>, found: &BTreeMap<Vec<u8>, Node>) {
    let normal = |tree: &BTreeMap<Vec<u8>, Node>| -> BTreeMap<Vec<u8>, Node> {
        let mut smallest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut members: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (path, node) in tree {
            if let Some(leader) = &node.leader {
                smallest
                    .entry(leader.clone())
                    .or_insert_with(|| path.clone());
                *members.entry(leader.clone()).or_default() += 1;
            }
        }
        tree.iter()
            .map(|(path, node)| {
                let mut node = node.clone();
                node.owner = (0, 0);
                node.leader = node
                    .leader
                    .filter(|l| members[l] > 1)
                    .map(|l| smallest[&l].clone());
                (path.clone(), node)
            })
            .collect()
    };
    let (expected, found) = (normal(expected), normal(found));
    for (path, node) in &expected {
        let shown = String::from_utf8_lossy(path);
        match found.get(path) {
            None => panic!("{shown} is missing; expected {node:?}"),
            Some(other) => assert_eq!(node, other, "{shown}"),
        }
    }
    for path in found.keys() {
        assert!(
            expected.contains_key(path),
            "{} is too much",
            String::from_utf8_lossy(path)
        );
    }
}

/// A path as bytes.
pub fn bytes(path: &str) -> Vec<u8> {
    path.as_bytes().to_vec()
}

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Sets the times of a file or directory.
pub fn set_mtime(path: &Path, seconds: i64, nanos: u32) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small file system in memory, mounted at `path` as long as this lives.
pub struct Mount(PathBuf);

impl Mount {
    /// `None`, with the reason printed, where mounting is not permitted.
    pub fn tmpfs(path: &Path, options: &str) -> Option<Mount> {
        fs::create_dir_all(path).unwrap();
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(path)
            .output();
        match out {
            Ok(out) if out.status.success() => Some(Mount(path.to_owned())),
            Ok(out) => {
                let why = String::from_utf8_lossy(&out.stderr);
                println!("skipped: no mount: {}", why.trim());
                None
            }
            Err(e) => {
                println!("skipped: no mount command: {e}");
                None
            }
        }
    }

    /// Changes size or inode limit.
    pub fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .arg("-o")
            .arg(format!("remount,{options}"))
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Runs the test `name` of this binary again without privileges; `NBWS_CHILD` holds `directory`, which is given to the child.
/// Without root the test is run as it is. Returns false, with the reason printed, where that is not possible.
pub fn run_unprivileged(name: &str, directory: &Path) -> bool {
    let exe = std::env::current_exe().unwrap();
    let mut command = if is_root() {
        let given = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(directory)
            .status();
        assert!(given.unwrap().success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        // The binary may lie where only root may go.
        let copy = directory.join(".test-binary");
        fs::copy(exe, &copy).unwrap();
        set_mode(&copy, 0o755);
        command.arg(copy);
        command
    } else {
        Command::new(exe)
    };
    command.args(["--exact", name, "--nocapture", "--test-threads", "1"]);
    command.env("NBWS_CHILD", directory);
    command.env("HOME", directory);
    command.env("TMPDIR", directory);
    let out = match command.output() {
        Ok(out) => out,
        Err(e) => {
            println!("skipped: privileges can't be dropped: {e}");
            return false;
        }
    };
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    true
}

/// The directory given to a child of [`run_unprivileged`].
pub fn child_directory() -> Option<PathBuf> {
    std::env::var_os("NBWS_CHILD").map(PathBuf::from)
}

/// Threads that change a tree until this is dropped or stopped.
#[derive(Default)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `step` with 0, 1, 2 ... until stopped.
    pub fn spawn(&mut self, mut step: impl FnMut(u64) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                step(n);
                n += 1;
            }
        }));
    }

    /// Stops all and waits; fails if one failed.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A descriptor as a directory path that any call takes.
pub fn at_fd(fd: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
