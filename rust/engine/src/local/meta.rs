//! Metadata of files: reading it with statx and xattr calls, and setting it.

use super::{Timestamp, Xattr, errno_text};
use nbws_core::limits::{MAX_XATTR_BYTES, MAX_XATTRS, XATTR_NAMESPACE};
use rustix::fs::{
    AtFlags, Gid, Mode, Statx, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// Fields of statx that a [`Stat`] needs.
pub(super) const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS
    .difference(StatxFlags::ATIME)
    .union(StatxFlags::MNT_ID);

/// Tries of a list or value that grows while it is read.
const XATTR_TRIES: usize = 8;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device, or something unknown.
    Device,
}

/// What the file system says of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content.
    pub mtime: Timestamp,
    /// Time of the last change of content or metadata; nobody can set it.
    pub ctime: Timestamp,
    /// Inode number.
    pub ino: u64,
    /// Device number of the file system.
    pub dev: u64,
    /// The low 12 permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// What it is.
    pub kind: FileKind,
    /// Allocated units of 512 bytes.
    pub blocks: u64,
}

impl Stat {
    /// Whether both are of one inode.
    pub(crate) fn is_same_file(&self, other: &Stat) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Takes over what statx said.
    pub(super) fn from_statx(raw: &Statx) -> Self {
        let time = |t: rustix::fs::StatxTimestamp| Timestamp {
            seconds: t.tv_sec,
            nanos: t.tv_nsec,
        };
        Stat {
            size: raw.stx_size,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            ino: raw.stx_ino,
            dev: device(raw),
            mode: raw.stx_mode & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            nlink: raw.stx_nlink,
            kind: kind_of(raw.stx_mode),
            blocks: raw.stx_blocks,
        }
    }
}

/// Device number of the file system that holds the path.
pub(super) fn device(raw: &Statx) -> u64 {
    rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor)
}

/// The mount that holds the path, where the kernel tells it.
pub(super) fn mount(raw: &Statx) -> Option<u64> {
    (raw.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(raw.stx_mnt_id)
}

/// When the path was made, where the file system tells it.
pub(super) fn birth(raw: &Statx) -> Option<(i64, u32)> {
    let is_known = raw.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then_some((raw.stx_btime.tv_sec, raw.stx_btime.tv_nsec))
}

fn kind_of(mode: u16) -> FileKind {
    match mode & 0o170_000 {
        0o040_000 => FileKind::Directory,
        0o100_000 => FileKind::File,
        0o120_000 => FileKind::Symlink,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        _ => FileKind::Device,
    }
}

/// statx of `name` below `directory`; the last component is not followed.
pub(super) fn statx_at(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Statx, Errno> {
    rustix::fs::statx(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        STAT_MASK,
    )
}

/// statx of an open descriptor.
pub(super) fn statx_of(fd: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, STAT_MASK)
}

/// As [`statx_of`], with the time of birth where the file system tells it.
pub(super) fn statx_with_birth(fd: impl AsFd) -> Result<Statx, Errno> {
    let mask = STAT_MASK.union(StatxFlags::BTIME);
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, mask)
}

/// What to set on a restored path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata<'a> {
    /// The low 12 permission bits, set as they are.
    pub mode: u16,
    /// Owner and group; `None` leaves the present ones.
    pub owner: Option<(u32, u32)>,
    /// Time of the last change of the content.
    pub mtime: Timestamp,
    /// Extended attributes; names outside `user.` are passed over.
    pub xattrs: &'a [Xattr],
}

/// A piece of metadata that the file system or our rights did not allow; the restore goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unapplied {
    /// "owner", "mode", or "xattr" and its name.
    pub what: String,
    /// What the file system said.
    pub reason: String,
}

impl Unapplied {
    fn new(what: impl Into<String>, errno: Errno) -> Self {
        Unapplied {
            what: what.into(),
            reason: errno_text(errno),
        }
    }
}

