//! Prune where it hurts: killed after every request, beside saves and other prunes over a bad network, and through long random
//! histories. Whatever is listed afterwards must be whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/attic.rs"]
mod attic;
#[path = "common/faults.rs"]
mod faults;

use attic::*;
use faults::*;
use nbws_engine::options::PruneOptions;
use nbws_engine::store::Store;
use nbws_engine::store::testkit::{Fault, Faulty, random};
use nbws_engine::{ErrorKind, Workspace};
use std::path::PathBuf;
use std::sync::Arc;

/// A home in which a prune has everything to do: sweep, dismiss, copy, mark.
async fn busy_home() -> Home {
    let mut home = Home::with(1).await;
    let writer = home.writer().await;
    let gone = home.work().join("gone.bin");
    write(&gone, noise(9, 50_000));
    home.save(&writer).await;
    std::fs::remove_file(&gone).unwrap();
    let stray = home.root.path().join("stray");
    write(&stray.join("stray"), noise(5, 20_000));
    let stranger = home.pruner().await;
    save(&stranger, &stray).await.unwrap_err();
    for n in 0..40 {
        write(
            &home.work().join(format!("bulk/{n:02}.bin")),
            noise(1_000 + n, 60_000),
        );
    }
    home.save(&writer).await;
    prune(&stranger, apply(keep_last(1))).await.unwrap();
    home.attic.advance(31 * DAY_MS);
    for n in 0..36 {
        write(
            &home.work().join(format!("bulk/{n:02}.bin")),
            noise(2_000 + n, 60_000),
        );
    }
    home.save(&writer).await;
    edit(&home.work(), 40);
    home.save(&writer).await;
    home
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_request_it_loses_nothing_and_the_next_one_goes_on() {
    let home = busy_home().await;
    let undisturbed = home.attic.copy();
    for _ in 0..3 {
        let ws = home.pruner_on(undisturbed.clone()).await;
        prune(&ws, apply(keep_last(1))).await.unwrap();
        undisturbed.advance(DAY_MS);
    }
    // What a killed prune has copied is of the epoch in force, and stays until a save begins the next.
    let most = undisturbed.bytes_below("packs/") + 700_000;
    let mut points = 0;
    for fault in [Fault::Die, Fault::LandThenDie] {
        for operation in 0.. {
            let attic = home.attic.copy();
            let faulty = Arc::new(Faulty::new(attic.clone()));
            let ws = home.pruner_on(faulty.clone()).await;
            let first = faulty.operations();
            faulty.at(first + operation, fault);
            let outcome = prune(&ws, apply(keep_last(1))).await;
            if faulty.operations() <= first + operation {
                let report = outcome.unwrap();
                assert!(
                    report.packs_deleted > 0 && report.packs_repacked > 0,
                    "{report:?}"
                );
                assert!(report.mark.is_some() && report.rescues_expired.len() == 1);
                break;
            }
            points += 1;
            let store: Arc<dyn Store> = attic.clone();
            let kept = assert_whole(&store, &home.saved).await;
            assert_eq!(kept.last(), Some(&home.saved.last().unwrap().0));
            let ws = home.pruner_on(store.clone()).await;
            prune(&ws, apply(keep_last(1))).await.unwrap();
            attic.advance(DAY_MS);
            let last = prune(&ws, apply(keep_last(1))).await.unwrap();
            assert!(last.marks.is_empty(), "{last:?}");
            let kept = assert_whole(&store, &home.saved).await;
            assert_eq!(kept.len(), 1);
            let left = attic.bytes_below("packs/");
            assert!(left < most, "{fault:?} at {operation}: {left} bytes");
        }
    }
    eprintln!("{points} crash points of prune");
    assert!(points >= 80, "{points} crash points");
}

/// Two prunes at once, from the same state: each step has one winner, and both end well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_prunes_at_once() {
    for _ in 0..10 {
        let home = busy_home().await;
        let other = look(home.attic.clone(), &home.root.path().join("o"))
            .await
            .unwrap();
        let mine = home.pruner().await;
        for _ in 0..3 {
            let (a, b) = tokio::join!(
                prune(&mine, apply(keep_last(1))),
                prune(&other, apply(keep_last(1)))
            );
            for report in [a, b] {
                report.unwrap();
            }
            home.attic.advance(DAY_MS);
        }
        home.assert_whole().await;
        assert_eq!(home.ids().await.len(), 1);
        assert!(
            prune(&mine, apply(keep_last(1)))
                .await
                .unwrap()
                .marks
                .is_empty()
        );
    }
}

struct Writer {
    network: Arc<Faulty>,
    ws: Workspace,
    directory: PathBuf,
}

