use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::id::{CommitId, RepositoryId, SnapshotId};
use nbws_core::ledger::{Log, MarkPhase};
use nbws_core::record::*;
use nbws_core::state::State;
use std::collections::BTreeSet;

fn log_of(bodies: Vec<Body>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for body in bodies {
        let next = following(records.last(), 1, 1, State::None, body);
        records.push(next);
    }
    records
}

fn snapshot(n: u8) -> Body {
    Body::Snapshot(numbered_snapshot(n, true))
}

fn rescue(n: u8) -> Body {
    Body::Rescue(rescue_of(numbered_snapshot(n, false), "fenced".to_owned()))
}

fn mark() -> Body {
    Body::Mark(MarkBody {
        attachment: place(7),
        bytes: 1,
        packs: 1,
        snapshots: 1,
    })
}

fn ids(log: &Log, forgotten: Option<&BTreeSet<SnapshotId>>) -> Vec<u8> {
    let kept = log.snapshots(forgotten);
    kept.iter().map(|s| s.body.snapshot.0[0]).collect()
}

#[test]
fn the_newest_snapshot_is_the_workspace_head_and_all_are_kept() {
    let records = log_of(vec![
        snapshot(1),
        rescue(2),
        snapshot(3),
        rescue(4),
        Body::Dismiss(DismissBody {
            rescue: SnapshotId([2; 16]),
        }),
    ]);
    let log = Log::fold(records).unwrap();
    assert_eq!(log.head().unwrap().seq, 5);
    let head = log.workspace_head().unwrap();
    assert_eq!((head.record.seq, head.body.snapshot.0[0]), (3, 3));
    assert_eq!(ids(&log, None), [1, 3]);
    // Nothing forgets the workspace head.
    let forgotten = BTreeSet::from([SnapshotId([1; 16]), SnapshotId([3; 16])]);
    assert_eq!(ids(&log, Some(&forgotten)), [3]);
    let rescues: Vec<u8> = log.rescues().iter().map(|r| r.body.snapshot.0[0]).collect();
    assert_eq!(rescues, [4]);

    let again = Body::Dismiss(DismissBody {
        rescue: SnapshotId([2; 16]),
    });
    let next = following(log.head(), 1, 1, State::None, again);
    let error = log.check_references(&next).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
}

#[test]
fn an_empty_log_says_none() {
    let log = Log::fold([]).unwrap();
    assert_eq!((log.epoch(), log.state()), (0, State::None));
    assert!(log.head().is_none() && log.workspace_head().is_none() && log.owner().is_none());
}

#[test]
fn gaps_wrong_parents_and_lost_heads_are_corrupt() {
    let good = log_of(vec![snapshot(1), snapshot(2), mark()]);
    Log::fold(good.clone()).unwrap();
    let corrupt = |records: Vec<Record>| {
        assert_eq!(Log::fold(records).unwrap_err().kind(), ErrorKind::Corrupt);
    };
    corrupt(good[1..].to_vec());
    corrupt(vec![good[0].clone(), good[2].clone()]);
    corrupt(vec![good[0].clone(), good[0].clone()]);
    let change = |change: fn(&mut Record)| {
        let mut records = good.clone();
        change(&mut records[2]);
        records
    };
    corrupt(change(|r| r.parent = Some(CommitId([0; 16]))));
    corrupt(change(|r| r.repository = RepositoryId([0; 16])));
    corrupt(change(|r| r.head = None));
    let error = Log::fold(good[1..].to_vec()).unwrap_err();
    assert!(error.message().contains("ledger"), "{error}");
}

#[test]
fn marks_go_through_their_phases_and_never_back() {
    let sweep = |marks: &[u64]| {
        Body::Sweep(SweepBody {
            marks: marks.to_vec(),
        })
    };
    let swept = |marks: &[u64]| {
        Body::Swept(SweptBody {
            freed_bytes: 1,
            marks: marks.to_vec(),
        })
    };
    let cancel = |mark| Body::Cancel(CancelBody { mark });
    let records = log_of(vec![
        mark(),
        mark(),
        mark(),
        mark(),
        cancel(1),
        sweep(&[2, 3]),
        swept(&[2]),
        // Illegal, and without effect where they stand.
        cancel(3),
        sweep(&[1]),
        swept(&[4]),
    ]);
    let log = Log::fold(records).unwrap();
    let phases: Vec<MarkPhase> = log.marks().iter().map(|m| m.phase).collect();
    assert_eq!(
        phases,
        [
            MarkPhase::Cancelled,
            MarkPhase::Swept,
            MarkPhase::Sweeping,
            MarkPhase::Marked
        ]
    );
    let legal = |body: Body| {
        log.check_references(&following(log.head(), 1, 1, State::None, body))
            .is_ok()
    };
    let expected = [
        // mark, cancel, sweep, swept
        (1, false, false, false),
        (2, false, false, false),
        (3, false, false, true),
        (4, true, true, false),
        (5, false, false, false),
    ];
    for (seq, cancels, sweeps, ends) in expected {
        assert_eq!(legal(cancel(seq)), cancels, "cancel {seq}");
        assert_eq!(legal(sweep(&[seq])), sweeps, "sweep {seq}");
        assert_eq!(legal(swept(&[seq])), ends, "swept {seq}");
    }
    assert!(!legal(sweep(&[3, 4])));
}

#[test]
fn a_purge_leaves_nothing_and_may_be_all_that_is_left() {
    let mut records = log_of(vec![snapshot(1), rescue(2), mark()]);
    let purge = Body::Tombstone(TombstoneBody { purge: true });
    records.push(following(records.last(), 1, 1, State::Deleting, purge));
    for records in [records.clone(), records[3..].to_vec()] {
        let log = Log::fold(records).unwrap();
        assert!(log.is_purged());
        assert!(log.workspace_head().is_none());
        assert!(log.snapshots(None).is_empty());
        assert!(log.rescues().is_empty() && log.marks().is_empty());
        assert_eq!(log.state(), State::Deleting);
    }
}

#[test]
fn the_owner_is_the_last_claimer_until_a_newer_epoch() {
    let claim = Body::Claim(ClaimBody {
        resident: true,
        take_over: false,
    });
    let mut log = Log::default();
    log.push(following(None, 4, 1, State::Starting, claim))
        .unwrap();
    let settings = Body::Settings(SettingsBody {
        attachment: place(5),
    });
    log.push(following(log.head(), 8, 1, State::Starting, settings))
        .unwrap();
    let owner = log.owner().unwrap();
    assert_eq!((owner.epoch, owner.writer.0[0]), (1, 4));
    assert_eq!(log.settings(), Some(place(5)));
    log.push(following(log.head(), 8, 2, State::Stopped, snapshot(1)))
        .unwrap();
    assert_eq!((log.owner(), log.epoch()), (None, 2));
}
