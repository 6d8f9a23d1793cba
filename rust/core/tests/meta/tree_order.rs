use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::tree::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn check(entries: &[Entry]) -> nbws_core::Result<()> {
    let mut check = TreeCheck::new();
    entries.iter().try_for_each(|e| check.push(e))
}

/// All the parents of `paths`, and the paths themselves as files where they are no parents.
fn tree_of(paths: &BTreeSet<Vec<u8>>) -> BTreeMap<Vec<u8>, Entry> {
    let mut tree: BTreeMap<Vec<u8>, Entry> =
        paths.iter().map(|p| (p.clone(), file(p, 1))).collect();
    for path in paths {
        let mut at = path.as_slice();
        while let Some(parent) = nbws_core::path::parent(at) {
            tree.insert(parent.to_vec(), plain(parent, Body::Directory));
            at = parent;
        }
    }
    tree
}

proptest! {
    #[test]
    fn trees_with_all_parents_pass_and_with_one_missing_fail(
        paths in proptest::collection::btree_set(path(), 1..40), pick in any::<prop::sample::Index>()
    ) {
        let tree = tree_of(&paths);
        let entries: Vec<Entry> = tree.values().cloned().collect();
        prop_assert!(check(&entries).is_ok());
        let directories: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].is_directory()).collect();
        if !directories.is_empty() {
            let at = directories[pick.index(directories.len())];
            let mut missing = entries.clone();
            let gone = missing.remove(at);
            prop_assert!(check(&missing).is_err());
            let mut no_directory = entries.clone();
            no_directory[at] = file(&gone.path, 1);
            prop_assert!(check(&no_directory).is_err());
        }
    }

    #[test]
    fn order_is_strict(paths in proptest::collection::btree_set(name(), 2..20), pick in any::<prop::sample::Index>()) {
        let mut entries: Vec<Entry> = paths.iter().map(|p| file(p, 1)).collect();
        let at = pick.index(entries.len() - 1);
        entries.swap(at, at + 1);
        prop_assert!(check(&entries).is_err());
        entries[at] = entries[at + 1].clone();
        prop_assert!(check(&entries).is_err());
    }
}

#[test]
fn bytes_below_the_slash_sort_between_a_directory_and_its_entries() {
    let tree = [
        plain(b"a", Body::Directory),
        plain(b"a!", Body::Directory),
        file(b"a!/x", 1),
        plain(b"a-b", Body::Directory),
        plain(b"a-b/c", Body::Directory),
        file(b"a-b/c/d", 1),
        plain(b"a/b", Body::Directory),
        file(b"a/b/c", 1),
        file(b"a0", 1),
    ];
    check(&tree).unwrap();
}

#[test]
fn an_entry_below_a_file_a_link_or_an_omitted_path_is_refused() {
    let symlink = Body::Symlink {
        target: b"/etc".to_vec(),
    };
    let omitted = Body::Omitted {
        size: 1,
        reason: OmitReason::Deadline,
    };
    for parent in [file(b"a", 1), plain(b"a", symlink), plain(b"a", omitted)] {
        let error = check(&[parent, file(b"a/b", 1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn hard_link_groups_have_a_leader_and_one_content() {
    let member = |path: &[u8], leader: &[u8], fill| {
        let mut entry = file(path, fill);
        entry.link = Some(leader.to_vec());
        entry
    };
    let leader = member(b"a", b"a", 1);
    check(&[leader.clone(), member(b"b", b"a", 1), member(b"c", b"a", 1)]).unwrap();
    check(std::slice::from_ref(&leader)).unwrap();
    assert!(check(&[leader.clone(), member(b"b", b"a", 2)]).is_err());
    assert!(check(&[member(b"b", b"a", 1)]).is_err());
    assert!(check(&[file(b"a", 1), member(b"b", b"a", 1)]).is_err());
    assert!(check(&[leader, member(b"b", b"a", 1), member(b"c", b"b", 1)]).is_err());
}
