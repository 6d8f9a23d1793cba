use crate::samples::*;
use nbws_core::error::{ErrorKind, Result};
use nbws_core::id::{ChunkId, to_hex};
use nbws_core::tree::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn segments(entries: &[Entry]) -> Vec<Segment> {
    let mut writer = SegmentWriter::new();
    let mut out: Vec<Segment> = entries
        .iter()
        .filter_map(|entry| writer.push(entry).unwrap())
        .collect();
    out.extend(writer.finish());
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>> {
    SegmentReader::new(bytes)?.collect()
}

fn encode_one(entries: &[Entry]) -> Vec<u8> {
    let mut all = segments(entries);
    assert_eq!(all.len(), 1);
    all.remove(0).bytes
}

/// A tree with `count` files in directories of 50.
fn large_tree(count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    for at in 0..count {
        let directory = format!("d{:05}", at / 50);
        if at % 50 == 0 {
            entries.push(plain(directory.as_bytes(), Body::Directory));
        }
        entries.push(file(
            format!("{directory}/file-{at:06}.py").as_bytes(),
            at as u8,
        ));
    }
    entries
}

proptest! {
    #[test]
    fn segments_concatenated_give_the_tree_back(tree in entries(300)) {
        let segments = segments(&tree);
        let mut back = Vec::new();
        for segment in &segments {
            let entries = decode(&segment.bytes).unwrap();
            prop_assert_eq!(segment.entries, entries.len() as u64);
            prop_assert_eq!(&segment.first_path, &entries[0].path);
            back.extend(entries);
        }
        prop_assert_eq!(back, tree);
    }

    #[test]
    fn a_damaged_segment_is_refused_or_has_the_same_spelling(
        tree in entries(20), damages in proptest::collection::vec(damage(), 64)
    ) {
        let bytes = encode_one(&tree);
        for damage in &damages {
            let bytes = damaged(&bytes, damage);
            prop_assert!(one_spelling(&bytes, decode, |entries| encode_one(entries)));
        }
    }

    #[test]
    fn random_bytes_never_panic(tag in prop::sample::select(&b"TNLS"[..]), rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![tag];
        bytes.extend(rest);
        let _ = decode(&bytes);
        let _ = decode_node(&bytes);
        let _ = decode_list(&bytes);
        let _ = nbws_core::snapshot::SnapshotRoot::decode(&bytes);
    }

    #[test]
    fn nodes_give_the_refs_back(all in refs(600), bad in proptest::collection::vec(damage(), 16)) {
        let nodes = cut_nodes(&all);
        let mut back = Vec::new();
        for node in &nodes {
            let refs = decode_node(&node.bytes).unwrap();
            prop_assert_eq!(node.entries, refs.iter().map(|r| r.entries).sum::<u64>());
            prop_assert_eq!(&node.first_path, &refs[0].first_path);
            back.extend(refs);
        }
        prop_assert_eq!(&back, &all);
        if let Some(node) = nodes.first() {
            for bad in &bad {
                let bytes = damaged(&node.bytes, bad);
                let encode = |refs: &Vec<SegmentRef>| cut_nodes(refs).into_iter().flat_map(|n| n.bytes).collect();
                prop_assert!(one_spelling(&bytes, decode_node, encode));
            }
        }
    }

    #[test]
    fn what_is_not_logical_does_not_move_the_tree_root(tree in entries(30)) {
        let root = |entries: &[Entry]| {
            let mut hasher = TreeRootHasher::new();
            entries.iter().for_each(|e| hasher.push(e));
            hasher.finish()
        };
        let mut other = tree.clone();
        for entry in &mut other {
            entry.uid ^= 1;
            entry.gid ^= 1;
            entry.stale = !entry.stale;
            entry.unstable = !entry.unstable;
            entry.link = None;
            if let Body::File { holes, .. } = &mut entry.body {
                holes.clear();
            }
        }
        let all = other.len();
        other.retain(|e| !e.is_omitted());
        prop_assert_eq!(root(&tree), root(&other));
        if all > 0 && !other.is_empty() {
            other[0].mode ^= 1;
            prop_assert_ne!(root(&tree), root(&other));
        }
    }
}

// Thousands of entries or runs a case.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_edit_changes_one_segment(at in any::<prop::sample::Index>()) {
        let mut tree = large_tree(5_000);
        let before: BTreeSet<Vec<u8>> = segments(&tree).into_iter().map(|s| s.bytes).collect();
        prop_assert!(before.len() > 5);
        let at = at.index(tree.len());
        tree[at].mtime.nanos += 1;
        let after: BTreeSet<Vec<u8>> = segments(&tree).into_iter().map(|s| s.bytes).collect();
        prop_assert_eq!(after.difference(&before).count(), 1);
        prop_assert_eq!(before.difference(&after).count(), 1);
    }

    #[test]
    fn an_insertion_stays_local(at in any::<prop::sample::Index>()) {
        let mut tree = large_tree(5_000);
        let before: BTreeSet<Vec<u8>> = segments(&tree).into_iter().map(|s| s.bytes).collect();
        let at = at.index(tree.len());
        let mut path = tree[at].path.clone();
        path.extend_from_slice(b"~");
        tree.insert(at + 1, file(&path, 1));
        tree.sort_by(|a, b| a.path.cmp(&b.path));
        let after: BTreeSet<Vec<u8>> = segments(&tree).into_iter().map(|s| s.bytes).collect();
        prop_assert!(after.difference(&before).count() <= 4);
    }

    #[test]
    fn lists_give_the_runs_back(runs in proptest::collection::vec(run(), 1..9_000), bad in damage()) {
        let runs = join_runs(runs);
        let lists = cut_lists(&runs);
        let mut back = Vec::new();
        for list in &lists {
            back.extend(decode_list(list).unwrap());
        }
        prop_assert_eq!(&back, &runs);
        let content = Content::Listed { run_count: runs.len() as u64, lists: vec![] };
        prop_assert!(check_runs(&content, size_of(&runs), &back).is_ok());
        prop_assert!(check_runs(&content, size_of(&runs) + 1, &back).is_err());
        prop_assert!(check_runs(&content, size_of(&runs), &back[1..]).is_err());
        let bytes = damaged(&lists[0], &bad);
        prop_assert!(one_spelling(&bytes, decode_list, |runs| cut_lists(runs).concat()));
    }
}

