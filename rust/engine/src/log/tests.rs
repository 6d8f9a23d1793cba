#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::clock::Deadline;
use crate::store::testkit::{Fault, Faulty, Recording, StaleList, Staleness, Verb, random};
use crate::store::{Store, StoreOptions, open};
use bytes::Bytes;
use nbws_core::id::{CommitId, RepositoryId, WriterId};
use nbws_core::record::{Body, Record, StateBody, Usage};
use nbws_core::state::State;
use nbws_core::{ErrorKind, key};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

/// An empty store of its own.
fn memory() -> Arc<dyn Store> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = NEXT.fetch_add(1, Ordering::Relaxed);
    open(&format!("memory:///log-tests-{name}"), &StoreOptions::new()).unwrap()
}

fn commit(n: u64) -> CommitId {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    CommitId(id)
}

fn record(seq: u64, id: u64, parent: u64) -> (Record, Bytes) {
    let record = Record {
        body: Body::State(StateBody {
            comment: None,
            info: None,
        }),
        commit: commit(id),
        epoch: 1,
        head: None,
        index: None,
        parent: (seq > 1).then(|| commit(parent)),
        repository: REPOSITORY,
        seq,
        settings: None,
        state: State::Running,
        time_ms: 0,
        usage: Usage::default(),
        writer: WriterId([3; 16]),
    };
    let bytes = Bytes::from(record.encode().unwrap());
    (record, bytes)
}

/// Puts records `1..=n` into the store; record `seq` has commit id `seq`.
async fn filled(n: u64) -> Arc<dyn Store> {
    let store = memory();
    for seq in 1..=n {
        place(&*store, seq, seq, seq - 1).await;
    }
    store
}