async fn writers(home: &Home, count: usize) -> Vec<Writer> {
    let mut all = Vec::new();
    for i in 0..count {
        let network = Arc::new(Faulty::new(home.attic.clone()));
        let ws = open(
            network.clone(),
            &home.root.path().join(format!("state-{i}")),
        )
        .await
        .unwrap();
        let directory = home.root.path().join(format!("w-{i}"));
        restore(&ws, &directory).await.unwrap();
        all.push(Writer {
            network,
            ws,
            directory,
        });
    }
    all
}

/// Savers and two prunes at the same time, over stores that lose requests and replies and deliver late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_saves_over_a_bad_network_nothing_that_is_needed_is_deleted() {
    let rounds = if soaks("prune beside saves") {
        1_000
    } else {
        50
    };
    let home = Home::with(3).await;
    let mut saved = home.saved.clone();
    let writers = writers(&home, 2).await;
    let networks: Vec<Arc<Faulty>> = (0..2)
        .map(|_| Arc::new(Faulty::new(home.attic.clone())))
        .collect();
    let faults = [Fault::FailBefore, Fault::LandWithoutReply, Fault::LandLater];
    let (mut heads, mut rescues, mut prunes, mut deleted) = (0, 0, 0, 0);
    for round in 0..rounds {
        let all = writers.iter().map(|w| &w.network).chain(&networks);
        for (i, network) in all.clone().enumerate() {
            network.roll(round * 10 + i as u64, 12, &faults);
        }
        let mut saves = Vec::new();
        for (i, writer) in writers.iter().enumerate() {
            // Content comes and goes, so that saves rely on what prune would like to delete.
            let name = format!("back-{}.bin", random(3, round) % 3);
            let again = noise(random(4, round + i as u64) % 5, 40_000);
            write(&writer.directory.join(name), again);
            edit(&writer.directory, 1 + round * 10 + i as u64);
            let (ws, directory) = (writer.ws.clone(), writer.directory.clone());
            let insists = (round + i as u64).is_multiple_of(3);
            saves.push(tokio::spawn(async move {
                match insists {
                    true => take_over(&ws, &directory).await,
                    false => save(&ws, &directory).await,
                }
            }));
        }
        let mut prunings = Vec::new();
        for (i, network) in networks.iter().enumerate() {
            let ws = look(network.clone(), &home.root.path().join(format!("p{i}"))).await;
            let attic = home.attic.clone();
            let ms = random(5, round * 2 + i as u64) % (30 * HOUR_MS);
            prunings.push(tokio::spawn(async move {
                let Ok(ws) = ws else { return 0 };
                attic.advance(ms);
                prune(&ws, apply(keep_last(2)))
                    .await
                    .map_or(0, |r| 1 + 1_000_000 * r.packs_deleted)
            }));
        }
        for (writer, outcome) in writers.iter().zip(saves) {
            match outcome.await.unwrap() {
                Ok(report) => {
                    heads += 1;
                    saved.push((report.snapshot, listing(&writer.directory)));
                }
                Err(e) => {
                    if let Some(rescue) = e.rescue() {
                        rescues += 1;
                        saved.push((rescue.to_owned(), listing(&writer.directory)));
                    }
                    let damaged = [ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::Internal];
                    assert!(!damaged.contains(&e.kind()), "round {round}: {e:?}");
                }
            }
        }
        for pruning in prunings {
            let outcome = pruning.await.unwrap();
            prunes += outcome % 1_000_000;
            deleted += outcome / 1_000_000;
        }
        for network in all {
            network.calm();
            network.release().await;
        }
        let store: Arc<dyn Store> = home.attic.clone();
        if round % 5 == 0 || round + 1 == rounds {
            assert_whole(&store, &saved).await;
            // Rescues are given up after 30 days, which are fewer rounds than this.
            saved.drain(..saved.len().saturating_sub(200));
        }
        if round % 100 == 99 {
            eprintln!(
                "{} rounds: {heads} heads, {rescues} rescues, {deleted} packs deleted",
                round + 1
            );
        }
        for writer in &writers {
            restore_with(&writer.ws, &writer.directory, over("latest"))
                .await
                .unwrap();
        }
    }
    eprintln!(
        "{rounds} rounds: {heads} heads, {rescues} rescues, {prunes} prunes ended, {deleted} packs deleted, 0 of them live"
    );
    assert!(heads >= rounds / 2 && rescues > 0 && prunes > rounds / 2 && deleted > 0);
}

