//! Strategies and small builders that the tests share.

use nbws_core::error::Result;
use nbws_core::id::{
    ChunkId, CommitId, ContainerId, FrameHash, RepositoryId, SnapshotId, TreeRoot, WriterId,
};
use nbws_core::key::{ContainerKey, ContainerKind};
use nbws_core::record::*;
use nbws_core::state::State;
use nbws_core::tree::Body;
use nbws_core::tree::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => prop::sample::select(&b"abc-!.0 "[..]),
        1 => (1u8..=255).prop_filter("slash", |b| *b != b'/'),
    ];
    vec(byte, 1..6).prop_filter("dots", |n| n != b"." && n != b"..")
}

pub(crate) fn path() -> impl Strategy<Value = Vec<u8>> {
    vec(name(), 1..5).prop_map(|names| names.join(&b'/'))
}

/// Few ids, so that neighbouring runs have to be joined now and then.
fn chunk_id() -> impl Strategy<Value = ChunkId> {
    prop_oneof![
        (0u8..3).prop_map(|b| ChunkId([b; 32])),
        any::<[u8; 32]>().prop_map(ChunkId)
    ]
}

pub(crate) fn run() -> impl Strategy<Value = Run> {
    let count = prop_oneof![3 => Just(1u64), 1 => 1u64..100_000];
    (chunk_id(), prop_oneof![Just(7u32), 1u32..=1 << 20], count)
        .prop_map(|(id, length, count)| Run { id, length, count })
}

pub(crate) fn size_of(runs: &[Run]) -> u64 {
    runs.iter().map(|r| u64::from(r.length) * r.count).sum()
}

fn holes(size: u64) -> impl Strategy<Value = Vec<Hole>> {
    vec(any::<prop::sample::Index>(), 0..6).prop_map(move |cuts| {
        let mut at: Vec<u64> = cuts
            .iter()
            .map(|cut| cut.index(size.min(1 << 40) as usize + 1) as u64)
            .collect();
        at.sort_unstable();
        at.dedup();
        at.chunks_exact(2)
            .map(|ends| Hole {
                offset: ends[0],
                length: ends[1] - ends[0],
            })
            .collect()
    })
}

fn inline_file() -> impl Strategy<Value = Body> {
    vec(run(), 0..8).prop_flat_map(|runs| {
        let runs = join_runs(runs);
        let size = size_of(&runs);
        holes(size).prop_map(move |holes| Body::File {
            size,
            content: Content::Inline(runs.clone()),
            holes,
        })
    })
}

fn listed_file() -> impl Strategy<Value = Body> {
    (vec((chunk_id(), 1u32..=1 << 20), 1..5), 0u64..512).prop_map(|(lists, more)| {
        let run_count = 2_048.max(lists.len() as u64 * 512) + more;
        Body::File {
            size: run_count * 9,
            content: Content::Listed {
                run_count,
                lists: lists
                    .into_iter()
                    .map(|(id, length)| ListRef { id, length })
                    .collect(),
            },
            holes: vec![],
        }
    })
}

fn body() -> impl Strategy<Value = Body> {
    let target = vec(1u8..=255, 1..20);
    let reason = prop_oneof![Just(OmitReason::Deadline), Just(OmitReason::Quota)];
    prop_oneof![
        2 => Just(Body::Directory),
        6 => inline_file(),
        1 => listed_file(),
        2 => target.prop_map(|target| Body::Symlink { target }),
        1 => (any::<u64>(), reason).prop_map(|(size, reason)| Body::Omitted { size, reason }),
    ]
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let one = btree_map(vec(1u8..=255, 1..8), vec(any::<u8>(), 0..9), 1..4);
    option::weighted(0.2, one).prop_map(|xattrs| {
        xattrs
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| Xattr {
                name: [b"user.", &name[..]].concat(),
                value,
            })
            .collect()
    })
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

/// An entry that may stand alone; its hard link leader, if any, need not exist.
pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    (
        path(),
        (0u16..=0o7777, any::<u32>(), any::<u32>()),
        timestamp(),
        (any::<bool>(), any::<bool>()),
        xattrs(),
        option::weighted(0.3, path()),
        body(),
    )
        .prop_map(|(path, owner, mtime, flags, xattrs, link, body)| Entry {
            link: link
                .filter(|_| matches!(body, Body::File { .. }))
                .map(|leader| leader.min(path.clone())),
            path,
            mode: owner.0,
            uid: owner.1,
            gid: owner.2,
            mtime,
            stale: flags.0,
            unstable: flags.1,
            xattrs,
            body,
        })
}

/// Entries sorted by path, without regard to parents.
pub(crate) fn entries(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 1..=most).prop_map(|entries| {
        let sorted: BTreeMap<_, _> = entries.into_iter().map(|e| (e.path.clone(), e)).collect();
        sorted.into_values().collect()
    })
}

