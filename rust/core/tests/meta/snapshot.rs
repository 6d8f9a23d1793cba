use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::id::{RepositoryId, SnapshotId, TreeRoot, WriterId};
use nbws_core::snapshot::SnapshotRoot;
use proptest::prelude::*;

fn root() -> impl Strategy<Value = SnapshotRoot> {
    (
        (
            1u8..255,
            proptest::option::of(1u8..255),
            1u64..,
            any::<u64>(),
        ),
        (any::<bool>(), any::<u64>(), 0u16..=0o7777),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ("\\PC{0,20}", "\\PC{0,20}"),
        (any::<bool>(), refs(12)),
    )
        .prop_map(|(ids, plain, split, texts, (deep, refs))| {
            let entries: u64 = refs.iter().map(|r| r.entries).sum();
            let files = split.0.index(entries as usize + 1) as u64;
            let directories = split.1.index((entries - files) as usize + 1) as u64;
            SnapshotRoot {
                repository: RepositoryId([ids.0; 16]),
                snapshot: SnapshotId([ids.0; 16]),
                base: ids.1.map(|b| SnapshotId([b; 16])),
                writer: WriterId([ids.0; 16]),
                epoch: ids.2,
                time_ms: ids.3,
                partial: plain.0,
                tree_root: TreeRoot([ids.0; 32]),
                files,
                directories,
                bytes: plain.1,
                omitted: entries - files - directories,
                root_mode: plain.2,
                comment: texts.0.clone(),
                origin: texts.1.clone(),
                framework: texts.1,
                python: texts.0,
                level: u8::from(deep && refs.len() >= 2),
                refs,
            }
        })
}

proptest! {
    #[test]
    fn roots_round_trip_and_have_one_spelling(root in root(), bad in proptest::collection::vec(damage(), 32)) {
        let bytes = root.encode().unwrap();
        prop_assert_eq!(&SnapshotRoot::decode(&bytes).unwrap(), &root);
        for bad in &bad {
            let bytes = damaged(&bytes, bad);
            prop_assert!(one_spelling(&bytes, SnapshotRoot::decode, |root| root.encode().unwrap()));
        }
    }

    #[test]
    fn counts_that_do_not_add_up_are_refused(mut root in root()) {
        root.files += 1;
        prop_assert_eq!(root.encode().unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn a_long_comment_is_the_callers_mistake(mut root in root()) {
        root.comment = "x".repeat(1_025);
        let error = root.encode().unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::InvalidInput);
        prop_assert!(error.message().contains("1,024"));
    }
}
