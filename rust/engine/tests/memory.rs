//! Peak anonymous memory of save, restore, usage and growth, each in a process of its own: by number of files, and for one large file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/basics.rs"]
mod basics;
#[path = "common/drive.rs"]
mod drive;

use basics::soaks;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The bound of every verb, above what the process took before it began.
const LIMIT: u64 = 512 * MIB;
/// A verb for [`child`] to run.
const CHILD: &str = "NBWS_MEMORY_CHILD";

/// Not a test of its own: the processes that the tests below measure.
#[test]
fn child() {
    let Ok(spec) = std::env::var(CHILD) else {
        return;
    };
    let arguments: Vec<&str> = spec.split('\n').collect();
    println!("{}", drive::drive(&arguments).unwrap());
}

/// Runs a verb in a process of its own; its peak of anonymous memory above the idle process, in bytes.
fn peak(arguments: &[&str]) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, arguments.join("\n"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    let value = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    value("peak_bytes=") - value("idle_bytes=")
}

/// A repository, a tree, and where it is restored to.
struct Lab {
    root: TempDir,
}

impl Lab {
    fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("nbws-memory-")
            .tempdir()
            .unwrap();
        Lab { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Peaks of a first save, a save of no change, usage and growth of two snapshots, a restore, and a restore over what is there.
    fn measure(&self, what: &str) -> Vec<(&'static str, u64)> {
        let url = format!("file://{}", self.text("objects"));
        let (tree, out) = (self.text("tree"), self.text("out"));
        let (one, two) = (self.text("state-1"), self.text("state-2"));
        let save = ["save", &tree, &url, &one];
        let first = peak(&save);
        let again = peak(&save);
        fs::write(self.path("tree/one-more.bin"), [7; 100]).unwrap();
        peak(&save);
        let (usage, growth) = (peak(&["usage", &url, &two]), peak(&["growth", &url, &two]));
        // Room for the copy; the tree is in the repository now.
        fs::remove_dir_all(&tree).unwrap();
        let restore = ["restore", &url, &out, &two];
        let peaks = vec![
            ("first save", first),
            ("save of no change", again),
            ("usage", usage),
            ("growth", growth),
            ("restore", peak(&restore)),
            ("restore over it", peak(&restore)),
        ];
        for (verb, peak) in &peaks {
            println!("{what}: {verb} {:.1} MiB", *peak as f64 / MIB as f64);
            assert!(*peak <= LIMIT, "{what}: {verb} took {peak} bytes");
        }
        peaks
    }
}

fn of_small_files(count: u64) -> Vec<(&'static str, u64)> {
    let lab = Lab::new();
    drive::make_small_files(&lab.path("tree"), 0, count);
    lab.measure(&format!("{count} files"))
}

fn of_one_file(bytes: u64) {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    drive::make_large_file(&lab.path("tree/large.bin"), bytes);
    lab.measure(&format!("a file of {} MiB", bytes / MIB));
}

/// What a verb takes more for 200,000 files than for 100,000 must let it hold 1,000,000 within the bound.
#[test]
fn memory_grows_slowly_with_the_number_of_files() {
    let (few, many) = (of_small_files(100_000), of_small_files(200_000));
    for ((verb, few), (_, many)) in few.into_iter().zip(many) {
        let per_file = many.saturating_sub(few) as f64 / 100_000.0;
        println!("{verb}: {per_file:.0} bytes a file");
        let at_a_million = many as f64 + 800_000.0 * per_file;
        assert!(
            at_a_million <= LIMIT as f64,
            "{verb} would take {:.0} MiB",
            at_a_million / MIB as f64
        );
    }
}

#[test]
fn memory_does_not_follow_the_size_of_a_file() {
    of_one_file(2 << 30);
}

#[test]
fn a_million_files_within_the_bound() {
    if soaks("a million files") {
        of_small_files(1_000_000);
    }
}

/// Needs 45 GB of disk below `TMPDIR`.
#[test]
fn twenty_gib_within_the_bound() {
    if soaks("a file of 20 GiB") {
        of_one_file(20 << 30);
    }
}
