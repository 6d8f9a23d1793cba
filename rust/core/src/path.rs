//! Paths inside a workspace: bytes, relative, safe by construction.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES};

/// The hidden file that marks a workspace as set up; it can't be excluded and is never removed by a restore.
pub const MARKER: &[u8] = b".workspace.initialized";
/// File of ignore rules (gitignore syntax), honoured in every directory.
pub const IGNORE_FILE: &[u8] = b".nbwsignore";
/// Left in a target while a restore is unfinished; never stored, removed last.
pub const RESTORING: &[u8] = b".nbws-restoring";
/// Prefix of temporary files of a restore; never stored.
pub const TEMPORARY_PREFIX: &[u8] = b".nbws-tmp-";

/// Checks that `path` can name an entry: relative, no empty, `.` or `..` component, no NUL, within the limits.
///
/// Whoever restores relies on it: a path that passes can't leave the target by its spelling.
pub fn check(path: &[u8]) -> Result<()> {
    let bad = |why: &'static str| {
        Err(Error::new(ErrorKind::Corrupt, "check path", why).at_path(&path[..path.len().min(200)]))
    };
    if path.is_empty() {
        return bad("empty path");
    }
    if path.len() > MAX_PATH_BYTES {
        return bad("path is too long");
    }
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" => return bad("empty component, or a leading, trailing or double slash"),
            b"." | b".." => return bad("component is . or .."),
            _ if name.len() > MAX_NAME_BYTES => return bad("component is longer than 255 bytes"),
            _ if name.contains(&0) => return bad("NUL in a name"),
            _ => {}
        }
    }
    Ok(())
}

/// The parent of `path`, `None` at the top level.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|b| *b == b'/').map(|at| &path[..at])
}

/// The last component of `path`.
pub fn name(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|b| *b == b'/')
        .map_or(path, |at| &path[at + 1..])
}

/// Whether `path` is `root` or lies below it; an empty `root` holds everything.
pub fn is_within(path: &[u8], root: &[u8]) -> bool {
    root.is_empty()
        || path
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// `parent/name`, or `name` alone at the top level.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    if !parent.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Normalises a path that a person typed: strips `./` and trailing slashes, then checks it.
pub fn parse(text: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if text.first() == Some(&b'/') {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "parse path",
            "is absolute; give it relative to the workspace",
        )
        .at_path(text));
    }
    for name in text.split(|b| *b == b'/') {
        if !name.is_empty() && name != b"." {
            parts.push(name);
        }
    }
    let path = parts.join(&b'/');
    if !path.is_empty() {
        check(&path).map_err(|e| {
            Error::new(
                ErrorKind::InvalidInput,
                "parse path",
                e.message().to_owned(),
            )
            .at_path(text)
        })?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hostile_spellings_are_refused() {
        let long = vec![b'a'; 256];
        for bad in [
            &b""[..],
            b"/a",
            b"a/",
            b"a//b",
            b".",
            b"..",
            b"a/../b",
            b"a/./b",
            b"a\0b",
            &long,
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for good in [&b"a"[..], b"...", b"a/.b/..c", b"\xff\xfe", &long[..255]] {
            assert!(check(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn typed_paths_are_normalised() {
        assert_eq!(parse(b"./a//b/").unwrap(), b"a/b");
        assert_eq!(parse(b".").unwrap(), b"");
        assert!(parse(b"/a").is_err());
        assert!(parse(b"a/../b").is_err());
    }
}
