//! Stores that lose replies, deliver late, lie in listings, flip bits, lose objects or were put back to an older copy.
//!
//! The store under these tests panics on a delete: nothing that a save, a failed commit, a restore or a check does removes anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/faults.rs"]
mod faults;

use bytes::Bytes;
use faults::*;
use nbws_core::codec::Codec;
use nbws_core::format::Format;
use nbws_core::frame::{FrameDecoder, FrameKind};
use nbws_core::id::{CommitId, SnapshotId, WriterId};
use nbws_core::key::{self, ContainerKey};
use nbws_core::pack::{FrameSlot, TRAILER_BYTES, open_container};
use nbws_core::record::{Body, ClaimBody, Record, TombstoneBody};
use nbws_core::state::State;
use nbws_engine::options::{OpenOptions, RestoreOptions};
use nbws_engine::store::testkit::{Fault, Faulty, Recording, StaleList, Staleness, Verb};
use nbws_engine::{Error, ErrorKind, Result, Workspace};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn faulty(repo: &Repo) -> Arc<Faulty> {
    Arc::new(Faulty::new(repo.shelf.clone()))
}

/// The bytes of the record whose fate is open, from the local state of the first writer.
fn pending(repo: &Repo) -> Option<Bytes> {
    let text = fs::read_to_string(session_file(&repo.state())).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pending = file["session"]["pending"].as_str()?;
    Some(Bytes::copy_from_slice(pending.as_bytes()))
}

