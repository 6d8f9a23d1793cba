//! Snapshots that no program of ours wrote: refused as a whole before anything is written, in bounded time and memory.
//!
//! Each repository is built byte by byte and is right in everything but the one thing that its name says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/living.rs"]
mod living;

use bytes::Bytes;
use living::*;
use nbws_core::codec::{Codec, Encoder};
use nbws_core::format::Format;
use nbws_core::frame::{ChunkSpan, EncodedFrame, FrameEncoder, FrameKind};
use nbws_core::header::Header;
use nbws_core::id::{
    ChunkId, CommitId, ContainerId, FrameHash, RepositoryId, SnapshotId, TreeRoot, WriterId,
};
use nbws_core::key::{self, ContainerKey};
use nbws_core::pack::{FrameSlot, PackBuilder};
use nbws_core::record::{Body, Head, Place, Record, SnapshotBody, Usage};
use nbws_core::state::State;
use nbws_core::wire::{put_bytes, put_varint, put_zigzag};
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{
    CheckOptions, Delete, OpenOptions, RestoreOptions, SaveOptions, UsageOptions,
};
use nbws_engine::store::{Store, StoreOptions};
use nbws_engine::{ErrorKind, Workspace};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const SNAPSHOT: SnapshotId = SnapshotId([9; 16]);

// --- raw encodings, without the checks of the real ones ----------------------------------------------------------------

/// One entry of a segment, piece by piece.
#[derive(Clone)]
struct Raw {
    path: Vec<u8>,
    /// Length of the prefix that is said to be shared; computed if none is given.
    shared: Option<u64>,
    kind: u8,
    flags: u8,
    mode: u64,
    seconds: i64,
    nanos: u64,
    /// Attributes and link, as they are encoded.
    xattrs: Vec<u8>,
    link: Option<Vec<u8>>,
    /// Everything behind.
    body: Vec<u8>,
    /// The part of the body that the tree root covers.
    logical: Vec<u8>,
    bytes: u64,
}

fn raw(path: impl AsRef<[u8]>, kind: u8) -> Raw {
    Raw {
        path: path.as_ref().to_vec(),
        shared: None,
        kind,
        flags: 0,
        mode: if kind == 1 { 0o755 } else { 0o644 },
        seconds: 1_700_000_000,
        nanos: 5,
        xattrs: Vec::new(),
        link: None,
        body: Vec::new(),
        logical: Vec::new(),
        bytes: 0,
    }
}

fn dir(path: impl AsRef<[u8]>) -> Raw {
    raw(path, 1)
}

fn symlink(path: impl AsRef<[u8]>, target: &[u8]) -> Raw {
    let mut entry = raw(path, 3);
    put_bytes(&mut entry.body, target);
    entry.logical = entry.body.clone();
    entry
}

fn omitted(path: impl AsRef<[u8]>, size: u64, reason: u8) -> Raw {
    let mut entry = raw(path, 4);
    put_varint(&mut entry.body, size);
    entry.body.push(reason);
    entry
}

/// A run as the tree says it: id, length, count.
type Run = (ChunkId, u64, u64);

fn file_of(path: impl AsRef<[u8]>, size: u64, runs: &[Run]) -> Raw {
    let mut entry = raw(path, 2);
    put_varint(&mut entry.body, size);
    put_varint(&mut entry.body, runs.len() as u64);
    put_runs(&mut entry.body, runs);
    entry.logical = entry.body.clone();
    entry.bytes = size;
    entry
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    for (id, length, count) in runs {
        out.extend_from_slice(&id.0);
        put_varint(out, *length);
        put_varint(out, *count);
    }
}

fn listed_file(path: &str, size: u64, run_count: u64, lists: &[(ChunkId, u64)]) -> Raw {
    let mut entry = raw(path, 2);
    put_varint(&mut entry.body, size);
    entry.body.push(0);
    put_varint(&mut entry.body, run_count);
    put_varint(&mut entry.body, lists.len() as u64);
    for (id, length) in lists {
        entry.body.extend_from_slice(&id.0);
        put_varint(&mut entry.body, *length);
    }
    entry.logical = entry.body.clone();
    entry.bytes = size;
    entry
}

fn encode_segment(entries: &[Raw], count: u64) -> Vec<u8> {
    let mut out = vec![b'T'];
    put_varint(&mut out, count);
    let mut before: &[u8] = b"";
    for entry in entries {
        let common = before
            .iter()
            .zip(&entry.path)
            .take_while(|(a, b)| a == b)
            .count();
        let shared = entry.shared.unwrap_or(common as u64);
        put_varint(&mut out, shared);
        put_bytes(&mut out, &entry.path[common.min(shared as usize)..]);
        out.extend_from_slice(&[entry.kind, entry.flags]);
        for number in [entry.mode, 0, 0] {
            put_varint(&mut out, number);
        }
        put_zigzag(&mut out, entry.seconds);
        put_varint(&mut out, entry.nanos);
        out.extend_from_slice(&entry.xattrs);
        if let Some(link) = &entry.link {
            put_bytes(&mut out, link);
        }
        out.extend_from_slice(&entry.body);
        before = &entry.path;
    }
    out
}

fn tree_root(entries: &[Raw]) -> TreeRoot {
    let mut out = Vec::new();
    for entry in entries.iter().filter(|e| e.kind != 4) {
        put_bytes(&mut out, &entry.path);
        out.push(entry.kind);
        put_varint(&mut out, entry.mode);
        put_zigzag(&mut out, entry.seconds);
        put_varint(&mut out, entry.nanos);
        match entry.xattrs.is_empty() {
            true => put_varint(&mut out, 0),
            false => out.extend_from_slice(&entry.xattrs),
        }
        out.extend_from_slice(&entry.logical);
    }
    TreeRoot(*blake3::hash(&out).as_bytes())
}

#[derive(Clone)]
struct RawRef {
    first_path: Vec<u8>,
    entries: u64,
    id: ChunkId,
    length: u64,
}

fn put_refs(out: &mut Vec<u8>, refs: &[RawRef], count: u64) {
    put_varint(out, count);
    for r in refs {
        put_bytes(out, &r.first_path);
        put_varint(out, r.entries);
        out.extend_from_slice(&r.id.0);
        put_varint(out, r.length);
    }
}

/// A snapshot root, field by field.
#[derive(Clone)]
struct RawRoot {
    repository: RepositoryId,
    snapshot: SnapshotId,
    flags: u8,
    tree_root: TreeRoot,
    files: u64,
    directories: u64,
    bytes: u64,
    omitted: u64,
    level: u8,
    refs: Vec<RawRef>,
    ref_count: Option<u64>,
    tail: Vec<u8>,
}

impl RawRoot {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![b'S'];
        out.extend_from_slice(&self.repository.0);
        out.extend_from_slice(&self.snapshot.0);
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(&[3; 16]);
        put_varint(&mut out, 1);
        put_varint(&mut out, 1_700_000_000_000);
        out.push(self.flags);
        out.extend_from_slice(&self.tree_root.0);
        for count in [
            self.files,
            self.directories,
            self.bytes,
            self.omitted,
            0o755,
        ] {
            put_varint(&mut out, count);
        }
        for text in ["", "save", "", ""] {
            put_bytes(&mut out, text.as_bytes());
        }
        out.push(self.level);
        put_refs(
            &mut out,
            &self.refs,
            self.ref_count.unwrap_or(self.refs.len() as u64),
        );
        out.extend_from_slice(&self.tail);
        out
    }
}