#[test]
fn golden_segment_and_tree_root() {
    let mut second = file(b"src/main.py", 0xaa);
    second.link = Some(b"src/main.py".to_vec());
    second.xattrs = vec![Xattr {
        name: b"user.a".to_vec(),
        value: b"1".to_vec(),
    }];
    second.body = Body::File {
        size: 300,
        content: Content::Inline(vec![Run {
            id: ChunkId([0xaa; 32]),
            length: 150,
            count: 2,
        }]),
        holes: vec![Hole {
            offset: 0,
            length: 100,
        }],
    };
    let tree = [
        plain(b"src", Body::Directory),
        second,
        plain(
            b"src/py",
            Body::Symlink {
                target: b"main.py".to_vec(),
            },
        ),
        plain(
            b"t",
            Body::Omitted {
                size: 5,
                reason: OmitReason::Quota,
            },
        ),
    ];
    let segment = segments(&tree).remove(0);
    let aa = "aa".repeat(32);
    let expected = [
        "5404".to_owned(),
        // shared 0, "src", directory, no flags, 0644, 1000, 1000, 1.7e9 s, 1 ns
        "00 03 737263 01 00 a403 e807 e807 80c49fd50c 01".to_owned(),
        // shared 3, "/main.py", file, xattrs + link + holes; the leader is empty; 300 bytes in one run of 2 x 150; hole 0+100
        "03 08 2f6d61696e2e7079 02 1c a403 e807 e807 80c49fd50c 01".to_owned(),
        format!("01 06 757365722e61 01 31 00 ac02 01 {aa} 9601 02 01 00 64"),
        "04 02 7079 03 00 a403 e807 e807 80c49fd50c 01 07 6d61696e2e7079".to_owned(),
        "00 01 74 04 00 a403 e807 e807 80c49fd50c 01 05 02".to_owned(),
    ]
    .concat()
    .replace(' ', "");
    assert_eq!(to_hex(&segment.bytes), expected);

    let logical = [
        "03 737263 01 a403 80c49fd50c 01 00".to_owned(),
        "0b 7372632f6d61696e2e7079 02 a403 80c49fd50c 01 01 06 757365722e61 01 31".to_owned(),
        format!("ac02 01 {aa} 9601 02"),
        "06 7372632f7079 03 a403 80c49fd50c 01 00 07 6d61696e2e7079".to_owned(),
    ]
    .concat()
    .replace(' ', "");
    let logical: Vec<u8> = (0..logical.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&logical[at..at + 2], 16).unwrap())
        .collect();
    let mut hasher = TreeRootHasher::new();
    tree.iter().for_each(|e| hasher.push(e));
    assert_eq!(hasher.finish().0, *blake3::hash(&logical).as_bytes());
}