fn session_file(state: &Path) -> PathBuf {
    let mut path = state.to_path_buf();
    for _ in 0..2 {
        path = fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path.join("session.json")
}

fn newest(shelf: &Shelf) -> Record {
    let key = shelf.keys(key::LOG).pop().unwrap();
    Record::decode(&shelf.bytes(&key)).unwrap()
}

/// Puts a record of `body` after the newest one.
fn append(shelf: &Shelf, body: Body, change: impl Fn(&mut Record)) -> Record {
    let newest = newest(shelf);
    let mut record = Record {
        body,
        commit: CommitId([6; 16]),
        parent: Some(newest.commit),
        seq: newest.seq + 1,
        writer: WriterId([8; 16]),
        ..newest
    };
    change(&mut record);
    shelf.set(&key::log(record.seq), record.encode().unwrap());
    record
}

/// Another machine saves an edit of the head.
async fn rival_saves(repo: &Repo) -> (String, Listing) {
    let (ws, directory) = repo.stranger().await;
    restore(&ws, &directory).await.unwrap();
    edit(&directory, 77);
    let id = save(&ws, &directory).await.unwrap().snapshot;
    (id, listing(&directory))
}

fn refused(opened: Result<Workspace>) -> Error {
    opened.err().expect("it does not open")
}

async fn assert_rescue(repo: &Repo, error: &Error, tree: &Listing) {
    let rescue = error.rescue().unwrap_or_else(|| panic!("{error:?}"));
    let (_, found) = tree_of(repo.shelf.clone(), rescue).await.unwrap();
    assert_eq!(difference(&found, tree), None);
}

// Replies that are lost, late or unclear.

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_of_the_record_end_in_one_commit() {
    for (fault, times) in [
        (Fault::LandWithoutReply, 1),
        (Fault::FailBefore, 1),
        (Fault::FailBefore, 3),
        (Fault::LandLater, 1),
        (Fault::LandLater, 2),
    ] {
        let mut repo = Repo::with(1).await;
        let store = faulty(&repo);
        store.when(Some(Verb::Create), key::LOG, 0, times, fault);
        // The first look may fail as well.
        store.when(Some(Verb::Get), key::LOG, 1, 1, Fault::FailBefore);
        let recording = Arc::new(Recording::new(store.clone()));
        let ws = repo.writer_on(recording.clone()).await;
        edit(&repo.work(), 1);
        let report = save(&ws, &repo.work()).await.unwrap();
        store.release().await;
        assert_eq!((repo.seq(), report.seq), (2, 2), "{fault:?}");
        let requests = recording.take();
        assert!(requests.iter().all(|r| r.verb != Verb::Delete));
        let packs = requests
            .iter()
            .filter(|r| r.verb == Verb::Put && r.key.starts_with(key::PACKS));
        assert_eq!(packs.count(), 1, "packs are not sent again");
        repo.saved.push((report.snapshot, listing(&repo.work())));
        let (id, tree) = repo.latest();
        repo.assert_head(id, tree).await;
        repo.assert_clean().await;
    }
}

/// The save of an edit ends without an answer of the store; what it sent lands as `fault` says.
async fn unclear_save(repo: &Repo, fault: Fault) -> (Arc<Faulty>, Bytes) {
    edit(&repo.work(), 1);
    let store = faulty(repo);
    store.when(Some(Verb::Create), key::LOG, 0, 1, fault);
    // The first read is of the slot after the newest record; the second looks what became of the record.
    store.when(Some(Verb::Get), key::LOG, 2, 1, Fault::Die);
    let ws = repo.writer_on(store.clone()).await;
    let error = save(&ws, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error:?}");
    assert!(error.rescue().is_none());
    let sent = pending(repo).expect("the record is known here");
    assert_eq!(Record::decode(&sent).unwrap().seq, 2);
    (store, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_record_is_sent_again_byte_for_byte_before_anything_else() {
    for further_work in [false, true] {
        let repo = Repo::with(1).await;
        let (_store, sent) = unclear_save(&repo, Fault::FailBefore).await;
        assert_eq!(repo.seq(), 1);
        let unclear = listing(&repo.work());
        if further_work {
            edit(&repo.work(), 2);
        }
        let report = save(&repo.writer().await, &repo.work()).await.unwrap();
        assert_eq!(repo.shelf.bytes(&key::log(2)), sent);
        let second = &repo.writer().await.snapshots().await.unwrap()[1].snapshot;
        let (_, found) = tree_of(repo.shelf.clone(), second).await.unwrap();
        assert_eq!(difference(&found, &unclear), None);
        assert_eq!(pending(&repo), None);
        repo.assert_head(&report.snapshot, &listing(&repo.work()))
            .await;
        repo.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_record_that_lands_late_is_found() {
    let repo = Repo::with(1).await;
    let (store, sent) = unclear_save(&repo, Fault::LandLater).await;
    store.revive();
    store.release().await;
    assert_eq!(repo.shelf.bytes(&key::log(2)), sent);
    let report = save(&repo.writer().await, &repo.work()).await.unwrap();
    repo.assert_head(&report.snapshot, &listing(&repo.work()))
        .await;
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_record_changes_nothing_once_its_slot_is_taken() {
    let repo = Repo::with(1).await;
    let (store, _) = unclear_save(&repo, Fault::LandLater).await;
    let mine = listing(&repo.work());
    let (theirs, tree) = rival_saves(&repo).await;
    let log = repo.shelf.copy();
    store.revive();
    store.release().await;
    assert_eq!(repo.shelf.keys(""), log.keys(""));
    for key in repo.shelf.keys("") {
        assert_eq!(repo.shelf.bytes(&key), log.bytes(&key));
    }
    repo.assert_head(&theirs, &tree).await;
    // The writer learns that it lost; its work is kept.
    let error = save(&repo.writer().await, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_rescue(&repo, &error, &mine).await;
    repo.assert_head(&theirs, &tree).await;
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_record_that_lost_to_a_rescue_is_saved_again() {
    let repo = Repo::with(1).await;
    let (_store, _) = unclear_save(&repo, Fault::FailBefore).await;
    let (ws, stray) = repo.stranger().await;
    write(&stray.join("a"), "stray");
    assert!(save(&ws, &stray).await.unwrap_err().rescue().is_some());
    let report = save(&repo.writer().await, &repo.work()).await.unwrap();
    assert_eq!(report.seq, 3);
    repo.assert_head(&report.snapshot, &listing(&repo.work()))
        .await;
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_unclear_ends_the_save_in_time() {
    if !soaks("a store that stays unclear for a minute") {
        return;
    }
    let repo = Repo::with(1).await;
    edit(&repo.work(), 1);
    let store = faulty(&repo);
    store.when(Some(Verb::Create), key::LOG, 0, u64::MAX, Fault::FailBefore);
    store.when(Some(Verb::Get), key::LOG, 1, u64::MAX, Fault::FailBefore);
    let ws = repo.writer_on(store.clone()).await;
    let begun = Instant::now();
    let error = save(&ws, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(90));
    store.calm();
    save(&ws, &repo.work()).await.unwrap();
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_leaves_the_head_and_the_next_save_works() {
    for (verb, prefix) in [(Verb::Put, key::PACKS), (Verb::Create, key::LOG)] {
        for (fault, kind) in [
            (Fault::Full, ErrorKind::QuotaExceeded),
            (Fault::Deny, ErrorKind::Denied),
        ] {
            let repo = Repo::with(1).await;
            edit(&repo.work(), 1);
            let store = faulty(&repo);
            store.when(Some(verb), prefix, 0, 1, fault);
            let ws = repo.writer_on(store).await;
            let error = save(&ws, &repo.work()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error:?}");
            let (id, tree) = repo.latest();
            repo.assert_head(id, tree).await;
            assert_eq!(pending(&repo), None, "a refused record is not sent later");
            let report = save(&ws, &repo.work()).await.unwrap();
            assert_eq!(report.seq, 2);
            repo.assert_head(&report.snapshot, &listing(&repo.work()))
                .await;
            repo.assert_clean().await;
        }
    }
}

/// Reads that lie once: the verb repeats, fails or leaves files out, but never goes wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_lies_is_found_out() {
    let mut tried = 0;
    for fault in [Fault::FlipBit, Fault::Short] {
        for number in 0.. {
            let repo = Repo::with(2).await;
            let store = faulty(&repo);
            let (ws, directory) = repo.stranger_on(store.clone()).await;
            store.at(store.operations() + number, fault);
            let before = store.operations();
            let outcome = restore(&ws, &directory).await;
            if store.operations() - before <= number {
                break;
            }
            let tree = &repo.latest().1;
            for (path, fact) in listing(&directory) {
                let is_done = fact.content == tree[&path].content;
                assert!(is_done || directory.join(RESTORING).exists(), "{path:?}");
            }
            match outcome {
                Ok(report) if report.complete => {
                    assert_eq!(difference(&listing(&directory), tree), None);
                }
                Ok(_) => assert!(directory.join(RESTORING).exists()),
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "{fault:?} {number} {e:?}"),
            }
            assert!(restore(&ws, &directory).await.unwrap().complete);
            assert_eq!(difference(&listing(&directory), tree), None);
            tried += 1;
        }
        for number in 0.. {
            let repo = Repo::with(1).await;
            edit(&repo.work(), 1);
            fs::remove_dir_all(session_file(&repo.state()).with_file_name("index")).unwrap();
            let store = faulty(&repo);
            let ws = repo.writer_on(store.clone()).await;
            store.at(store.operations() + number, fault);
            let before = store.operations();
            let outcome = save(&ws, &repo.work()).await;
            if store.operations() - before <= number {
                break;
            }
            if let Err(e) = outcome {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{fault:?} {number} {e:?}");
            }
            let report = save(&ws, &repo.work()).await.unwrap();
            repo.assert_head(&report.snapshot, &listing(&repo.work()))
                .await;
            repo.assert_clean().await;
            tried += 1;
        }
    }
    assert!(tried >= 20, "{tried}");
}

// Objects that are damaged or gone.

/// What one frame of a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    /// Pieces of these files of each of the two snapshots.
    Data(BTreeSet<(String, Vec<u8>)>),
    Segment,
    SnapshotRoot,
    IndexPart,
    IndexRoot,
}

fn frames(repo: &Repo, key: &str) -> Vec<(FrameSlot, Holds)> {
    let bytes = repo.shelf.bytes(key);
    let format = Format::decode(&repo.shelf.bytes(key::FORMAT)).unwrap();
    let parsed = ContainerKey::parse(key).unwrap();
    let slots = open_container(&bytes, |r| format.accepts(r), parsed).unwrap();
    let mut decoder = FrameDecoder::new().unwrap();
    let mut plain = Vec::new();
    let part = |slot: &FrameSlot| {
        let stored = &bytes[slot.offset as usize..][..slot.stored_len as usize];
        let decoded = decoder.decode(stored, slot.kind, slot.plain_len, &mut plain);
        decoded.unwrap();
        match slot.kind {
            FrameKind::IndexPart => return Holds::IndexPart,
            FrameKind::IndexRoot => return Holds::IndexRoot,
            _ => {}
        }
        let mut files = BTreeSet::new();
        let mut rest = plain.as_slice();
        for chunk in &slot.chunks {
            let (piece, after) = rest.split_at(chunk.length as usize);
            files.extend(files_with(repo, piece));
            rest = after;
        }
        match plain[0] {
            _ if !files.is_empty() => Holds::Data(files),
            b'T' => Holds::Segment,
            b'S' => Holds::SnapshotRoot,
            other => panic!("what is {other}?"),
        }
    };
    let parts: Vec<Holds> = slots.iter().map(part).collect();
    slots.into_iter().zip(parts).collect()
}

/// Files of any snapshot that hold `piece` as a chunk.
fn files_with(repo: &Repo, piece: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for (id, tree) in &repo.saved {
        for (path, fact) in tree {
            let is_file = fact.mode & 0o170_000 == 0o100_000;
            let holds = match fact.content.len() {
                0..=65_536 => fact.content == piece,
                _ => fact.content.windows(piece.len()).any(|w| w == piece),
            };
            if is_file && holds {
                out.push((id.clone(), path.to_str().unwrap().as_bytes().to_vec()));
            }
        }
    }
    out
}

/// Damage to one object, and the parts that it hits.
struct Hit {
    what: String,
    key: String,
    parts: Vec<Holds>,
    /// Files that lose bytes, if these are fewer than the ones in the parts.
    files: Option<BTreeSet<(String, Vec<u8>)>>,
    inflict: Box<dyn Fn(&Shelf)>,
}

/// The files that use the very chunk at `at` of the pack, where the frame is not compressed; then the others stay whole.
fn files_at(
    repo: &Repo,
    key: &str,
    slot: &FrameSlot,
    at: usize,
) -> Option<BTreeSet<(String, Vec<u8>)>> {
    if slot.codec != Codec::Raw {
        return None;
    }
    let bytes = repo.shelf.bytes(key);
    let mut start = slot.offset as usize + 24;
    for chunk in &slot.chunks {
        let end = start + chunk.length as usize;
        if (start..end).contains(&at) {
            return Some(files_with(repo, &bytes[start..end]).into_iter().collect());
        }
        start = end;
    }
    None
}

/// Damages the object of this name.
type Inflict = Box<dyn Fn(&Shelf, &str)>;

fn all_hits(repo: &Repo) -> Vec<Hit> {
    let mut hits = Vec::new();
    for key in repo.shelf.keys(key::PACKS) {
        let frames = frames(repo, &key);
        let mut hit = |what: &str, parts, files, inflict: Inflict| {
            let name = key.clone();
            hits.push(Hit {
                what: format!("{what} of {key}, {parts:?}"),
                key: key.clone(),
                parts,
                files,
                inflict: Box::new(move |shelf| inflict(shelf, &name)),
            });
        };
        for (slot, part) in &frames {
            let (first, last) = (slot.offset as usize + 24, slot.offset + slot.stored_len - 1);
            for at in [first, (first + last as usize) / 2, last as usize] {
                let inflict = move |shelf: &Shelf, key: &str| shelf.flip(key, at);
                let files = files_at(repo, &key, slot, at);
                hit("flip", vec![part.clone()], files, Box::new(inflict));
            }
            // Everything behind the cut is gone, too.
            let behind = frames.iter().filter(|(s, _)| s.offset >= slot.offset);
            let inflict = move |shelf: &Shelf, key: &str| shelf.truncate(key, first);
            let parts = behind.map(|(_, part)| part.clone()).collect();
            hit("cut", parts, None, Box::new(inflict));
        }
        let len = repo.shelf.bytes(&key).len();
        for at in [len - 1, len - TRAILER_BYTES, len - TRAILER_BYTES - 10, 9] {
            let inflict = move |shelf: &Shelf, key: &str| shelf.flip(key, at);
            hit("flip outside of frames", vec![], None, Box::new(inflict));
        }
        let inflict = move |shelf: &Shelf, key: &str| shelf.truncate(key, len - 5);
        hit("cut trailer", vec![], None, Box::new(inflict));
        let all = || frames.iter().map(|(_, part)| part.clone()).collect();
        hit(
            "loss",
            all(),
            None,
            Box::new(|shelf, key| shelf.remove(key)),
        );
        let other = repo.shelf.keys(key::PACKS);
        let other = other.into_iter().find(|k| *k != key).unwrap();
        let other = repo.shelf.bytes(&other);
        let inflict = move |shelf: &Shelf, key: &str| shelf.set(key, other.clone());
        hit("swap", all(), None, Box::new(inflict));
    }
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_packs_cost_the_files_in_them_and_are_named() {
    let repo = Repo::with(2).await;
    let whole = repo.shelf.copy();
    let hits = all_hits(&repo);
    assert!(hits.len() >= 40, "{}", hits.len());
    for hit in hits {
        let shelf = whole.copy();
        (hit.inflict)(&shelf);
        let repo = Repo {
            root: scratch(),
            shelf,
            saved: repo.saved.clone(),
        };
        restore_from_damaged(&repo, &hit).await;
        check_damaged(&repo, &hit).await;
    }
}

async fn restore_from_damaged(repo: &Repo, hit: &Hit) {
    let (id, tree) = repo.latest();
    let (ws, directory) = repo.stranger().await;
    let in_parts = hit.parts.iter().filter_map(|part| match part {
        Holds::Data(files) => Some(files),
        _ => None,
    });
    let hits = match &hit.files {
        Some(files) => vec![files],
        None => in_parts.collect(),
    };
    let expected: BTreeSet<Vec<u8>> = hits
        .into_iter()
        .flatten()
        .filter(|(snapshot, _)| snapshot == id)
        .map(|(_, path)| path.clone())
        .collect();
    let is_newest = hit.key.starts_with("packs/0000000000000002-");
    // With the directory behind it cut off as well, an index can't be made anew.
    let needs = |part: &Holds| match part {
        Holds::Segment | Holds::SnapshotRoot => true,
        Holds::IndexPart | Holds::IndexRoot => hit.what.starts_with("cut"),
        Holds::Data(_) => false,
    };
    let outcome = restore(&ws, &directory).await;
    if is_newest && hit.parts.iter().any(needs) {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {error:?}", hit.what);
        assert!(error.to_string().contains(&hit.key), "{error}");
        assert_eq!(listing(&directory), Listing::new(), "{}", hit.what);
        assert!(!directory.join(RESTORING).exists());
        return;
    }
    let report = outcome.unwrap_or_else(|e| panic!("{}: {e:?}", hit.what));
    let skipped: BTreeSet<Vec<u8>> = report.skipped.iter().map(|s| s.path.clone()).collect();
    assert_eq!(skipped, expected, "{}", hit.what);
    let found = listing(&directory);
    for (path, fact) in tree {
        match found.get(path) {
            Some(there) => assert_eq!(there, fact, "{}: {path:?}", hit.what),
            None => assert!(skipped.contains(path.to_str().unwrap().as_bytes())),
        }
    }
    assert_eq!(found.len() + skipped.len(), tree.len(), "{}", hit.what);
    assert_eq!(report.complete, skipped.is_empty());
    for skipped in &report.skipped {
        let is_named = skipped.reason.contains(&hit.key);
        let follows = skipped.reason.contains("further name");
        assert!(is_named || follows, "{}: {skipped:?}", hit.what);
    }
    if !report.complete {
        let error = save(&ws, &directory).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState);
        assert_rescue(repo, &error, &found).await;
    }
}

async fn check_damaged(repo: &Repo, hit: &Hit) {
    let (ws, _) = repo.stranger().await;
    let report = check(&ws)
        .await
        .unwrap_or_else(|e| panic!("check, {}: {e:?}", hit.what));
    assert!(!report.complete, "{}", hit.what);
    let damage = report.damaged.iter().find(|d| d.object == hit.key);
    let damage = damage.unwrap_or_else(|| panic!("{}: {:?}", hit.what, report.damaged));
    let named: BTreeSet<_> = damage.files.iter().cloned().collect();
    for part in &hit.parts {
        // Of a snapshot whose tree is lost the files are not known.
        let Holds::Data(files) = part else { continue };
        let is_known = hit.parts.len() == 1;
        assert!(!is_known || named == *files, "{}: {named:?}", hit.what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_format_is_named_and_nothing_is_touched() {
    let repo = Repo::with(1).await;
    let bytes = repo.shelf.bytes(key::FORMAT);
    let flips = (0..bytes.len()).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    let cuts = (0..bytes.len()).map(|len| bytes[..len].to_vec());
    for damaged in flips.chain(cuts) {
        repo.shelf.set(key::FORMAT, damaged.clone());
        let text = String::from_utf8_lossy(&damaged).into_owned();
        let error = match look(repo.shelf.clone(), &repo.state()).await {
            Err(error) => error,
            // A bit in a number can't be told from another number, but writing is safe: ids no longer match.
            Ok(ws) => match restore(&ws, &repo.root.path().join("copy")).await {
                Err(error) => error,
                Ok(report) => {
                    assert!(report.complete, "{text}");
                    continue;
                }
            },
        };
        let kinds = [ErrorKind::Corrupt, ErrorKind::Unsupported];
        assert!(kinds.contains(&error.kind()), "{text}: {error:?}");
    }
    repo.shelf.set(key::FORMAT, bytes);
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_format_is_never_a_new_repository() {
    let repo = Repo::with(1).await;
    repo.shelf.remove(key::FORMAT);
    let before = repo.shelf.keys("");
    let error = refused(look(repo.shelf.clone(), &repo.state()).await);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = refused(open(repo.shelf.clone(), &repo.state()).await);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains("format"), "{error}");
    assert_eq!(repo.shelf.keys(""), before);
    // Somebody remembers records of an empty place.
    let options = OpenOptions {
        create: true,
        floor: Some(3),
        ..OpenOptions::default()
    };
    let empty = Shelf::new();
    let error = refused(Workspace::with_store(empty.clone(), options).await);
    assert_eq!(error.kind(), ErrorKind::RollbackDetected, "{error:?}");
    assert!(empty.keys("").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_refused_before_anything_is_touched() {
    let repo = Repo::with(1).await;
    edit(&repo.work(), 1);
    let text = String::from_utf8(repo.shelf.bytes(key::FORMAT).to_vec()).unwrap();
    let newer = [
        text.replace("\"version\":0", "\"version\":1"),
        text.replace("\"version\":0", "\"version\":7,\"what\":{}"),
    ];
    for newer in newer {
        repo.shelf.set(key::FORMAT, newer);
        let recording = Arc::new(Recording::new(repo.shelf.clone()));
        let error = refused(open(recording.clone(), &repo.state()).await);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let asked = recording.take_verbs();
        assert_eq!(asked, [(Verb::Get, key::FORMAT.to_owned())]);
    }
    // A feature that this program does not know: it may look, but not write.
    let feature = text.replace("\"features\":[]", "\"features\":[\"later\"]");
    repo.shelf.set(key::FORMAT, feature);
    let before = repo.shelf.keys("");
    let ws = repo.writer().await;
    let error = save(&ws, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("later"), "{error}");
    assert_eq!(repo.shelf.keys(""), before);
}

// Records that can't be understood.

/// What may lie in a slot of the log instead of a record.
fn strange_records(good: &Bytes) -> Vec<(&'static str, Vec<u8>, ErrorKind)> {
    let text = String::from_utf8(good.to_vec()).unwrap();
    let kind = text.replace("\"kind\":\"snapshot\"", "\"kind\":\"future\"");
    let version = text.replace("\"version\":0", "\"version\":1");
    let mut flipped = good.to_vec();
    // In a digit it would be another number: records carry no checksum of their own.
    flipped[1] ^= 4;
    vec![
        ("unknown kind", kind.into_bytes(), ErrorKind::Unsupported),
        ("newer", version.into_bytes(), ErrorKind::Unsupported),
        ("flipped", flipped, ErrorKind::Corrupt),
        ("cut", good[..good.len() / 2].to_vec(), ErrorKind::Corrupt),
        ("empty", Vec::new(), ErrorKind::Corrupt),
        ("noise", noise(3, 700), ErrorKind::Corrupt),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn saves_refuse_a_newest_record_that_they_do_not_understand_and_restores_go_on() {
    let repo = Repo::with(2).await;
    let slot = key::log(3);
    let open_writer = repo.writer().await;
    save(&open_writer, &repo.work()).await.unwrap();
    edit(&repo.work(), 9);
    for (what, bytes, kind) in strange_records(&repo.shelf.bytes(&key::log(2))) {
        repo.shelf.set(&slot, bytes.clone());
        let head = repo.shelf.keys(key::LOG);
        for ws in [&open_writer, &repo.writer().await] {
            let error = save(ws, &repo.work()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{what}: {error:?}");
            assert!(error.to_string().contains(&slot), "{what}: {error}");
        }
        assert_eq!(repo.shelf.keys(key::LOG), head, "{what}");
        assert_eq!(repo.shelf.bytes(&slot), bytes, "{what}");
        // Readers get what they can understand, and are told.
        for (name, (id, tree)) in [
            ("latest", &repo.saved[1]),
            (repo.saved[0].0.as_str(), &repo.saved[0]),
        ] {
            let (ws, directory) = repo.stranger().await;
            let report = restore_with(&ws, &directory, of(name)).await;
            let report = report.unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_eq!((&report.snapshot, report.complete), (id, true));
            assert_eq!(difference(&listing(&directory), tree), None);
            let warned = report.warnings.iter().any(|w| w.contains(&slot));
            assert!(warned, "{what}: {:?}", report.warnings);
            // What was restored may be outdated: nothing is built on it.
            edit(&directory, 4);
            let error = save(&ws, &directory).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{what}: {error:?}");
        }
        let (ws, _) = repo.stranger().await;
        let report = check(&ws).await.unwrap();
        let names: Vec<_> = report.damaged.iter().map(|d| d.object.as_str()).collect();
        assert_eq!(names, [slot.as_str()], "{what}");
    }
    repo.shelf.remove(&slot);
    save(&open_writer, &repo.work()).await.unwrap();
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_record_that_is_damaged_or_gone_stops_neither_saves_nor_restores() {
    let repo = Repo::with(3).await;
    let slot = key::log(2);
    let good = repo.shelf.bytes(&slot);
    let mut strange = strange_records(&good);
    strange.push(("gone", Vec::new(), ErrorKind::Corrupt));
    for (what, bytes, _) in strange {
        repo.shelf.set(&slot, bytes);
        if what == "gone" {
            repo.shelf.remove(&slot);
        }
        for name in ["latest", repo.saved[0].0.as_str()] {
            let (ws, directory) = repo.stranger().await;
            let report = restore_with(&ws, &directory, of(name)).await;
            assert!(report.unwrap_or_else(|e| panic!("{what}: {e:?}")).complete);
        }
        edit(&repo.work(), 9);
        save(&repo.writer().await, &repo.work()).await.unwrap();
        let (ws, _) = repo.stranger().await;
        let report = check(&ws).await.unwrap();
        let names: Vec<_> = report.damaged.iter().map(|d| d.object.as_str()).collect();
        assert_eq!(names, [slot.as_str()], "{what}");
        let error = ws.snapshots().await.unwrap_err();
        assert!(error.to_string().contains(&slot), "{what}: {error}");
    }
    repo.shelf.set(&slot, good);
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_or_a_wrong_hint_is_no_head() {
    let (repo, other) = (Repo::with(1).await, Repo::with(2).await);
    for hint in ["{\"seq\":900}", "{\"seq\":0}", "{", "{\"seq\":1}x", ""] {
        repo.shelf.set(key::HINT, hint);
        let (id, tree) = repo.latest();
        repo.assert_head(id, tree).await;
    }
    repo.shelf
        .set(&key::log(2), other.shelf.bytes(&key::log(2)));
    edit(&repo.work(), 1);
    let error = save(&repo.writer().await, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("belongs to"), "{error}");
}

// Stores that were put back to an older copy, and listings that lie.

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_put_back_is_found_out_by_floor_and_by_local_state() {
    let repo = Repo::with(1).await;
    let older = repo.shelf.copy();
    let ws = repo.writer().await;
    edit(&repo.work(), 1);
    save(&ws, &repo.work()).await.unwrap();
    edit(&repo.work(), 2);
    let before = listing(&repo.work());
    let back = Repo {
        root: repo.root,
        shelf: older,
        saved: repo.saved,
    };
    let objects = back.shelf.keys("");
    // By what the first writer knows.
    let known = back.writer().await;
    for error in [
        save(&known, &back.work()).await.unwrap_err(),
        restore(&known, &back.work()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::RollbackDetected, "{error:?}");
    }
    assert_eq!(difference(&listing(&back.work()), &before), None);
    // By what a caller remembers.
    let options = OpenOptions {
        floor: Some(2),
        state_dir: Some(back.root.path().join("fresh")),
        ..OpenOptions::default()
    };
    let told = Workspace::with_store(back.shelf.clone(), options)
        .await
        .unwrap();
    let copy = back.root.path().join("copy");
    for error in [
        save(&told, &back.work()).await.unwrap_err(),
        restore(&told, &copy).await.unwrap_err(),
        told.snapshots().await.unwrap_err(),
        check(&told).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::RollbackDetected, "{error:?}");
    }
    assert_eq!(back.shelf.keys(""), objects);
    assert_eq!(listing(&copy), Listing::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_put_back_and_went_on_is_found_out() {
    let repo = Repo::with(1).await;
    let older = repo.shelf.copy();
    edit(&repo.work(), 1);
    save(&repo.writer().await, &repo.work()).await.unwrap();
    edit(&repo.work(), 2);
    let mine = listing(&repo.work());
    let back = Repo {
        root: repo.root,
        shelf: older,
        saved: repo.saved,
    };
    // Another machine has saved meanwhile: the log is as long as before, or longer.
    for expected in [ErrorKind::RollbackDetected, ErrorKind::Fenced] {
        let (id, tree) = rival_saves(&back).await;
        let objects = back.shelf.keys("");
        let error = save(&back.writer().await, &back.work()).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{error:?}");
        match error.rescue() {
            Some(_) => assert_rescue(&back, &error, &mine).await,
            None => assert_eq!(back.shelf.keys(""), objects),
        }
        back.assert_head(&id, &tree).await;
        back.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_that_lie_change_nothing() {
    for staleness in [
        Staleness::Empty,
        Staleness::DropLast(1),
        Staleness::DropLast(3),
        Staleness::Frozen(Vec::new()),
    ] {
        let mut repo = Repo::with(1).await;
        let store = Arc::new(StaleList::new(repo.shelf.clone()));
        match &staleness {
            Staleness::Frozen(_) => store.freeze().await.unwrap(),
            other => store.set(other.clone()),
        }
        for i in 1..4 {
            edit(&repo.work(), i);
            let ws = repo.writer_on(store.clone()).await;
            let report = save(&ws, &repo.work()).await.unwrap();
            assert_eq!(report.seq, i + 1, "{staleness:?}");
            repo.saved.push((report.snapshot, listing(&repo.work())));
        }
        let (ws, directory) = repo.stranger_on(store.clone()).await;
        let report = restore(&ws, &directory).await.unwrap();
        let (id, tree) = repo.latest();
        assert_eq!(&report.snapshot, id, "{staleness:?}");
        assert_eq!(difference(&listing(&directory), tree), None);
        let report = check(&ws).await.unwrap();
        assert!(report.complete, "{staleness:?}: {report:?}");
        assert_eq!(ws.snapshots().await.unwrap().len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_an_interrupted_save_are_used_again_only_if_they_are_there() {
    for is_there in [true, false] {
        let repo = Repo::with(1).await;
        edit(&repo.work(), 1);
        let store = faulty(&repo);
        store.when(Some(Verb::Create), key::LOG, 0, 1, Fault::Full);
        let ws = repo.writer_on(store).await;
        assert!(save(&ws, &repo.work()).await.is_err());
        let packs = repo.shelf.keys(key::PACKS);
        let orphan = packs.iter().find(|k| k.contains("0000000000000002-"));
        if !is_there {
            repo.shelf.remove(orphan.unwrap());
        }
        let report = save(&repo.writer().await, &repo.work()).await.unwrap();
        assert_eq!(report.bytes_new == 0, is_there, "{report:?}");
        repo.assert_head(&report.snapshot, &listing(&repo.work()))
            .await;
        repo.assert_clean().await;
    }
}

// Notebooks that are deleted, purged or running elsewhere.

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_notebook_takes_nothing_more() {
    let repo = Repo::with(1).await;
    let delete = |purge| Body::Tombstone(TombstoneBody { purge });
    let ws = repo.writer().await;
    append(&repo.shelf, delete(false), |r| r.state = State::Deleting);
    append(&repo.shelf, delete(true), |r| {
        (r.head, r.index, r.settings) = (None, None, None);
    });
    edit(&repo.work(), 1);
    let objects = repo.shelf.keys("");
    for ws in [ws, repo.writer().await] {
        let error = save(&ws, &repo.work()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
        assert_eq!(error.rescue(), None);
        let error = take_over(&ws, &repo.work()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
    }
    assert_eq!(repo.shelf.keys(key::LOG).len(), 3);
    // A process that did not know yet may have uploaded; one that asks first has not.
    let mut uploads = repo.shelf.keys(key::PACKS).len() - (objects.len() - 4);
    assert!(uploads <= 1, "{uploads}");
    uploads = repo.shelf.keys("").len();
    let error = save(&repo.writer().await, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    assert_eq!(repo.shelf.keys("").len(), uploads);
    let (ws, directory) = repo.stranger().await;
    let error = restore(&ws, &directory).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_during_a_save_leaves_no_rescue() {
    let repo = Repo::with(1).await;
    edit(&repo.work(), 1);
    let inner = repo.shelf.clone();
    let purge = move || -> futures::future::BoxFuture<'static, ()> {
        let delete = |purge| Body::Tombstone(TombstoneBody { purge });
        append(&inner, delete(false), |r| r.state = State::Deleting);
        append(&inner, delete(true), |r| {
            (r.head, r.index, r.settings) = (None, None, None);
        });
        Box::pin(async {})
    };
    let store = Trap::before(repo.shelf.clone(), Verb::Create, key::LOG, purge);
    let error = save(&repo.writer_on(store).await, &repo.work()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
    assert_eq!((error.rescue(), repo.seq()), (None, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_a_deleted_notebook_is_kept_beside_it() {
    let repo = Repo::with(1).await;
    let ws = repo.writer().await;
    save(&ws, &repo.work()).await.unwrap();
    append(
        &repo.shelf,
        Body::Tombstone(TombstoneBody { purge: false }),
        |r| r.state = State::Deleting,
    );
    for (ws, n) in [(ws, 1), (repo.writer().await, 2)] {
        edit(&repo.work(), n);
        let error = save(&ws, &repo.work()).await.unwrap_err();
        let kinds = [ErrorKind::Fenced, ErrorKind::InvalidState];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert_rescue(&repo, &error, &listing(&repo.work())).await;
        assert_eq!(newest(&repo.shelf).state, State::Deleting);
    }
    let (id, tree) = repo.latest();
    repo.assert_head(id, tree).await;
    repo.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_that_runs_elsewhere_is_not_saved_over() {
    let repo = Repo::with(1).await;
    let claim = ClaimBody {
        resident: true,
        take_over: false,
    };
    append(&repo.shelf, Body::Claim(claim), |r| {
        (r.state, r.epoch) = (State::Starting, r.epoch + 1);
    });
    edit(&repo.work(), 1);
    let objects = repo.shelf.keys("");
    let ws = repo.writer().await;
    let error = save(&ws, &repo.work()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
    assert_eq!(repo.shelf.keys(""), objects);
    let report = take_over(&ws, &repo.work()).await.unwrap();
    assert_eq!(newest(&repo.shelf).state, State::Stopped);
    repo.assert_head(&report.snapshot, &listing(&repo.work()))
        .await;
}

// Programs that break off.

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_below_the_engine_is_an_error_and_nothing_looks_finished() {
    for number in 0.. {
        let repo = Repo::with(1).await;
        let (ws, directory) = repo.stranger().await;
        drop(ws);
        let store = Trap::at(repo.shelf.clone(), 1 + number, false, || {
            panic!("as planned")
        });
        let (ws, _) = repo.stranger_on(store.clone()).await;
        let (target, process) = (directory.clone(), ws.clone());
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(restore(&process, &target))
        });
        let outcome = running.join();
        if !store.sprung() {
            assert!(number > 5);
            break;
        }
        // In the caller's own task the panic is the caller's.
        if let Ok(outcome) = outcome {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Internal);
        }
        assert!(directory.join(RESTORING).exists() || listing(&directory).is_empty());
        assert!(restore(&ws, &directory).await.unwrap().complete);
        assert_eq!(difference(&listing(&directory), &repo.latest().1), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_restore_never_shows_half_a_file() {
    let repo = Repo::with(0).await;
    write(&repo.work().join("huge.bin"), noise(5, 9_000_000));
    let ws = repo.writer().await;
    save(&ws, &repo.work()).await.unwrap();
    let (_, directory) = repo.stranger().await;
    fs::create_dir_all(&directory).unwrap();
    for number in 0..60 {
        let store = faulty(&repo);
        let (ws, _) = repo.stranger_on(store.clone()).await;
        store.at(store.operations() + number, Fault::Die);
        let options = RestoreOptions {
            paths: Some(vec![b"huge.bin".to_vec()]),
            ..restore_options()
        };
        let outcome = restore_with(&ws, &directory, options).await;
        let bytes = fs::read(directory.join("huge.bin")).map_or(0, |b| b.len());
        assert_eq!(bytes, if outcome.is_ok() { 9_000_000 } else { 0 });
        if outcome.is_ok() {
            return;
        }
    }
    panic!("it never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_there_or_not_clear_is_an_error() {
    let repo = Repo::with(2).await;
    let (ws, directory) = repo.stranger().await;
    for (name, kind) in [
        ("latest~2", ErrorKind::NotFound),
        ("latest~x", ErrorKind::InvalidInput),
        ("abc", ErrorKind::InvalidInput),
        ("LATEST", ErrorKind::InvalidInput),
        (
            SnapshotId([0xee; 16]).to_hex().as_str(),
            ErrorKind::NotFound,
        ),
    ] {
        let error = restore_with(&ws, &directory, of(name)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error:?}");
        assert!(!directory.exists(), "{name}");
    }
}
