use super::*;
use crate::clock::Stopwatch;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long each race runs.
const RACE: Duration = Duration::from_millis(700);

/// Ends the other thread of a race, also when an assertion fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps `name` between a directory and a link to `outside` until told to stop.
fn swap(top: &Path, name: &str, outside: &Path, done: &AtomicBool, swaps: &AtomicUsize) {
    let (directory, link) = (top.join("swap-directory"), top.join("swap-link"));
    let at = top.join(name);
    symlink(outside, &link).unwrap();
    while !done.load(Ordering::Relaxed) {
        for other in [&link, &directory] {
            let parked = if other == &link { &directory } else { &link };
            std::fs::rename(&at, parked).unwrap();
            std::fs::rename(other, &at).unwrap();
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn race(work: impl Fn(&Root)) {
    let dir = directory();
    let outside = directory();
    write(outside.path().join("canary"), "untouched");
    write(outside.path().join("deep/canary"), "untouched");
    write(dir.path().join("a/b/file"), "inside");
    // Read before "b" is, so that much happens between the look at it and its turn.
    for at in 0..100 {
        std::fs::create_dir(dir.path().join(format!("a/a{at:02}"))).unwrap();
    }
    for (round, root) in both_roots(dir.path()).iter().enumerate() {
        let done = AtomicBool::new(false);
        let swaps = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let swapper =
                scope.spawn(|| swap(&dir.path().join("a"), "b", outside.path(), &done, &swaps));
            let _end = End(&done);
            let start = Stopwatch::start();
            while start.elapsed() < RACE && !swapper.is_finished() {
                work(root);
            }
        });
        assert!(swaps.into_inner() > 10, "round {round} did not race");
        let _ = std::fs::remove_file(dir.path().join("a/swap-link"));
    }
    for name in ["canary", "deep/canary"] {
        assert_eq!(
            std::fs::read(outside.path().join(name)).unwrap(),
            b"untouched"
        );
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
    assert_eq!(
        std::fs::read_dir(outside.path().join("deep"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_link_swapped_under_the_walk_is_never_entered() {
    race(|root| {
        let scanned = plain_scan(root);
        for path in paths(&scanned) {
            assert!(
                !path.ends_with("canary") && !path.ends_with("deep"),
                "{path}"
            );
        }
        // Whether the walk saw the directory, the link or the moment between: nothing is listed twice.
        let mut sorted = paths(&scanned);
        sorted.dedup();
        assert_eq!(sorted.len(), scanned.len());
    });
}

#[test]
fn a_link_swapped_under_a_restore_is_never_written_through() {
    race(|root| {
        let _ = root.make_directory(b"a/b/new");
        if let Ok(file) = root.create_file(b"a/b/new/file") {
            let _ = file.write_at(0, b"x");
            let _ = file.finish(&metadata(0o777, 0));
        }
        if let Ok(file) = root.create_file(b"a/b/canary") {
            let _ = file.write_at(0, b"x");
        }
        let _ = root.create_file(b"a/b/deep/canary");
        let _ = root.make_symlink(b"a/b/link", b"x");
        let _ = root.make_hard_link(b"a/b/file", b"a/b/hard");
        let _ = root.set_metadata(b"a/b", FileKind::Directory, &metadata(0o755, 3));
        let _ = root.set_metadata(b"a/b/deep", FileKind::Directory, &metadata(0o700, 3));
        let _ = root.rename(b"a/b/hard", b"a/b/canary");
        if let Ok(file) = root.open_file(b"a/b/file") {
            let mut buffer = [0; 16];
            let read = file.read_at(0, &mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"inside");
        }
        for name in [
            &b"a/b/canary"[..],
            b"a/b/hard",
            b"a/b/link",
            b"a/b/new/file",
        ] {
            let _ = root.remove_file(name);
        }
        let _ = root.remove_file(b"a/b/deep/canary");
        let _ = root.remove_directory(b"a/b/new");
        let _ = root.remove_directory(b"a/b/deep");
    });
}

/// Directories come and go under the walk: what stays is always listed.
#[test]
fn vanishing_directories_do_not_disturb_the_rest() {
    let dir = directory();
    for at in 0..50 {
        write(dir.path().join(format!("stay{at:02}/d/file")), "");
    }
    let done = AtomicBool::new(false);
    let root = Root::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for at in 0..50 {
                    let _ = std::fs::create_dir_all(dir.path().join(format!("stay{at:02}/x/y")));
                }
                for at in 0..50 {
                    let _ = std::fs::remove_dir_all(dir.path().join(format!("stay{at:02}/x")));
                }
            }
        });
        let _end = End(&done);
        let start = Stopwatch::start();
        while start.elapsed() < RACE {
            let scanned = plain_scan(&root);
            let stays = paths(&scanned)
                .iter()
                .filter(|p| p.ends_with("/d/file"))
                .count();
            assert_eq!(stays, 50);
            assert!(scanned.skipped.is_empty(), "{:?}", scanned.skipped);
            let sorted = scanned.iter().map(|e| e.path).is_sorted();
            assert!(sorted);
        }
    });
}