/// An index part, table by table.
#[derive(Clone, Default)]
struct RawIndex {
    packs: Vec<(u64, [u8; 16])>,
    /// Pack, offset, stored length, plain length.
    frames: Vec<[u32; 4]>,
    /// Frame, offset in the frame, length.
    chunks: BTreeMap<[u8; 32], [u32; 3]>,
    counts: Option<[u32; 3]>,
    tail: Vec<u8>,
}

impl RawIndex {
    fn add(&mut self, slot: &FrameSlot) {
        let frame = self.frames.len() as u32;
        self.frames
            .push([0, slot.offset, slot.stored_len, slot.plain_len]);
        let mut at = 0;
        for span in &slot.chunks {
            self.chunks.insert(span.id.0, [frame, at, span.length]);
            at += span.length;
        }
    }

    fn place(&mut self, id: ChunkId) -> &mut [u32; 3] {
        self.chunks.get_mut(&id.0).unwrap()
    }

    fn encode(&self) -> Vec<u8> {
        let counted = [self.packs.len(), self.frames.len(), self.chunks.len()].map(|n| n as u32);
        let mut out = vec![b'I'];
        for count in self.counts.unwrap_or(counted) {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for (epoch, random) in &self.packs {
            out.extend_from_slice(&epoch.to_le_bytes());
            out.extend_from_slice(random);
        }
        for word in self.frames.iter().flatten() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for id in self.chunks.keys() {
            out.extend_from_slice(id);
        }
        for word in self.chunks.values().flatten() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.tail);
        out
    }
}

fn varint_bytes(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

// --- a repository made of them -------------------------------------------------------------------------------------------

type Edit<T> = Box<dyn Fn(&mut T)>;

/// What goes into a repository, and what is done to each layer on the way.
struct Craft {
    /// Chunks of files and chunk lists.
    data: Vec<Vec<u8>>,
    /// Frames that stand in for the ones of a data chunk.
    data_frames: BTreeMap<usize, EncodedFrame>,
    segments: Vec<Vec<Raw>>,
    segment_bytes: Edit<Vec<u8>>,
    segment_frame: Edit<EncodedFrame>,
    root: Edit<RawRoot>,
    root_bytes: Edit<Vec<u8>>,
    index: Edit<RawIndex>,
    index_frame: Edit<EncodedFrame>,
    index_root: Edit<Vec<u8>>,
    object: Edit<Vec<u8>>,
    record: Edit<Record>,
    record_bytes: Edit<Vec<u8>>,
}

fn keep<T: 'static>() -> Edit<T> {
    Box::new(|_| {})
}

const A: usize = 0;
const B: usize = 1;

impl Craft {
    /// A sound repository: a directory, two files, a link.
    fn sound() -> Craft {
        let data = vec![noise(1, 1_000), b"text of b\n".repeat(300)];
        let mut craft = Craft {
            data,
            data_frames: BTreeMap::new(),
            segments: Vec::new(),
            segment_bytes: keep(),
            segment_frame: keep(),
            root: keep(),
            root_bytes: keep(),
            index: keep(),
            index_frame: keep(),
            index_root: keep(),
            object: keep(),
            record: keep(),
            record_bytes: keep(),
        };
        let entries = vec![
            dir("d"),
            craft.file("d/a", A),
            craft.file("d/b", B),
            symlink("l", b"d/a"),
        ];
        craft.segments.push(entries);
        craft
    }

    fn id(&self, data: usize) -> ChunkId {
        ChunkId::of(&self.data[data])
    }

    fn run(&self, data: usize) -> Run {
        (self.id(data), self.data[data].len() as u64, 1)
    }

    fn file(&self, path: impl AsRef<[u8]>, data: usize) -> Raw {
        file_of(path, self.data[data].len() as u64, &[self.run(data)])
    }

    /// Adds an entry where its path sorts.
    fn add(&mut self, entry: Raw) {
        let at = self.segments[0].partition_point(|e| e.path < entry.path);
        self.segments[0].insert(at, entry);
    }

    fn entry(&mut self, path: &str) -> &mut Raw {
        let mut all = self.segments.iter_mut().flatten();
        all.find(|e| e.path == path.as_bytes()).unwrap()
    }

    /// Builds the objects and puts them into a store.
    async fn store(&self) -> Arc<dyn Store> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let url = format!("memory:///hostile-{}-{number}", std::process::id());
        let store = nbws_engine::store::open(&url, &StoreOptions::default()).unwrap();
        let format = Format::new(REPOSITORY, 1, false);
        store
            .put(key::FORMAT, format.encode().unwrap().into())
            .await
            .unwrap();
        let id = ContainerId {
            epoch: 1,
            random: [5; 16],
        };
        let key = ContainerKey::pack(id);
        let mut builder = PackBuilder::new(Header {
            repository: REPOSITORY,
            key,
        });
        let mut encoder = FrameEncoder::new().unwrap();
        let mut index = RawIndex {
            packs: vec![(id.epoch, id.random)],
            ..RawIndex::default()
        };
        let mut chunk = |bytes: &[u8]| {
            let span = ChunkSpan {
                id: ChunkId::of(bytes),
                length: bytes.len() as u32,
            };
            encoder
                .encode(FrameKind::Chunks, bytes, vec![span], 3)
                .unwrap()
        };
        for (n, data) in self.data.iter().enumerate() {
            let frame = self
                .data_frames
                .get(&n)
                .cloned()
                .unwrap_or_else(|| chunk(data));
            index.add(builder.push(frame).unwrap());
        }
        let all: Vec<Raw> = self.segments.iter().flatten().cloned().collect();
        let mut refs = Vec::new();
        for (n, entries) in self.segments.iter().enumerate() {
            let mut bytes = encode_segment(entries, entries.len() as u64);
            if n == 0 {
                (self.segment_bytes)(&mut bytes);
            }
            let mut frame = chunk(&bytes);
            if n == 0 {
                (self.segment_frame)(&mut frame);
            }
            index.add(builder.push(frame).unwrap());
            refs.push(RawRef {
                first_path: entries.first().map(|e| e.path.clone()).unwrap_or_default(),
                entries: entries.len() as u64,
                id: ChunkId::of(&bytes),
                length: bytes.len() as u64,
            });
        }
        let count = |kinds: &[u8]| all.iter().filter(|e| kinds.contains(&e.kind)).count() as u64;
        let mut root = RawRoot {
            repository: REPOSITORY,
            snapshot: SNAPSHOT,
            flags: 0,
            tree_root: tree_root(&all),
            files: count(&[2, 3]),
            directories: count(&[1]),
            bytes: all.iter().map(|e| e.bytes).fold(0, u64::saturating_add),
            omitted: count(&[4]),
            level: 0,
            refs,
            ref_count: None,
            tail: Vec::new(),
        };
        (self.root)(&mut root);
        let mut root_bytes = root.encode();
        (self.root_bytes)(&mut root_bytes);
        let slot = builder.push(chunk(&root_bytes)).unwrap().clone();
        index.add(&slot);
        let root_place = place(key, &slot, &root_bytes);
        (self.index)(&mut index);
        let part = index.encode();
        let mut frame = encoder
            .encode(FrameKind::IndexPart, &part, Vec::new(), 3)
            .unwrap();
        (self.index_frame)(&mut frame);
        let slot = builder.push(frame).unwrap().clone();
        let mut index_root = vec![b'R', 1, 1];
        index_root.extend_from_slice(&id.epoch.to_le_bytes());
        index_root.extend_from_slice(&id.random);
        for number in [slot.offset, slot.stored_len, slot.plain_len] {
            put_varint(&mut index_root, u64::from(number));
        }
        index_root.extend_from_slice(&FrameHash::of(&part).0);
        put_varint(&mut index_root, index.chunks.len() as u64);
        (self.index_root)(&mut index_root);
        let frame = encoder
            .encode(FrameKind::IndexRoot, &index_root, Vec::new(), 3)
            .unwrap();
        let slot = builder.push(frame).unwrap().clone();
        let index_place = place(key, &slot, &index_root);
        let mut object = builder.finish().bytes;
        (self.object)(&mut object);
        store.put(&key.to_string(), object.into()).await.unwrap();
        let mut record = record(&root, root_place, index_place);
        (self.record)(&mut record);
        let mut bytes = record.encode().unwrap();
        (self.record_bytes)(&mut bytes);
        store.put(&key::log(1), bytes.into()).await.unwrap();
        store
    }
}

