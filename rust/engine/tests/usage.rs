//! Usage and growth: against a count of their own over entries and index, what they read, and what they refuse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/counts.rs"]
mod counts;

use counts::*;
use nbws_engine::options::{Level, SaveOptions, UsageOptions};
use nbws_engine::report::{GrowthReport, PathUsage, UsageReport};
use nbws_engine::store::testkit::{Recording, Request, Verb};
use nbws_engine::{ErrorKind, Workspace};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn at(path: &str, depth: u32) -> UsageOptions {
    UsageOptions {
        path: path.into(),
        depth,
        categories: vec![
            ("environment".to_owned(), vec!["lib/".to_owned()]),
            ("data".to_owned(), vec!["*.bin".to_owned()]),
        ],
        ..UsageOptions::default()
    }
}

async fn save_fast(workspace: &Workspace, work: &Path) {
    let options = SaveOptions {
        level: Level::Fast,
        ..SaveOptions::default()
    };
    save_with(workspace, work, options).await;
}

/// Rows directly in `path` add up to it, in every figure.
fn assert_adds_up(report: &UsageReport, path: &str, whole: &PathUsage) {
    let is_child = |row: &&PathUsage| {
        let row = std::str::from_utf8(&row.path).unwrap();
        match row.rsplit_once('/') {
            Some((parent, _)) => parent == path,
            None => path.is_empty(),
        }
    };
    let rows: Vec<&PathUsage> = report.by_path.iter().filter(is_child).collect();
    let sum = |figure: fn(&PathUsage) -> u64| rows.iter().map(|row| figure(row)).sum::<u64>();
    assert_eq!(sum(|row| row.logical_bytes), whole.logical_bytes, "{path}");
    assert_eq!(sum(|row| row.files), whole.files, "{path}");
    assert_eq!(sum(|row| row.unique_bytes), whole.unique_bytes, "{path}");
    assert_eq!(sum(|row| row.stored_bytes), whole.stored_bytes, "{path}");
}

fn assert_is_whole(report: &UsageReport) {
    let parts = (report.total.stored_bytes + report.metadata_bytes + report.other_bytes) as i64;
    assert_eq!(parts + report.overhead_bytes, report.stored_bytes as i64);
    assert!(report.overhead_bytes > 0, "{report:?}");
    let files: u64 = report.by_category.iter().map(|c| c.files).sum();
    let stored: u64 = report.by_category.iter().map(|c| c.stored_bytes).sum();
    assert_eq!(
        (files, stored),
        (report.total.files, report.total.stored_bytes)
    );
}

