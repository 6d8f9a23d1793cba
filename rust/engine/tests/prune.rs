//! Prune, step by step: what it plans, forgets, marks, copies and deletes, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/attic.rs"]
mod attic;
#[path = "common/faults.rs"]
mod faults;

use attic::*;
use faults::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use nbws_core::key;
use nbws_core::record::{Body, Record};
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, PruneOptions};
use nbws_engine::store::Store;
use nbws_engine::store::testkit::{Fault, Faulty, Recording, StaleList, Staleness, Verb};
use nbws_engine::{ErrorKind, LogEvent, Workspace};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_sends_nothing_and_says_what_would_go() {
    let home = Home::with(4).await;
    let recording = Arc::new(Recording::new(home.attic.clone()));
    let ws = home.pruner_on(recording.clone()).await;
    recording.take();
    let plan = PruneOptions {
        retention: keep_last(2),
        ..PruneOptions::default()
    };
    let report = prune(&ws, plan).await.unwrap();
    assert!(recording.take().iter().all(|r| !r.verb.writes()));
    assert!(!report.applied && report.packs_doomed > 0, "{report:?}");
    let forgotten: Vec<&str> = report
        .forgotten
        .iter()
        .map(|f| f.snapshot.as_str())
        .collect();
    assert_eq!(forgotten, [&*home.saved[0].0, &*home.saved[1].0]);
    assert_eq!(report.forgotten[0].reason, "too many");
    assert_eq!((report.snapshots, report.mark), (4, None));
    assert_eq!(home.ids().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_nothing_is_given_up() {
    let home = Home::with(3).await;
    let report = prune(&home.pruner().await, apply(None)).await.unwrap();
    assert!(report.forgotten.is_empty());
    assert_eq!(home.ids().await.len(), 3);
    home.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgets_marks_waits_sweeps_and_then_has_nothing_to_do() {
    let home = Home::with(5).await;
    let ws = home.pruner().await;
    let report = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert_eq!(report.forgotten.len(), 3);
    let mark = report.mark.unwrap();
    assert!(matches!(home.attic.record(mark).body, Body::Mark(_)));
    assert_eq!((report.packs_deleted, report.marks.len()), (0, 1));
    assert_eq!(report.marks[0].state, "marked");
    assert_eq!(
        home.ids().await,
        [home.saved[3].0.clone(), home.saved[4].0.clone()]
    );
    home.assert_whole().await;
    let gone = tree_of(home.attic.clone(), &home.saved[0].0).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);

    // One minute short of the grace nothing is deleted.
    home.attic.advance(DAY_MS - 60_000);
    let packs = home.attic.keys("packs/").len();
    let early = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert_eq!((early.packs_deleted, early.mark), (0, None));
    assert_eq!(home.attic.keys("packs/").len(), packs);
    home.attic.advance(60_000);
    let before = home.attic.bytes_below("packs/");
    let done = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert_eq!(done.packs_deleted, report.packs_doomed);
    assert!(done.bytes_freed > 0 && done.marks.is_empty());
    assert_eq!(before - home.attic.bytes_below("packs/"), done.bytes_freed);
    home.assert_whole().await;

    let log = home.attic.kinds();
    let idle = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert_eq!(
        (idle.mark, idle.packs_deleted, idle.packs_doomed),
        (None, 0, 0)
    );
    assert_eq!(home.attic.kinds(), log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_of_the_bytes_needs_force_and_nothing_is_touched_without() {
    let home = Home::with(5).await;
    let options = PruneOptions {
        force: false,
        ..apply(keep_last(1))
    };
    let log = home.attic.kinds();
    let error = prune(&home.pruner().await, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    assert!(error.message().contains("20 %"), "{error}");
    assert_eq!(home.attic.kinds(), log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_below_an_hour_is_refused_and_an_external_lock_needs_a_week() {
    let home = Home::with(1).await;
    let with = |grace| PruneOptions {
        grace: Some(Duration::from_secs(grace)),
        ..PruneOptions::default()
    };
    let ws = home.pruner().await;
    assert_eq!(
        prune(&ws, with(3_599)).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    prune(&ws, with(3_600)).await.unwrap();
    let options = OpenOptions {
        exclusive: true,
        ..OpenOptions::default()
    };
    let ws = nbws_engine::Workspace::with_store(home.attic.clone(), options)
        .await
        .unwrap();
    assert_eq!(
        prune(&ws, with(86_400)).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    prune(&ws, with(7 * 86_400)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_pins_are_kept_across_prunes_and_saves() {
    let mut home = Home::with(4).await;
    let ws = home.pruner().await;
    ws.set_retention(keep_last(1)).await.unwrap();
    let pinned = home.saved[1].0.clone();
    let until = START_MS + 10 * DAY_MS;
    assert_eq!(
        ws.pin(&pinned[..8], Some(until), Some("good".into()))
            .await
            .unwrap(),
        pinned
    );
    ws.pin("latest~1", None, None).await.unwrap();
    let writer = home.writer().await;
    edit(&home.work(), 9);
    home.save(&writer).await;
    prune(&ws, apply(None)).await.unwrap();
    let kept = [1, 2, 4].map(|n| home.saved[n].0.clone());
    assert_eq!(home.ids().await, kept);
    home.attic.advance(2 * DAY_MS);
    prune(&ws, apply(None)).await.unwrap();
    assert_eq!(ws.pins().await.unwrap().len(), 2);
    assert_eq!(ws.retention().await.unwrap(), keep_last(1));
    home.assert_whole().await;

    // One pin ends by itself, the other by a word; the rules of a container count where there are none of the repository's own.
    home.attic.advance(10 * DAY_MS);
    ws.unpin(&home.saved[2].0[..6]).await.unwrap();
    assert_eq!(
        ws.unpin("ffffffff").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    ws.set_retention(None).await.unwrap();
    let options = PruneOptions {
        default_retention: keep_last(1),
        ..apply(None)
    };
    prune(&ws, options).await.unwrap();
    assert_eq!(home.ids().await, [home.saved[4].0.clone()]);
    home.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_may_be_the_first_record() {
    let home = Home::with(0).await;
    let ws = home.writer().await;
    ws.set_retention(keep_last(3)).await.unwrap();
    assert_eq!(ws.retention().await.unwrap(), keep_last(3));
    let report = prune(&ws, apply(None)).await.unwrap();
    assert_eq!(report.snapshots, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rescues_stay_until_they_expire_or_are_dismissed() {
    let home = Home::with(2).await;
    let (stranger, place) = (home.pruner().await, home.root.path().join("stranger"));
    write(&place.join("stray"), noise(5, 100_000));
    let error = save(&stranger, &place).await.unwrap_err();
    let rescue = error.rescue().unwrap().to_owned();
    home.attic.advance(29 * DAY_MS);
    prune(&stranger, apply(keep_last(1))).await.unwrap();
    home.attic.advance(DAY_MS);
    prune(&stranger, apply(keep_last(1))).await.unwrap();
    let (_, tree) = tree_of(home.attic.clone(), &rescue).await.unwrap();
    assert_eq!(difference(&tree, &listing(&place)), None);
    home.attic.advance(DAY_MS);
    let report = prune(&stranger, apply(keep_last(1))).await.unwrap();
    assert_eq!(report.rescues_expired, std::slice::from_ref(&rescue));
    assert!(stranger.rescues().await.unwrap().is_empty());
    home.attic.advance(DAY_MS);
    prune(&stranger, apply(keep_last(1))).await.unwrap();
    assert!(home.attic.bytes_below("packs/") < 500_000);
    home.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_mark_can_be_cancelled_until_it_is_swept() {
    let home = Home::with(4).await;
    let ws = home.pruner().await;
    prune(&ws, apply(keep_last(3))).await.unwrap();
    prune(&ws, apply(keep_last(1))).await.unwrap();
    let second = home.attic.keys("log/").len() as u64;
    assert_eq!(ws.cancel_prune().await.unwrap(), second);
    assert_eq!(home.ids().await.len(), 3);
    ws.cancel_prune().await.unwrap();
    assert_eq!(home.ids().await.len(), 4);
    home.assert_whole().await;
    assert_eq!(
        ws.cancel_prune().await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    home.attic.advance(2 * DAY_MS);
    prune(&ws, apply(None)).await.unwrap();
    assert_eq!(home.ids().await.len(), 4);
    home.assert_whole().await;

    prune(&ws, apply(keep_last(1))).await.unwrap();
    home.attic.advance(2 * DAY_MS);
    prune(&ws, apply(keep_last(1))).await.unwrap();
    assert_eq!(
        ws.cancel_prune().await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    home.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_are_mostly_dead_are_copied() {
    let mut home = Home::with(1).await;
    // One large save, of which later saves leave little.
    for n in 0..40 {
        write(
            &home.work().join(format!("bulk/{n}.bin")),
            noise(1_000 + n, 100_000),
        );
    }
    let writer = home.writer().await;
    home.save(&writer).await;
    for n in 0..36 {
        write(
            &home.work().join(format!("bulk/{n}.bin")),
            noise(2_000 + n, 100_000),
        );
    }
    home.save(&writer).await;
    let stored = home.attic.bytes_below("packs/");
    let ws = home.pruner().await;
    let plan = PruneOptions {
        retention: keep_last(1),
        ..PruneOptions::default()
    };
    let planned = prune(&ws, plan).await.unwrap();
    assert!(planned.packs_repacked >= 1, "{planned:?}");
    let report = prune(&ws, apply(keep_last(1))).await.unwrap();
    assert_eq!(report.packs_repacked, planned.packs_repacked);
    home.assert_whole().await;
    home.attic.advance(DAY_MS);
    prune(&ws, apply(keep_last(1))).await.unwrap();
    home.assert_whole().await;
    let left = home.attic.bytes_below("packs/");
    assert!(
        stored - left > 3_500_000,
        "{left} of {stored} bytes are left"
    );
    // An open writer goes on from what it knew long ago.
    write(&home.work().join("bulk/1.bin"), noise(1_001, 100_000));
    write(&home.work().join("bulk/39.bin"), noise(1_038, 100_000));
    home.save(&writer).await;
    home.assert_whole().await;
}

fn prune_meanwhile(
    attic: &Arc<Attic>,
    state: std::path::PathBuf,
    days: u64,
) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static {
    let attic = attic.clone();
    move || {
        let (attic, state) = (attic.clone(), state.clone());
        async move {
            let ws = look(attic.clone(), &state).await.unwrap();
            let report = prune(&ws, apply(keep_last(1))).await.unwrap();
            assert!(report.mark.is_some());
            for _ in 0..days {
                attic.advance(DAY_MS);
                prune(&ws, apply(keep_last(1))).await.unwrap();
            }
        }
        .boxed()
    }
}

/// The work of a save that is under way relies on a pack that is doomed, or even deleted, before its record is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_save_stores_again_what_was_marked_or_swept_under_it() {
    for days in [0, 1] {
        for insists in [false, true] {
            let mut home = Home::with(1).await;
            let again = home.work().join("again.bin");
            write(&again, noise(77, 200_000));
            let writer = home.writer().await;
            home.save(&writer).await;
            fs::remove_file(&again).unwrap();
            home.save(&writer).await;
            // The chunks are known from a snapshot that prune gives up meanwhile.
            write(&again, noise(77, 200_000));
            let act = prune_meanwhile(&home.attic, home.root.path().join("p"), days);
            let trap = Trap::before(home.attic.clone(), Verb::Create, key::LOG, act);
            let ws = home.writer_on(trap.clone()).await;
            let report = match insists {
                true => take_over(&ws, &home.work()).await.unwrap(),
                false => save(&ws, &home.work()).await.unwrap(),
            };
            assert!(trap.sprung());
            home.saved
                .push((report.snapshot.clone(), listing(&home.work())));
            home.attic.advance(2 * DAY_MS);
            prune(&home.pruner().await, apply(keep_last(1)))
                .await
                .unwrap();
            assert_eq!(home.ids().await, [report.snapshot]);
            home.assert_whole().await;
        }
    }
}

/// As above, and another writer takes the head too: the rescue must not rely on a doomed pack either.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_save_stores_again_what_was_marked_under_it() {
    for days in [0, 1] {
        let mut home = Home::with(1).await;
        let again = home.work().join("again.bin");
        write(&again, noise(77, 200_000));
        let writer = home.writer().await;
        home.save(&writer).await;
        fs::remove_file(&again).unwrap();
        home.save(&writer).await;
        write(&again, noise(77, 200_000));
        let tree = listing(&home.work());
        let rival = home.root.path().join("rival");
        let (attic, states) = (home.attic.clone(), home.root.path().to_path_buf());
        let act = move || -> BoxFuture<'static, ()> {
            let (attic, rival, states) = (attic.clone(), rival.clone(), states.clone());
            async move {
                let ws = look(attic.clone(), &states.join("r")).await.unwrap();
                restore(&ws, &rival).await.unwrap();
                edit(&rival, 50);
                save(&ws, &rival).await.unwrap();
                prune_meanwhile(&attic, states.join("p"), days)().await;
            }
            .boxed()
        };
        let trap = Trap::before(home.attic.clone(), Verb::Create, key::LOG, act);
        let ws = home.writer_on(trap).await;
        let error = save(&ws, &home.work()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
        let rescue = error.rescue().unwrap().to_owned();
        home.saved.push((rescue.clone(), tree));
        for _ in 0..3 {
            home.attic.advance(2 * DAY_MS);
            prune(&home.pruner().await, apply(keep_last(1)))
                .await
                .unwrap();
        }
        home.assert_whole().await;
        assert!(tree_of(home.attic.clone(), &rescue).await.is_ok());
    }
}

/// Packs of a save that was killed are used by the next one, but not if a Mark names them.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_killed_save_are_used_again_unless_they_are_marked() {
    for is_marked in [false, true] {
        let mut home = Home::with(2).await;
        write(&home.work().join("big.bin"), noise(9, 400_000));
        let faulty = Arc::new(Faulty::new(home.attic.clone()));
        faulty.when(Some(Verb::Create), key::LOG, 0, 1, Fault::Die);
        let ws = home.writer_on(faulty).await;
        save(&ws, &home.work()).await.unwrap_err();
        // The record was never sent: without it the fate is settled by the next save.
        let rival = home.root.path().join("rival");
        let other = home.pruner().await;
        if is_marked {
            // Two epochs later what nobody names is no longer of a save under way.
            restore(&other, &rival).await.unwrap();
            for n in 0..2 {
                edit(&rival, 60 + n);
                save(&other, &rival).await.unwrap();
            }
        }
        let report = prune(&other, apply(keep_last(1))).await.unwrap();
        assert!(report.mark.is_some());
        if !is_marked {
            home.attic.advance(DAY_MS);
            prune(&other, apply(keep_last(1))).await.unwrap();
        }
        let ws = home.writer().await;
        let (id, sent) = match save(&ws, &home.work()).await {
            Ok(report) => (report.snapshot, report.bytes_uploaded),
            Err(e) => (e.rescue().unwrap_or_else(|| panic!("{e:?}")).to_owned(), 0),
        };
        if !is_marked {
            assert!(sent > 0 && sent < 100_000, "{sent} bytes were sent again");
        }
        home.saved.push((id.clone(), listing(&home.work())));
        for _ in 0..2 {
            home.attic.advance(DAY_MS);
            let report = prune(&other, apply(keep_last(1))).await.unwrap();
            assert!(report.warnings.is_empty(), "{report:?}");
        }
        assert!(tree_of(home.attic.clone(), &id).await.is_ok());
        home.assert_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_that_lie_delete_nothing_that_is_needed() {
    for staleness in [
        Staleness::Empty,
        Staleness::DropLast(2),
        Staleness::DropLast(7),
    ] {
        let home = Home::with(4).await;
        let stale = Arc::new(StaleList::new(home.attic.clone()));
        let ws = home.pruner_on(stale.clone()).await;
        prune(&ws, apply(keep_last(2))).await.unwrap();
        stale.set(staleness);
        for _ in 0..3 {
            // An error is right, too.
            let _ = prune(&ws, apply(keep_last(1))).await;
            home.attic.advance(DAY_MS);
        }
        home.assert_whole().await;
    }
}

/// Damage and records that nobody here understands stop prune before it writes anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_read_stops_prune() {
    let home = Home::with(3).await;
    let log = home.attic.kinds().len();
    for key in [
        key::log(1),
        home.attic.record(2).head.unwrap().root.object.to_string(),
    ] {
        let copy = home.attic.copy();
        copy.delete(&key).await.unwrap();
        let ws = look(copy.clone(), &home.root.path().join("x"))
            .await
            .unwrap();
        let error = prune(&ws, apply(keep_last(2))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}");
        assert!(copy.keys("log/").len() <= log);
    }
    let copy = home.attic.copy();
    copy.set(&key::log(2), &b"{\"version\":0,\"kind\":\"later\"}"[..]);
    let ws = look(copy, &home.root.path().join("y")).await.unwrap();
    assert!(prune(&ws, apply(keep_last(2))).await.is_err());
}

/// A Mark that names what is needed is reported, and never swept; nor is it if somebody has appended a Sweep for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_against_live_packs_is_reported_and_not_swept() {
    let home = Home::with(3).await;
    let ws = home.pruner().await;
    let live = home.attic.record(3).head.unwrap().root.object;
    let doomed = nbws_core::record::Doomed {
        objects: vec![nbws_core::record::DoomedObject {
            bytes: 9,
            name: live,
        }],
        snapshots: vec![],
    };
    let attachment = attach(&home.attic, doomed.encode().unwrap());
    let body = |packs| {
        Body::Mark(nbws_core::record::MarkBody {
            attachment,
            bytes: 9,
            packs,
            snapshots: 0,
        })
    };
    let mark = append(&home.attic, body(1));
    home.attic.advance(2 * DAY_MS);
    let report = prune(&ws, apply(None)).await.unwrap();
    assert_eq!(report.marks[0].state, "contradicted");
    assert!(report.warnings[0].contains(&live.to_string()), "{report:?}");
    append(
        &home.attic,
        Body::Sweep(nbws_core::record::SweepBody { marks: vec![mark] }),
    );
    prune(&ws, apply(None)).await.unwrap();
    assert!(home.attic.keys("packs/").contains(&live.to_string()));
    home.assert_whole().await;
}

/// Puts an attachment into a pack of its own.
fn attach(attic: &Attic, plain: Vec<u8>) -> nbws_core::record::Place {
    use nbws_core::frame::{FrameEncoder, FrameKind};
    use nbws_core::id::{ContainerId, FrameHash};
    use nbws_core::key::ContainerKey;
    let key = ContainerKey::pack(ContainerId {
        epoch: 1,
        random: [0xee; 16],
    });
    let repository = attic.record(1).repository;
    let header = nbws_core::header::Header { repository, key };
    let mut pack = nbws_core::pack::PackBuilder::new(header);
    let frame = FrameEncoder::new()
        .unwrap()
        .encode(FrameKind::Attachment, &plain, vec![], 3);
    let slot = pack.push(frame.unwrap()).unwrap().clone();
    attic.set(&key.to_string(), pack.finish().bytes);
    nbws_core::record::Place {
        hash: FrameHash::of(&plain),
        length: slot.stored_len,
        object: key,
        offset: slot.offset,
        plain: slot.plain_len,
    }
}

/// Puts a record behind the newest one, whatever it says.
fn append(attic: &Attic, body: Body) -> u64 {
    let seq = attic.keys("log/").len() as u64;
    let newest = attic.record(seq);
    let mut commit = newest.commit;
    commit.0[0] ^= 0xff;
    commit.0[1] = seq as u8;
    let record = Record {
        body,
        parent: Some(newest.commit),
        commit,
        seq: seq + 1,
        ..newest
    };
    attic.set(&key::log(seq + 1), record.encode().unwrap());
    seq + 1
}

/// What the history tells of every record, also of those that only a ledger knows.
async fn outline(ws: &Workspace) -> Vec<String> {
    let events = ws.history(false).await.unwrap();
    let seqs = events.iter().map(|event| event.seq);
    assert!(seqs.eq(1..=events.len() as u64));
    let told = |e: LogEvent| {
        format!(
            "{} {} {} {} {} {} {:?} {} {} {} {}",
            e.seq,
            e.time_ms,
            e.kind,
            e.state,
            e.epoch,
            e.writer,
            e.comment,
            e.bytes,
            e.files,
            e.objects,
            e.stored_bytes
        )
    };
    events.into_iter().map(told).collect()
}

/// Old records go once a ledger says what they said; history, snapshots, pins, rescues and marks survive that.
#[tokio::test(flavor = "multi_thread")]
async fn old_records_go_and_a_ledger_stays() {
    let mut home = Home::with(4).await;
    let ws = home.pruner().await;
    let place = home.root.path().join("stranger");
    write(&place.join("stray"), noise(5, 10_000));
    save(&ws, &place).await.unwrap_err();
    prune(&ws, apply(keep_last(3))).await.unwrap();
    home.attic.advance(DAY_MS);
    prune(&ws, apply(keep_last(3))).await.unwrap();
    ws.pin(&home.saved[1].0, None, None).await.unwrap();
    comments(&home.attic, 1_300);
    home.attic.advance(20 * DAY_MS);
    let mut writer = home.writer().await;
    edit(&home.work(), 70);
    home.save(&writer).await;
    let young = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert_eq!(
        (young.ledger, young.records_removed),
        (None, 0),
        "less than 30 days"
    );
    home.attic.advance(11 * DAY_MS);
    let before = ws.snapshots().await.unwrap();
    let life = outline(&ws).await;
    let report = prune(&ws, apply(keep_last(2))).await.unwrap();
    let last = report.ledger.unwrap();
    assert_eq!(outline(&ws).await[..life.len()], life);
    let recent = ws.history(true).await.unwrap();
    assert_eq!(recent.last().unwrap().seq, outline(&ws).await.len() as u64);
    assert_eq!(home.attic.keys("ledger/"), [key::ledger(last)]);
    let first = key::log_seq(&home.attic.keys("log/")[0]).unwrap();
    assert_eq!((first, report.records_removed), (last + 1, last));
    assert!(home.attic.keys("log/").len() >= 1_000);
    let after = ws.snapshots().await.unwrap();
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    home.assert_whole().await;

    // Savers go on: one that asks, one that knows a record which is gone.
    edit(&home.work(), 71);
    home.save(&writer).await;
    writer = home.writer().await;
    edit(&home.work(), 72);
    home.save(&writer).await;
    home.attic.advance(2 * DAY_MS);
    prune(&ws, apply(keep_last(2))).await.unwrap();
    home.assert_whole().await;

    // A second ledger takes the place of the first one.
    comments(&home.attic, 400);
    home.attic.advance(31 * DAY_MS);
    edit(&home.work(), 73);
    home.save(&writer).await;
    let second = prune(&ws, apply(keep_last(2))).await.unwrap();
    assert!(second.ledger.unwrap() > last);
    assert_eq!(outline(&ws).await[..life.len()], life);
    assert_eq!(home.attic.keys("ledger/").len(), 1);
    let bytes = home
        .attic
        .get(&home.attic.keys("ledger/")[0])
        .await
        .unwrap();
    let ledger = nbws_core::ledger::Ledger::decode(&bytes).unwrap();
    assert!(
        ledger
            .history
            .iter()
            .map(|past| past.seq)
            .eq(1..=second.ledger.unwrap())
    );
    home.assert_whole().await;
}

/// A writer that slept while the log was pruned learns that its record is in no chain.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_slept_through_a_log_prune_keeps_its_work() {
    let mut home = Home::with(2).await;
    let asleep = home.root.path().join("asleep");
    let sleeper = open(home.attic.clone(), &home.root.path().join("s"))
        .await
        .unwrap();
    restore(&sleeper, &asleep).await.unwrap();
    edit(&asleep, 30);
    save(&sleeper, &asleep).await.unwrap();
    let rival = home.writer().await;
    restore_with(&rival, &home.work(), over("latest"))
        .await
        .unwrap();
    comments(&home.attic, 1_200);
    home.attic.advance(31 * DAY_MS);
    edit(&home.work(), 70);
    home.save(&rival).await;
    let ws = home.pruner().await;
    let report = prune(&ws, apply(keep_last(1))).await.unwrap();
    assert!(report.ledger.is_some());
    home.attic.advance(DAY_MS);
    prune(&ws, apply(keep_last(1))).await.unwrap();
    edit(&asleep, 31);
    let tree = listing(&asleep);
    let error = save(&sleeper, &asleep).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    let (_, found) = tree_of(home.attic.clone(), error.rescue().unwrap())
        .await
        .unwrap();
    assert_eq!(difference(&found, &tree), None);
    home.assert_whole().await;
}

/// Appends many small records.
fn comments(attic: &Attic, count: u64) {
    let newest = attic
        .keys("log/")
        .last()
        .and_then(|k| key::log_seq(k))
        .unwrap();
    let mut record = attic.record(newest);
    for n in 0..count {
        let mut commit = record.commit;
        commit.0[..8].copy_from_slice(&(newest + n).to_be_bytes());
        commit.0[8] ^= 0x55;
        record = Record {
            body: Body::State(nbws_core::record::StateBody {
                comment: Some(format!("comment {n}")),
                info: None,
            }),
            parent: Some(record.commit),
            commit,
            seq: record.seq + 1,
            ..record
        };
        attic.set(&key::log(record.seq), record.encode().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_prune_stops_and_the_next_one_goes_on() {
    let home = Home::with(4).await;
    let ws = home.pruner().await;
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = ws
        .prune(apply(keep_last(1)), None, cancel)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    prune(&ws, apply(keep_last(1))).await.unwrap();
    home.assert_whole().await;
}