fn place(object: ContainerKey, slot: &FrameSlot, plain: &[u8]) -> Place {
    Place {
        hash: FrameHash::of(plain),
        length: slot.stored_len,
        object,
        offset: slot.offset,
        plain: slot.plain_len,
    }
}

fn record(root: &RawRoot, root_place: Place, index: Place) -> Record {
    let capped = |n: u64| n.min((1 << 53) - 1);
    Record {
        body: Body::Snapshot(SnapshotBody {
            base: None,
            bytes: capped(root.bytes),
            comment: None,
            files: capped(root.files),
            framework: None,
            one_shot: true,
            origin: "save".to_owned(),
            partial: false,
            pin_base_until_ms: None,
            python: None,
            root: root_place,
            snapshot: SNAPSHOT,
            tree_root: root.tree_root,
        }),
        commit: CommitId([1; 16]),
        epoch: 1,
        head: Some(Head {
            root: root_place,
            snapshot: SNAPSHOT,
        }),
        index: Some(index),
        parent: None,
        repository: REPOSITORY,
        seq: 1,
        settings: None,
        state: State::None,
        time_ms: 1,
        usage: Usage {
            bytes: capped(root.bytes),
            files: capped(root.files),
            objects: 2,
            stored_bytes: 1,
        },
        writer: WriterId([3; 16]),
    }
}

/// A frame whose payload says something else than its header: `plain` are the bytes in it.
fn lying_frame(kind: FrameKind, plain: &[u8], said: u32, chunks: Vec<ChunkSpan>) -> EncodedFrame {
    let mut payload = Vec::new();
    let codec = Encoder::new()
        .unwrap()
        .encode(plain, 3, &mut payload)
        .unwrap();
    assert_eq!(codec, Codec::Zstd);
    frame_of(kind, codec, said, &payload, chunks)
}

fn frame_of(
    kind: FrameKind,
    codec: Codec,
    said: u32,
    payload: &[u8],
    chunks: Vec<ChunkSpan>,
) -> EncodedFrame {
    let mut bytes = b"NBfr".to_vec();
    bytes.extend_from_slice(&[kind as u8, codec as u8, 0, 0]);
    bytes.extend_from_slice(&said.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes);
    hasher.update(payload);
    let hash = hasher.finalize();
    bytes.extend_from_slice(&hash.as_bytes()[..8]);
    bytes.extend_from_slice(payload);
    EncodedFrame {
        kind,
        codec,
        plain_len: said,
        chunks,
        bytes,
    }
}

// --- the classes -----------------------------------------------------------------------------------------------------------

/// What has to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Refused before anything is written.
    Refused(ErrorKind),
    /// Refused as damaged, or restored whole by what the packs say, with a warning.
    Recovered,
    /// Only this file can't be restored.
    Damaged(&'static str),
}

const REFUSED: Expect = Expect::Refused(ErrorKind::Corrupt);

struct Class {
    name: &'static str,
    craft: Craft,
    expect: Expect,
}

fn class(name: &'static str, expect: Expect, change: impl FnOnce(&mut Craft)) -> Class {
    let mut craft = Craft::sound();
    change(&mut craft);
    Class {
        name,
        craft,
        expect,
    }
}

fn refused(name: &'static str, change: impl FnOnce(&mut Craft)) -> Class {
    class(name, REFUSED, change)
}

fn recovered(name: &'static str, change: impl FnOnce(&mut Craft)) -> Class {
    class(name, Expect::Recovered, change)
}

/// Names that lead out of the target or nowhere.
fn names() -> Vec<Class> {
    let long = "n".repeat(256);
    let deep = ["d/", &"p".repeat(255), "/"].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("name: ..", b"..".to_vec()),
        ("name: ../ out of the target", b"../outside/made".to_vec()),
        (
            "name: a/../.. out of the target",
            b"d/../../outside/made".to_vec(),
        ),
        ("name: .. at the end", b"d/..".to_vec()),
        (
            "name: absolute",
            b"/tmp/nbws-made-by-a-hostile-snapshot".to_vec(),
        ),
        ("name: .", b".".to_vec()),
        ("name: ./ inside", b"d/./x".to_vec()),
        ("name: double slash", b"d//x".to_vec()),
        ("name: trailing slash", b"d/x/".to_vec()),
        ("name: NUL", b"d/x\0y".to_vec()),
        ("name: 256 bytes", long.into_bytes()),
        ("name: 65,536 bytes", deep.repeat(254).into_bytes()),
    ];
    let mut all: Vec<Class> = bad
        .into_iter()
        .map(|(name, path)| {
            refused(name, |craft| {
                let entry = craft.file(&path, A);
                craft.add(entry);
            })
        })
        .collect();
    all.push(refused("name: empty", |craft| {
        let entry = craft.file("", A);
        craft.add(entry);
        craft.root = Box::new(|root| root.refs[0].first_path = b"d".to_vec());
    }));
    for (name, path) in [
        ("name: the mark of an unfinished restore", ".nbws-restoring"),
        ("name: the place of temporary files", ".nbws-tmp-restore"),
    ] {
        all.push(refused(name, |craft| {
            let entry = craft.file(path, A);
            craft.add(entry);
        }));
    }
    all.push(refused(
        "name: a link in the place of temporary files",
        |craft| {
            craft.add(symlink(".nbws-tmp-restore", b"../outside"));
        },
    ));
    all
}

