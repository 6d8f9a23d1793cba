//! What a save leaves out: patterns of the caller and ignore files of the tree, both in gitignore syntax.

mod categories;

pub use categories::{Categories, Sorter};

use crate::error::{Error, ErrorKind, Result};
use crate::path::{self, MARKER, RESTORING, TEMPORARY_PREFIX};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Most bad lines of one ignore file that are kept for the report.
const MAX_BAD_LINES: usize = 100;

/// Whether an entry is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The entry is stored.
    Include,
    /// The entry and all below it are left out.
    Exclude,
}

/// Whether `name` belongs to an unfinished restore: such files are never stored and never reported.
pub fn is_reserved(name: &[u8]) -> bool {
    name == RESTORING || name.starts_with(TEMPORARY_PREFIX)
}

/// The caller's rules: they outrank every ignore file.
#[derive(Clone, Debug)]
pub struct Rules {
    excludes: Gitignore,
    cachedir_tag: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            excludes: Gitignore::empty(),
            cachedir_tag: false,
        }
    }
}

impl Rules {
    /// Compiles `excludes`, patterns in gitignore syntax relative to the workspace; the last that matches decides and `!`
    /// brings a path back. With `cachedir_tag`, a directory with a valid `CACHEDIR.TAG` keeps only that file.
    ///
    /// Fails with `InvalidInput` naming the first bad pattern.
    pub fn new(excludes: &[String], cachedir_tag: bool) -> Result<Self> {
        let bad = |pattern: &str, why: String| {
            Error::new(ErrorKind::InvalidInput, "parse exclude pattern", why).at(pattern)
        };
        let mut builder = builder();
        for pattern in excludes {
            add(&mut builder, pattern).map_err(|why| bad(pattern, why))?;
        }
        let excludes = builder
            .build()
            .map_err(|error| bad(&excludes.join(", "), error.to_string()))?;
        Ok(Rules {
            excludes,
            cachedir_tag,
        })
    }

    /// Whether directories with a `CACHEDIR.TAG` are left out.
    pub fn honours_cachedir_tag(&self) -> bool {
        self.cachedir_tag
    }

    /// Decides on `path`. `stack` holds the ignore files of the directories above it, outermost first; the innermost that says
    /// something decides, unless the caller's patterns say something. The marker at the top can't be excluded.
    ///
    /// Only `path` itself is looked at: whoever walks does not enter an excluded directory, so nothing below it comes back.
    pub fn verdict(&self, stack: &[Arc<IgnoreFile>], path: &[u8], is_directory: bool) -> Verdict {
        if path == MARKER {
            return Verdict::Include;
        }
        if is_reserved(path::name(path)) {
            return Verdict::Exclude;
        }
        if let Some(verdict) = matched(&self.excludes, path, is_directory) {
            return verdict;
        }
        stack
            .iter()
            .rev()
            .find_map(|file| file.verdict(path, is_directory))
            .unwrap_or(Verdict::Include)
    }

    /// Whether a walk below `stack` need not ask for verdicts: no rule can match, reserved names aside.
    pub fn is_trivial(&self, stack: &[Arc<IgnoreFile>]) -> bool {
        self.excludes.is_empty() && stack.iter().all(|file| file.rules.is_empty())
    }
}

/// A line of an ignore file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Number of the line, from 1; 0 means the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// One parsed `.nbwsignore`.
#[derive(Clone, Debug)]
pub struct IgnoreFile {
    /// Path of its directory with a trailing slash, empty at the top.
    prefix: Vec<u8>,
    rules: Gitignore,
    bad_lines: Vec<BadLine>,
}

impl IgnoreFile {
    /// Parses the ignore file of `directory` ("" is the top). Lines that can't be used are passed over and listed.
    pub fn parse(directory: &[u8], text: &[u8]) -> Self {
        let mut builder = builder();
        let mut bad_lines = Vec::new();
        let mut bad = |line: usize, reason: String| {
            if bad_lines.len() < MAX_BAD_LINES {
                bad_lines.push(BadLine { line, reason });
            }
        };
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let added = match std::str::from_utf8(line) {
                Ok(line) => add(&mut builder, line),
                Err(_) => Err("is not UTF-8; write ? for each odd byte".to_owned()),
            };
            if let Err(reason) = added {
                bad(at + 1, reason);
            }
        }
        let rules = builder.build().unwrap_or_else(|error| {
            bad(0, error.to_string());
            Gitignore::empty()
        });
        let mut prefix = directory.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        IgnoreFile {
            prefix,
            rules,
            bad_lines,
        }
    }

    /// The lines that were passed over, at most the first hundred.
    pub fn bad_lines(&self) -> &[BadLine] {
        &self.bad_lines
    }

    fn verdict(&self, path: &[u8], is_directory: bool) -> Option<Verdict> {
        matched(
            &self.rules,
            path.strip_prefix(&self.prefix[..])?,
            is_directory,
        )
    }
}

