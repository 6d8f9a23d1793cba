//! Which category a path belongs to: lists of patterns in gitignore syntax, the first list outranking the others.

use super::builder;
use crate::error::{Error, ErrorKind, Result};
use ignore::Match;
use ignore::gitignore::Gitignore;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Categories in the order of their rank. Each path has one or none.
#[derive(Clone, Debug)]
pub struct Categories {
    names: Vec<String>,
    rules: Gitignore,
}

impl Categories {
    /// Compiles the patterns of each category, relative to the workspace.
    ///
    /// Fails with `InvalidInput` naming the first bad pattern; `!` has no meaning here and is one.
    pub fn new(categories: &[(String, Vec<String>)]) -> Result<Self> {
        let bad = |pattern: &str, why: String| {
            Error::new(ErrorKind::InvalidInput, "parse category pattern", why).at(pattern)
        };
        let mut rules = builder();
        // Of all patterns that match a path the last one added is found: the first category's.
        for (rank, (_, patterns)) in categories.iter().enumerate().rev() {
            for pattern in patterns {
                if pattern.starts_with('!') {
                    let why = "a category has no exceptions; name an earlier category for them";
                    return Err(bad(pattern, why.to_owned()));
                }
                // Where a pattern came from is handed back with the match: here, from which category.
                let origin = Some(PathBuf::from(rank.to_string()));
                if let Err(error) = rules.add_line(origin, pattern) {
                    return Err(bad(pattern, error.to_string()));
                }
            }
        }
        let rules = rules.build().map_err(|e| bad("", e.to_string()))?;
        Ok(Categories {
            names: categories.iter().map(|(name, _)| name.clone()).collect(),
            rules,
        })
    }

    /// Names of the categories, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first category with a pattern that matches `path` itself; what lies above it is not looked at.
    fn own(&self, path: &[u8], is_directory: bool) -> Option<usize> {
        match self.rules.matched(OsStr::from_bytes(path), is_directory) {
            Match::Ignore(glob) => glob.from()?.to_str()?.parse().ok(),
            _ => None,
        }
    }
}

/// Finds the categories of paths in tree order; remembers the directories above the last one.
pub struct Sorter<'a> {
    categories: &'a Categories,
    /// Path of the innermost directory that is remembered.
    directory: Vec<u8>,
    /// Length of each directory's path, outermost first, and the rank of what lies below it.
    above: Vec<(usize, Option<usize>)>,
}

impl<'a> Sorter<'a> {
    /// Remembers nothing yet.
    pub fn new(categories: &'a Categories) -> Self {
        Sorter {
            categories,
            directory: Vec::new(),
            above: Vec::new(),
        }
    }

    /// Rank of the category of `path`: the first one with a pattern that matches the path or a directory above it.
    pub fn rank(&mut self, path: &[u8], is_directory: bool) -> Option<usize> {
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.enter(&path[..end]);
        let inherited = self.above.last().and_then(|(_, rank)| *rank);
        self.better(inherited, path, is_directory)
    }

    fn enter(&mut self, directory: &[u8]) {
        while let Some((length, _)) = self.above.last() {
            let is_above = directory.starts_with(&self.directory[..*length])
                && matches!(directory.get(*length), None | Some(b'/'));
            if is_above {
                break;
            }
            self.above.pop();
        }
        let mut from = self.above.last().map_or(0, |(length, _)| *length);
        while from < directory.len() {
            // Past the slash after what is known.
            let start = if from == 0 { 0 } else { from + 1 };
            let rest = &directory[start..];
            let slash = rest.iter().position(|byte| *byte == b'/');
            from = start + slash.unwrap_or(rest.len());
            let inherited = self.above.last().and_then(|(_, rank)| *rank);
            let rank = self.better(inherited, &directory[..from], true);
            self.above.push((from, rank));
        }
        self.directory.clear();
        self.directory.extend_from_slice(directory);
    }

    fn better(&self, inherited: Option<usize>, path: &[u8], is_directory: bool) -> Option<usize> {
        if inherited == Some(0) {
            return inherited;
        }
        let own = self.categories.own(path, is_directory);
        match (inherited, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn categories() -> Categories {
        let list = |name: &str, patterns: &[&str]| {
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
            (name.to_owned(), patterns)
        };
        Categories::new(&[
            list("trash", &["/.Trash/"]),
            list("caches", &["__pycache__/", "/.cache/"]),
            list("environment", &[".venv/"]),
            list("code", &["*.py", "c/*"]),
            list("rest", &[]),
        ])
        .unwrap()
    }

    fn rank(path: &str) -> Option<usize> {
        let categories = categories();
        Sorter::new(&categories).rank(path.as_bytes(), false)
    }

    #[test]
    fn the_first_category_that_matches_a_path_or_one_above_it_counts() {
        assert_eq!(rank("a.py"), Some(3));
        assert_eq!(rank("a.txt"), None);
        assert_eq!(rank(".venv/lib/a.py"), Some(2));
        assert_eq!(rank(".venv/lib/__pycache__/a.pyc"), Some(1));
        assert_eq!(rank(".Trash/.venv/__pycache__/a.py"), Some(0));
        assert_eq!(rank("x/.Trash/a.txt"), None);
        assert_eq!(rank("__pycache__"), None, "a file of that name");
        assert_eq!(rank("c/x/y"), Some(3));
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["!a", "[a"] {
            let list = [("x".to_owned(), vec![pattern.to_owned()])];
            let error = Categories::new(&list).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.subject(), pattern);
        }
    }

    proptest! {
        /// What is remembered of the last path changes nothing.
        #[test]
        fn remembered_directories_change_nothing(
            mut paths in proptest::collection::vec(
                proptest::collection::vec(
                    prop_oneof![Just(".venv"), Just("a"), Just("a-b"), Just("__pycache__"), Just(".Trash"), Just("b.py"), Just("c")],
                    1..5,
                ),
                1..40,
            ),
            sorted in any::<bool>(),
        ) {
            if sorted {
                paths.sort();
            }
            let categories = categories();
            let mut sorter = Sorter::new(&categories);
            for path in &paths {
                let path = path.join("/");
                prop_assert_eq!(sorter.rank(path.as_bytes(), false), rank(&path), "{}", path);
            }
        }
    }
}