/// Entries that contradict each other.
fn relations() -> Vec<Class> {
    vec![
        refused("tree: a path twice", |craft| {
            let again = craft.file("d/a", B);
            craft.segments[0].insert(2, again);
        }),
        refused("tree: a directory and a link of one name", |craft| {
            craft.segments[0].insert(1, symlink("d", b"../outside"));
        }),
        refused("tree: not sorted", |craft| craft.segments[0].swap(1, 2)),
        refused("tree: a file below a file", |craft| {
            let below = craft.file("d/a/x", B);
            craft.add(below);
        }),
        refused("tree: a file through a link", |craft| {
            let through = craft.file("l/x", B);
            craft.add(symlink("k", b"../outside"));
            let through_k = craft.file("k/made", B);
            craft.add(through_k);
            craft.add(through);
        }),
        refused("tree: no parent", |craft| {
            let orphan = craft.file("e/f/g", B);
            craft.add(orphan);
        }),
        refused("tree: the parent comes later", |craft| {
            let early = craft.file("c/x", B);
            craft.add(early);
            craft.segments[0].push(dir("x"));
            let at = craft.segments[0]
                .iter()
                .position(|e| e.path == b"c/x")
                .unwrap();
            craft.segments[0].insert(at + 1, dir("c0"));
        }),
        refused("links: no leader", |craft| {
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(b"d/0".to_vec()));
        }),
        refused("links: a leader outside", |craft| {
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(b"../outside/precious".to_vec()));
        }),
        refused("links: an absolute leader", |craft| {
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(b"/etc/passwd".to_vec()));
        }),
        refused("links: the leader comes later", |craft| {
            let mut last = craft.file("z", A);
            (last.flags, last.link) = (8, Some(Vec::new()));
            craft.add(last);
            let entry = craft.entry("d/a");
            (entry.flags, entry.link) = (8, Some(b"z".to_vec()));
        }),
        refused("links: other bytes than the leader", |craft| {
            let entry = craft.entry("d/a");
            (entry.flags, entry.link) = (8, Some(Vec::new()));
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(b"d/a".to_vec()));
        }),
        refused("links: a leader that follows", |craft| {
            let c = craft.file("d/c", B);
            craft.add(c);
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(Vec::new()));
            let mut c2 = craft.file("d/c2", B);
            (c2.flags, c2.link) = (8, Some(b"d/b".to_vec()));
            craft.add(c2);
            let entry = craft.entry("d/c");
            (entry.flags, entry.link) = (8, Some(b"d/c2".to_vec()));
        }),
        refused("links: a directory as leader", |craft| {
            let entry = craft.entry("d/b");
            (entry.flags, entry.link) = (8, Some(b"d".to_vec()));
        }),
        refused("links: a directory as member", |craft| {
            let entry = craft.entry("d");
            (entry.flags, entry.link) = (8, Some(Vec::new()));
        }),
    ]
}

/// Entries that are nothing.
fn entries() -> Vec<Class> {
    vec![
        refused("entry: unknown kind", |craft| craft.entry("d/b").kind = 9),
        refused("entry: unknown flag", |craft| craft.entry("d/b").flags = 64),
        refused("entry: mode of 13 bits", |craft| {
            craft.entry("d/b").mode = 0o10644
        }),
        refused("entry: a second of too many parts", |craft| {
            craft.entry("d/b").nanos = 1_000_000_000;
        }),
        refused("entry: runs that do not add up", |craft| {
            let entry = file_of("d/b", 2_999, &[craft.run(B)]);
            *craft.entry("d/b") = entry;
        }),
        refused("entry: repeated 2^60 times beyond its size", |craft| {
            let (id, length, _) = craft.run(B);
            *craft.entry("d/b") = file_of("d/b", 3_000, &[(id, length, 1 << 60)]);
        }),
        refused("entry: lengths that overflow", |craft| {
            let (id, _, _) = craft.run(B);
            let runs = [(id, 1 << 20, 1 << 62), (craft.id(A), 1 << 20, 1 << 62)];
            *craft.entry("d/b") = file_of("d/b", 0x7fff_ffff_ffff_ffff, &runs);
        }),
        refused("entry: a file of 2^63 bytes", |craft| {
            let (id, _, _) = craft.run(A);
            *craft.entry("d/b") = file_of("d/b", 1 << 63, &[(id, 1_024, 1 << 53)]);
        }),
        refused("entry: an empty chunk", |craft| {
            let (id, _, _) = craft.run(B);
            *craft.entry("d/b") = file_of("d/b", 3_000, &[(id, 0, 1), craft.run(B)]);
        }),
        refused("entry: a chunk over 1 MiB", |craft| {
            let (id, _, _) = craft.run(B);
            *craft.entry("d/b") = file_of("d/b", 2 << 20, &[(id, 2 << 20, 1)]);
        }),
        refused("entry: runs that are not joined", |craft| {
            *craft.entry("d/b") = file_of("d/b", 6_000, &[craft.run(B), craft.run(B)]);
        }),
        refused("entry: more runs than bytes left", |craft| {
            let entry = craft.entry("d/b");
            entry.body = varint_bytes(3_000);
            put_varint(&mut entry.body, 1_000);
        }),
        refused("entry: 2^60 runs", |craft| {
            let entry = craft.entry("d/b");
            entry.body = varint_bytes(3_000);
            put_varint(&mut entry.body, 1 << 60);
        }),
        refused("entry: a link to nothing", |craft| {
            *craft.entry("l") = symlink("l", b"");
        }),
        refused("entry: a link with NUL", |craft| {
            *craft.entry("l") = symlink("l", b"d/a\0b");
        }),
        refused("entry: a link of 65,536 bytes", |craft| {
            *craft.entry("l") = symlink("l", &[b'x'; 65_536]);
        }),
        refused("entry: an attribute of the system", |craft| {
            let entry = craft.entry("d/b");
            entry.flags = 4;
            entry.xattrs = vec![1];
            put_bytes(&mut entry.xattrs, b"security.capability");
            put_bytes(&mut entry.xattrs, b"all of them");
        }),
        refused("entry: attributes that are not sorted", |craft| {
            let entry = craft.entry("d/b");
            entry.flags = 4;
            entry.xattrs = vec![2];
            for name in ["user.b", "user.a"] {
                put_bytes(&mut entry.xattrs, name.as_bytes());
                put_bytes(&mut entry.xattrs, b"");
            }
        }),
        refused("entry: 2^60 attributes", |craft| {
            let entry = craft.entry("d/b");
            entry.flags = 4;
            entry.xattrs = varint_bytes(1 << 60);
        }),
        refused("entry: a hole behind the end", |craft| {
            let entry = craft.entry("d/b");
            entry.flags = 16;
            entry.body.extend_from_slice(&[1]);
            put_varint(&mut entry.body, 2_000);
            put_varint(&mut entry.body, 1_001);
        }),
        refused("entry: omitted for no known reason", |craft| {
            craft.add(omitted("o", 5, 3))
        }),
        refused("entry: a number that is not minimal", |craft| {
            let entry = craft.entry("d/b");
            entry.body[0..2].copy_from_slice(&[0xb8, 0x97]);
            entry.body.insert(2, 0);
        }),
    ]
}

