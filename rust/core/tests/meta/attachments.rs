use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::id::{ContainerId, SnapshotId};
use nbws_core::key::{ContainerKey, ContainerKind};
use nbws_core::ledger::{Ledger, Log, MarkPhase};
use nbws_core::record::*;
use nbws_core::state::State;
use proptest::collection::vec;
use proptest::prelude::*;

fn container() -> impl Strategy<Value = DoomedObject> {
    (any::<bool>(), 0u64..9, any::<[u8; 16]>(), 0u64..1 << 50).prop_map(
        |(is_pack, epoch, random, bytes)| {
            let id = ContainerId { epoch, random };
            let kind = match is_pack {
                true => ContainerKind::Pack,
                false => ContainerKind::Index,
            };
            let name = ContainerKey { kind, id };
            DoomedObject { bytes, name }
        },
    )
}

proptest! {
    #[test]
    fn lists_have_one_spelling(objects in vec(container(), 0..9), snapshots in vec(any::<[u8; 16]>(), 0..5), damage in damage()) {
        let snapshots = snapshots.into_iter().map(SnapshotId).collect();
        let bytes = Doomed { objects, snapshots }.encode().unwrap();
        let read = Doomed::decode(&bytes).unwrap();
        let names: Vec<String> = read.objects.iter().map(|o| o.name.to_string()).collect();
        prop_assert!(names.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(read.encode().unwrap(), bytes.clone());
        let again = |d: &Doomed| d.clone().encode().unwrap();
        prop_assert!(one_spelling(&damaged(&bytes, &damage), Doomed::decode, again));
    }

    #[test]
    fn settings_have_one_spelling(days in proptest::option::of(0u64..1 << 50), pins in vec((any::<[u8; 16]>(), proptest::option::of(0u64..1 << 50)), 0..5), damage in damage()) {
        let mut settings = Settings::default();
        let rules = Retention { lifetime_in_days: days, ..Retention::default() };
        settings.set_retention(days.map(|_| &rules)).unwrap();
        for (id, until_ms) in pins {
            settings.pin(Pin { comment: None, snapshot: SnapshotId(id), until_ms }).unwrap();
        }
        settings.set("of a later version", Some(7)).unwrap();
        let bytes = settings.encode().unwrap();
        prop_assert_eq!(&Settings::decode(&bytes).unwrap(), &settings);
        let again = |s: &Settings| s.encode().unwrap();
        prop_assert!(one_spelling(&damaged(&bytes, &damage), Settings::decode, again));
    }
}

#[test]
fn pins_are_replaced_and_removed() {
    let mut settings = Settings::default();
    let pin = |until_ms| Pin {
        comment: None,
        snapshot: SnapshotId([1; 16]),
        until_ms,
    };
    settings.pin(pin(None)).unwrap();
    settings.pin(pin(Some(5))).unwrap();
    assert_eq!(settings.pins().unwrap(), [pin(Some(5))]);
    assert!(settings.unpin(SnapshotId([1; 16])).unwrap());
    assert!(!settings.unpin(SnapshotId([1; 16])).unwrap());
    assert_eq!(settings, Settings::default());
    let long = Pin {
        comment: Some("x".repeat(1_025)),
        ..pin(None)
    };
    settings.pin(long).unwrap();
    assert_eq!(
        settings.encode().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

fn mark() -> Body {
    Body::Mark(MarkBody {
        attachment: place(7),
        bytes: 1,
        packs: 1,
        snapshots: 1,
    })
}

fn forgets(ids: &[u8]) -> Doomed {
    Doomed {
        objects: vec![],
        snapshots: ids.iter().map(|n| SnapshotId([*n; 16])).collect(),
    }
}

/// Snapshots 1 to 4, a rescue, a mark that is swept and forgets 1, and one in its grace that forgets 2.
fn history() -> Log {
    let bodies = vec![
        Body::Snapshot(numbered_snapshot(1, true)),
        Body::Rescue(rescue_of(numbered_snapshot(9, false), "fenced".to_owned())),
        Body::Rescue(rescue_of(numbered_snapshot(8, false), "fenced".to_owned())),
        Body::Snapshot(numbered_snapshot(2, true)),
        Body::Dismiss(DismissBody {
            rescue: SnapshotId([8; 16]),
        }),
        Body::Snapshot(numbered_snapshot(3, true)),
        mark(),
        mark(),
        Body::Sweep(SweepBody { marks: vec![7] }),
        Body::Swept(SweptBody {
            freed_bytes: 1,
            marks: vec![7],
        }),
        Body::Snapshot(numbered_snapshot(4, true)),
    ];
    let mut log = Log::default();
    for body in bodies {
        let next = following(log.head(), 1, 1, State::None, body);
        log.push(next).unwrap();
    }
    log.note_doomed(7, forgets(&[1]));
    log.note_doomed(8, forgets(&[2]));
    log
}

fn kept(log: &Log) -> Vec<u8> {
    let kept = log.snapshots(None);
    kept.iter().map(|s| s.body.snapshot.0[0]).collect()
}

#[test]
fn a_ledger_stands_for_the_records_below_it() {
    let whole = history();
    assert_eq!(kept(&whole), [3, 4]);
    for seq in 1..=10 {
        let ledger = Ledger::of(&whole, seq).unwrap();
        assert_eq!((ledger.seq(), ledger.history.len() as u64), (seq, seq));
        let bytes = ledger.encode().unwrap();
        assert_eq!(Ledger::decode(&bytes).unwrap(), ledger);
        let mut log = Log::resume(ledger);
        for record in whole.records().iter().filter(|r| r.seq > seq) {
            log.push(record.clone()).unwrap();
        }
        for (mark, _) in log.unread_marks() {
            log.note_doomed(mark, forgets(&[mark as u8 - 6]));
        }
        assert_eq!(kept(&log), [3, 4], "ledger {seq}");
        assert_eq!(log.head(), whole.head());
        let rescues: Vec<u8> = log.rescues().iter().map(|r| r.body.snapshot.0[0]).collect();
        assert_eq!(rescues, [9]);
        let open: Vec<u64> = log
            .marks()
            .iter()
            .filter(|m| m.phase == MarkPhase::Marked)
            .map(|m| m.record.seq)
            .collect();
        assert_eq!(open, [8], "ledger {seq}");
        // A ledger of a log that began with one says the same as a ledger of the whole.
        for later in seq + 1..=10 {
            assert_eq!(
                Ledger::of(&log, later),
                Ledger::of(&whole, later),
                "{seq} {later}"
            );
        }
    }
}

#[test]
fn what_a_sweep_has_forgotten_is_not_carried_on_and_what_a_mark_in_its_grace_has_is() {
    let ledger = Ledger::of(&history(), 10).unwrap();
    let seqs: Vec<u64> = ledger.kept.iter().map(|r| r.seq).collect();
    // Snapshot 2, rescue 9, snapshot 3, the mark in its grace.
    assert_eq!(seqs, [2, 4, 6, 8]);
    // Before the sweep the mark could have been cancelled.
    let before = Ledger::of(&history(), 8).unwrap();
    assert!(before.kept.iter().any(|r| r.seq == 1));
}

#[test]
fn a_ledger_is_refused_if_anything_is_changed() {
    let ledger = Ledger::of(&history(), 10).unwrap();
    let bytes = ledger.encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let changes = [
        ("\"version\":0}", "\"version\":1}", ErrorKind::Unsupported),
        ("\"seq\":3,", "\"seq\":2,", ErrorKind::Corrupt),
        ("\"kept\":[", "\"kept\":[7,", ErrorKind::Corrupt),
        ("{\"history\":[", "{\"history\": [", ErrorKind::Corrupt),
    ];
    for (from, to, kind) in changes {
        let at = text.rfind(from).unwrap();
        let changed = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
        assert_eq!(
            Ledger::decode(changed.as_bytes()).unwrap_err().kind(),
            kind,
            "{from}"
        );
    }
}
