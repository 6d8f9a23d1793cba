//! Saves of trees that change under them, and of everything that can't or must not be read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/living.rs"]
mod living;

use living::*;
use nbws_engine::ErrorKind;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{RestoreOptions, SaveOptions};
use nbws_engine::progress::Progress;
use nbws_engine::report::SaveReport;
use nbws_engine::store::testkit::{Recording, Slow, Verb};
use nbws_engine::store::{Created, ObjectInfo, Store};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PAGE: usize = 4_096;

fn has(list: &[Vec<u8>], path: &str) -> bool {
    list.iter().any(|p| p == path.as_bytes())
}

fn reason<'r>(report: &'r SaveReport, path: &str) -> Option<&'r str> {
    report
        .skipped
        .iter()
        .find(|s| s.path == path.as_bytes())
        .map(|s| s.reason.as_str())
}

fn omitted(report: &SaveReport) -> Vec<String> {
    report
        .omitted
        .iter()
        .map(|o| String::from_utf8(o.path.clone()).unwrap())
        .collect()
}

/// Runs rounds of save and check for about `seconds`, at least three.
fn rounds(seconds: u64) -> impl Iterator<Item = u64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    (0..).take_while(move |n| *n < 3 || Instant::now() < end)
}

// --- files that change while they are read ---------------------------------------------------------------------------

/// A file of pages that are overwritten one after another: page p holds the number of its newest write in every word.
struct Turning {
    file: fs::File,
    pages: u64,
}

impl Turning {
    fn make(path: &Path, pages: u64) -> Self {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path)
            .unwrap();
        let turning = Turning { file, pages };
        (0..pages).for_each(|n| turning.write(n));
        turning
    }

    fn write(&self, n: u64) {
        let page = n.to_le_bytes().repeat(PAGE / 8);
        let at = n % self.pages * PAGE as u64;
        self.file.write_all_at(&page, at).unwrap();
    }

    /// Whether `bytes` were the whole content at one moment: the pages hold consecutive numbers, the newest one anywhere.
    /// A page that was caught in the middle of one write counts as either.
    fn is_a_moment(bytes: &[u8]) -> bool {
        let pages = bytes.chunks(PAGE).count() as u64;
        let mut choices: Vec<Vec<u64>> = Vec::new();
        for (p, page) in bytes.chunks(PAGE).enumerate() {
            let mut found: Vec<u64> = page
                .chunks(8)
                .map(|w| u64::from_le_bytes(w.try_into().unwrap()))
                .collect();
            found.sort_unstable();
            found.dedup();
            if found.len() > 2 || found.iter().any(|n| n % pages != p as u64) {
                return false;
            }
            choices.push(found);
        }
        let newest = choices.iter().flatten().max().copied().unwrap_or(0);
        (0..=1).any(|back| {
            let Some(k) = newest.checked_sub(back) else {
                return false;
            };
            choices.iter().enumerate().all(|(p, found)| {
                let expected = k - (k + pages - p as u64) % pages;
                found.contains(&expected)
            })
        })
    }
}

#[test]
fn the_check_of_moments_tells_them_apart() {
    let page = |n: u64| n.to_le_bytes().repeat(PAGE / 8);
    let file = |numbers: &[u64]| numbers.iter().flat_map(|n| page(*n)).collect::<Vec<u8>>();
    assert!(Turning::is_a_moment(&file(&[0, 1, 2, 3])));
    assert!(Turning::is_a_moment(&file(&[8, 9, 6, 7])));
    assert!(!Turning::is_a_moment(&file(&[4, 5, 10, 7])));
    assert!(!Turning::is_a_moment(&file(&[8, 5, 6, 11])));
}

