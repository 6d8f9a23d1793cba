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
use nbws_engine::options::{Quota, RestoreOptions, SaveOptions};
use nbws_engine::progress::Progress;
use nbws_engine::report::SaveReport;
use nbws_engine::store::testkit::{Recording, Verb};
use nbws_engine::store::{Created, ObjectInfo, Store};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
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
            let is_prefix = bytes == words(bytes.len() as u64 / 8);
            assert!(is_prefix || has(&report.unstable, name), "{name}");
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

// --- shared mappings -------------------------------------------------------------------------------------------------

/// A program that holds a shared mapping of a file and overwrites it when told.
struct Mapping {
    child: Child,
    replies: BufReader<std::process::ChildStdout>,
}

impl Mapping {
    /// `None`, with the reason printed, without Python.
    fn open(path: &Path) -> Option<Mapping> {
        let program = "import mmap, sys\n\
            f = open(sys.argv[1], 'r+b')\n\
            m = mmap.mmap(f.fileno(), 0)\n\
            print('mapped', flush=True)\n\
            for line in sys.stdin:\n\
            \x20   m[:] = line.strip().encode()[:1] * len(m)\n\
            \x20   print('written', flush=True)\n";
        let child = Command::new("python3")
            .args(["-c", program])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(e) => {
                println!("skipped: no python3: {e}");
                return None;
            }
        };
        let replies = BufReader::new(child.stdout.take().unwrap());
        let mut mapping = Mapping { child, replies };
        mapping.wait("mapped");
        Some(mapping)
    }

    fn wait(&mut self, expected: &str) {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }

    /// Fills the mapping with `letter`; nothing is flushed.
    fn fill(&mut self, letter: char) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{letter}").unwrap();
        stdin.flush().unwrap();
        self.wait("written");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u32 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as u32 == TMPFS)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_through_a_shared_mapping_of_a_recent_file_are_seen() {
    let lab = Lab::on_disk();
    if is_in_memory(&lab.fresh("w")) {
        println!("skipped: the temporary directory is in memory, where mappings move no times");
        return;
    }
    // One file is flushed alone, many at once.
    for others in [0, 50] {
        let work = lab.fresh(&format!("w{others}"));
        let ws = lab.open_on(Lab::new().store, &format!("s{others}")).await;
        for size in [20_000, 400_000] {
            write(&work.join(format!("mapped-{size}")), vec![b'-'; size]);
        }
        let Some(mut small) = Mapping::open(&work.join("mapped-20000")) else {
            return;
        };
        let mut large = Mapping::open(&work.join("mapped-400000")).unwrap();
        for letter in ['a', 'b', 'c', 'd', 'e'] {
            for i in 0..others {
                write(&work.join(format!("o{i}")), format!("{letter}{i}"));
            }
            small.fill(letter);
            large.fill(letter);
            let report = save(&ws, &work).await;
            let target = lab.path(&format!("copy-{others}-{letter}"));
            restore_with(&ws, &target, of(&report.snapshot)).await;
            for size in [20_000, 400_000] {
                let found = fs::read(target.join(format!("mapped-{size}"))).unwrap();
                assert!(
                    found == vec![letter as u8; size],
                    "{letter} of {size} was missed"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_moves_no_time_needs_reread() {
    // On tmpfs no write through a mapping ever moves a time: the documented limit, and the way out.
    let lab = Lab::new();
    let work = lab.fresh("w");
    if !is_in_memory(&work) {
        println!("skipped: no file system in memory");
        return;
    }
    let ws = lab.open().await;
    write(&work.join("mapped"), vec![b'-'; 30_000]);
    let Some(mut mapping) = Mapping::open(&work.join("mapped")) else {
        return;
    };
    mapping.fill('a');
    let first = save(&ws, &work).await;
    lab.assert_holds(&first.snapshot, &work).await;
    mapping.fill('b');
    let missed = save(&ws, &work).await;
    if missed.snapshot != first.snapshot {
        println!("this kernel moves times of mappings in memory");
    }
    let options = SaveOptions {
        reread: true,
        ..SaveOptions::default()
    };
    let found = save_with(&ws, &work, options.clone()).await;
    lab.assert_holds(&found.snapshot, &work).await;
    // Reading again what did not change makes no snapshot.
    let again = save_with(&ws, &work, options).await;
    assert_eq!((again.snapshot, again.files_opened), (found.snapshot, 1));
}

// --- what counts as changed ------------------------------------------------------------------------------------------

/// Overwrites a file in place with as many bytes, and puts its mtime back.
fn swap_quietly(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(before.len(), bytes.len() as u64);
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, 0)
        .unwrap();
    set_mtime(path, before.mtime(), before.mtime_nsec() as u32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_within_the_tick_of_the_save_is_seen_by_the_next() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    let (small, large) = (work.join("small"), work.join("large"));
    for round in 0..25u64 {
        fs::write(&small, noise(round, 2_000)).unwrap();
        fs::write(&large, noise(round, 150_000)).unwrap();
        // Right before the save, between scan and read, after the read, and right after the save.
        swap_quietly(&small, &noise(round + 100, 2_000));
        let (dir, bytes) = (
            work.clone(),
            (noise(round + 200, 2_000), noise(round + 300, 150_000)),
        );
        let sink = move |p: Progress| match p.phase {
            "save" if p.files_done == 0 && p.bytes_done == 0 => {
                swap_quietly(&dir.join("small"), &bytes.0);
            }
            "commit" => swap_quietly(&dir.join("large"), &bytes.1),
            _ => {}
        };
        let sink: nbws_engine::progress::ProgressSink = Arc::new(sink);
        ws.save(
            &work,
            SaveOptions::default(),
            Some(sink),
            CancelToken::new(),
        )
        .await
        .unwrap();
        if round % 2 == 0 {
            swap_quietly(&small, &noise(round + 400, 2_000));
        }
        let report = save(&ws, &work).await;
        lab.assert_holds(&report.snapshot, &work).await;
        assert_eq!(save(&ws, &work).await.snapshot, report.snapshot);
    }
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_metadata_alone() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 50);
    let ws = lab.open().await;
    let mut before = save(&ws, &work).await;
    // What to do, how many files are opened, whether a new snapshot follows.
    type Change = (&'static str, Box<dyn Fn(&Path)>, u64, bool);
    let changes: Vec<Change> = vec![
        (
            "content behind an old mtime",
            Box::new(|w| swap_quietly(&w.join("nb.ipynb"), &noise(77, 5_000))),
            1,
            true,
        ),
        (
            "mode of a file",
            Box::new(|w| set_mode(&w.join("big.bin"), 0o600)),
            1,
            true,
        ),
        (
            "mtime of a file",
            Box::new(|w| set_mtime(&w.join("big.bin"), 1_000_000_000, 5)),
            1,
            true,
        ),
        (
            "ctime alone",
            Box::new(|w| set_mode(&w.join("big.bin"), 0o600)),
            1,
            false,
        ),
        (
            "rename of a file",
            Box::new(|w| fs::rename(w.join("big.bin"), w.join("lib/moved.bin")).unwrap()),
            1,
            true,
        ),
        (
            "rename of a directory",
            Box::new(|w| fs::rename(w.join("lib/pkg1"), w.join("lib/pkg1b")).unwrap()),
            7,
            true,
        ),
        (
            "mode of a directory",
            Box::new(|w| set_mode(&w.join("lib/pkg2"), 0o700)),
            0,
            true,
        ),
        (
            "mtime of a directory",
            Box::new(|w| set_mtime(&w.join("empty"), 7, 8)),
            0,
            true,
        ),
        (
            "a hard link more",
            Box::new(|w| fs::hard_link(w.join("lib/moved.bin"), w.join("a-link")).unwrap()),
            1,
            true,
        ),
        (
            "a hard link less",
            Box::new(|w| fs::remove_file(w.join("a-link")).unwrap()),
            1,
            true,
        ),
        (
            "another leader",
            Box::new(|w| fs::hard_link(w.join("nb.ipynb"), w.join("a-first")).unwrap()),
            1,
            true,
        ),
        (
            "a symlink elsewhere",
            Box::new(|w| {
                fs::remove_file(w.join("lib/link")).unwrap();
                std::os::unix::fs::symlink("elsewhere", w.join("lib/link")).unwrap();
            }),
            0,
            true,
        ),
        (
            "a file removed",
            Box::new(|w| fs::remove_file(w.join("lib/pkg3/m3.py")).unwrap()),
            0,
            true,
        ),
        (
            "a file in the place of a directory",
            Box::new(|w| {
                fs::remove_dir_all(w.join("empty")).unwrap();
                write(&w.join("empty"), "no longer");
            }),
            1,
            true,
        ),
        (
            "a directory in the place of a file",
            Box::new(|w| {
                fs::remove_file(w.join("empty")).unwrap();
                write(&w.join("empty/in"), "in");
            }),
            1,
            true,
        ),
    ];
    for (what, change, opened, is_news) in changes {
        change(&work);
        let report = save(&ws, &work).await;
        assert_eq!(report.files_opened, opened, "{what}: {report:?}");
        assert_eq!(report.snapshot != before.snapshot, is_news, "{what}");
        assert!(report.complete, "{what}: {report:?}");
        lab.assert_holds(&report.snapshot, &work).await;
        let again = save(&ws, &work).await;
        assert_eq!(
            (again.files_opened, again.requests.put),
            (0, 0),
            "after {what}: {again:?}"
        );
        before = report;
    }
    if set_xattr(&work.join("lib"), "user.note", b"kept").is_ok() {
        set_xattr(&work.join("nb.ipynb"), "user.note", b"kept too").unwrap();
        let report = save(&ws, &work).await;
        assert_ne!(report.snapshot, before.snapshot);
        lab.assert_holds(&report.snapshot, &work).await;
    } else {
        println!("skipped: no user attributes on this file system");
    }
    if is_root() {
        // Owners are nobody's business here.
        std::os::unix::fs::chown(work.join("nb.ipynb"), Some(1_234), Some(1_234)).unwrap();
        let before = head(&ws).await;
        let report = save(&ws, &work).await;
        assert_eq!(
            (report.files_opened, report.requests.put),
            (1, 0),
            "{report:?}"
        );
        assert_eq!(head(&ws).await, before);
        assert_eq!(save(&ws, &work).await.files_opened, 0);
    }
}

// --- what can't or must not be read ----------------------------------------------------------------------------------

#[test]
fn unreadable_paths_keep_their_last_version() {
    let lab = Lab::on_disk();
    let place = lab.fresh("child");
    set_mode(lab.path("child").parent().unwrap(), 0o755);
    run_unprivileged("unreadable_child", &place);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_child() {
    let Some(place) = child_directory() else {
        return;
    };
    let lab = Lab::new();
    let work = place.join("w");
    for path in [
        "closed/a",
        "closed/sub/b",
        "listed/c",
        "listed/d",
        "open/e",
        "file",
        "plain",
    ] {
        write(&work.join(path), format!("one {path}"));
    }
    let has_xattrs = set_xattr(&work.join("closed"), "user.note", b"kept").is_ok();
    let expected = tree(&work);
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    assert!(first.complete);
    let closed = [("closed", 0o000), ("listed", 0o444), ("file", 0o000)];
    for (path, mode) in closed {
        set_mode(&work.join(path), mode);
    }
    write(&work.join("new-and-closed"), "never seen");
    set_mode(&work.join("new-and-closed"), 0);
    fs::remove_file(work.join("plain")).unwrap();
    write(&work.join("open/f"), "new");
    let kept = ["closed/a", "closed/sub/b", "file", "listed/c", "listed/d"];
    let mut last = String::new();
    for round in 0..3 {
        let report = save(&ws, &work).await;
        assert!(!report.complete && !report.partial);
        let stale: Vec<String> = report
            .stale
            .iter()
            .map(|p| String::from_utf8(p.clone()).unwrap())
            .collect();
        if round == 1 {
            // Nothing happened since: the same snapshot, and still not complete.
            assert_eq!(report.snapshot, last);
            assert_eq!(report.requests.put, 0, "{report:?}");
        } else {
            assert_eq!(stale, kept, "{report:?}");
            assert_ne!(report.snapshot, last);
        }
        for path in ["closed", "listed/c", "listed/d", "file", "new-and-closed"] {
            let why = reason(&report, path);
            assert!(
                why.is_some_and(|w| w.starts_with("unreadable")),
                "{path}: {report:?}"
            );
        }
        let copy = lab.copy_of(&report.snapshot).await;
        for (path, mode) in closed {
            let is_directory = copy.join(path).is_dir();
            let found = fs::symlink_metadata(copy.join(path)).unwrap().mode() & 0o7777;
            // The mode of a directory could be read, a file keeps its whole entry.
            assert_eq!(found, if is_directory { mode } else { 0o644 }, "{path}");
            if is_directory {
                set_mode(&copy.join(path), 0o755);
            }
        }
        let found = tree(&copy);
        for path in kept {
            assert_eq!(found[path.as_bytes()], expected[path.as_bytes()], "{path}");
        }
        if has_xattrs {
            assert_eq!(
                found[&b"closed"[..]].xattrs,
                expected[&b"closed"[..]].xattrs
            );
        }
        assert!(
            !found.contains_key(&b"plain"[..]),
            "a removed file is removed"
        );
        assert!(!found.contains_key(&b"new-and-closed"[..]));
        assert!(found.contains_key(&b"open/f"[..]));
        fs::remove_dir_all(copy).unwrap();
        last = report.snapshot;
        if round == 1 {
            write(&work.join("open/g"), "more");
        }
    }
    // A machine that restores the stale versions knows that they are not what is wanted.
    for (path, mode) in [
        ("closed", 0o755),
        ("listed", 0o755),
        ("file", 0o644),
        ("new-and-closed", 0o644),
    ] {
        set_mode(&work.join(path), mode);
    }
    fs::remove_file(work.join("listed/c")).unwrap();
    let report = save(&ws, &work).await;
    assert!(report.complete && report.stale.is_empty(), "{report:?}");
    lab.assert_holds(&report.snapshot, &work).await;
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_appears_keeps_what_was_stored_there() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for path in ["m/a", "m/sub/b", "file"] {
        write(&work.join(path), path);
    }
    fs::create_dir(work.join("n")).unwrap();
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    let expected = tree(&work);
    let Some(mount) = Mount::tmpfs(&work.join("m"), "size=1m") else {
        return;
    };
    let other = Mount::tmpfs(&work.join("new-mount"), "size=1m").unwrap();
    write(&work.join("m/other"), "must not be stored");
    write(&work.join("new-mount/other"), "must not be stored");
    write(&work.join("file"), "changed");
    let report = save(&ws, &work).await;
    assert_eq!(reason(&report, "m"), Some("mount"));
    assert_eq!(reason(&report, "new-mount"), Some("mount"));
    assert!(has(&report.stale, "m/a") && has(&report.stale, "m/sub/b"));
    assert!(!report.complete);
    let found = tree(&lab.copy_of(&report.snapshot).await);
    for path in ["m", "m/a", "m/sub", "m/sub/b"] {
        assert_eq!(found[path.as_bytes()], expected[path.as_bytes()], "{path}");
    }
    assert!(
        !found
            .keys()
            .any(|p| p.ends_with(b"other") || p == b"new-mount")
    );
    // A bind mount has the same device: the mount is told by its number.
    drop((mount, other));
    fs::remove_dir(work.join("new-mount")).unwrap();
    let bound = Command::new("mount")
        .arg("--bind")
        .args([work.join("m/sub"), work.join("n")])
        .status();
    assert!(bound.unwrap().success());
    let report = save(&ws, &work).await;
    Command::new("umount").arg(work.join("n")).status().unwrap();
    assert_eq!(reason(&report, "n"), Some("mount"));
    assert!(
        !has(&report.stale, "m/a"),
        "what can be read again is no longer stale"
    );
    let report = save(&ws, &work).await;
    assert!(report.complete, "{report:?}");
    assert_ne!(report.snapshot, first.snapshot);
    lab.assert_holds(&report.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_fifos_and_devices_are_reported_and_never_opened() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 30);
    let make = |name: &str, kind| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            work.join(name),
            kind,
            rustix::fs::Mode::RWXU,
            0x103,
        )
    };
    make("fifo", rustix::fs::FileType::Fifo).unwrap();
    make("lib/fifo", rustix::fs::FileType::Fifo).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(work.join("socket")).unwrap();
    let mut specials = vec![("fifo", "fifo"), ("lib/fifo", "fifo"), ("socket", "socket")];
    match make("device", rustix::fs::FileType::CharacterDevice) {
        Ok(()) => specials.push(("device", "device")),
        Err(e) => println!("skipped: no device node: {e}"),
    }
    let ws = lab.open().await;
    // Opening a FIFO for writing without waiting succeeds only while somebody has it open for reading.
    let mut writers = Writers::new();
    for name in ["fifo", "lib/fifo"] {
        let path = work.join(name);
        writers.spawn(move |_| {
            let opened = fs::OpenOptions::new()
                .write(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                .open(&path);
            assert!(opened.is_err(), "somebody opened the FIFO");
        });
    }
    for n in 0..20 {
        write(&work.join("nb.ipynb"), n.to_string());
        let options = SaveOptions {
            reread: n % 4 == 0,
            ..SaveOptions::default()
        };
        let report = save_with(&ws, &work, options).await;
        let found: Vec<(&str, &str)> = specials
            .iter()
            .map(|(path, _)| (*path, reason(&report, path).unwrap_or("not reported")))
            .collect();
        assert_eq!(found, specials);
        assert!(
            report.complete,
            "they have nothing to be stored: {report:?}"
        );
    }
    writers.stop();
    let (head, _) = head(&ws).await;
    let copy = tree(&lab.copy_of(&head).await);
    assert!(
        specials
            .iter()
            .all(|(path, _)| !copy.contains_key(path.as_bytes()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_are_too_large_cost_no_content() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 5);
    for (path, size) in [("small", 100), ("large", 300_000)] {
        write(&work.join(path), noise(4, size));
    }
    fs::create_dir(work.join("dir")).unwrap();
    for path in ["small", "large", "dir"] {
        for i in 0..6 {
            if let Err(e) = set_xattr(&work.join(path), &format!("user.n{i}"), &[1; 60_000]) {
                println!("skipped: this file system holds no large attributes: {e}");
                return;
            }
        }
    }
    let ws = lab.open().await;
    for _ in 0..2 {
        let report = save(&ws, &work).await;
        assert!(!report.complete);
        for path in ["small", "large", "dir"] {
            let why = reason(&report, path).unwrap_or_default();
            assert!(why.starts_with("stored without"), "{path}: {why}");
        }
        let copy = lab.copy_of(&report.snapshot).await;
        assert!(fs::read(copy.join("small")).unwrap() == noise(4, 100));
        assert!(fs::read(copy.join("large")).unwrap() == noise(4, 300_000));
        assert!(copy.join("dir").is_dir());
    }
}

// --- saves that leave work out ---------------------------------------------------------------------------------------

fn within(deadline: Duration) -> SaveOptions {
    SaveOptions {
        deadline: Some(deadline),
        ..SaveOptions::default()
    }
}

fn partial_tree(work: &Path) {
    for i in 0..300u64 {
        write(&work.join(format!("d{}/f{i}.txt", i % 9)), noise(i, 3_000));
    }
    for i in 0..4u64 {
        write(
            &work.join(format!("large{i}.bin")),
            noise(1_000 + i, 600_000),
        );
    }
    std::os::unix::fs::symlink("x", work.join("link")).unwrap();
    fs::hard_link(work.join("large0.bin"), work.join("d0/again.bin")).unwrap();
}

/// Asserts that every file that a snapshot holds is one of the two versions, and that what is neither is listed as omitted.
async fn assert_partial(lab: &Lab, report: &SaveReport, work: &Path, before: Option<&Path>) {
    let copy = lab.copy_of(&report.snapshot).await;
    let (found, now) = (tree(&copy), tree(work));
    let old = before.map(tree).unwrap_or_default();
    let left_out = omitted(report);
    for (path, node) in &now {
        let shown = String::from_utf8_lossy(path).into_owned();
        let same = |other: &Node| {
            (other.kind, other.size, &other.content) == (node.kind, node.size, &node.content)
        };
        match found.get(path) {
            Some(stored) if same(stored) => {
                assert!(
                    !left_out.contains(&shown),
                    "{shown} is stored and listed as omitted"
                );
            }
            Some(stored) => {
                let previous = old.get(path).expect(&shown);
                assert_eq!(
                    (&stored.content, stored.mtime),
                    (&previous.content, previous.mtime)
                );
                assert!(left_out.contains(&shown), "{shown} is old and not listed");
            }
            None => {
                assert!(
                    !old.contains_key(path),
                    "{shown} was stored before and is gone"
                );
                assert!(
                    left_out.contains(&shown),
                    "{shown} is missing and not listed"
                );
            }
        }
    }
    assert!(found.keys().all(|path| now.contains_key(path)));
    fs::remove_dir_all(copy).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_commits_whole_files_and_the_next_save_completes_them() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    partial_tree(&work);
    let ws = lab.open().await;
    let first = save_with(&ws, &work, within(Duration::ZERO)).await;
    assert!(first.partial && !first.complete);
    assert_eq!(first.omitted.len(), 305);
    assert_eq!(first.files_total, 1, "the symlink");
    assert!(!first.warnings.is_empty());
    assert_partial(&lab, &first, &work, None).await;
    assert!(ws.snapshots().await.unwrap()[0].partial);
    // Another deadline changes nothing; nothing is lost by it.
    let second = save_with(&ws, &work, within(Duration::ZERO)).await;
    assert!(second.partial && second.omitted.len() == 305);
    let whole = save(&ws, &work).await;
    assert!(
        whole.complete && !whole.partial && whole.omitted.is_empty(),
        "{whole:?}"
    );
    lab.assert_holds(&whole.snapshot, &work).await;
    let base = lab.copy_of(&whole.snapshot).await;
    // Changed files keep their previous version, new ones are omitted, removed ones are removed.
    for i in 0..50u64 {
        write(
            &work.join(format!("d{}/f{i}.txt", i % 9)),
            noise(5_000 + i, 3_100),
        );
        write(&work.join(format!("new{i}.txt")), noise(6_000 + i, 100));
    }
    write(&work.join("large0.bin"), noise(7_000, 500_000));
    fs::remove_file(work.join("d5/f5.txt")).unwrap();
    fs::remove_file(work.join("d6/f60.txt")).unwrap();
    let report = save_with(&ws, &work, within(Duration::ZERO)).await;
    assert!(report.partial && !report.complete);
    assert_partial(&lab, &report, &work, Some(&base)).await;
    let whole = save(&ws, &work).await;
    assert!(whole.complete, "{whole:?}");
    lab.assert_holds(&whole.snapshot, &work).await;
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_deadlines_make_progress() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    partial_tree(&work);
    for i in 0..40u64 {
        write(
            &work.join(format!("text{i}.txt")),
            format!("line {i} of a text\n").repeat(30_000),
        );
    }
    let ws = lab.open().await;
    let mut rounds = 0;
    let last = loop {
        let options = SaveOptions {
            level: nbws_engine::options::Level::Fixed(12),
            threads: Some(1),
            ..within(Duration::from_millis(if rounds < 10 { 60 } else { 400 }))
        };
        let report = save_with(&ws, &work, options).await;
        assert_eq!(report.partial, !report.omitted.is_empty());
        assert_partial(&lab, &report, &work, None).await;
        rounds += 1;
        if !report.partial {
            break report;
        }
        assert!(
            rounds < 200,
            "deadlines never end: {} are left",
            report.omitted.len()
        );
    };
    assert!(last.complete);
    println!("{rounds} saves with a deadline");
    lab.assert_holds(&last.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_interrupts_a_large_file() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    write(&work.join("notes.txt"), "small");
    let text: Vec<u8> = noise(1, 45_000_000).iter().map(|b| b'a' + b % 16).collect();
    write(&work.join("large.txt"), text);
    let ws = lab.open().await;
    let options = SaveOptions {
        level: nbws_engine::options::Level::Fixed(19),
        threads: Some(1),
        ..within(Duration::from_millis(300))
    };
    let started = Instant::now();
    let report = save_with(&ws, &work, options).await;
    let took = started.elapsed();
    assert!(report.partial, "45 MB at level 19 were stored in {took:?}");
    assert_eq!(omitted(&report), ["large.txt"]);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(
        fs::read(lab.copy_of(&report.snapshot).await.join("notes.txt")).unwrap(),
        b"small"
    );
    let whole = save(&ws, &work).await;
    assert!(whole.complete);
    lab.assert_holds(&whole.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_limit_keeps_small_files_and_leaves_large_new_ones_out() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    write(&work.join("old.bin"), noise(1, 1_000_000));
    write(&work.join("run.ipynb"), noise(2, 2_000));
    let ws = lab.open().await;
    save(&ws, &work).await;
    let before = lab.copy_of("latest").await;
    write(&work.join("new.bin"), noise(3, 5_000_000));
    write(&work.join("middle.bin"), noise(4, 400_000));
    write(&work.join("code.py"), noise(5, 3_000));
    write(&work.join("run.ipynb"), noise(6, 2_500));
    let limited = |bytes: u64| SaveOptions {
        quota: Quota {
            hard_bytes: Some(bytes),
            ..Quota::default()
        },
        ..SaveOptions::default()
    };
    let report = save_with(&ws, &work, limited(2_000_000)).await;
    assert!(report.partial && !report.complete);
    assert_eq!(omitted(&report), ["new.bin"]);
    assert_eq!(report.omitted[0].size, 5_000_000);
    assert!(report.bytes_total <= 2_000_000);
    assert_partial(&lab, &report, &work, Some(&before)).await;
    // Code goes in even above the limit; a large file that would grow past it keeps its previous version.
    write(&work.join("more.py"), noise(7, 4_000));
    write(&work.join("old.bin"), noise(8, 3_000_000));
    let report = save_with(&ws, &work, limited(100_000)).await;
    let mut left_out = omitted(&report);
    left_out.sort();
    assert_eq!(left_out, ["new.bin", "old.bin"]);
    assert_partial(&lab, &report, &work, Some(&before)).await;
    // Neither the limit nor time passing loses what is omitted: a restore in place leaves it alone.
    let keep = RestoreOptions {
        discard_changes: true,
        ..RestoreOptions::default()
    };
    let restored = restore_with(&ws, &work, keep).await;
    assert!(restored.complete, "{restored:?}");
    assert!(fs::read(work.join("new.bin")).unwrap() == noise(3, 5_000_000));
    assert!(fs::read(work.join("old.bin")).unwrap() == noise(1, 1_000_000));
    // With room it is stored, and omitted entries end when the file is gone.
    let report = save_with(&ws, &work, limited(50_000_000)).await;
    assert!(report.complete && report.omitted.is_empty(), "{report:?}");
    lab.assert_holds(&report.snapshot, &work).await;
    write(&work.join("too-large.bin"), noise(9, 60_000_000));
    assert_eq!(
        omitted(&save_with(&ws, &work, limited(50_000_000)).await),
        ["too-large.bin"]
    );
    fs::remove_file(work.join("too-large.bin")).unwrap();
    let report = save_with(&ws, &work, limited(50_000_000)).await;
    assert!(report.complete && report.omitted.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn omitted_paths_stay_unknown_elsewhere() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    partial_tree(&work);
    let ws = lab.open().await;
    let options = SaveOptions {
        quota: Quota {
            hard_bytes: Some(1_000_000),
            ..Quota::default()
        },
        ..SaveOptions::default()
    };
    let first = save_with(&ws, &work, options).await;
    let left_out = omitted(&first);
    assert!(!left_out.is_empty());
    // A machine that never had the files saves without calling them removed ...
    let other = lab.open_as("other").await;
    let copy = lab.path("copy");
    restore(&other, &copy).await;
    write(&copy.join("more"), "more");
    let second = save(&other, &copy).await;
    assert!(
        !second.complete,
        "what is omitted is still unknown: {second:?}"
    );
    assert_eq!(omitted(&second), left_out);
    // ... and a restore of that in the first place leaves the files where they are.
    let back = restore(&ws, &work).await;
    assert!(
        back.rescue.is_some(),
        "work that was never stored is kept first: {back:?}"
    );
    for path in &left_out {
        assert!(work.join(path).exists(), "{path} was removed");
    }
    assert!(work.join("more").exists());
    let last = save(&ws, &work).await;
    assert!(last.complete, "{last:?}");
    lab.assert_holds(&last.snapshot, &work).await;
}

// --- cancelling ------------------------------------------------------------------------------------------------------

/// Cancels when the store is asked for the n-th time.
#[derive(Debug)]
struct CancelAt {
    inner: Arc<dyn Store>,
    token: CancelToken,
    left: AtomicU64,
    /// Count a request when it has ended, not when it begins.
    ended: bool,
}

impl CancelAt {
    fn count(&self, ended: bool) {
        if self.ended == ended && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.token.cancel();
        }
    }
}

#[async_trait::async_trait]
impl Store for CancelAt {
    async fn put(&self, key: &str, bytes: bytes::Bytes) -> nbws_engine::Result<()> {
        self.count(false);
        let outcome = self.inner.put(key, bytes).await;
        self.count(true);
        outcome
    }
    async fn create(&self, key: &str, bytes: bytes::Bytes) -> nbws_engine::Result<Created> {
        self.count(false);
        self.inner.create(key, bytes).await
    }
    async fn get(&self, key: &str) -> nbws_engine::Result<bytes::Bytes> {
        self.count(false);
        self.inner.get(key).await
    }
    async fn get_range(
        &self,
        key: &str,
        range: std::ops::Range<u64>,
    ) -> nbws_engine::Result<bytes::Bytes> {
        self.count(false);
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> nbws_engine::Result<ObjectInfo> {
        self.count(false);
        self.inner.head(key).await
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> nbws_engine::Result<Vec<ObjectInfo>> {
        self.count(false);
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &str) -> nbws_engine::Result<()> {
        self.count(false);
        self.inner.delete(key).await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_cancelled_at_any_request_is_typed_and_repeatable() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 40);
    let first = save(&lab.open().await, &work).await;
    let mut cancelled = 0;
    for at in 1..40 {
        write(&work.join("nb.ipynb"), noise(at, 3_000));
        write(&work.join(format!("n{at}.bin")), noise(at, 300_000));
        let token = CancelToken::new();
        let store = Arc::new(CancelAt {
            inner: Arc::clone(&lab.store),
            token: token.clone(),
            left: AtomicU64::new(at + 1),
            ended: false,
        });
        // A process that starts anew asks the store for more.
        let ws = lab.open_on(store.clone(), "state").await;
        let outcome = ws.save(&work, SaveOptions::default(), None, token).await;
        let was_reached = store.left.load(Ordering::Relaxed) > u64::MAX / 2
            || store.left.load(Ordering::Relaxed) == 0;
        match outcome {
            Ok(report) => lab.assert_holds(&report.snapshot, &work).await,
            Err(error) => {
                // Cancelled between sending the record and its confirmation: its fate is open.
                let kinds = [ErrorKind::Cancelled, ErrorKind::CommitUnknown];
                assert!(kinds.contains(&error.kind()), "at {at}: {error:?}");
                cancelled += 1;
            }
        }
        let ws = lab.open().await;
        let report = save(&ws, &work).await;
        assert!(report.complete, "at {at}: {report:?}");
        lab.assert_holds(&report.snapshot, &work).await;
        assert!(ws.rescues().await.unwrap().is_empty(), "at {at}");
        if !was_reached {
            break;
        }
    }
    assert!(cancelled > 2, "{cancelled}");
    assert!(lab.open().await.snapshots().await.unwrap()[0].snapshot == first.snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_cancelled_at_any_progress_is_typed_and_repeatable() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let mut expected = Vec::new();
    for (phase, after) in [
        ("scan", 0),
        ("save", 0),
        ("save", 30),
        ("save", 120),
        ("save", 300),
        ("commit", 0),
    ] {
        for i in 0..30u64 {
            write(
                &work.join(format!("{phase}-{after}/{i}.txt")),
                format!("{i}\n").repeat(70_000),
            );
        }
        let ws = lab.open().await;
        let before = ws.snapshots().await.unwrap().len();
        let token = CancelToken::new();
        let (cancel, started) = (token.clone(), Instant::now());
        let mark = Arc::new(std::sync::OnceLock::new());
        let sink = move |p: Progress| {
            if p.phase == phase {
                let begun = *mark.get_or_init(Instant::now);
                if begun.elapsed() >= Duration::from_millis(after) {
                    cancel.cancel();
                }
            }
        };
        let options = SaveOptions {
            level: nbws_engine::options::Level::Fixed(9),
            ..SaveOptions::default()
        };
        let sink: nbws_engine::progress::ProgressSink = Arc::new(sink);
        let outcome = ws.save(&work, options, Some(sink), token).await;
        expected.push((phase, after, outcome.as_ref().err().map(|e| e.kind())));
        if let Err(error) = outcome {
            assert_eq!(
                error.kind(),
                ErrorKind::Cancelled,
                "{phase} {after}: {error:?}"
            );
            assert_eq!(
                ws.snapshots().await.unwrap().len(),
                before,
                "the head is untouched"
            );
        }
        assert!(started.elapsed() < Duration::from_secs(30));
        let report = save(&ws, &work).await;
        assert!(report.complete);
        lab.assert_holds(&report.snapshot, &work).await;
    }
    let hit = expected
        .iter()
        .filter(|(_, _, kind)| kind.is_some())
        .count();
    assert!(hit >= 3, "{expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancelled_save_uploaded_is_reused() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let total = 48_000_000u64;
    for i in 0..48u64 {
        write(&work.join(format!("{i}.bin")), noise(i, 1_000_000));
    }
    let recording = Arc::new(Recording::new(Arc::clone(&lab.store)));
    let token = CancelToken::new();
    let store = Arc::new(CancelAt {
        inner: recording.clone(),
        token: token.clone(),
        left: AtomicU64::new(2),
        ended: true,
    });
    let ws = lab.open_on(store, "state").await;
    recording.take();
    let options = SaveOptions {
        memory_bytes: Some(64 << 20),
        ..SaveOptions::default()
    };
    let error = ws
        .save(&work, options.clone(), None, token)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let sent = |requests: &[nbws_engine::store::testkit::Request]| -> u64 {
        let puts = requests
            .iter()
            .filter(|r| r.verb == Verb::Put && r.key.starts_with("packs/"));
        puts.map(|r| r.bytes).sum()
    };
    let first = sent(&recording.take());
    assert!(
        first >= 8 << 20,
        "at least one pack was stored before: {first}"
    );
    assert!(ws.snapshots().await.unwrap().is_empty());
    let report = save_with(&ws, &work, options).await;
    let second = sent(&recording.take());
    assert!(
        second < total - first + (1 << 20),
        "{first} bytes were sent, then {second}"
    );
    lab.assert_holds(&report.snapshot, &work).await;
    let check = nbws_engine::options::CheckOptions { read_data: 1.0 };
    assert!(
        ws.check(check, None, CancelToken::new())
            .await
            .unwrap()
            .complete
    );
}

// --- workspaces that shrink or are not there ---------------------------------------------------------------------------

/// The newest record as it lies in the store.
async fn newest_record(store: &Arc<dyn Store>) -> nbws_core::record::Record {
    let log = store.list("log/", None).await.unwrap();
    let bytes = store.get(&log.last().unwrap().key).await.unwrap();
    nbws_core::record::Record::decode(&bytes).unwrap()
}

fn pin(record: &nbws_core::record::Record) -> Option<u64> {
    match &record.body {
        nbws_core::record::Body::Snapshot(body) => body.pin_base_until_ms,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_more_than_half_warns_and_pins_the_base() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for i in 0..10u64 {
        write(&work.join(format!("{i}")), noise(i, 1_000));
    }
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    assert_eq!(pin(&newest_record(&lab.store).await), None);
    // Exactly half is no loss.
    for i in 0..5 {
        fs::remove_file(work.join(format!("{i}"))).unwrap();
    }
    let half = save(&ws, &work).await;
    assert!(half.warnings.is_empty(), "{half:?}");
    assert_eq!(pin(&newest_record(&lab.store).await), None);
    // Of five files, two are less than half.
    for i in 5..8 {
        fs::remove_file(work.join(format!("{i}"))).unwrap();
    }
    let less = save(&ws, &work).await;
    assert!(
        less.complete && less.warnings.iter().any(|w| w.contains("more than half")),
        "{less:?}"
    );
    let record = newest_record(&lab.store).await;
    let until = pin(&record).expect("the base is pinned");
    let off = until.abs_diff(record.time_ms + 30 * 86_400_000);
    assert!(off < 60_000, "{off} ms off");
    // Bytes count as well as files.
    write(&work.join("8"), "tiny");
    write(&work.join("9"), "tiny");
    write(&work.join("more"), "tiny");
    let bytes = save(&ws, &work).await;
    assert!(
        bytes.warnings.iter().any(|w| w.contains("more than half")),
        "{bytes:?}"
    );
    // Everything gone is saved all the same, and all of it is still there.
    for path in ["8", "9", "more"] {
        fs::remove_file(work.join(path)).unwrap();
    }
    let nothing = save(&ws, &work).await;
    assert_eq!(nothing.files_total, 0);
    assert!(pin(&newest_record(&lab.store).await).is_some());
    assert!(
        nothing
            .warnings
            .iter()
            .any(|w| w.contains("more than half"))
    );
    assert_eq!(tree(&lab.copy_of(&first.snapshot).await).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_root_is_not_saved_as_the_head() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 20);
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    // Replaced by an empty directory: nothing to keep.
    fs::rename(&work, lab.path("away")).unwrap();
    fs::create_dir(&work).unwrap();
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.rescue()),
        (ErrorKind::InvalidState, None),
        "{error:?}"
    );
    assert_eq!(head(&ws).await, (first.snapshot.clone(), 1));
    assert!(ws.rescues().await.unwrap().is_empty());
    // Replaced by other files: they are kept beside the head.
    write(&work.join("other"), "other");
    for ws in [&ws, &lab.open().await] {
        let error = try_save(ws, &work, SaveOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
        let rescue = error.rescue().expect("a rescue").to_owned();
        let copy = lab.copy_of(&rescue).await;
        assert_eq!(fs::read(copy.join("other")).unwrap(), b"other");
        assert_eq!(tree(&copy).len(), 1);
        assert_eq!(head(ws).await, (first.snapshot.clone(), 1));
    }
    // The directory comes back.
    fs::remove_dir_all(&work).unwrap();
    fs::rename(lab.path("away"), &work).unwrap();
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidState,
        "its proof went with it: {error:?}"
    );
    let report = restore_with(&ws, &work, deleting(nbws_engine::options::Delete::Yes)).await;
    assert!(report.complete);
    assert_eq!(save(&ws, &work).await.snapshot, first.snapshot);
    // Who knows better takes over.
    fs::rename(&work, lab.path("away")).unwrap();
    write(&work.join("mine"), "mine");
    let options = SaveOptions {
        take_over: true,
        ..SaveOptions::default()
    };
    let taken = save_with(&ws, &work, options).await;
    assert_eq!(head(&ws).await, (taken.snapshot.clone(), 2));
    lab.assert_holds(&taken.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_missing_or_a_file_is_a_typed_error() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 5);
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    fs::rename(&work, lab.path("away")).unwrap();
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(!work.exists(), "nothing is made");
    write(&work, "a file");
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    let error = try_restore(&ws, &work, RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    let error = try_restore(&ws, &work.join("below"), RestoreOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::LocalIo | ErrorKind::InvalidInput),
        "{error:?}"
    );
    assert_eq!(fs::read(&work).unwrap(), b"a file");
    assert_eq!(head(&ws).await, (first.snapshot.clone(), 1));
    // A link to the directory is the directory.
    fs::remove_file(&work).unwrap();
    std::os::unix::fs::symlink(lab.path("away"), lab.path("link")).unwrap();
    fs::rename(lab.path("away"), &work).unwrap();
    fs::remove_file(lab.path("link")).unwrap();
    std::os::unix::fs::symlink(&work, lab.path("link")).unwrap();
    let report = save(&ws, &lab.path("link")).await;
    assert_eq!((report.snapshot, report.files_opened), (first.snapshot, 0));
}

// --- rules -------------------------------------------------------------------------------------------------------------

fn stored(found: &std::collections::BTreeMap<Vec<u8>, Node>) -> Vec<String> {
    let files = found
        .iter()
        .filter(|(_, n)| n.kind != rustix::fs::FileType::Directory);
    files
        .map(|(p, _)| String::from_utf8(p.clone()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ignore_files_and_patterns_leave_paths_out_and_bad_lines_are_reported() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for path in [
        "a.py",
        "a.tmp",
        "cache/x",
        "sub/a.tmp",
        "sub/keep.tmp",
        "sub/deep/cache/y",
        "secret",
        "b/secret",
    ] {
        write(&work.join(path), path);
    }
    write(
        &work.join(".nbwsignore"),
        "# rules\n*.tmp\n/cache/\n[z-\n.workspace.initialized\n\nok\n{a,b\n",
    );
    write(&work.join("sub/.nbwsignore"), "!keep.tmp\n");
    write(&work.join(".workspace.initialized"), "marker");
    let ws = lab.open().await;
    let options = SaveOptions {
        exclude: vec!["secret".to_owned(), ".workspace.initialized".to_owned()],
        ..SaveOptions::default()
    };
    let report = save_with(&ws, &work, options.clone()).await;
    let expected = [
        ".nbwsignore",
        ".workspace.initialized",
        "a.py",
        "sub/.nbwsignore",
        "sub/deep/cache/y",
        "sub/keep.tmp",
    ];
    assert_eq!(
        stored(&tree(&lab.copy_of(&report.snapshot).await)),
        expected
    );
    assert_eq!(
        report.files_opened,
        6 + 2,
        "the files, and the ignore files for their rules"
    );
    for line in ["line 4", "line 8"] {
        let found = report
            .warnings
            .iter()
            .any(|w| w.contains(".nbwsignore") && w.contains(line));
        assert!(found, "{line}: {:?}", report.warnings);
    }
    assert_eq!(report.warnings.len(), 2, "{:?}", report.warnings);
    let again = save_with(&ws, &work, options).await;
    assert_eq!((again.snapshot, again.files_opened), (report.snapshot, 2));
    // A rule that goes brings the path in, a rule that comes takes it out; the disk keeps it.
    write(&work.join(".nbwsignore"), "*.py\n");
    let report = save(&ws, &work).await;
    let found = stored(&tree(&lab.copy_of(&report.snapshot).await));
    assert!(found.contains(&"secret".to_owned()) && !found.contains(&"a.py".to_owned()));
    assert!(work.join("a.py").exists());
    let bad = SaveOptions {
        exclude: vec!["fine".to_owned(), "[z-".to_owned()],
        ..SaveOptions::default()
    };
    let error = try_save(&ws, &work, bad).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("[z-"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_tag_counts_only_when_asked() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    write(
        &work.join("c/CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55\n# more",
    );
    write(&work.join("c/large"), "cached");
    write(&work.join("d/CACHEDIR.TAG"), "Signature: something else");
    write(&work.join("d/kept"), "kept");
    let ws = lab.open().await;
    let all = save(&ws, &work).await;
    let names = stored(&tree(&lab.copy_of(&all.snapshot).await));
    assert_eq!(
        names,
        ["c/CACHEDIR.TAG", "c/large", "d/CACHEDIR.TAG", "d/kept"]
    );
    let options = SaveOptions {
        cachedir_tag: true,
        ..SaveOptions::default()
    };
    let fewer = save_with(&ws, &work, options).await;
    let names = stored(&tree(&lab.copy_of(&fewer.snapshot).await));
    assert_eq!(names, ["c/CACHEDIR.TAG", "d/CACHEDIR.TAG", "d/kept"]);
    assert!(work.join("c/large").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_survives_every_rule_and_every_restore() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 5);
    let ws = lab.open().await;
    let without = save(&ws, &work).await;
    write(
        &work.join(".workspace.initialized"),
        "marker of this workspace",
    );
    write(
        &work.join("CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55",
    );
    write(&work.join(".nbwsignore"), "*\n");
    let options = SaveOptions {
        cachedir_tag: true,
        exclude: vec!["*".to_owned()],
        ..SaveOptions::default()
    };
    let with = save_with(&ws, &work, options).await;
    assert_eq!(
        stored(&tree(&lab.copy_of(&with.snapshot).await)),
        [".workspace.initialized"]
    );
    fs::remove_file(work.join(".nbwsignore")).unwrap();
    // No restore removes it, whatever may be deleted.
    let options = RestoreOptions {
        delete: nbws_engine::options::Delete::Yes,
        ..of(&without.snapshot)
    };
    restore_with(&ws, &work, options).await;
    assert_eq!(
        fs::read(work.join(".workspace.initialized")).unwrap(),
        b"marker of this workspace"
    );
    assert!(work.join("nb.ipynb").exists());
}