#[test]
fn the_writer_refuses_what_a_reader_would_refuse_and_goes_on() {
    let mut writer = SegmentWriter::new();
    writer.push(&file(b"b", 1)).unwrap();
    for path in [&b"a"[..], b"b"] {
        let error = writer.push(&file(path, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    let mut long = file(b"c", 1);
    long.xattrs = vec![Xattr {
        name: b"user.x".to_vec(),
        value: vec![0; 262_145],
    }];
    let mut mode = file(b"c", 1);
    mode.mode = 0o10000;
    let mut touching = file(b"c", 1);
    if let Body::File { holes, .. } = &mut touching.body {
        *holes = vec![
            Hole {
                offset: 0,
                length: 2,
            },
            Hole {
                offset: 2,
                length: 1,
            },
        ];
    }
    let mut sum = file(b"c", 1);
    if let Body::File { size, .. } = &mut sum.body {
        *size = 11;
    }
    let mut leader = file(b"c", 1);
    leader.link = Some(b"d".to_vec());
    for bad in [long, mode, touching, sum, leader, file(b"c/../d", 1)] {
        let error = writer.push(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    writer.push(&file(b"c", 1)).unwrap();
    let segment = writer.finish().unwrap();
    assert_eq!(decode(&segment.bytes).unwrap().len(), 2);
}

#[test]
fn the_largest_entries_still_fit_into_a_chunk() {
    let mut entries = Vec::new();
    for at in 0..20u8 {
        let mut entry = file(&[b'a' + at], 1);
        entry.xattrs = (0..1_024u32)
            .map(|n| {
                let mut name = vec![b'x'; 251];
                name[..5].copy_from_slice(b"user.");
                name.extend(n.to_be_bytes().map(|b| b | 1 << 7));
                Xattr {
                    name,
                    value: vec![0; 256],
                }
            })
            .collect();
        entry.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        entry.xattrs.dedup_by(|a, b| a.name == b.name);
        entries.push(entry);
    }
    for segment in segments(&entries) {
        assert!(segment.bytes.len() <= 1 << 20);
        decode(&segment.bytes).unwrap();
    }
}

#[test]
fn long_paths_end_nodes_and_raise_the_level_early() {
    let refs: Vec<SegmentRef> = (0..200u32)
        .map(|n| {
            let mut first_path = vec![b'd'; 200];
            for _ in 0..30 {
                first_path.push(b'/');
                first_path.extend_from_slice(&[b'e'; 200]);
            }
            first_path.extend_from_slice(format!("{n:04}").as_bytes());
            SegmentRef {
                first_path,
                entries: 64,
                id: ChunkId([1; 32]),
                length: 100,
            }
        })
        .collect();
    assert_eq!(root_level(&refs), 1);
    assert_eq!(root_level(&refs[..80]), 0);
    let nodes = cut_nodes(&refs);
    assert!(nodes.len() > 5);
    for node in nodes {
        assert!(node.bytes.len() < 1 << 18);
        decode_node(&node.bytes).unwrap();
    }
}

#[test]
fn segments_have_a_few_hundred_entries_and_many_refs_get_nodes() {
    let tree = large_tree(20_000);
    let all = segments(&tree);
    let refs: Vec<SegmentRef> = (0..1_500u32)
        .map(|n| SegmentRef {
            first_path: format!("{n:08}").into_bytes(),
            entries: 1,
            id: ChunkId([2; 32]),
            length: 1,
        })
        .collect();
    assert_eq!(root_level(&refs), 1);
    assert_eq!(root_level(&refs[..1_024]), 0);
    let average = tree.len() / all.len();
    assert!((150..700).contains(&average), "{average} entries a segment");
}

/// One encoding out of two neighbours: the tag, the sum of the counts, the items of both.
fn merged(first: &[u8], second: &[u8], counts: [usize; 2]) -> Vec<u8> {
    let header = |count| 1 + if count < 128 { 1 } else { 2 };
    let mut bytes = vec![first[0]];
    nbws_core::wire::put_varint(&mut bytes, (counts[0] + counts[1]) as u64);
    bytes.extend_from_slice(&first[header(counts[0])..]);
    bytes.extend_from_slice(&second[header(counts[1])..]);
    bytes
}

#[test]
fn lists_and_nodes_that_should_have_been_cut_are_refused() {
    let runs: Vec<Run> = (0..1_200u32)
        .map(|n| {
            let mut id = [1; 32];
            id[4..8].copy_from_slice(&n.to_le_bytes());
            if n == 600 {
                id[..2].copy_from_slice(&[0, 4]);
            }
            Run {
                id: ChunkId(id),
                length: 1,
                count: 1,
            }
        })
        .collect();
    let lists = cut_lists(&runs);
    let counts = [601, 599];
    assert_eq!(lists.len(), 2);
    assert_eq!(decode_list(&lists[0]).unwrap().len(), counts[0]);
    let error = decode_list(&merged(&lists[0], &lists[1], counts)).unwrap_err();
    assert!(error.message().contains("cut"), "{error}");

    let refs: Vec<SegmentRef> = (0..600u32)
        .map(|n| SegmentRef {
            first_path: format!("{n:04}").into_bytes(),
            entries: 1,
            id: ChunkId([1; 32]),
            length: 1,
        })
        .collect();
    let nodes = cut_nodes(&refs);
    let counts = [nodes[0].entries as usize, nodes[1].entries as usize];
    let error = decode_node(&merged(&nodes[0].bytes, &nodes[1].bytes, counts)).unwrap_err();
    assert!(error.message().contains("cut"), "{error}");
}