/// A plain entry.
pub(crate) fn plain(path: &[u8], body: Body) -> Entry {
    Entry {
        path: path.to_vec(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp {
            seconds: 1_700_000_000,
            nanos: 1,
        },
        stale: false,
        unstable: false,
        xattrs: vec![],
        link: None,
        body,
    }
}

/// A file of one chunk.
pub(crate) fn file(path: &[u8], fill: u8) -> Entry {
    let runs = vec![Run {
        id: ChunkId([fill; 32]),
        length: 10,
        count: 1,
    }];
    let body = Body::File {
        size: 10,
        content: Content::Inline(runs),
        holes: vec![],
    };
    plain(path, body)
}

/// Damages bytes in one of the ways that a decoder must survive.
pub(crate) fn damage() -> impl Strategy<Value = (prop::sample::Index, u8, u8)> {
    (any::<prop::sample::Index>(), 0u8..4, any::<u8>())
}

pub(crate) fn damaged(bytes: &[u8], (at, way, with): &(prop::sample::Index, u8, u8)) -> Vec<u8> {
    let at = at.index(bytes.len());
    let mut bytes = bytes.to_vec();
    match way {
        0 => bytes[at] ^= 1 << (with & 7),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, *with),
        _ => bytes[at] = *with,
    }
    bytes
}

/// Whether `decode` refuses `bytes`, or what it accepts encodes to the same bytes.
pub(crate) fn one_spelling<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> bool {
    decode(bytes).is_err() || decode(bytes).is_ok_and(|value| encode(&value) == bytes)
}

pub(crate) fn segment_ref(max_entries: u64) -> impl Strategy<Value = SegmentRef> {
    (path(), 1..=max_entries, chunk_id(), 1u32..=1 << 20).prop_map(
        |(first_path, entries, id, length)| SegmentRef {
            first_path,
            entries,
            id,
            length,
        },
    )
}

/// Sorted refs.
pub(crate) fn refs(most: usize) -> impl Strategy<Value = Vec<SegmentRef>> {
    vec(segment_ref(2_048), 0..=most).prop_map(|refs| {
        let sorted: BTreeMap<_, _> = refs
            .into_iter()
            .map(|r| (r.first_path.clone(), r))
            .collect();
        sorted.into_values().collect()
    })
}

/// A place of a frame in pack number `n`.
pub(crate) fn place(n: u8) -> Place {
    let id = ContainerId {
        epoch: 1,
        random: [n; 16],
    };
    Place {
        hash: FrameHash([n; 32]),
        length: 100,
        object: ContainerKey::pack(id),
        offset: 64,
        plain: 200,
    }
}

fn any_place() -> impl Strategy<Value = Place> {
    (
        any::<[u8; 32]>(),
        any::<u64>(),
        any::<[u8; 16]>(),
        (25u32..1 << 20, 64u32..1 << 29, 1u32..=1 << 20),
    )
        .prop_map(|(hash, epoch, random, (length, offset, plain))| Place {
            hash: FrameHash(hash),
            length,
            object: ContainerKey {
                kind: ContainerKind::Pack,
                id: ContainerId { epoch, random },
            },
            offset,
            plain,
        })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        any::<String>().prop_map(|t| t.chars().take(30).collect())
    ]
}

/// Integers that JSON readers keep exact.
fn small() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..10, 0u64..1 << 53]
}

fn snapshot_body() -> impl Strategy<Value = SnapshotBody> {
    (
        (
            option::of(any::<[u8; 16]>()),
            any::<[u8; 16]>(),
            any::<[u8; 32]>(),
        ),
        (small(), small(), option::of(small())),
        (
            option::of(text()),
            option::of(text()),
            text(),
            option::of(text()),
        ),
        (any::<bool>(), any::<bool>()),
        any_place(),
    )
        .prop_map(|(ids, counts, texts, flags, root)| SnapshotBody {
            base: ids.0.map(SnapshotId),
            bytes: counts.0,
            comment: texts.0,
            files: counts.1,
            framework: texts.1,
            one_shot: flags.0,
            origin: texts.2,
            partial: flags.1,
            pin_base_until_ms: counts.2,
            python: texts.3,
            root,
            snapshot: SnapshotId(ids.1),
            tree_root: TreeRoot(ids.2),
        })
}

pub(crate) fn rescue_of(body: SnapshotBody, reason: String) -> RescueBody {
    RescueBody {
        base: body.base,
        bytes: body.bytes,
        comment: body.comment,
        files: body.files,
        framework: body.framework,
        origin: body.origin,
        partial: body.partial,
        python: body.python,
        reason,
        root: body.root,
        snapshot: body.snapshot,
        tree_root: body.tree_root,
    }
}

