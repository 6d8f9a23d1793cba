//! Encoding of one entry (`docs/format.md`, section 6.1).

use super::content::{check_content, put_content, read_content};
use super::{Body, Entry, Hole, OmitReason, Timestamp, Xattr};
use crate::error::Result;
use crate::limits::{
    MAX_LINK_BYTES, MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_XATTR_BYTES, MAX_XATTRS, XATTR_NAMESPACE,
};
use crate::path;
use crate::wire::{WireReader, put_bytes, put_varint, put_zigzag};

const STALE: u8 = 1;
const UNSTABLE: u8 = 2;
const XATTRS: u8 = 4;
const LINK: u8 = 8;
const HOLES: u8 = 16;
const KNOWN_FLAGS: u8 = STALE | UNSTABLE | XATTRS | LINK | HOLES;

const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const OMITTED: u8 = 4;

/// Says what the format forbids about `entry`, if anything. The path is checked separately, by [`path::check`].
pub(super) fn check_shape(entry: &Entry) -> Result<(), &'static str> {
    if entry.mode > 0o7777 {
        return Err("mode has more than 12 bits");
    }
    if entry.mtime.nanos >= 1_000_000_000 {
        return Err("nanoseconds do not fit into a second");
    }
    check_xattrs(&entry.xattrs)?;
    if let Some(leader) = &entry.link {
        if !matches!(entry.body, Body::File { .. }) {
            return Err("only files have hard link groups");
        }
        if *leader > entry.path || path::check(leader).is_err() {
            return Err("the hard link leader is not the group's smallest path");
        }
    }
    match &entry.body {
        Body::File { size, .. } if i64::try_from(*size).is_err() => {
            Err("a file is larger than file systems can tell")
        }
        Body::File {
            size,
            content,
            holes,
        } => check_content(content, *size).and_then(|()| check_holes(holes, *size)),
        Body::Symlink { target } if target.is_empty() || target.len() > MAX_LINK_BYTES => {
            Err("symlink target is empty or too long")
        }
        Body::Symlink { target } if target.contains(&0) => Err("NUL in a symlink target"),
        _ => Ok(()),
    }
}

fn check_xattrs(xattrs: &[Xattr]) -> Result<(), &'static str> {
    if xattrs.len() > MAX_XATTRS {
        return Err("too many extended attributes");
    }
    if xattrs.iter().map(|x| x.value.len()).sum::<usize>() > MAX_XATTR_BYTES {
        return Err("extended attributes are too large");
    }
    let named =
        |x: &Xattr| !x.name.is_empty() && x.name.len() <= MAX_NAME_BYTES && !x.name.contains(&0);
    if !xattrs.iter().all(named) {
        return Err("an extended attribute has an impossible name");
    }
    if !xattrs.iter().all(|x| x.name.starts_with(XATTR_NAMESPACE)) {
        return Err("an extended attribute is not the user's");
    }
    if xattrs.windows(2).any(|pair| pair[0].name >= pair[1].name) {
        return Err("extended attributes are not sorted");
    }
    Ok(())
}

fn check_holes(holes: &[Hole], size: u64) -> Result<(), &'static str> {
    let mut free_from = 0;
    for hole in holes {
        let end = hole.offset.checked_add(hole.length);
        match end {
            Some(end) if hole.length > 0 && hole.offset >= free_from && end <= size => {
                // One allocated byte at least lies between two holes: touching ones are one hole.
                free_from = end + 1;
            }
            _ => return Err("holes are unsorted, touch one another or reach past the end"),
        }
    }
    Ok(())
}

/// Appends `entry`, whose path shares its first `shared` bytes with the one before it.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry, shared: usize) {
    put_varint(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    out.push(kind_code(&entry.body));
    out.push(flags(entry));
    put_varint(out, u64::from(entry.mode));
    put_varint(out, u64::from(entry.uid));
    put_varint(out, u64::from(entry.gid));
    put_mtime(out, entry.mtime);
    if !entry.xattrs.is_empty() {
        put_xattrs(out, &entry.xattrs);
    }
    if let Some(leader) = &entry.link {
        let leads = *leader == entry.path;
        put_bytes(out, if leads { &[] } else { leader });
    }
    match &entry.body {
        Body::Directory => {}
        Body::File {
            size,
            content,
            holes,
        } => {
            put_varint(out, *size);
            put_content(out, content, *size);
            put_holes(out, holes);
        }
        Body::Symlink { target } => put_bytes(out, target),
        Body::Omitted { size, reason } => {
            put_varint(out, *size);
            out.push(*reason as u8);
        }
    }
}

/// Appends what `tree_root` hashes of `entry` (section 6.4).
pub(super) fn put_logical(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, &entry.path);
    out.push(kind_code(&entry.body));
    put_varint(out, u64::from(entry.mode));
    put_mtime(out, entry.mtime);
    put_xattrs(out, &entry.xattrs);
    match &entry.body {
        Body::File { size, content, .. } => {
            put_varint(out, *size);
            put_content(out, content, *size);
        }
        Body::Symlink { target } => put_bytes(out, target),
        Body::Directory | Body::Omitted { .. } => {}
    }
}

fn kind_code(body: &Body) -> u8 {
    match body {
        Body::Directory => DIRECTORY,
        Body::File { .. } => FILE,
        Body::Symlink { .. } => SYMLINK,
        Body::Omitted { .. } => OMITTED,
    }
}

fn flags(entry: &Entry) -> u8 {
    let sparse = matches!(&entry.body, Body::File { holes, .. } if !holes.is_empty());
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(entry.stale, STALE)
        | bit(entry.unstable, UNSTABLE)
        | bit(!entry.xattrs.is_empty(), XATTRS)
        | bit(entry.link.is_some(), LINK)
        | bit(sparse, HOLES)
}