fn builder() -> GitignoreBuilder {
    let mut builder = GitignoreBuilder::new("");
    builder.allow_unclosed_class(false);
    builder
}

fn add(builder: &mut GitignoreBuilder, pattern: &str) -> Result<(), String> {
    match builder.add_line(None, pattern) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn matched(rules: &Gitignore, path: &[u8], is_directory: bool) -> Option<Verdict> {
    match rules.matched(OsStr::from_bytes(path), is_directory) {
        Match::None => None,
        Match::Ignore(_) => Some(Verdict::Exclude),
        Match::Whitelist(_) => Some(Verdict::Include),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn file(directory: &str, text: &str) -> Arc<IgnoreFile> {
        Arc::new(IgnoreFile::parse(directory.as_bytes(), text.as_bytes()))
    }

    fn excluded(
        rules: &Rules,
        stack: &[Arc<IgnoreFile>],
        path: impl AsRef<[u8]>,
        directory: bool,
    ) -> bool {
        rules.verdict(stack, path.as_ref(), directory) == Verdict::Exclude
    }

    #[test]
    fn inner_files_outrank_outer_ones_and_the_caller_outranks_both() {
        let rules = Rules::new(&["*.tmp".into(), "!keep.tmp".into()], false).unwrap();
        let stack = [file("", "*.log\nkeep.tmp\n"), file("a/b", "!x.log\n*.txt")];
        assert!(excluded(&rules, &stack[..1], "a/x.log", false));
        assert!(!excluded(&rules, &stack, "a/b/x.log", false));
        assert!(excluded(&rules, &stack, "a/b/c/y.log", false));
        assert!(excluded(&rules, &stack, "a/b/c/y.txt", false));
        assert!(!excluded(&rules, &stack, "a/y.txt", false));
        assert!(excluded(&rules, &stack, "deep/er/x.tmp", false));
        assert!(!excluded(&rules, &stack, "deep/keep.tmp", false));
    }

    #[test]
    fn patterns_for_directories_and_anchored_ones() {
        let rules = Rules::default();
        let stack = [file("a", "build/\n/top\nsub/only\n")];
        assert!(excluded(&rules, &stack, "a/x/build", true));
        assert!(!excluded(&rules, &stack, "a/x/build", false));
        assert!(excluded(&rules, &stack, "a/top", false));
        assert!(!excluded(&rules, &stack, "a/x/top", false));
        assert!(excluded(&rules, &stack, "a/sub/only", false));
        assert!(!excluded(&rules, &stack, "a/x/sub/only", false));
        assert!(!excluded(&rules, &stack, "ab/top", false));
    }

    #[test]
    fn the_marker_stays_and_reserved_names_go() {
        let rules = Rules::new(&["*".into()], false).unwrap();
        assert!(!excluded(&rules, &[], ".workspace.initialized", false));
        assert!(excluded(&rules, &[], "a/.workspace.initialized", false));
        let rules = Rules::default();
        assert!(excluded(&rules, &[], "a/.nbws-tmp-1", false));
        assert!(excluded(&rules, &[], ".nbws-restoring", false));
        assert!(!excluded(&rules, &[], ".nbws-restoring.txt", false));
    }

    #[test]
    fn names_are_bytes() {
        let rules = Rules::new(&["caf?".into()], false).unwrap();
        assert!(excluded(&rules, &[], b"caf\xe9", false));
        assert!(!excluded(&rules, &[], b"tea\xe9", false));
    }

    #[test]
    fn bad_patterns_are_named() {
        let error = Rules::new(&["ok".into(), "[a".into()], false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.subject(), "[a");
        let parsed = IgnoreFile::parse(b"", b"\xef\xbb\xbf*.a\r\n[b\n\xff\n# c\n\n*.d");
        let lines: Vec<usize> = parsed.bad_lines().iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [2, 3]);
        let stack = [Arc::new(parsed)];
        assert!(excluded(&Rules::default(), &stack, "x.a", false));
        assert!(excluded(&Rules::default(), &stack, "x.d", false));
    }

    #[test]
    fn trivial_rules_are_recognised() {
        assert!(Rules::default().is_trivial(&[file("", "# nothing\n")]));
        assert!(!Rules::default().is_trivial(&[file("", "x")]));
        assert!(!Rules::new(&["x".into()], false).unwrap().is_trivial(&[]));
    }
}