/// Segments and roots.
fn trees() -> Vec<Class> {
    let mut all = vec![
        refused("segment: 2^60 entries", |craft| {
            craft.segment_bytes = Box::new(|bytes| {
                let rest = bytes.split_off(2);
                bytes.truncate(1);
                bytes.extend(varint_bytes(1 << 60));
                bytes.extend(rest);
            });
            craft.root = Box::new(|root| {
                root.refs[0].entries = 1 << 60;
                root.files = (1 << 60) - 1;
            });
        }),
        refused("segment: 2,048 entries in the bytes of four", |craft| {
            craft.segment_bytes = Box::new(|bytes| {
                let rest = bytes.split_off(2);
                bytes.truncate(1);
                bytes.extend(varint_bytes(2_048));
                bytes.extend(rest);
            });
            craft.root = Box::new(|root| {
                root.refs[0].entries = 2_048;
                root.files = 2_047;
            });
        }),
        refused("segment: one entry less than it says", |craft| {
            craft.segment_bytes = Box::new(|bytes| bytes[1] += 1);
            craft.root = Box::new(|root| {
                root.refs[0].entries += 1;
                root.files += 1;
            });
        }),
        refused("segment: cut off", |craft| {
            craft.segment_bytes = Box::new(|bytes| bytes.truncate(bytes.len() - 3));
        }),
        refused("segment: bytes behind its end", |craft| {
            craft.segment_bytes = Box::new(|bytes| bytes.push(0));
        }),
        refused("segment: another tag", |craft| {
            craft.segment_bytes = Box::new(|bytes| bytes[0] = b'N');
        }),
        refused("segment: shares more than there is", |craft| {
            craft.entry("d/a").shared = Some(40)
        }),
        refused("segment: shares less than it could", |craft| {
            craft.entry("d/b").shared = Some(0)
        }),
        refused("segment: empty", |craft| {
            craft.segment_bytes = Box::new(|bytes| *bytes = vec![b'T', 0]);
        }),
        refused("segment: not there", |craft| {
            craft.root = Box::new(|root| root.refs[0].id = ChunkId([1; 32]));
        }),
        refused("root: one more file, one less directory", |craft| {
            craft.root = Box::new(|root| {
                (root.files, root.directories) = (root.files + 1, root.directories - 1)
            });
        }),
        refused("root: other bytes", |craft| {
            craft.root = Box::new(|root| root.bytes += 1)
        }),
        refused("root: an omitted file that is none", |craft| {
            craft.root = Box::new(|root| (root.files, root.omitted) = (root.files - 1, 1));
        }),
        refused("root: 2^60 files", |craft| {
            craft.root = Box::new(|root| root.files = 1 << 60)
        }),
        refused("root: counts that overflow", |craft| {
            craft.root = Box::new(|root| (root.files, root.directories) = (u64::MAX, u64::MAX));
        }),
        refused("root: another tree", |craft| {
            craft.root = Box::new(|root| root.tree_root.0[0] ^= 1)
        }),
        refused("root: of another repository", |craft| {
            craft.root = Box::new(|root| root.repository = RepositoryId([8; 16]));
        }),
        refused("root: of another snapshot", |craft| {
            craft.root = Box::new(|root| root.snapshot = SnapshotId([8; 16]));
        }),
        refused("root: unknown flags", |craft| {
            craft.root = Box::new(|root| root.flags = 2)
        }),
        refused("root: unknown level", |craft| {
            craft.root = Box::new(|root| root.level = 2)
        }),
        refused("root: a level that it does not need", |craft| {
            craft.root = Box::new(|root| root.level = 1)
        }),
        refused("root: 2^60 references", |craft| {
            craft.root = Box::new(|root| root.ref_count = Some(1 << 60))
        }),
        refused("root: more references than bytes", |craft| {
            craft.root = Box::new(|root| root.ref_count = Some(1_024))
        }),
        refused("root: bytes behind its end", |craft| {
            craft.root = Box::new(|root| root.tail.push(0))
        }),
        refused("root: cut off", |craft| {
            craft.root_bytes = Box::new(|bytes| bytes.truncate(100))
        }),
        refused("root: a segment instead", |craft| {
            craft.root_bytes = Box::new(|bytes| bytes[0] = b'T')
        }),
        refused("root: a reference with another first path", |craft| {
            craft.root = Box::new(|root| root.refs[0].first_path = b"c".to_vec());
        }),
        refused("root: a reference with another length", |craft| {
            craft.root = Box::new(|root| root.refs[0].length += 1);
        }),
        refused("root: a reference that leads out", |craft| {
            craft.root = Box::new(|root| root.refs[0].first_path = b"../x".to_vec());
        }),
    ];
    let two = |craft: &mut Craft| {
        let entry = craft.file("z", A);
        craft.segments.push(vec![dir("m"), entry]);
    };
    all.push(refused(
        "root: counts moved between references",
        move |craft| {
            two(craft);
            craft.root = Box::new(|root| {
                root.refs[0].entries += 1;
                root.refs[1].entries -= 1;
            });
        },
    ));
    all.push(refused("root: references not sorted", move |craft| {
        two(craft);
        craft.root = Box::new(|root| root.refs.swap(0, 1));
    }));
    all.push(refused("root: a segment twice", move |craft| {
        two(craft);
        craft.root = Box::new(|root| root.refs[1].id = root.refs[0].id);
    }));
    all.push(refused("root: segments that overlap", move |craft| {
        let entry = craft.file("e", A);
        craft.segments.push(vec![entry]);
        craft.root = Box::new(|root| root.refs[1].first_path = b"f".to_vec());
    }));
    all.push(refused(
        "nodes: a segment in the place of a node",
        move |craft| {
            two(craft);
            craft.root = Box::new(|root| root.level = 1);
        },
    ));
    all
}

/// Chunk lists of large files.
fn lists() -> Vec<Class> {
    // 1,200 chunks of a file, alternating so that no two runs can be joined.
    let runs = |craft: &Craft| -> Vec<Run> { (0..1_200).map(|n| craft.run(n % 2)).collect() };
    let encode = |runs: &[Run], count: u64| {
        let mut list = vec![b'L'];
        put_varint(&mut list, count);
        put_runs(&mut list, runs);
        list
    };
    let add = move |craft: &mut Craft, list: Vec<u8>, size: u64, count: u64| {
        let entry = listed_file(
            "large",
            size,
            count,
            &[(ChunkId::of(&list), list.len() as u64)],
        );
        craft.data.push(list);
        craft.add(entry);
    };
    let size = 600 * 4_000;
    vec![
        refused("list: other size than its runs", move |craft| {
            let list = encode(&runs(craft), 1_200);
            add(craft, list, size + 1, 1_200);
        }),
        refused("list: other count than its runs", move |craft| {
            let list = encode(&runs(craft), 1_200);
            add(craft, list, size, 1_201);
        }),
        refused("list: 2^60 runs", move |craft| {
            let list = encode(&runs(craft), 1 << 60);
            add(craft, list, size, 1 << 60);
        }),
        refused("list: runs that are not joined", move |craft| {
            let mut all = runs(craft);
            all[1] = all[0];
            let total = all.iter().map(|r| r.1).sum();
            let list = encode(&all, 1_200);
            add(craft, list, total, 1_200);
        }),
        refused("list: of few runs", move |craft| {
            let all = &runs(craft)[..4];
            let list = encode(all, 4);
            add(craft, list, 8_000, 4);
        }),
        refused("list: something else", move |craft| {
            let (id, length, _) = craft.run(A);
            craft.add(listed_file("large", size, 1_200, &[(id, length)]));
        }),
        refused("list: not there", move |craft| {
            craft.add(listed_file(
                "large",
                size,
                1_200,
                &[(ChunkId([4; 32]), 40_000)],
            ));
        }),
        refused("list: another length", move |craft| {
            let list = encode(&runs(craft), 1_200);
            let entry = listed_file(
                "large",
                size,
                1_200,
                &[(ChunkId::of(&list), list.len() as u64 - 1)],
            );
            craft.data.push(list);
            craft.add(entry);
        }),
        refused("list: itself in its runs", move |craft| {
            let mut all = runs(craft);
            all[5].0 = ChunkId([6; 32]);
            all[5].1 = 1 << 20;
            all[5].2 = 1 << 43;
            let list = encode(&all, 1_200);
            add(craft, list, size, 1_200);
        }),
    ]
}