fn put_mtime(out: &mut Vec<u8>, mtime: Timestamp) {
    put_zigzag(out, mtime.seconds);
    put_varint(out, u64::from(mtime.nanos));
}

fn put_xattrs(out: &mut Vec<u8>, xattrs: &[Xattr]) {
    put_varint(out, xattrs.len() as u64);
    for xattr in xattrs {
        put_bytes(out, &xattr.name);
        put_bytes(out, &xattr.value);
    }
}

fn put_holes(out: &mut Vec<u8>, holes: &[Hole]) {
    if holes.is_empty() {
        return;
    }
    put_varint(out, holes.len() as u64);
    let mut end = 0;
    for hole in holes {
        put_varint(out, hole.offset - end);
        put_varint(out, hole.length);
        end = hole.offset + hole.length;
    }
}

/// Reads the entry that follows the one named `path`, and makes `path` its name.
pub(super) fn read_entry(reader: &mut WireReader<'_>, path: &mut Vec<u8>) -> Result<Entry> {
    read_path(reader, path)?;
    let kind = reader.u8()?;
    let flags = reader.u8()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(reader.corrupt("unknown flags").at_path(path));
    }
    let mode = reader.count(0o7777)? as u16;
    let uid = read_u32(reader)?;
    let gid = read_u32(reader)?;
    let mtime = Timestamp {
        seconds: reader.zigzag()?,
        nanos: read_u32(reader)?,
    };
    let xattrs = read_xattrs(reader, flags)?;
    let link = read_link(reader, flags, path)?;
    let body = read_body(reader, kind, flags)?;
    let entry = Entry {
        path: path.clone(),
        mode,
        uid,
        gid,
        mtime,
        stale: flags & STALE != 0,
        unstable: flags & UNSTABLE != 0,
        xattrs,
        link,
        body,
    };
    check_shape(&entry).map_err(|why| reader.corrupt(why).at_path(path))?;
    Ok(entry)
}

fn read_path(reader: &mut WireReader<'_>, path: &mut Vec<u8>) -> Result<()> {
    let shared = reader.count(path.len())?;
    let suffix = reader.bytes(MAX_PATH_BYTES - shared)?;
    // The first byte after the shared prefix decides both: order, and whether the prefix is the longest one.
    let follows = match path.get(shared) {
        Some(byte) => suffix.first() > Some(byte),
        None => !suffix.is_empty(),
    };
    if !follows {
        return Err(
            reader.corrupt("paths are not strictly increasing with maximal shared prefixes")
        );
    }
    path.truncate(shared);
    path.extend_from_slice(suffix);
    path::check(path)
}

fn read_u32(reader: &mut WireReader<'_>) -> Result<u32> {
    Ok(reader.count(u32::MAX as usize)? as u32)
}

fn read_xattrs(reader: &mut WireReader<'_>, flags: u8) -> Result<Vec<Xattr>> {
    if flags & XATTRS == 0 {
        return Ok(Vec::new());
    }
    let count = reader.count(MAX_XATTRS.min(reader.remaining() / 2))?;
    if count == 0 {
        return Err(reader.corrupt("an empty list of extended attributes is spelled out"));
    }
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push(Xattr {
            name: reader.bytes(MAX_NAME_BYTES)?.to_vec(),
            value: reader.bytes(MAX_XATTR_BYTES)?.to_vec(),
        });
    }
    Ok(xattrs)
}

fn read_link(reader: &mut WireReader<'_>, flags: u8, path: &[u8]) -> Result<Option<Vec<u8>>> {
    if flags & LINK == 0 {
        return Ok(None);
    }
    let leader = reader.bytes(MAX_PATH_BYTES)?;
    if leader == path {
        return Err(reader.corrupt("a hard link leader spells its own name"));
    }
    Ok(Some(if leader.is_empty() { path } else { leader }.to_vec()))
}

fn read_body(reader: &mut WireReader<'_>, kind: u8, flags: u8) -> Result<Body> {
    if flags & HOLES != 0 && kind != FILE {
        return Err(reader.corrupt("only files have holes"));
    }
    Ok(match kind {
        DIRECTORY => Body::Directory,
        FILE => {
            let size = reader.varint()?;
            Body::File {
                size,
                content: read_content(reader, size)?,
                holes: read_holes(reader, flags)?,
            }
        }
        SYMLINK => Body::Symlink {
            target: reader.bytes(MAX_LINK_BYTES)?.to_vec(),
        },
        OMITTED => Body::Omitted {
            size: reader.varint()?,
            reason: match reader.u8()? {
                1 => OmitReason::Deadline,
                2 => OmitReason::Quota,
                _ => return Err(reader.corrupt("unknown reason of an omitted path")),
            },
        },
        _ => return Err(reader.corrupt("unknown kind of entry")),
    })
}

fn read_holes(reader: &mut WireReader<'_>, flags: u8) -> Result<Vec<Hole>> {
    if flags & HOLES == 0 {
        return Ok(Vec::new());
    }
    let count = reader.count(reader.remaining() / 2)?;
    if count == 0 {
        return Err(reader.corrupt("an empty hole map is spelled out"));
    }
    let mut holes = Vec::with_capacity(count);
    let mut end = 0u64;
    for _ in 0..count {
        let gap = reader.varint()?;
        let length = reader.varint()?;
        let offset = end.checked_add(gap);
        let (Some(offset), Some(next)) =
            (offset, offset.and_then(|offset| offset.checked_add(length)))
        else {
            return Err(reader.corrupt("a hole reaches past the end"));
        };
        holes.push(Hole { offset, length });
        end = next;
    }
    Ok(holes)
}