fn record_body() -> impl Strategy<Value = nbws_core::record::Body> {
    use nbws_core::record::Body;
    let marks = || btree_set(1u64..1_000, 1..20).prop_map(|set| set.into_iter().collect());
    prop_oneof![
        any::<(bool, bool)>().prop_map(|(resident, take_over)| Body::Claim(ClaimBody {
            resident,
            take_over
        })),
        (option::of(text()), option::of(text()))
            .prop_map(|(comment, info)| Body::State(StateBody { comment, info })),
        snapshot_body().prop_map(Body::Snapshot),
        (snapshot_body(), text()).prop_map(|(body, reason)| Body::Rescue(rescue_of(body, reason))),
        any::<[u8; 16]>().prop_map(|id| Body::Dismiss(DismissBody {
            rescue: SnapshotId(id)
        })),
        any_place().prop_map(|attachment| Body::Settings(SettingsBody { attachment })),
        (small(), any_place()).prop_map(|(count, packs)| Body::Repack(RepackBody { count, packs })),
        (any_place(), small(), small(), small()).prop_map(
            |(attachment, bytes, packs, snapshots)| Body::Mark(MarkBody {
                attachment,
                bytes,
                packs,
                snapshots
            })
        ),
        (1u64..1_000).prop_map(|mark| Body::Cancel(CancelBody { mark })),
        marks().prop_map(|marks| Body::Sweep(SweepBody { marks })),
        (small(), marks())
            .prop_map(|(freed_bytes, marks)| Body::Swept(SweptBody { freed_bytes, marks })),
        any::<bool>().prop_map(|purge| Body::Tombstone(TombstoneBody { purge })),
    ]
}

/// Any record that does not contradict itself.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    (
        record_body(),
        (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 16]>()),
        (1_000u64..1 << 53, 1u64..1 << 53, small()),
        (any_place(), any::<[u8; 16]>()),
        option::of(any_place()),
        option::of(any_place()),
        prop::sample::select(&State::ALL[..]),
        (small(), small(), small(), small()),
    )
        .prop_map(
            |(body, ids, numbers, head, index, settings, state, usage)| {
                use nbws_core::record::Body;
                let head = match &body {
                    Body::Snapshot(body) => Head {
                        root: body.root,
                        snapshot: body.snapshot,
                    },
                    _ => Head {
                        root: head.0,
                        snapshot: SnapshotId(head.1),
                    },
                };
                let settings = match &body {
                    Body::Settings(body) => Some(body.attachment),
                    _ => settings,
                };
                Record {
                    body,
                    commit: CommitId(ids.0),
                    epoch: numbers.1,
                    head: Some(head),
                    index,
                    parent: Some(CommitId(ids.1)),
                    repository: RepositoryId(ids.2),
                    seq: numbers.0,
                    settings,
                    state,
                    time_ms: numbers.2,
                    usage: Usage {
                        bytes: usage.0,
                        files: usage.1,
                        objects: usage.2,
                        stored_bytes: usage.3,
                    },
                    writer: WriterId(ids.1),
                }
            },
        )
}

/// A snapshot body whose ids and place derive from `n`.
pub(crate) fn numbered_snapshot(n: u8, one_shot: bool) -> SnapshotBody {
    SnapshotBody {
        base: None,
        bytes: 1,
        comment: None,
        files: 1,
        framework: None,
        one_shot,
        origin: "test".to_owned(),
        partial: false,
        pin_base_until_ms: None,
        python: None,
        root: place(n),
        snapshot: SnapshotId([n; 16]),
        tree_root: TreeRoot([n; 32]),
    }
}

/// The record that follows `head`: everything is carried on, the epoch and writer are as given.
pub(crate) fn following(
    head: Option<&Record>,
    writer: u8,
    epoch: u64,
    state: State,
    body: nbws_core::record::Body,
) -> Record {
    use nbws_core::record::Body;
    let seq = head.map_or(1, |h| h.seq + 1);
    let purges = matches!(&body, Body::Tombstone(TombstoneBody { purge: true }));
    let before = head.filter(|_| !purges);
    Record {
        head: match &body {
            Body::Snapshot(body) => Some(Head {
                root: body.root,
                snapshot: body.snapshot,
            }),
            _ => before.and_then(|h| h.head),
        },
        index: before.and_then(|h| h.index),
        settings: match &body {
            Body::Settings(body) => Some(body.attachment),
            _ => before.and_then(|h| h.settings),
        },
        body,
        commit: CommitId((u128::from(seq) << 8 | u128::from(writer)).to_be_bytes()),
        epoch,
        parent: head.map(|h| h.commit),
        repository: RepositoryId([9; 16]),
        seq,
        state,
        time_ms: 1_000 * seq,
        usage: Usage::default(),
        writer: WriterId([writer; 16]),
    }
}