/// Indexes that lead elsewhere.
fn indexes() -> Vec<Class> {
    let part = |name, change: fn(&mut RawIndex)| {
        recovered(name, move |craft: &mut Craft| {
            craft.index = Box::new(change)
        })
    };
    let mut all = vec![
        part("index: 2^32 - 1 chunks", |index| {
            index.counts = Some([1, 5, u32::MAX])
        }),
        part("index: 2^32 - 1 of everything", |index| {
            index.counts = Some([u32::MAX; 3])
        }),
        part("index: bytes behind its end", |index| index.tail.push(0)),
        part("index: a frame of no pack", |index| index.frames[0][0] = 1),
        part("index: a frame twice", |index| {
            index.frames[1] = index.frames[0]
        }),
        part("index: a frame in the header", |index| {
            index.frames[0][1] = 10
        }),
        part("index: a frame behind 1 GiB", |index| {
            index.frames[2][1] = 0xffff_ff00
        }),
        part("index: a frame shorter than its header", |index| {
            index.frames[0][2] = 24
        }),
        part("index: a frame of 4 GiB", |index| {
            index.frames[0][3] = u32::MAX
        }),
        part("index: packs not sorted", |index| {
            let pack = index.packs[0];
            index.packs.push(pack);
        }),
        part("index: a chunk of no frame", |index| {
            index.chunks.values_mut().for_each(|c| c[0] = 99)
        }),
        part("index: a chunk behind its frame", |index| {
            index.chunks.values_mut().for_each(|c| c[1] = 1 << 30)
        }),
        part("index: chunks of 2^32 - 1 bytes", |index| {
            index.chunks.values_mut().for_each(|c| c[2] = u32::MAX)
        }),
        part("index: empty chunks", |index| {
            index.chunks.values_mut().for_each(|c| c[2] = 0)
        }),
        part("index: everything in one place", |index| {
            let first = *index.chunks.values().next().unwrap();
            index.chunks.values_mut().for_each(|c| *c = first);
        }),
        part("index: nothing", |index| index.chunks.clear()),
        recovered("index: another hash", |craft| {
            craft.index_root = Box::new(|bytes| {
                let at = bytes.len() - 10;
                bytes[at] ^= 1;
            });
        }),
        recovered("index: 2^60 parts", |craft| {
            craft.index_root = Box::new(|bytes| {
                let rest = bytes.split_off(2);
                bytes.truncate(1);
                bytes.extend(varint_bytes(1 << 60));
                bytes.extend(rest);
            });
        }),
        recovered("index: 65 times the same part", |craft| {
            craft.index_root = Box::new(|bytes| {
                let part = bytes.split_off(2);
                bytes[1] = 65;
                (0..65).for_each(|_| bytes.extend_from_slice(&part));
            });
        }),
        recovered("index: a part of another kind", |craft| {
            craft.index_root = Box::new(|bytes| bytes[2] = 3)
        }),
        recovered("index: cut off", |craft| {
            craft.index_root = Box::new(|bytes| bytes.truncate(20))
        }),
        recovered("index: a root with another tag", |craft| {
            craft.index_root = Box::new(|bytes| bytes[0] = b'I')
        }),
    ];
    // The tree is where it should be, a file's bytes are not.
    all.push(recovered(
        "index: a chunk longer than the tree says",
        |craft| {
            let (id, _, _) = craft.run(B);
            *craft.entry("d/b") = file_of("d/b", 2_000, &[(id, 2_000, 1)]);
        },
    ));
    all.push(recovered(
        "index: a chunk shorter than the tree says",
        |craft| {
            let (id, _, _) = craft.run(B);
            *craft.entry("d/b") = file_of("d/b", 6_001, &[(id, 6_001, 1)]);
        },
    ));
    all.push(class(
        "index: a file's chunk in the place of another",
        Expect::Damaged("d/b"),
        |craft| {
            let (a, b) = (craft.id(A), craft.id(B));
            craft.index = Box::new(move |index| {
                let of_a = *index.place(a);
                let length = index.place(b)[2];
                *index.place(b) = [index.place(b)[0], 0, length];
                let frame = index.place(b)[0] as usize;
                index.frames[frame][1] = index.frames[of_a[0] as usize][1] + 1;
            });
        },
    ));
    all.push(class(
        "index: a file's chunk behind the pack",
        Expect::Damaged("d/b"),
        |craft| {
            let b = craft.id(B);
            craft.index = Box::new(move |index| {
                index.frames.push([0, 500_000_000, 3_100, 3_000]);
                let last = index.frames.len() as u32 - 1;
                *index.place(b) = [last, 0, 3_000];
            });
        },
    ));
    all.push(class(
        "index: a frame of 1 GiB for a file of 3 KB",
        Expect::Damaged("d/b"),
        |craft| {
            let b = craft.id(B);
            craft.index = Box::new(move |index| {
                index
                    .frames
                    .push([0, 100_000, (1 << 30) - 100_000, 4 << 20]);
                let last = index.frames.len() as u32 - 1;
                *index.place(b) = [last, 0, 3_000];
            });
        },
    ));
    all.push(class(
        "index: a file's chunk is not known",
        Expect::Damaged("d/b"),
        |craft| {
            let b = craft.id(B);
            craft.index = Box::new(move |index| {
                index.chunks.remove(&b.0);
            });
        },
    ));
    all
}