async fn place(store: &dyn Store, seq: u64, id: u64, parent: u64) {
    let (_, bytes) = record(seq, id, parent);
    store.put(&key::log(seq), bytes).await.unwrap();
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

async fn add(
    store: &dyn Store,
    seq: u64,
    id: u64,
    deadline: Deadline,
) -> nbws_core::Result<Appended> {
    let (record, bytes) = record(seq, id, seq - 1);
    append(store, &record, &bytes, deadline).await
}

fn acknowledged(appended: nbws_core::Result<Appended>) -> bool {
    matches!(appended.unwrap(), Appended::Acknowledged)
}

/// Commit ids of the newer records of a lost append.
fn lost(appended: nbws_core::Result<Appended>) -> Vec<CommitId> {
    match appended.unwrap() {
        Appended::Lost { newer } => newer.iter().map(|r| r.commit).collect(),
        Appended::Acknowledged => panic!("acknowledged"),
    }
}

fn deletes(recording: &Recording) -> usize {
    let requests = recording.take_verbs();
    requests.iter().filter(|(v, _)| *v == Verb::Delete).count()
}

#[tokio::test]
async fn undisturbed_append_is_one_create_and_one_listing() {
    let store = Recording::new(filled(3).await);
    assert!(acknowledged(add(&store, 4, 4, soon()).await));
    assert_eq!(
        store.take_verbs(),
        [
            (Verb::Create, key::log(4)),
            (Verb::List, key::LOG.to_owned())
        ]
    );
}

#[tokio::test]
async fn wrong_bytes_and_a_passed_deadline_send_nothing() {
    let store = Recording::new(memory());
    let (one, _) = record(1, 1, 0);
    let (_, two) = record(1, 2, 0);
    let error = append(&store, &one, &two, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    let error = add(&store, 1, 1, Deadline::after(Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(store.take().is_empty());
}

#[tokio::test]
async fn a_lost_race_returns_everything_newer_in_order() {
    let store = filled(5).await;
    let newer = lost(add(&*store, 4, 40, soon()).await);
    assert_eq!(newer, [commit(4), commit(5)]);
    // The same while the listing shows nothing of it.
    let stale = StaleList::new(store);
    stale.set(Staleness::Empty);
    let newer = lost(add(&stale, 3, 30, soon()).await);
    assert_eq!(newer, [commit(3), commit(4), commit(5)]);
}

#[tokio::test]
async fn a_lost_reply_is_one_commit() {
    let faulty = Faulty::new(filled(3).await);
    faulty.when(Some(Verb::Create), "log/", 0, 1, Fault::LandWithoutReply);
    let store = Recording::new(Arc::new(faulty));
    assert!(acknowledged(add(&store, 4, 4, soon()).await));
    assert_eq!(
        store.take_verbs(),
        [
            (Verb::Create, key::log(4)),
            (Verb::Get, key::log(4)),
            (Verb::List, key::LOG.to_owned())
        ]
    );
}

#[tokio::test]
async fn meeting_ones_own_first_copy_is_no_conflict() {
    // The reply is lost and the read-back fails: the second copy is refused because of the first.
    let faulty = Faulty::new(filled(3).await);
    faulty.when(Some(Verb::Create), "log/", 0, 1, Fault::LandWithoutReply);
    faulty.when(Some(Verb::Get), "log/", 0, 1, Fault::FailBefore);
    assert!(acknowledged(add(&faulty, 4, 4, soon()).await));
}

#[tokio::test]
async fn a_lost_request_is_sent_again_with_the_same_bytes() {
    let inner = Arc::new(Recording::new(filled(3).await));
    let faulty = Faulty::new(inner.clone());
    faulty.when(None, "log/", 0, 7, Fault::FailBefore);
    assert!(acknowledged(add(&faulty, 4, 4, soon()).await));
    let (_, bytes) = record(4, 4, 3);
    assert_eq!(inner.get(&key::log(4)).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_write_that_lands_later_finds_its_slot_decided() {
    let store = filled(3).await;
    let faulty = Faulty::new(store.clone());
    faulty.when(Some(Verb::Create), "log/", 0, 1, Fault::LandLater);
    assert!(acknowledged(add(&faulty, 4, 4, soon()).await));
    place(&*store, 5, 5, 4).await;
    faulty.release().await;
    let (_, bytes) = record(4, 4, 3);
    assert_eq!(store.get(&key::log(4)).await.unwrap(), bytes);

    // Given up as unknown, it lands at last; the next attempt with the same bytes learns that it is committed.
    faulty.when(Some(Verb::Create), "log/", 0, 1_000, Fault::LandLater);
    let short = Deadline::after(Duration::from_millis(100));
    let error = add(&faulty, 6, 6, short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown);
    assert!(faulty.held() >= 1);
    faulty.calm();
    faulty.release().await;
    assert!(acknowledged(add(&faulty, 6, 6, soon()).await));
}

#[tokio::test]
async fn unclear_until_the_deadline_is_unknown_and_nothing_is_deleted() {
    for fault in [Fault::FailBefore, Fault::Hang] {
        let inner = Arc::new(Recording::new(filled(3).await));
        let faulty = Faulty::new(inner.clone());
        faulty.when(None, "log/", 0, u64::MAX, fault);
        let short = Deadline::after(Duration::from_millis(150));
        let started = std::time::Instant::now();
        let error = add(&faulty, 4, 4, short).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert_eq!(deletes(&inner), 0);
    }
    // The record is in, but the confirming listing never answers: unknown as well.
    let store = filled(3).await;
    let faulty = Faulty::new(store.clone());
    faulty.when(Some(Verb::List), "", 0, u64::MAX, Fault::FailBefore);
    let short = Deadline::after(Duration::from_millis(150));
    let error = add(&faulty, 4, 4, short).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CommitUnknown);
    assert!(store.get(&key::log(4)).await.is_ok());
    faulty.calm();
    assert!(acknowledged(add(&faulty, 4, 4, soon()).await));
}

#[tokio::test]
async fn a_refusal_is_final_only_if_no_copy_is_on_its_way() {
    for (fault, kind) in [
        (Fault::Deny, ErrorKind::Denied),
        (Fault::Full, ErrorKind::QuotaExceeded),
    ] {
        let faulty = Faulty::new(filled(3).await);
        faulty.when(Some(Verb::Create), "log/", 0, u64::MAX, fault);
        let error = add(&faulty, 4, 4, soon()).await.unwrap_err();
        assert_eq!(error.kind(), kind);

        faulty.calm();
        faulty.when(Some(Verb::Create), "log/", 0, 1, Fault::LandLater);
        faulty.when(Some(Verb::Create), "log/", 0, u64::MAX, fault);
        let short = Deadline::after(Duration::from_millis(150));
        let error = add(&faulty, 4, 4, short).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommitUnknown);
    }
}

#[tokio::test]
async fn a_record_in_a_pruned_slot_is_a_ghost() {
    // Records 1 to 4 were pruned; a stalled writer takes slot 3 again.
    let store = memory();
    for seq in 5..=8 {
        place(&*store, seq, seq, seq - 1).await;
    }
    let all = [commit(5), commit(6), commit(7), commit(8)];
    assert_eq!(lost(add(&*store, 3, 30, soon()).await), all);
    // Slot 4 is the last pruned one: its successor exists and names another parent.
    assert_eq!(lost(add(&*store, 4, 40, soon()).await), all);
    // Built on at once, a record is confirmed by its successor.
    let faulty = Faulty::new(store.clone());
    faulty.when(Some(Verb::List), "", 0, 1, Fault::Hang);
    let appending = tokio::spawn({
        let faulty = Arc::new(faulty);
        let task = faulty.clone();
        async move {
            let add = tokio::spawn(async move { add(&*task, 9, 9, soon()).await });
            faulty.wait_hanging().await;
            place(&*store, 10, 10, 9).await;
            faulty.release().await;
            add.await.unwrap()
        }
    });
    assert!(acknowledged(appending.await.unwrap()));
}

#[tokio::test]
async fn a_slot_that_cannot_be_decoded_is_never_written_over() {
    let store = filled(3).await;
    let junk = Bytes::from_static(b"junk");
    store.put(&key::log(4), junk.clone()).await.unwrap();
    let error = add(&*store, 4, 4, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(store.get(&key::log(4)).await.unwrap(), junk);
    // One flipped bit in transit is not damage.
    let faulty = Faulty::new(filled(4).await);
    faulty.when(Some(Verb::Get), "log/", 0, 1, Fault::FlipBit);
    assert_eq!(lost(add(&faulty, 4, 40, soon()).await), [commit(4)]);
}

#[tokio::test]
async fn nothing_new_costs_two_reads_and_a_fresh_process_four() {
    let inner = filled(3).await;
    let store = Recording::new(inner.clone());
    write_hint(&store, 2).await;
    store.take();
    let found = find_head(&store, REPOSITORY, None, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.record.seq, 3);
    assert_eq!(store.take().len(), 4);

    let again = find_head(&store, REPOSITORY, Some(&found), Some(2))
        .await
        .unwrap();
    assert_eq!(again.as_ref(), Some(&found));
    assert_eq!(
        store.take_verbs(),
        [(Verb::List, key::LOG.to_owned()), (Verb::Get, key::log(4))]
    );
    place(&*inner, 4, 4, 3).await;
    place(&*inner, 5, 5, 4).await;
    let newer = find_head(&store, REPOSITORY, Some(&found), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(newer.record.commit, commit(5));
}

#[tokio::test]
async fn hint_and_listing_may_lie_and_the_head_is_still_found() {
    let inner = filled(6).await;
    let store = StaleList::new(inner.clone());
    let known = find_head(&store, REPOSITORY, None, None).await.unwrap();
    assert_eq!(known.as_ref().unwrap().record.seq, 6);
    for hint in [&b"{\"seq\":1}"[..], b"{\"seq\":6}", b"{\"seq\":4}"] {
        inner
            .put(key::HINT, Bytes::from_static(hint))
            .await
            .unwrap();
        for staleness in [
            Staleness::Fresh,
            Staleness::DropLast(1),
            Staleness::DropLast(4),
            Staleness::Empty,
        ] {
            store.set(staleness.clone());
            for (known, floor) in [
                (None, None),
                (None, Some(3)),
                (known.as_ref(), None),
                (known.as_ref(), Some(6)),
            ] {
                let found = find_head(&store, REPOSITORY, known, floor).await.unwrap();
                assert_eq!(found.unwrap().record.seq, 6, "{staleness:?} {floor:?}");
            }
        }
    }
    store.set(Staleness::Fresh);
    for hint in [
        &b"{\"seq\":99}"[..],
        b"{\"seq\":18446744073709551615}",
        b"{\"seq\":99999999999999999999}",
        b"{\"seq\":-1}",
        b"\xff",
        b"",
    ] {
        inner
            .put(key::HINT, Bytes::from_static(hint))
            .await
            .unwrap();
        let found = find_head(&store, REPOSITORY, None, None).await.unwrap();
        assert_eq!(found.unwrap().record.seq, 6);
    }
    // A listing from the past that shows pruned records.
    store.freeze().await.unwrap();
    place(&*inner, 7, 7, 6).await;
    inner.delete(&key::log(6)).await.unwrap();
    let found = find_head(&store, REPOSITORY, None, None).await.unwrap();
    assert_eq!(found.unwrap().record.seq, 7);
}

#[tokio::test]
async fn a_log_below_what_is_known_is_a_rollback_and_an_empty_one_is_none() {
    let empty = memory();
    assert_eq!(
        find_head(&*empty, REPOSITORY, None, None).await.unwrap(),
        None
    );
    let error = find_head(&*empty, REPOSITORY, None, Some(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RollbackDetected);
    let store = filled(6).await;
    let known = find_head(&*store, REPOSITORY, None, None).await.unwrap();
    store.delete(&key::log(6)).await.unwrap();
    for (known, floor) in [(known.as_ref(), None), (None, Some(6)), (None, Some(9))] {
        let error = find_head(&*store, REPOSITORY, known, floor)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RollbackDetected);
    }
    assert_eq!(
        find_head(&*store, REPOSITORY, None, Some(5))
            .await
            .unwrap()
            .unwrap()
            .record
            .seq,
        5
    );
}

#[tokio::test]
async fn an_error_is_never_taken_for_the_end_of_the_log() {
    let faulty = Faulty::new(filled(4).await);
    for operation in 0..4 {
        let base = faulty.operations();
        faulty.at(base + operation, Fault::FailBefore);
        let found = find_head(&faulty, REPOSITORY, None, None).await;
        match found {
            Ok(found) => {
                assert_eq!(found.unwrap().record.seq, 4, "operation {operation}");
                assert_eq!(operation, 0, "only the hint may fail");
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable),
        }
        faulty.calm();
    }
}

#[tokio::test]
async fn a_record_missing_inside_or_in_the_wrong_slot_is_damage() {
    let store = filled(40).await;
    let records = read_from(&*store, REPOSITORY, 3, 40).await.unwrap();
    let numbers: Vec<u64> = records.iter().map(|r| r.seq).collect();
    assert_eq!(numbers, (3..=40).collect::<Vec<_>>());
    assert!(
        read_from(&*store, REPOSITORY, 5, 4)
            .await
            .unwrap()
            .is_empty()
    );
    store.delete(&key::log(20)).await.unwrap();
    let error = read_from(&*store, REPOSITORY, 3, 40).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&key::log(20)));
    place(&*store, 41, 41, 40).await;
    let misplaced = store.get(&key::log(41)).await.unwrap();
    store.put(&key::log(42), misplaced).await.unwrap();
    let error = find_head(&*store, REPOSITORY, None, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let error = read_from(&*store, RepositoryId([8; 16]), 1, 1)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

/// Appends to `store` through faults until it has won `wins` times; returns what was acknowledged and what was lost.
async fn race(
    store: Arc<dyn Store>,
    seed: u64,
    wins: usize,
) -> (Vec<(u64, CommitId)>, Vec<(u64, CommitId)>) {
    let faulty = Faulty::new(store);
    let faults = [Fault::FailBefore, Fault::LandWithoutReply, Fault::LandLater];
    let (mut won, mut beaten) = (Vec::new(), Vec::new());
    let mut newest = (0, 0);
    let mut n = 0;
    while won.len() < wins {
        n += 1;
        let id = random(seed, n);
        let (record, bytes) = record(newest.0 + 1, id, newest.1);
        faulty.roll(random(seed, n + (1 << 40)), 80, &faults);
        let appended = append(&faulty, &record, &bytes, soon()).await.unwrap();
        let slot = (record.seq, record.commit);
        match appended {
            Appended::Acknowledged => {
                won.push(slot);
                newest = (record.seq, id);
            }
            Appended::Lost { newer } => {
                assert!(newer.iter().all(|r| r.commit != record.commit));
                beaten.push(slot);
                let last = newer.last().unwrap();
                let id = last.commit.0[..8].try_into().unwrap();
                newest = (last.seq, u64::from_be_bytes(id));
            }
        }
        if random(seed, n).is_multiple_of(4) {
            faulty.release().await;
        }
        tokio::task::yield_now().await;
    }
    faulty.release().await;
    (won, beaten)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_racing_writers_have_one_winner_a_slot() {
    for seed in 0..2 {
        let store = memory();
        let tasks: Vec<_> = (0..8)
            .map(|writer| tokio::spawn(race(store.clone(), seed * 100 + writer, 50)))
            .collect();
        let (mut won, mut beaten) = (Vec::new(), Vec::new());
        for task in tasks {
            let (w, b) = task.await.unwrap();
            won.extend(w);
            beaten.extend(b);
        }
        let log = read_from(&*store, REPOSITORY, 1, 400).await.unwrap();
        let slots: Vec<_> = log.iter().map(|r| (r.seq, r.commit)).collect();
        won.sort_by_key(|(seq, _)| *seq);
        // Acknowledged and in the log are the same: no false acknowledgement, no spurious conflict.
        assert_eq!(won, slots, "seed {seed}");
        assert!(beaten.iter().all(|slot| !slots.contains(slot)));
        assert!(!beaten.is_empty());
        for pair in log.windows(2) {
            assert_eq!(pair[1].parent, Some(pair[0].commit));
        }
        let head = find_head(&*store, REPOSITORY, None, None).await.unwrap();
        assert_eq!(head.unwrap().record.seq, 400);
    }
}