/// The times of a restored path; the time of the last access stays.
pub(super) fn timestamps(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

/// Owner and group for chown; `None` for the number that means "leave it".
pub(super) fn owner_ids(owner: (u32, u32)) -> Option<(Uid, Gid)> {
    (owner.0 != u32::MAX && owner.1 != u32::MAX)
        .then(|| (Uid::from_raw(owner.0), Gid::from_raw(owner.1)))
}

/// Sets everything on an open file or directory: xattrs need write permission, chown clears setuid bits and all of them move
/// ctime, hence the order. `fresh` says that no other xattrs can be there.
pub(super) fn apply(
    fd: BorrowedFd<'_>,
    metadata: &Metadata<'_>,
    fresh: bool,
) -> Result<Vec<Unapplied>, Errno> {
    let mut unapplied = Vec::new();
    if !(fresh && metadata.xattrs.is_empty()) {
        apply_xattrs(fd, metadata.xattrs, fresh, &mut unapplied)?;
    }
    if let Some(owner) = metadata.owner {
        let changed = match owner_ids(owner) {
            Some((uid, gid)) => rustix::fs::fchown(fd, Some(uid), Some(gid)),
            None => Err(Errno::INVAL),
        };
        tolerate(changed, "owner", &mut unapplied)?;
    }
    let mode = Mode::from_raw_mode((metadata.mode & 0o7777).into());
    tolerate(rustix::fs::fchmod(fd, mode), "mode", &mut unapplied)?;
    rustix::fs::futimens(fd, &timestamps(metadata.mtime))?;
    Ok(unapplied)
}

/// Turns refusals of rights and of the file system's abilities into a note; others stay errors.
pub(super) fn tolerate(
    outcome: Result<(), Errno>,
    what: &str,
    unapplied: &mut Vec<Unapplied>,
) -> Result<(), Errno> {
    match outcome {
        Err(errno @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) => {
            unapplied.push(Unapplied::new(what, errno));
            Ok(())
        }
        other => other,
    }
}

fn apply_xattrs(
    fd: BorrowedFd<'_>,
    wanted: &[Xattr],
    fresh: bool,
    unapplied: &mut Vec<Unapplied>,
) -> Result<(), Errno> {
    let present = if fresh {
        Vec::new()
    } else {
        match read_xattrs(fd) {
            Ok(Some(present)) => present,
            Ok(None) | Err(_) => Vec::new(),
        }
    };
    for extra in &present {
        if !wanted.iter().any(|xattr| xattr.name == extra.name) {
            let removed = rustix::fs::fremovexattr(fd, &extra.name[..]);
            note_xattr(removed, &extra.name, unapplied)?;
        }
    }
    for xattr in wanted {
        if !xattr.name.starts_with(XATTR_NAMESPACE) || present.contains(xattr) {
            continue;
        }
        let set = || rustix::fs::fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty());
        let mut outcome = set();
        if outcome == Err(Errno::ACCESS) {
            // The present mode forbids it to the owner as well; the wanted mode follows.
            rustix::fs::fchmod(fd, Mode::RWXU)?;
            outcome = set();
        }
        note_xattr(outcome, &xattr.name, unapplied)?;
    }
    Ok(())
}

/// Notes what a file system can't hold: ENOSPC is also what ext4 says of a value larger than a block.
fn note_xattr(
    outcome: Result<(), Errno>,
    name: &[u8],
    unapplied: &mut Vec<Unapplied>,
) -> Result<(), Errno> {
    match outcome {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::TOOBIG | Errno::RANGE)) => {
            unapplied.push(Unapplied::new(xattr_label(name), errno));
            Ok(())
        }
        Err(Errno::NODATA) => Ok(()),
        other => tolerate(other, &xattr_label(name), unapplied),
    }
}

fn xattr_label(name: &[u8]) -> String {
    format!("xattr {}", nbws_core::error::display_path(name))
}

/// The `user.` attributes of an open file or directory, sorted by name; empty where the file system has none.
/// `None` means more or larger ones than a snapshot may hold.
pub(super) fn read_xattrs(fd: BorrowedFd<'_>) -> Result<Option<Vec<Xattr>>, Errno> {
    let names = match read_growing(MAX_XATTR_BYTES, |buffer| rustix::fs::flistxattr(fd, buffer)) {
        Ok(Some(names)) => names,
        Ok(None) => return Ok(None),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some(Vec::new())),
        Err(errno) => return Err(errno),
    };
    let mut xattrs = Vec::new();
    let mut total = 0;
    for name in names.split(|byte| *byte == 0) {
        if !name.starts_with(XATTR_NAMESPACE) {
            continue;
        }
        let value = match read_growing(MAX_XATTR_BYTES, |buffer| {
            rustix::fs::fgetxattr(fd, name, buffer)
        }) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(None),
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        };
        total += value.len();
        if xattrs.len() == MAX_XATTRS || total > MAX_XATTR_BYTES {
            return Ok(None);
        }
        xattrs.push(Xattr {
            name: name.to_vec(),
            value,
        });
    }
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(xattrs))
}

/// Calls `fill` with a buffer that grows until the answer fits; `None` beyond `limit`.
fn read_growing(
    limit: usize,
    fill: impl Fn(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Option<Vec<u8>>, Errno> {
    let mut small = [0; 512];
    match fill(&mut small) {
        Ok(len) => return Ok(Some(small[..len].to_vec())),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut buffer = vec![0; 4096];
    for _ in 0..XATTR_TRIES {
        match fill(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < limit => {
                let longer = (buffer.len() * 4).min(limit);
                buffer.resize(longer, 0);
            }
            Err(Errno::RANGE | Errno::TOOBIG) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}
