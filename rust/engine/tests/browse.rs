//! Reading out of a snapshot: what it costs, request by request, and that it is what was saved.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/basics.rs"]
mod basics;

use basics::{noise, write};
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Level, OpenOptions, SaveOptions};
use nbws_engine::store::testkit::{Recording, Request, Verb};
use nbws_engine::{ErrorKind, SnapshotReader, Workspace};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const KEPT: &str = "lib/p007/mine.bin";

/// A repository on a recorded store; the first save holds `make`'s files.
async fn saved(
    name: &str,
    make: impl FnOnce(&Path),
) -> (tempfile::TempDir, Arc<Recording>, Workspace) {
    let dir = tempfile::tempdir().unwrap();
    make(&dir.path().join("work"));
    let url = format!("memory:///browse-{name}");
    let store = nbws_engine::store::open(&url, &Default::default()).unwrap();
    let store = Arc::new(Recording::new(store));
    let workspace = open(&dir, &store).await;
    save(&workspace, &dir).await;
    (dir, store, workspace)
}

/// Opens it as a process does that knows nothing yet.
async fn open(dir: &tempfile::TempDir, store: &Arc<Recording>) -> Workspace {
    let options = OpenOptions {
        create: true,
        state_dir: Some(dir.path().join("state")),
        ..OpenOptions::default()
    };
    Workspace::with_store(store.clone(), options).await.unwrap()
}

async fn save(workspace: &Workspace, dir: &tempfile::TempDir) {
    let options = SaveOptions {
        level: Level::Fast,
        ..SaveOptions::default()
    };
    let work = dir.path().join("work");
    workspace
        .save(&work, options, None, CancelToken::new())
        .await
        .unwrap();
}

async fn read(snapshot: &SnapshotReader, path: &str) -> Vec<u8> {
    let file = snapshot.open_file(path.as_bytes()).await.unwrap();
    file.read_at(0, file.size()).await.unwrap()
}

fn received(requests: &[Request]) -> u64 {
    requests.iter().map(|r| r.bytes).sum()
}