/// Growth is the difference of what it compares, and what goes through the store is metadata.
fn assert_is_difference(growth: &GrowthReport, before: &UsageReport, after: &UsageReport) {
    let minus = |a: u64, b: u64| a as i64 - b as i64;
    let (total, a, b) = (&growth.total, &after.total, &before.total);
    assert_eq!(total.logical_bytes, minus(a.logical_bytes, b.logical_bytes));
    assert_eq!(total.files, minus(a.files, b.files));
    assert_eq!(total.unique_bytes, minus(a.unique_bytes, b.unique_bytes));
    assert_eq!(total.stored_bytes, minus(a.stored_bytes, b.stored_bytes));
    let rows = growth
        .by_path
        .iter()
        .filter(|row| !row.path.contains(&b'/'));
    assert_eq!(
        rows.map(|row| row.stored_bytes).sum::<i64>(),
        total.stored_bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_add_up_and_growth_is_the_difference() {
    let machine = Machine::new();
    let work = machine.path("work");
    make_tree(&work, 3_000);
    // Large enough for lists of chunks, twice; the second is held by reference alone.
    let large = noise(7, 120 * MIB as usize);
    write(&work.join("data/large.bin"), &large);
    write(&work.join("data/again.bin"), &large);
    fs::hard_link(work.join("data/large.bin"), work.join("a-link.bin")).unwrap();
    let store = recorded("usage-sums");
    let workspace = machine.open(store.clone()).await;
    save_fast(&workspace, &work).await;
    let before = workspace.usage(at("", 4)).await.unwrap();
    assert_eq!(before.total.files, 3_001 + 3);
    assert_eq!(before.logical_bytes, before.total.logical_bytes);
    assert_is_whole(&before);
    assert_adds_up(&before, "", &before.total);
    for row in &before.by_path {
        let path = std::str::from_utf8(&row.path).unwrap();
        if path.matches('/').count() < 3 && work.join(path).is_dir() {
            assert_adds_up(&before, path, row);
        }
    }
    // The link is the first name that has the chunks.
    let row = |report: &UsageReport, path: &str| {
        let found = report
            .by_path
            .iter()
            .find(|row| row.path == path.as_bytes());
        found.unwrap().clone()
    };
    assert_eq!(row(&before, "a-link.bin").unique_bytes, 120 * MIB);
    assert_eq!(row(&before, "data").unique_bytes, 0);
    let data = workspace.usage(at("data", 1)).await.unwrap();
    assert_eq!(data.total.unique_bytes, 120 * MIB);
    assert_eq!(data.total.logical_bytes, 240 * MIB);

    write(&work.join("data/large.bin"), noise(8, 120 * MIB as usize));
    fs::rename(work.join("lib/package001"), work.join("moved")).unwrap();
    save_fast(&workspace, &work).await;
    fs::remove_file(work.join("a-link.bin")).unwrap();
    fs::remove_file(work.join("data/again.bin")).unwrap();
    fs::remove_file(work.join("data/large.bin")).unwrap();
    save_fast(&workspace, &work).await;

    let all = workspace.growth(&[], at("", 2)).await.unwrap();
    assert_eq!(all.len(), 2);
    for path in ["", "data", "lib", "lib/package002"] {
        let mut usages = Vec::new();
        for name in ["latest~2", "latest~1", "latest"] {
            let mut options = at(path, 1);
            options.snapshot = name.to_owned();
            let usage = workspace.usage(options).await.unwrap();
            if path.is_empty() {
                assert_is_whole(&usage);
            }
            usages.push(usage);
        }
        let steps = workspace.growth(&[], at(path, 2)).await.unwrap();
        for (step, pair) in steps.iter().zip(usages.windows(2)) {
            if path.is_empty() {
                assert_is_difference(step, &pair[0], &pair[1]);
                let metadata = pair[1].metadata_bytes as i64 - pair[0].metadata_bytes as i64;
                assert_eq!(step.metadata_bytes, metadata);
            } else {
                assert_eq!(
                    step.total.unique_bytes,
                    pair[1].total.unique_bytes as i64 - pair[0].total.unique_bytes as i64
                );
                assert_eq!(
                    step.total.logical_bytes,
                    pair[1].total.logical_bytes as i64 - pair[0].total.logical_bytes as i64
                );
            }
        }
        let ends = ["latest~2".to_owned(), "latest".to_owned()];
        let whole = workspace.growth(&ends, at(path, 1)).await.unwrap();
        let sum = |figure: fn(&GrowthReport) -> i64| steps.iter().map(figure).sum::<i64>();
        assert_eq!(
            whole[0].total.unique_bytes,
            sum(|g| g.total.unique_bytes),
            "{path}"
        );
        assert_eq!(
            whole[0].total.logical_bytes,
            sum(|g| g.total.logical_bytes),
            "{path}"
        );
        let back = [ends[1].clone(), ends[0].clone()];
        let back = workspace.growth(&back, at(path, 1)).await.unwrap();
        assert_eq!(
            back[0].total.stored_bytes, -whole[0].total.stored_bytes,
            "{path}"
        );
        assert_eq!(
            back[0].total.gone_stored_bytes,
            whole[0].total.new_stored_bytes
        );
    }
    // A renamed directory stores nothing anew.
    let moved = all[0]
        .by_path
        .iter()
        .find(|row| row.path == b"moved")
        .unwrap();
    assert_eq!((moved.files, moved.new_stored_bytes), (200, 0));
    // What is gone counts for the first path that had it.
    let gone = all[1]
        .by_path
        .iter()
        .find(|row| row.path == b"a-link.bin")
        .unwrap();
    assert!(gone.gone_stored_bytes > 120 * MIB, "{gone:?}");
}

fn received(requests: &[Request]) -> u64 {
    requests.iter().map(|r| r.bytes).sum()
}

fn writes(requests: &[Request]) -> usize {
    let is_write =
        |r: &&Request| !matches!(r.verb, Verb::Get | Verb::GetRange | Verb::List | Verb::Head);
    requests.iter().filter(is_write).count()
}

/// Opens it as a process does that knows nothing.
async fn fresh(store: &Arc<Recording>) -> Workspace {
    let workspace = Machine::new().open(store.clone()).await;
    store.take();
    workspace
}

#[tokio::test(flavor = "multi_thread")]
async fn no_data_is_downloaded() {
    let machine = Machine::new();
    let work = machine.path("work");
    make_tree(&work, 10_000);
    // 64 MiB of data that no compression makes smaller.
    for i in 0..16 {
        write(&work.join(format!("data/{i:02}.bin")), noise(i, 4 << 20));
    }
    let store = recorded("usage-requests");
    let workspace = machine.open(store.clone()).await;
    save_fast(&workspace, &work).await;
    for edit in 0..5 {
        write(&work.join(NOTEBOOK), noise(edit, 5_000));
        write(
            &work.join(format!("data/new-{edit}.bin")),
            noise(100 + edit, 4 << 20),
        );
        save_fast(&workspace, &work).await;
    }
    let usage = fresh(&store).await.usage(at("", 2)).await.unwrap();
    let sent = store.take();
    println!(
        "usage: {} bytes in {} requests: {:?}",
        received(&sent),
        sent.len(),
        usage.requests
    );
    assert_eq!(usage.total.logical_bytes, usage.logical_bytes);
    assert!(usage.stored_bytes > 84 * MIB);
    assert!(received(&sent) < 2 * MIB, "{sent:?}");
    assert!(sent.len() <= 24, "{sent:?}");
    assert_eq!(writes(&sent), 0);

    let steps = fresh(&store).await.growth(&[], at("", 2)).await.unwrap();
    let sent = store.take();
    println!(
        "growth of all pairs: {} bytes in {} requests",
        received(&sent),
        sent.len()
    );
    assert_eq!(steps.len(), 5);
    assert!(
        steps
            .iter()
            .all(|step| step.total.new_stored_bytes > 4 * MIB)
    );
    assert!(received(&sent) < 3 * MIB, "{sent:?}");
    assert_eq!(writes(&sent), 0);
    // Of each further snapshot: its root and the segments that changed.
    for step in &steps[1..] {
        assert!(step.requests.get <= 5, "{:?}", step.requests);
    }

    let workspace = fresh(&store).await;
    let below = workspace.browse("latest").await.unwrap();
    store.take();
    let rows = below.usage(b"data").await.unwrap();
    assert_eq!(rows.len(), 21);
    let sent = store.take();
    assert!(sent.len() <= 4 && received(&sent) < MIB, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() {
    let machine = Machine::new();
    let work = machine.path("work");
    make_tree(&work, 100);
    let store = recorded("usage-refusals");
    let workspace = machine.open(store.clone()).await;
    let empty = workspace.usage(at("", 1)).await.unwrap();
    assert_eq!((empty.total.files, empty.snapshot), (0, None));
    assert!(workspace.growth(&[], at("", 1)).await.unwrap().is_empty());
    let missing = workspace.usage(at("lib", 1)).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    save_fast(&workspace, &work).await;
    assert!(workspace.growth(&[], at("", 1)).await.unwrap().is_empty());
    for path in ["nothing", "lib/package000/part0/x", "lib-", "li"] {
        let error = workspace.usage(at(path, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
        let error = workspace.growth(&[], at(path, 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
    }
    let error = workspace.usage(at("a/../b", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let one = ["latest".to_owned()];
    let error = workspace.growth(&one, at("", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let unknown = ["latest".to_owned(), "abcd".to_owned()];
    let error = workspace.growth(&unknown, at("", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut options = at("", 1);
    options
        .categories
        .push(("x".to_owned(), vec!["!a".to_owned()]));
    let error = workspace.usage(options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