/// Frames that explode, lie or are cut.
fn frames() -> Vec<Class> {
    let bomb = vec![0; 300 << 20];
    let of_b = |craft: &Craft| {
        vec![ChunkSpan {
            id: craft.id(B),
            length: 3_000,
        }]
    };
    let mut all = vec![
        class(
            "frame: 300 MiB of zeros for a file of 3 KB",
            Expect::Damaged("d/b"),
            |craft| {
                let frame = lying_frame(FrameKind::Chunks, &bomb, 3_000, of_b(craft));
                craft.data_frames.insert(B, frame);
            },
        ),
        class(
            "frame: a byte more than it says",
            Expect::Damaged("d/b"),
            |craft| {
                let frame = lying_frame(FrameKind::Chunks, &[7; 3_001], 3_000, of_b(craft));
                craft.data_frames.insert(B, frame);
            },
        ),
        class(
            "frame: a byte less than it says",
            Expect::Damaged("d/b"),
            |craft| {
                let frame = lying_frame(FrameKind::Chunks, &[7; 2_999], 3_000, of_b(craft));
                craft.data_frames.insert(B, frame);
            },
        ),
        class(
            "frame: a content size of 2^60",
            Expect::Damaged("d/b"),
            |craft| {
                // Magic, descriptor with an 8 byte content size and a single segment, the size, one empty last block.
                let mut payload = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
                payload.extend_from_slice(&(1u64 << 60).to_le_bytes());
                payload.extend_from_slice(&[1, 0, 0]);
                let frame = frame_of(FrameKind::Chunks, Codec::Zstd, 3_000, &payload, of_b(craft));
                craft.data_frames.insert(B, frame);
            },
        ),
        class("frame: no zstd at all", Expect::Damaged("d/b"), |craft| {
            let frame = frame_of(
                FrameKind::Chunks,
                Codec::Zstd,
                3_000,
                &noise(3, 500),
                of_b(craft),
            );
            craft.data_frames.insert(B, frame);
        }),
        class(
            "frame: raw of another length",
            Expect::Damaged("d/b"),
            |craft| {
                let frame = frame_of(
                    FrameKind::Chunks,
                    Codec::Raw,
                    3_000,
                    &noise(3, 500),
                    of_b(craft),
                );
                craft.data_frames.insert(B, frame);
            },
        ),
        class("frame: a delta", Expect::Damaged("d/b"), |craft| {
            let mut frame = frame_of(
                FrameKind::Chunks,
                Codec::Raw,
                3_000,
                &noise(3, 3_000),
                of_b(craft),
            );
            frame.bytes[4] = 4;
            craft.data_frames.insert(B, frame);
        }),
        class("frame: unknown codec", Expect::Damaged("d/b"), |craft| {
            let mut frame = frame_of(
                FrameKind::Chunks,
                Codec::Raw,
                3_000,
                &noise(3, 3_000),
                of_b(craft),
            );
            frame.bytes[5] = 9;
            craft.data_frames.insert(B, frame);
        }),
        class("frame: other bytes", Expect::Damaged("d/b"), |craft| {
            let frame = frame_of(
                FrameKind::Chunks,
                Codec::Raw,
                3_000,
                &noise(3, 3_000),
                of_b(craft),
            );
            craft.data_frames.insert(B, frame);
        }),
        class("frame: 2^32 - 1 bytes", Expect::Damaged("d/b"), |craft| {
            let mut frame = frame_of(
                FrameKind::Chunks,
                Codec::Raw,
                3_000,
                &noise(3, 3_000),
                of_b(craft),
            );
            frame.bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
            frame.bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
            craft.data_frames.insert(B, frame);
        }),
    ];
    let segment_bomb = bomb.clone();
    all.push(refused("frame: a segment that explodes", |craft| {
        craft.segment_frame = Box::new(move |frame| {
            *frame = lying_frame(
                FrameKind::Chunks,
                &segment_bomb,
                frame.plain_len,
                frame.chunks.clone(),
            );
        });
    }));
    all.push(recovered("frame: an index that explodes", |craft| {
        craft.index_frame = Box::new(move |frame| {
            *frame = lying_frame(FrameKind::IndexPart, &bomb, frame.plain_len, Vec::new());
        });
    }));
    all.push(recovered("frame: an index of another kind", |craft| {
        craft.index_frame = Box::new(|frame| frame.bytes[4] = 1);
    }));
    all.push(refused("object: cut in the middle", |craft| {
        craft.object = Box::new(|bytes| bytes.truncate(bytes.len() / 2));
    }));
    all.push(refused("object: empty", |craft| {
        craft.object = Box::new(Vec::clear)
    }));
    all.push(refused("object: zeros", |craft| {
        craft.object = Box::new(|bytes| bytes.fill(0))
    }));
    all
}

/// Records.
fn records() -> Vec<Class> {
    vec![
        refused("record: of another repository", |craft| {
            craft.record = Box::new(|record| record.repository = RepositoryId([8; 16]));
        }),
        refused("record: another number than its name", |craft| {
            craft.record = Box::new(|record| {
                record.seq = 2;
                record.parent = Some(CommitId([2; 16]));
            });
        }),
        refused("record: not canonical", |craft| {
            craft.record_bytes = Box::new(|bytes| bytes.push(b'\n'))
        }),
        refused("record: no JSON", |craft| {
            craft.record_bytes = Box::new(|bytes| bytes.truncate(300))
        }),
        refused("record: larger than one may be", |craft| {
            craft.record_bytes = Box::new(|bytes| bytes.resize(1 << 20, b' '));
        }),
        recovered("record: a place behind its pack", |craft| {
            craft.record = Box::new(|record| {
                if let Some(index) = &mut record.index {
                    index.offset = 900_000_000;
                }
            });
        }),
        recovered("record: a place with another hash", |craft| {
            craft.record = Box::new(|record| {
                if let Some(index) = &mut record.index {
                    index.hash.0[0] ^= 1;
                }
            });
        }),
        recovered("record: a root in the middle of a frame", |craft| {
            craft.record = Box::new(|record| {
                let Some(head) = &mut record.head else { return };
                head.root.offset += 3;
                head.root.length -= 3;
                if let Body::Snapshot(body) = &mut record.body {
                    body.root = head.root;
                }
            });
        }),
        class(
            "record: of a later version",
            Expect::Refused(ErrorKind::Unsupported),
            |craft| {
                craft.record_bytes = Box::new(|bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text.replace("\"version\":0", "\"version\":7").into_bytes();
                });
            },
        ),
        class(
            "record: of an unknown kind",
            Expect::Refused(ErrorKind::Unsupported),
            |craft| {
                craft.record_bytes = Box::new(|bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text
                        .replace("\"kind\":\"snapshot\"", "\"kind\":\"surprise\"")
                        .into_bytes();
                });
            },
        ),
    ]
}

// --- what must not happen ------------------------------------------------------------------------------------------------------

/// Highest resident memory since the last call, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM:"))
        .unwrap_or_default();
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let _ = fs::write("/proc/self/clear_refs", "5");
    kib << 10
}

async fn open(lab: &Lab, store: &Arc<dyn Store>, state: &str) -> Workspace {
    let options = OpenOptions {
        state_dir: Some(lab.path(state)),
        ..OpenOptions::default()
    };
    Workspace::with_store(Arc::clone(store), options)
        .await
        .unwrap()
}

/// Restores what `class` made, into nothing and over something, and checks everything that may not have happened.
async fn attempt(class: &Class) -> Result<(), String> {
    let lab = Lab::new();
    let store = class.craft.store().await;
    let outside = lab.fresh("outside");
    write(&outside.join("precious"), "precious");
    let over = lab.fresh("over");
    write(&over.join("mine"), "mine");
    write(&over.join("d/a"), "mine too");
    let guarded = tree(&outside);
    let (fresh, before) = (lab.path("fresh"), tree(&over));
    for (target, state) in [(&fresh, "s1"), (&over, "s2")] {
        let ws = open(&lab, &store, state).await;
        let options = RestoreOptions {
            delete: Delete::Yes,
            verify: true,
            ..RestoreOptions::default()
        };
        let token = CancelToken::new();
        let (cancel, done) = (token.clone(), CancelToken::new());
        let is_done = done.clone();
        // Whatever is believed by mistake must not fill the disk.
        let timer = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(5);
            while !is_done.is_cancelled() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
            cancel.cancel();
        });
        let outcome = ws.restore(target, options, None, token).await;
        done.cancel();
        timer.join().unwrap();
        match (class.expect, outcome) {
            (Expect::Recovered, Ok(report)) => {
                let is_whole = fs::read(target.join("d/b")).is_ok_and(|d| d.len() == 3_000);
                if !report.complete || !is_whole {
                    return Err(format!("{report:?}"));
                }
            }
            (Expect::Refused(_) | Expect::Recovered, Err(error)) => {
                let kind = match class.expect {
                    Expect::Refused(kind) => kind,
                    _ => ErrorKind::Corrupt,
                };
                if error.kind() != kind {
                    return Err(format!("{error:?} instead of {kind:?}"));
                }
                let found = match target.exists() {
                    true => tree(target),
                    false => BTreeMap::new(),
                };
                let is_untouched = match state {
                    "s1" => found.is_empty(),
                    _ => found == before,
                };
                if !is_untouched {
                    return Err(format!("{error:?}, but something was written: {found:?}"));
                }
            }
            (Expect::Damaged(path), Ok(report)) => {
                let hit: Vec<_> = report.skipped.iter().map(|s| &s.path[..]).collect();
                if report.complete || hit != [path.as_bytes()] {
                    return Err(format!("hit {report:?}"));
                }
                if target.join(path).exists() || !target.join("d/a").exists() {
                    return Err("a damaged file is there, or a sound one is not".to_owned());
                }
            }
            (_, outcome) => return Err(format!("{outcome:?}")),
        }
        if tree(&outside) != guarded {
            return Err("something outside of the target was changed".to_owned());
        }
    }
    others(class, &lab, &store).await
}