/// What may happen next in a history.
#[derive(Clone, Copy, Debug)]
enum Event {
    Save,
    SaveElsewhere,
    Prune,
    Wait,
    Pin,
    Unpin,
    Cancel,
    Dismiss,
    Restart,
    RestoreOld,
}

const EVENTS: [Event; 14] = [
    Event::Save,
    Event::Save,
    Event::Save,
    Event::SaveElsewhere,
    Event::Prune,
    Event::Prune,
    Event::Prune,
    Event::Wait,
    Event::Pin,
    Event::Unpin,
    Event::Cancel,
    Event::Dismiss,
    Event::Restart,
    Event::RestoreOld,
];

struct History {
    home: Home,
    saved: Vec<(String, Listing)>,
    ws: Workspace,
    elsewhere: (Workspace, PathBuf),
    seed: u64,
    step: u64,
}

impl History {
    async fn new(seed: u64) -> History {
        let home = Home::with(1).await;
        let place = home.root.path().join("elsewhere");
        let other = home.pruner().await;
        restore(&other, &place).await.unwrap();
        History {
            saved: home.saved.clone(),
            ws: home.writer().await,
            elsewhere: (other, place),
            home,
            seed,
            step: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.step += 1;
        random(self.seed, self.step) % below
    }

    async fn save(&mut self, is_elsewhere: bool) {
        let (ws, directory) = match is_elsewhere {
            true => self.elsewhere.clone(),
            false => (self.ws.clone(), self.home.work()),
        };
        let name = format!("part-{}.bin", self.draw(4));
        let content = noise(self.draw(6), 30_000);
        write(&directory.join(name), content);
        edit(&directory, 1 + self.draw(1_000_000));
        let id = match self.draw(4) {
            0 => take_over(&ws, &directory).await,
            _ => save(&ws, &directory).await,
        };
        let id = match id {
            Ok(report) => report.snapshot,
            Err(e) => e.rescue().unwrap_or_else(|| panic!("{e:?}")).to_owned(),
        };
        self.saved.push((id, listing(&directory)));
        self.home.attic.advance(60_000);
    }

    async fn run(&mut self, event: Event) {
        match event {
            Event::Save => self.save(false).await,
            Event::SaveElsewhere => self.save(true).await,
            Event::Prune => {
                let options = PruneOptions {
                    repack: self.draw(4) > 0,
                    ..apply(keep_last(1 + self.draw(4)))
                };
                let ws = self.home.pruner().await;
                let report = prune(&ws, options).await.unwrap();
                assert!(report.warnings.is_empty(), "{report:?}");
            }
            Event::Wait => {
                let ms = self.draw(40 * HOUR_MS);
                self.home.attic.advance(ms);
            }
            Event::Pin => {
                let ids = self.home.ids().await;
                let id = &ids[self.draw(ids.len() as u64) as usize];
                self.ws.pin(id, None, None).await.unwrap();
            }
            Event::Unpin => {
                if let Some(pin) = self.ws.pins().await.unwrap().first() {
                    self.ws.unpin(&pin.snapshot).await.unwrap();
                }
            }
            Event::Cancel => {
                if let Err(e) = self.home.pruner().await.cancel_prune().await {
                    assert_eq!(e.kind(), ErrorKind::NotFound, "{e:?}");
                }
            }
            Event::Dismiss => {
                if let Some(rescue) = self.ws.rescues().await.unwrap().first() {
                    self.ws.dismiss(&rescue.snapshot).await.unwrap();
                }
            }
            Event::Restart => self.ws = self.home.writer().await,
            Event::RestoreOld => {
                let ids = self.home.ids().await;
                let id = ids[self.draw(ids.len() as u64) as usize].clone();
                let (ws, place) = self.elsewhere.clone();
                restore_with(&ws, &place, over(&id)).await.unwrap();
                let expected = self.saved.iter().find(|(saved, _)| *saved == id);
                assert_eq!(difference(&listing(&place), &expected.unwrap().1), None);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_random_history_keeps_what_it_lists() {
    let histories = if soaks("random histories") { 300 } else { 12 };
    for seed in 0..histories {
        let mut history = History::new(seed).await;
        let mut events = Vec::new();
        for n in 0..30 {
            let event = EVENTS[history.draw(EVENTS.len() as u64) as usize];
            events.push(event);
            history.run(event).await;
            if n % 5 == 4 {
                eprintln!("seed {seed}: {events:?}");
                let store: Arc<dyn Store> = history.home.attic.clone();
                let kept = assert_whole(&store, &history.saved).await;
                assert!(
                    kept.iter()
                        .all(|id| history.saved.iter().any(|(s, _)| s == id))
                );
            }
        }
    }
}