#[tokio::test(flavor = "multi_thread")]
async fn rewritten_files_are_stored_as_they_once_were_or_listed() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    let mut writers = Writers::new();
    let files = [("small", 12), ("middle", 100), ("large", 1_500)];
    for (name, pages) in files {
        let turning = Turning::make(&work.join(name), pages);
        writers.spawn(move |n| {
            turning.write(pages + n);
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        });
    }
    let mut unstable = 0;
    for n in rounds(4) {
        fs::write(work.join("other"), n.to_le_bytes()).unwrap();
        let report = save(&ws, &work).await;
        let copy = lab.copy_of(&report.snapshot).await;
        for (name, pages) in files {
            let bytes = fs::read(copy.join(name)).unwrap();
            assert_eq!(bytes.len(), pages as usize * PAGE);
            if has(&report.unstable, name) {
                unstable += 1;
                assert!(!report.complete);
            } else {
                assert!(
                    Turning::is_a_moment(&bytes),
                    "{name} is torn and not listed"
                );
            }
        }
        fs::remove_dir_all(copy).unwrap();
    }
    assert!(
        unstable > 0,
        "nothing was caught changing: the test shows nothing"
    );
    writers.stop();
    // What was unstable is not believed, whatever its stat says.
    let report = save(&ws, &work).await;
    assert!(report.unstable.is_empty() && report.complete, "{report:?}");
    lab.assert_holds(&report.snapshot, &work).await;
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_files_are_stored_as_a_prefix() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    let words = |from: u64, count: u64| -> Vec<u8> {
        (from..from + count).flat_map(u64::to_le_bytes).collect()
    };
    let mut writers = Writers::new();
    for (name, start) in [
        ("log.txt", 10),
        ("grows-large.bin", 7_000),
        ("large.bin", 200_000),
    ] {
        let path = work.join(name);
        fs::write(&path, words(0, start)).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let mut next = start;
        writers.spawn(move |n| {
            let count = n % 50 + 1;
            file.write_all(&words(next, count)).unwrap();
            next += count;
            std::thread::sleep(Duration::from_micros(500));
        });
    }
    let mut sizes: HashMap<&str, u64> = HashMap::new();
    for _ in rounds(3) {
        let report = save(&ws, &work).await;
        assert!(report.unstable.is_empty(), "{:?}", report.unstable);
        let copy = lab.copy_of(&report.snapshot).await;
        for name in ["log.txt", "grows-large.bin", "large.bin"] {
            let bytes = fs::read(copy.join(name)).unwrap();
            let count = bytes.len() as u64 / 8;
            assert!(bytes == words(0, count), "{name} is no prefix");
            let before = sizes.insert(name, count);
            assert!(before.is_none_or(|b| b <= count), "{name} went back");
        }
        fs::remove_dir_all(copy).unwrap();
    }
    writers.stop();
    let report = save(&ws, &work).await;
    lab.assert_holds(&report.snapshot, &work).await;
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shrinking_files_hold_no_bytes_that_were_never_there() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    // Word i is i + 1 wherever it exists, so every moment is a prefix and zeros were never there.
    let words =
        |count: u64| -> Vec<u8> { (1..=count).flat_map(u64::to_le_bytes).collect::<Vec<u8>>() };
    let mut writers = Writers::new();
    for (name, most) in [("small.bin", 6_000), ("large.bin", 300_000)] {
        let path = work.join(name);
        let all = words(most);
        fs::write(&path, &all).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        writers.spawn(move |n| {
            let keep = nbws_engine::store::testkit::random(3, n) % most;
            file.set_len(keep * 8).unwrap();
            std::thread::sleep(Duration::from_micros(200));
            file.write_all_at(&all[keep as usize * 8..], keep * 8)
                .unwrap();
        });
    }
    for _ in rounds(3) {
        let report = save(&ws, &work).await;
        let copy = lab.copy_of(&report.snapshot).await;
        for name in ["small.bin", "large.bin"] {
            let bytes = fs::read(copy.join(name)).unwrap();
            assert!(bytes == words(bytes.len() as u64 / 8), "{name}");
        }
        fs::remove_dir_all(copy).unwrap();
    }
    writers.stop();
    let report = save(&ws, &work).await;
    lab.assert_holds(&report.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_vanish_or_are_replaced_are_stored_as_one_of_their_versions() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let outside = lab.path("outside");
    write(&outside, "outside");
    let ws = lab.open().await;
    // Something to read, so that paths change between the scan and their turn.
    for i in 0..40 {
        write(&work.join(format!("a{i}.bin")), noise(i, 200_000));
    }
    let mut writers = Writers::new();
    for (name, length) in [("z-small", 20_000), ("z-large", 900_000)] {
        let (path, temporary) = (work.join(name), work.join(format!("{name}.new")));
        writers.spawn(move |n| {
            fs::write(&temporary, n.to_le_bytes().repeat(length / 8)).unwrap();
            fs::rename(&temporary, &path).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        });
    }
    let (path, link) = (work.join("z-kinds"), outside.clone());
    writers.spawn(move |n| {
        match n % 4 {
            0 => fs::write(&path, "file".repeat(1_000)).unwrap(),
            1 => std::os::unix::fs::symlink(&link, &path).unwrap(),
            2 => write(&path.join("in"), "in"),
            _ => {
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            }
        }
        std::thread::sleep(Duration::from_micros(300));
        match path.is_dir() && !path.is_symlink() {
            true => fs::remove_dir_all(&path).unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
    });
    for n in rounds(4) {
        // Everything is read again each time.
        let options = SaveOptions {
            reread: true,
            comment: Some(n.to_string()),
            ..SaveOptions::default()
        };
        let report = save_with(&ws, &work, options).await;
        let copy = lab.copy_of(&report.snapshot).await;
        for (path, node) in tree(&copy) {
            let name = String::from_utf8(path).unwrap();
            let bytes = || fs::read(copy.join(&name)).unwrap();
            if name.starts_with("z-small") || name.starts_with("z-large") {
                let bytes = bytes();
                let whole = if name.starts_with("z-small") {
                    20_000
                } else {
                    900_000
                };
                let is_one = bytes.chunks(8).all(|w| w == &bytes[..8]);
                // The file under its temporary name grows: a prefix of it is a version as well.
                let is_version = is_one && (name.ends_with(".new") || bytes.len() == whole);
                assert!(is_version || has(&report.unstable, &name), "{name} is torn");
            } else if name == "z-kinds" {
                match node.kind {
                    rustix::fs::FileType::RegularFile => {
                        let all = "file".repeat(1_000);
                        let is_version = all.as_bytes().starts_with(&bytes());
                        assert!(is_version || has(&report.unstable, &name));
                    }
                    rustix::fs::FileType::Symlink => {
                        assert_eq!(node.content, outside.as_os_str().as_encoded_bytes())
                    }
                    rustix::fs::FileType::Directory => {}
                    other => panic!("a {other:?} was stored"),
                }
            }
        }
        fs::remove_dir_all(copy).unwrap();
    }
    writers.stop();
    let report = save(&ws, &work).await;
    assert!(report.complete, "{report:?}");
    lab.assert_holds(&report.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_that_change_under_a_save_stay_restorable() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    // Many entries between the two names of a file, so that it may change between two looks at it.
    for i in 0..6_000 {
        write(&work.join(format!("m/{}/{i}.bin", i % 60)), i.to_string());
    }
    save(&ws, &work).await;
    let mut writers = Writers::new();
    for g in 0..6u64 {
        // Two names of one file, far apart in the order of the scan; the file is rewritten and its names change.
        let (a, b) = (work.join(format!("a{g}")), work.join(format!("m/59/z{g}")));
        fs::write(&a, 0u64.to_le_bytes().repeat(1_000)).unwrap();
        fs::hard_link(&a, &b).unwrap();
        writers.spawn(move |n| {
            let bytes = (n + 1).to_le_bytes().repeat(1_000 + (n % 7) as usize);
            match n % 8 {
                // One name leaves the file for another one.
                3 => {
                    let new = a.with_extension("new");
                    fs::write(&new, &bytes).unwrap();
                    fs::rename(&new, &a).unwrap();
                }
                5 => {
                    fs::remove_file(&b).unwrap();
                    fs::hard_link(&a, &b).unwrap();
                }
                _ => fs::OpenOptions::new()
                    .write(true)
                    .open(&a)
                    .unwrap()
                    .write_all_at(&bytes, 0)
                    .unwrap(),
            }
            // Some change all the time, others about once a save.
            let pause = [400, 400, 5_000, 15_000, 40_000, 80_000][g as usize];
            let random = nbws_engine::store::testkit::random(g, n) % pause;
            std::thread::sleep(Duration::from_micros(pause / 2 + random));
        });
    }
    for n in rounds(5) {
        write(&work.join("m/turn"), n.to_string());
        let options = SaveOptions {
            reread: n % 8 == 0,
            ..SaveOptions::default()
        };
        let report = save_with(&ws, &work, options).await;
        // A restore refuses a tree whose hard link groups contradict themselves, even if it takes a part of it.
        let copy = lab.path("part");
        let options = RestoreOptions {
            paths: Some((0..6).map(|g| format!("a{g}").into_bytes()).collect()),
            ..of(&report.snapshot)
        };
        let part = restore_with(&lab.open_as("other").await, &copy, options).await;
        assert!(
            part.complete,
            "a name that is there at every moment is stored: {part:?}"
        );
        fs::remove_dir_all(copy).unwrap();
    }
    writers.stop();
    let report = save(&ws, &work).await;
    assert!(report.complete, "{report:?}");
    lab.assert_holds(&report.snapshot, &work).await;
}

/// Lets something happen right after the scan of a save, when the plan is made and nothing was read.
#[derive(Clone)]
struct AfterScan(Arc<dyn Fn() + Send + Sync>);

impl AfterScan {
    fn new(act: impl Fn() + Send + Sync + 'static) -> Self {
        AfterScan(Arc::new(act))
    }

    async fn save(&self, ws: &nbws_engine::Workspace, dir: &Path) -> SaveReport {
        let act = Arc::clone(&self.0);
        let sink = move |p: Progress| {
            if p.phase == "save" && p.files_done == 0 && p.bytes_done == 0 {
                act();
            }
        };
        ws.save(
            dir,
            SaveOptions::default(),
            Some(Arc::new(sink)),
            CancelToken::new(),
        )
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leaves_its_hard_link_group_takes_nobody_along() {
    for large in [false, true] {
        let lab = Lab::new();
        let work = lab.fresh("w");
        let ws = lab.open().await;
        let old = noise(1, if large { 400_000 } else { 4_000 });
        let new = noise(2, if large { 500_000 } else { 5_000 });
        for case in ["gone", "replaced", "all-replaced", "rewritten"] {
            write(&work.join(case).join("a"), &old);
            fs::hard_link(work.join(case).join("a"), work.join(case).join("b")).unwrap();
        }
        let (dir, bytes) = (work.clone(), new.clone());
        let report = AfterScan::new(move || {
            fs::remove_file(dir.join("gone/a")).unwrap();
            for path in ["replaced/a", "all-replaced/a", "all-replaced/b"] {
                fs::write(dir.join("tmp"), &bytes).unwrap();
                fs::rename(dir.join("tmp"), dir.join(path)).unwrap();
            }
            fs::write(dir.join("rewritten/b"), &bytes).unwrap();
        })
        .save(&ws, &work)
        .await;
        let copy = lab.copy_of(&report.snapshot).await;
        let read = |path: &str| fs::read(copy.join(path)).ok();
        let holds = |path: &str, bytes: &[u8]| read(path).is_some_and(|found| found == bytes);
        assert!(holds("gone/b", &old), "a name that is there is stored");
        assert!(holds("replaced/b", &old), "b never had other bytes");
        assert!(read("replaced/a").is_some_and(|bytes| bytes == old || bytes == new));
        for path in ["all-replaced/a", "all-replaced/b"] {
            match read(path) {
                Some(bytes) => assert!(bytes == new, "{path}"),
                None => assert!(reason(&report, path).is_some() && !report.complete),
            }
        }
        assert!(holds("rewritten/a", &new) && holds("rewritten/b", &new));
        let next = save(&ws, &work).await;
        assert!(next.complete);
        lab.assert_holds(&next.snapshot, &work).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_path_turns_into_between_scan_and_read() {
    let kinds = [
        "directory",
        "symlink",
        "fifo",
        "socket",
        "gone",
        "larger",
        "smaller",
        "empty",
    ];
    for large in [false, true] {
        let lab = Lab::new();
        let work = lab.fresh("w");
        let outside = lab.path("outside");
        write(&outside, "outside");
        let ws = lab.open().await;
        let size = if large { 300_000 } else { 3_000 };
        for name in kinds {
            write(&work.join(name), noise(7, size));
        }
        let kept = save(&ws, &work).await;
        for name in kinds {
            write(&work.join(name), noise(8, size));
        }
        let (dir, target) = (work.clone(), outside.clone());
        let report = AfterScan::new(move || {
            for name in kinds {
                fs::remove_file(dir.join(name)).unwrap();
            }
            write(&dir.join("directory/x"), "x");
            std::os::unix::fs::symlink(&target, dir.join("symlink")).unwrap();
            let mode = rustix::fs::Mode::RWXU;
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), fifo, mode, 0).unwrap();
            drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
            write(&dir.join("larger"), noise(9, 700_000));
            write(&dir.join("smaller"), noise(9, 1_000));
            write(&dir.join("empty"), "");
        })
        .save(&ws, &work)
        .await;
        assert!(!report.complete);
        let copy = lab.copy_of(&report.snapshot).await;
        for name in ["directory", "symlink", "fifo", "socket"] {
            // What can't be read as the file that it was keeps the last version, and says so.
            assert!(
                fs::read(copy.join(name)).unwrap() == noise(7, size),
                "{name}"
            );
            assert!(
                has(&report.stale, name) && reason(&report, name).is_some(),
                "{name}"
            );
        }
        assert!(!copy.join("gone").exists());
        assert_eq!(reason(&report, "gone"), Some("vanished"));
        assert!(fs::read(copy.join("larger")).unwrap() == noise(9, 700_000));
        assert!(fs::read(copy.join("smaller")).unwrap() == noise(9, 1_000));
        assert_eq!(fs::read(copy.join("empty")).unwrap(), b"");
        assert_ne!(report.snapshot, kept.snapshot);
        let next = save(&ws, &work).await;
        for name in ["fifo", "socket"] {
            assert_eq!(reason(&next, name), Some(name));
            fs::remove_file(work.join(name)).unwrap();
        }
        assert!(next.stale.is_empty() && next.complete);
        lab.assert_holds(&next.snapshot, &work).await;
    }
}