/// The other verbs meet the same repository: none may fail by a bug.
async fn others(class: &Class, lab: &Lab, store: &Arc<dyn Store>) -> Result<(), String> {
    let ws = open(lab, store, "s3").await;
    let check = ws
        .check(CheckOptions { read_data: 1.0 }, None, CancelToken::new())
        .await;
    match check {
        Ok(report) if report.complete => return Err("a check found nothing".to_owned()),
        Err(error) if error.kind() == ErrorKind::Internal => {
            return Err(format!("check: {error:?}"));
        }
        _ => {}
    }
    let mine = lab.fresh("mine");
    write(&mine.join("work"), "work");
    for take_over in [false, true] {
        let options = SaveOptions {
            take_over,
            ..SaveOptions::default()
        };
        match try_save(&ws, &mine, options).await {
            Err(error) if error.kind() == ErrorKind::Internal => {
                return Err(format!("save over {}: {error:?}", class.name));
            }
            _ => {}
        }
    }
    let _ = (ws.snapshots().await, ws.rescues().await);
    let _ = ws.usage(UsageOptions::default()).await;
    let _ = ws.growth(&[], UsageOptions::default()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sound_repository_is_sound() {
    let craft = Craft::sound();
    let store = craft.store().await;
    let lab = Lab::new();
    let ws = open(&lab, &store, "state").await;
    let target = lab.path("t");
    let report = restore(&ws, &target).await;
    assert!(report.complete, "{report:?}");
    assert_eq!(fs::read(target.join("d/b")).unwrap(), craft.data[B]);
    assert_eq!(tree(&target).len(), 4);
    let check = ws
        .check(CheckOptions { read_data: 1.0 }, None, CancelToken::new())
        .await
        .unwrap();
    assert!(check.complete, "{check:?}");
    let again = save(&ws, &target).await;
    assert_eq!((again.snapshot, again.files_opened), (SNAPSHOT.to_hex(), 0));
    // A large file with a list, several segments and omitted entries are sound as well.
    let mut craft = Craft::sound();
    let runs: Vec<Run> = (0..1_200).map(|n| craft.run(n % 2)).collect();
    let mut list = vec![b'L'];
    put_varint(&mut list, 1_200);
    put_runs(&mut list, &runs);
    let entry = listed_file(
        "large",
        2_400_000,
        1_200,
        &[(ChunkId::of(&list), list.len() as u64)],
    );
    craft.data.push(list);
    craft
        .segments
        .push(vec![entry, omitted("later", 77, 1), dir("m")]);
    craft.segments[0].pop();
    let store = craft.store().await;
    let ws = open(&lab, &store, "state-2").await;
    let report = restore(&ws, &lab.path("t2")).await;
    assert!(report.complete, "{report:?}");
    assert_eq!(fs::metadata(lab.path("t2/large")).unwrap().len(), 2_400_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_repositories_are_refused() {
    let all: Vec<Class> = [
        names(),
        relations(),
        entries(),
        trees(),
        lists(),
        indexes(),
        frames(),
        records(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(all.len() >= 25, "{}", all.len());
    let mut failures = Vec::new();
    peak_memory();
    for class in &all {
        if std::env::var_os("NBWS_NAMES").is_some() {
            println!("{}", class.name);
        }
        let (started, before) = (Instant::now(), peak_memory());
        let limit = Duration::from_secs(30);
        match tokio::time::timeout(limit, attempt(class)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => failures.push(format!(
                "{}: {}",
                class.name,
                why.chars().take(300).collect::<String>()
            )),
            Err(_) => failures.push(format!("{}: not done within {limit:?}", class.name)),
        }
        let (took, grown) = (started.elapsed(), peak_memory().saturating_sub(before));
        if took > Duration::from_secs(10) {
            failures.push(format!("{}: took {took:?}", class.name));
        }
        // Building a bomb takes room of its own.
        if grown > 200 << 20 && !class.name.contains("explodes") && !class.name.contains("300 MiB")
        {
            failures.push(format!("{}: took {} MiB", class.name, grown >> 20));
        }
    }
    println!("{} classes", all.len());
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
    assert!(!std::path::Path::new("/tmp/nbws-made-by-a-hostile-snapshot").exists());
}

/// Every byte of a sound repository's pack and record is flipped, one at a time: the right tree, or a typed error.
#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_never_pass() {
    let craft = Craft::sound();
    let store = craft.store().await;
    let lab = Lab::new();
    let good = lab.path("good");
    restore(&open(&lab, &store, "good-state").await, &good).await;
    let expected = tree(&good);
    let pack = store.list("packs/", None).await.unwrap().remove(0).key;
    let mut harmless = 0;
    for name in [pack, key::log(1), key::FORMAT.to_owned()] {
        let original = store.get(&name).await.unwrap();
        let step = if soaks("every single byte") {
            1
        } else {
            original.len() / 150 + 1
        };
        for at in (0..original.len()).step_by(step) {
            let mut bytes = original.to_vec();
            bytes[at] ^= 1 << (at % 8);
            store.put(&name, Bytes::from(bytes)).await.unwrap();
            let target = lab.path("t");
            let options = OpenOptions {
                state_dir: Some(lab.path("s")),
                ..OpenOptions::default()
            };
            let outcome = match Workspace::with_store(Arc::clone(&store), options).await {
                Ok(ws) => try_restore(&ws, &target, RestoreOptions::default()).await,
                Err(error) => Err(error),
            };
            match outcome {
                // Headers, checksums and directories are not looked at by a restore.
                Ok(report) if report.complete => {
                    assert_alike(&expected, &tree(&target));
                    harmless += 1;
                }
                Ok(report) => {
                    let found = tree(&target);
                    for skipped in &report.skipped {
                        assert!(
                            !found.contains_key(&skipped.path),
                            "{name} byte {at}: {report:?}"
                        );
                    }
                }
                Err(error) => {
                    let kinds = [
                        ErrorKind::Corrupt,
                        ErrorKind::Unsupported,
                        ErrorKind::NotFound,
                        ErrorKind::InvalidState,
                    ];
                    assert!(kinds.contains(&error.kind()), "{name} byte {at}: {error:?}");
                }
            }
            let _ = fs::remove_dir_all(&target);
            let _ = fs::remove_dir_all(lab.path("s"));
        }
        store.put(&name, original).await.unwrap();
    }
    println!("{harmless} flips were harmless");
}