/// Files below many directories, of noise so that they are stored as large as they are.
fn many_files(root: &Path, files: u64, length: usize) {
    for i in 0..files {
        write(
            &root.join(format!("lib/p{:03}/f{i}.bin", i % 300)),
            noise(i, length),
        );
    }
    write(&root.join(KEPT), noise(1 << 40, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_small_file_costs_three_requests_and_two_mebibytes() {
    // 24,000 entries, 240 MB: the tree has many segments, the content many packs.
    match basics::soaks("2 GB") {
        true => one_small_file("cost", 200_000, 10_000).await,
        false => one_small_file("cost", 24_000, 10_000).await,
    }
}

/// So many that the tree has two levels.
#[tokio::test(flavor = "multi_thread")]
async fn one_small_file_of_very_many_costs_no_more() {
    if basics::soaks("500,000 files") {
        one_small_file("cost-of-many", 500_000, 100).await;
    }
}

async fn one_small_file(name: &str, files: u64, length: usize) {
    let (dir, store, _) = saved(name, |work| many_files(work, files, length)).await;
    let workspace = open(&dir, &store).await;
    let snapshot = workspace.browse("latest").await.unwrap();
    store.take();
    assert_eq!(read(&snapshot, KEPT).await, noise(1 << 40, 10_000));
    let requests = store.take();
    println!(
        "one file of {files}: {} requests, {} bytes",
        requests.len(),
        received(&requests)
    );
    // All of them could depend on each other: that is the bound.
    assert!(requests.len() <= 3, "{requests:?}");
    assert!(requests.iter().all(|r| r.verb == Verb::GetRange));
    assert!(received(&requests) <= 2 * MIB, "{requests:?}");
    // What is known is not asked for again.
    assert_eq!(read(&snapshot, KEPT).await.len(), 10_000);
    assert_eq!(store.take(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_reads_the_segments_that_it_needs() {
    let (dir, store, _) = saved("list", |work| many_files(work, 24_000, 100)).await;
    let workspace = open(&dir, &store).await;
    let tree_bytes = {
        let snapshot = workspace.browse("latest").await.unwrap();
        store.take();
        assert_eq!(snapshot.list(b"", true).await.unwrap().len(), 24_001 + 301);
        received(&store.take())
    };
    for (path, entries) in [("lib/p007", 81), ("lib/p007/mine.bin", 1)] {
        let snapshot = workspace.browse("latest").await.unwrap();
        store.take();
        let found = snapshot.list(path.as_bytes(), false).await.unwrap();
        assert_eq!(found.len(), entries, "{path}");
        let bytes = received(&store.take());
        assert!(bytes < tree_bytes, "{path}: {bytes} of {tree_bytes}");
    }
    let snapshot = workspace.browse("latest").await.unwrap();
    assert_eq!(snapshot.list(b"", false).await.unwrap().len(), 1);
    assert_eq!(snapshot.list(b"lib", false).await.unwrap().len(), 300);
    let sums = snapshot.usage(b"lib").await.unwrap();
    assert_eq!(sums.iter().map(|s| s.files).sum::<u64>(), 24_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_large_file_are_what_was_saved() {
    // More than 1,024 chunks, so that they stand in lists; with a long hole in the middle.
    let content = [
        noise(5, 90_000_000),
        vec![0; 30_000_000],
        noise(6, 10_000_001),
    ]
    .concat();
    let (_dir, store, workspace) = saved("ranges", |work| write(&work.join("big"), &content)).await;
    let snapshot = workspace.browse("latest").await.unwrap();
    let file = snapshot.open_file(b"big").await.unwrap();
    let size = content.len() as u64;
    assert_eq!(file.size(), size);
    store.take();
    assert_eq!(
        file.read_at(45_000_000, 100).await.unwrap(),
        content[45_000_000..45_000_100]
    );
    assert!(received(&store.take()) <= 2 * MIB);
    let mut at = 1;
    while at < size {
        let length = 1 + at % 9_999_991;
        let expected = &content[at as usize..(at + length).min(size) as usize];
        assert_eq!(
            file.read_at(at, length).await.unwrap(),
            expected,
            "{at} {length}"
        );
        at += 6_999_983;
    }
    assert!(file.read_at(size, 10).await.unwrap().is_empty());
    assert!(file.read_at(u64::MAX, u64::MAX).await.unwrap().is_empty());
    assert_eq!(file.read_at(0, u64::MAX).await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_reads_only_the_segments_that_differ() {
    let (dir, store, workspace) = saved("diff", |work| many_files(work, 24_000, 100)).await;
    write(&dir.path().join("work").join(KEPT), noise(2, 10_000));
    fs::remove_file(dir.path().join("work/lib/p100/f100.bin")).unwrap();
    write(&dir.path().join("work/new"), b"new");
    save(&workspace, &dir).await;
    let workspace = open(&dir, &store).await;
    let (old, new) = (
        workspace.browse("latest~1").await.unwrap(),
        workspace.browse("latest").await.unwrap(),
    );
    store.take();
    let diff = old.diff(&new).await.unwrap();
    assert!(received(&store.take()) <= 2 * MIB);
    let paths = |entries: &[nbws_engine::report::Entry]| {
        entries
            .iter()
            .map(|e| String::from_utf8(e.path.clone()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(&diff.added), ["new"]);
    assert_eq!(paths(&diff.removed), ["lib/p100/f100.bin"]);
    let changed: Vec<&[u8]> = diff.changed.iter().map(|c| c.path.as_slice()).collect();
    assert_eq!(changed, [KEPT.as_bytes()]);
    assert!(diff.changed[0].what.contains(&"content".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_fetches_every_byte_about_once() {
    let (dir, store, _) = saved("export", |work| many_files(work, 3_000, 10_000)).await;
    let workspace = open(&dir, &store).await;
    let snapshot = workspace.browse("latest").await.unwrap();
    store.take();
    let mut tar = snapshot.export(None).await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = tar.next().await.unwrap() {
        bytes += piece.len() as u64;
    }
    let report = tar.report();
    assert!(report.complete);
    assert_eq!((report.files, report.bytes), (3_001, bytes));
    let requests = store.take();
    let got = received(&requests);
    println!(
        "export: {} requests, {got} bytes for {bytes}",
        requests.len()
    );
    assert!(
        got <= 40 * MIB && requests.len() <= 60,
        "{} requests, {got} bytes",
        requests.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_mean_nothing() {
    let (_dir, _store, workspace) = saved("names", |work| write(&work.join("a"), b"a")).await;
    let kind = async |name: &str| workspace.browse(name).await.err().unwrap().kind();
    assert_eq!(kind("latest~1").await, ErrorKind::NotFound);
    assert_eq!(kind("0000").await, ErrorKind::NotFound);
    assert_eq!(kind("yesterday").await, ErrorKind::InvalidInput);
}
