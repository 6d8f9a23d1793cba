//! Round trips of everything that a snapshot keeps beside plain bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/living.rs"]
mod living;

use living::*;
use nbws_engine::Workspace;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, RestoreOptions, SaveOptions};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Saves `work`, restores it on another machine, compares, and checks that neither of both has anything to read afterwards.
async fn round_trip(lab: &Lab, work: &Path) -> String {
    let ws = lab.open().await;
    let report = save(&ws, work).await;
    assert!(report.complete, "{report:?}");
    let again = save(&ws, work).await;
    assert_eq!(
        (again.files_opened, again.requests.put),
        (0, 0),
        "{again:?}"
    );
    let other = lab.open_as("other").await;
    let copy = lab.path("round-trip");
    let options = RestoreOptions {
        verify: true,
        ..RestoreOptions::default()
    };
    let restored = restore_with(&other, &copy, options).await;
    assert!(
        restored.complete && restored.warnings.is_empty(),
        "{restored:?}"
    );
    assert_same(work, &copy);
    let after = save(&other, &copy).await;
    assert_eq!(
        (after.files_opened, after.requests.put),
        (0, 0),
        "{after:?}"
    );
    assert_eq!(after.snapshot, report.snapshot);
    let kept = restore(&other, &copy).await;
    assert_eq!((kept.files_written, kept.bytes_written), (0, 0), "{kept:?}");
    fs::remove_dir_all(copy).unwrap();
    fs::remove_dir_all(lab.path("other")).unwrap();
    report.snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_and_times() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let root_only = if is_root() { 0 } else { 0o600 };
    for mode in [0o000, 0o400, 0o600, 0o644, 0o755, 0o777, 0o111, 0o1644] {
        let path = work.join(format!("file-{mode:o}"));
        write(&path, format!("{mode:o}"));
        set_mode(&path, mode | root_only);
    }
    for mode in [0o000, 0o700, 0o755, 0o555, 0o1777, 0o2775, 0o300] {
        let path = work.join(format!("dir-{mode:o}"));
        write(&path.join("in"), "in");
        set_mode(&path, mode | if is_root() { 0 } else { 0o700 });
    }
    let times = [
        (0, 0),
        (-1, 999_999_999),
        (-1, 1),
        (-86_400 * 365 * 60, 123_456_789),
        (1, 1),
        (1_700_000_000, 999_999_999),
        (4_294_967_296, 7),
        (13_000_000_000, 5),
    ];
    for (n, (seconds, nanos)) in times.into_iter().enumerate() {
        let path = work.join(format!("time-{n}"));
        write(&path, "");
        set_mtime(&path, seconds, nanos);
        let path = work.join(format!("dir-time-{n}"));
        write(&path.join("in"), "x");
        set_mtime(&path, seconds, nanos);
        let path = work.join(format!("link-time-{n}"));
        symlink("x", &path).unwrap();
        set_mtime(&path, seconds, nanos);
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (seconds, i64::from(nanos))
        );
    }
    round_trip(&lab, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn symlinks_of_every_shape() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let longest = "x/".repeat(2_047) + "y";
    assert_eq!(longest.len(), 4_095);
    let targets: [&[u8]; 9] = [
        b"dangling",
        b"/absolute/path",
        b"..",
        b"../../outside",
        b".",
        b"a//b/../c/",
        b"\xff\xfe not utf-8 \n",
        longest.as_bytes(),
        b"/proc/self/root",
    ];
    for (n, target) in targets.into_iter().enumerate() {
        symlink(os(target), work.join(format!("{n}"))).unwrap();
    }
    symlink("loop", work.join("loop")).unwrap();
    symlink("6", work.join("to-6")).unwrap();
    round_trip(&lab, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_link_groups() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for (n, size) in [0, 10, 70_000, 500_000].into_iter().enumerate() {
        let path = work.join(format!("m/{n}/file"));
        write(&path, noise(n as u64, size));
        for other in [
            format!("a/{n}"),
            format!("z-{n}"),
            format!("m/{n}/file-again"),
            format!("m/{n}-x"),
        ] {
            fs::create_dir_all(work.join(&other).parent().unwrap()).unwrap();
            fs::hard_link(&path, work.join(other)).unwrap();
        }
    }
    // A group with a name outside of the workspace, and one whose first name is left out.
    write(&work.join("outside"), "one name is elsewhere");
    fs::hard_link(work.join("outside"), lab.path("elsewhere")).unwrap();
    write(&work.join("b/excluded.tmp"), noise(9, 5_000));
    fs::hard_link(work.join("b/excluded.tmp"), work.join("b/kept-1")).unwrap();
    fs::hard_link(work.join("b/excluded.tmp"), work.join("b/kept-2")).unwrap();
    round_trip(&lab, &work).await;
    let options = SaveOptions {
        exclude: vec!["*.tmp".to_owned()],
        ..SaveOptions::default()
    };
    let ws = lab.open().await;
    let report = save_with(&ws, &work, options).await;
    let found = tree(&lab.copy_of(&report.snapshot).await);
    assert!(!found.contains_key(&b"b/excluded.tmp"[..]));
    assert_eq!(found[&b"b/kept-2"[..]].leader, Some(b"b/kept-1".to_vec()));
    // A part of a group, without its leader: files of their own, or linked among themselves.
    for (paths, links) in [
        (vec!["z-2"], 1),
        (vec!["m/2"], 2),
        (vec!["m/2", "z-2"], 3),
        (vec!["a/2"], 1),
    ] {
        let target = lab.path(&format!("part-{links}-{}", paths.len()));
        let options = RestoreOptions {
            paths: Some(paths.iter().map(|p| bytes(p)).collect()),
            verify: true,
            ..RestoreOptions::default()
        };
        restore_with(&lab.open_as("parts").await, &target, options).await;
        for (path, node) in tree(&target) {
            if node.kind == rustix::fs::FileType::RegularFile {
                let path = target.join(os(&path));
                assert!(fs::read(&path).unwrap() == noise(2, 70_000));
                assert_eq!(
                    fs::metadata(&path).unwrap().nlink(),
                    links,
                    "{}",
                    path.display()
                );
            }
        }
        fs::remove_dir_all(target).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_attributes_of_files_and_directories() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 3);
    if let Err(e) = set_xattr(&work.join("nb.ipynb"), "user.one", b"1") {
        println!("skipped: no user attributes on this file system: {e}");
        return;
    }
    set_xattr(&work.join("nb.ipynb"), "user.empty", b"").unwrap();
    set_xattr(&work.join("nb.ipynb"), "user.binary", &noise(3, 2_000)).unwrap();
    set_xattr(
        &work.join("big.bin"),
        "user.a.long.name.with.dots",
        b"\0\xff",
    )
    .unwrap();
    set_xattr(&work.join("lib"), "user.of a directory", b"x").unwrap();
    set_xattr(&work.join("empty/dir"), "user.x", b"y").unwrap();
    for i in 0..40 {
        set_xattr(
            &work.join("big.bin"),
            &format!("user.n{i}"),
            format!("{i}").as_bytes(),
        )
        .unwrap();
    }
    if is_root() {
        // Other namespaces carry privileges and are not kept.
        let trusted = rustix::fs::XattrFlags::empty();
        let _ = rustix::fs::setxattr(work.join("big.bin"), "trusted.x", b"1", trusted);
    }
    round_trip(&lab, &work).await;
    let ws = lab.open().await;
    rustix::fs::removexattr(work.join("nb.ipynb"), "user.one").unwrap();
    set_xattr(&work.join("lib"), "user.of a directory", b"changed").unwrap();
    let report = save(&ws, &work).await;
    lab.assert_holds(&report.snapshot, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_and_empty_things() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let longest = "n".repeat(255);
    let names: [&[u8]; 18] = [
        b"\xff\xfe\xfd",
        b"new\nline",
        b" leading and trailing ",
        b"-rf",
        b"*?[]{}",
        b"\\backslash",
        b"quote\"'`$(x)",
        b"\x01\x1b[31m\x7f",
        "umlaut-\u{e4}".as_bytes(),
        "umlaut-a\u{308}".as_bytes(),
        b"...",
        b"..a",
        b".hidden",
        b"~",
        b"CON",
        b"a:b",
        b"a.b",
        longest.as_bytes(),
    ];
    // Names that sort around a directory and what it holds.
    for name in names {
        write(&work.join("files").join(os(name)), name);
        fs::create_dir_all(work.join("dirs").join(os(name)).join("empty")).unwrap();
        symlink(
            os(name),
            work.join(os(&[b"link-", &name[..name.len().min(200)]].concat())),
        )
        .unwrap();
    }
    for name in ["a", "a-", "a.x", "a0", "a b"] {
        fs::create_dir_all(work.join("order").join(name)).unwrap();
        write(&work.join("order").join(name).join("in"), name);
    }
    write(&work.join("order/a!"), "file");
    write(&work.join("empty-file"), "");
    round_trip(&lab, &work).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_workspace() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    round_trip(&lab, &work).await;
    write(&work.join("first"), "first");
    round_trip(&lab, &work).await;
}

// --- paths beyond what one call takes --------------------------------------------------------------------------------------

/// Makes `depth` nested directories below `root`; returns the innermost one.
fn deep(root: &Path, name: &str, depth: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        match rustix::fs::mkdirat(&at, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => panic!("{e}"),
        }
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
    }
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_longer_than_path_max() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let name = "d".repeat(200);
    let bottom = deep(&work, &name, 40);
    let there = at_fd(&bottom);
    fs::write(there.join("small"), "small").unwrap();
    fs::write(there.join("large"), noise(1, 400_000)).unwrap();
    fs::create_dir(there.join("empty")).unwrap();
    fs::create_dir(there.join("replaced")).unwrap();
    symlink("elsewhere", there.join("link")).unwrap();
    fs::hard_link(there.join("small"), work.join("further-name")).unwrap();
    let has_xattrs = set_xattr(&there.join("small"), "user.x", b"y").is_ok();
    println!("attributes: {has_xattrs}");
    set_mode(&there.join("large"), 0o640);
    set_mtime(&there.join("empty"), 5, 6);
    let longest = tree(&work).keys().map(Vec::len).max().unwrap();
    assert!(longest > 8_000, "{longest}");
    let first = round_trip(&lab, &work).await;
    // In place: changed, removed, added, and of another kind.
    let expected = tree(&work);
    fs::write(there.join("large"), noise(2, 300_000)).unwrap();
    fs::remove_file(there.join("link")).unwrap();
    fs::write(there.join("extra"), "extra").unwrap();
    fs::remove_dir(there.join("replaced")).unwrap();
    fs::write(there.join("replaced"), "by a file").unwrap();
    let ws = lab.open().await;
    let second = save(&ws, &work).await;
    assert_eq!(second.files_opened, 3, "{second:?}");
    let changed = tree(&work);
    let report = restore_with(&ws, &work, of(&first)).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&expected, &tree(&work));
    let report = restore_with(&ws, &work, of(&second.snapshot)).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&changed, &tree(&work));
}

// --- large and sparse files ----------------------------------------------------------------------------------------------------

/// Ranges of at least `least` bytes that are not allocated.
fn holes(path: &Path, least: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < size {
        let hole = rustix::fs::seek(file.as_fd(), SeekFrom::Hole(at)).unwrap();
        let next = match rustix::fs::seek(file.as_fd(), SeekFrom::Data(hole)) {
            Ok(next) => next,
            Err(_) => size,
        };
        if hole < size && next - hole >= least {
            out.push((hole, next));
        }
        at = next;
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_files_cost_their_data() {
    const GIB: u64 = 1 << 30;
    let lab = Lab::new();
    let work = lab.fresh("w");
    let make = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        let file = fs::File::create(work.join(name)).unwrap();
        file.set_len(size).unwrap();
        for (n, (at, len)) in pieces.iter().enumerate() {
            file.write_all_at(&noise(n as u64, *len), *at).unwrap();
        }
    };
    let started = Instant::now();
    make(
        "tebibyte",
        1024 * GIB,
        &[
            (0, 100_000),
            (300 * GIB + 12_345, 3_000_000),
            (700 * GIB, 1),
            (1024 * GIB - 5_000, 5_000),
        ],
    );
    make("ends-in-a-hole", 10 * GIB + 77, &[(4 * GIB, 200_000)]);
    make("nothing-but-hole", 5 * GIB + 1, &[]);
    make(
        "begins-with-a-hole",
        3 * GIB,
        &[(3 * GIB - 1_000_000, 1_000_000)],
    );
    make(
        "small-holes",
        4_000_000,
        &[(0, 4_096), (1 << 20, 4_096), (2 << 20, 300_000)],
    );
    make("tiny", 60_000, &[(30_000, 10)]);
    make("tiny-hole", 50_000, &[]);
    // Zeros that are written are data, and still one chunk over and over.
    let mut zeros = vec![0; 20_000_000];
    zeros[7_000_000..7_000_100].copy_from_slice(&noise(1, 100));
    write(&work.join("written-zeros"), &zeros);
    let snapshot = round_trip(&lab, &work).await;
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(60),
        "a hole is read byte by byte: {took:?}"
    );
    println!("a tebibyte there and back in {took:?}");
    let copy = lab.copy_of(&snapshot).await;
    for name in [
        "tebibyte",
        "ends-in-a-hole",
        "nothing-but-hole",
        "begins-with-a-hole",
        "small-holes",
    ] {
        let (original, restored) = (work.join(name), copy.join(name));
        let allocated = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
        let (before, after) = (allocated(&original), allocated(&restored));
        assert!(
            after <= before + 6 * (256 << 10),
            "{name}: {before} bytes became {after}"
        );
        // Chunks of zeros end where the data's chunks end, so a hole may come back a chunk shorter at either end.
        let found = holes(&restored, 1 << 20);
        for (from, to) in holes(&original, 2 << 20) {
            let is_there = found
                .iter()
                .any(|(f, t)| *f <= from + (512 << 10) && *t + (512 << 10) >= to);
            assert!(is_there, "{name}: hole {from}..{to} is not in {found:?}");
        }
    }
    assert!(fs::read(copy.join("written-zeros")).unwrap() == zeros);
    // Data that comes, and data that goes, in place.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(work.join("tebibyte"))
        .unwrap();
    file.write_all_at(&noise(8, 50_000), 500 * GIB).unwrap();
    file.set_len(900 * GIB).unwrap();
    let ws = lab.open().await;
    let started = Instant::now();
    let second = save(&ws, &work).await;
    assert!(second.bytes_read < 8_000_000, "{second:?}");
    lab.assert_holds(&second.snapshot, &work).await;
    let report = restore_with(&ws, &work, of(&snapshot)).await;
    assert!(report.complete, "{report:?}");
    assert_same(&copy, &work);
    assert!(
        started.elapsed() < Duration::from_secs(40),
        "{:?}",
        started.elapsed()
    );
    // A directory that nothing is known of is compared by its data.
    let started = Instant::now();
    let foreign = restore_with(&lab.open_as("stranger").await, &work, of(&snapshot)).await;
    assert!(
        foreign.complete && foreign.files_written == 0,
        "{foreign:?}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_more_runs_than_an_entry_holds() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let mut bytes = noise(1, 110_000_000);
    // Runs of zeros inside, and a piece that comes again.
    bytes[20_000_000..23_000_000].fill(0);
    let piece = bytes[40_000_000..41_000_000].to_vec();
    bytes[60_000_000..61_000_000].copy_from_slice(&piece);
    write(&work.join("large.bin"), &bytes);
    fs::hard_link(work.join("large.bin"), work.join("z-again.bin")).unwrap();
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    assert!(first.chunks_total > 1_100, "{first:?}");
    assert!(
        first.bytes_new < 108_000_000,
        "zeros and pieces are stored once: {first:?}"
    );
    let copy = lab.copy_of(&first.snapshot).await;
    assert!(fs::read(copy.join("large.bin")).unwrap() == bytes);
    assert_same(&work, &copy);
    fs::remove_dir_all(copy).unwrap();
    // Bytes that come, go and change cost about what they are.
    let original = bytes.clone();
    bytes.splice(50_000_000..50_000_000, noise(2, 70_000));
    bytes[90_000_000] ^= 1;
    bytes.drain(5_000_000..5_001_000);
    write(&work.join("large.bin"), &bytes);
    let second = save(&ws, &work).await;
    assert!(second.bytes_new < 1_500_000, "{second:?}");
    lab.assert_holds(&second.snapshot, &work).await;
    let report = restore_with(&ws, &work, of(&first.snapshot)).await;
    assert!(
        report.complete && report.bytes_downloaded < 8_000_000,
        "{report:?}"
    );
    assert!(fs::read(work.join("z-again.bin")).unwrap() == original);
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

// --- rights ------------------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn set_id_bits_are_restored_only_with_owners() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for (name, mode) in [
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("both", 0o6711),
        ("sticky", 0o1755),
    ] {
        write(&work.join(name), name);
        set_mode(&work.join(name), mode);
    }
    fs::create_dir(work.join("dir")).unwrap();
    set_mode(&work.join("dir"), 0o2775);
    let ws = lab.open().await;
    let report = save(&ws, &work).await;
    let copy = lab.copy_of(&report.snapshot).await;
    let mode = |dir: &Path, name: &str| fs::metadata(dir.join(name)).unwrap().mode() & 0o7777;
    let modes =
        |dir: &Path| ["setuid", "setgid", "both", "sticky", "dir"].map(|name| mode(dir, name));
    assert_eq!(modes(&copy), [0o755, 0o755, 0o711, 0o1755, 0o2775]);
    // The snapshot knows better than the disk, and goes on doing so.
    let other = lab.open_as("other").await;
    let target = lab.path("t");
    restore(&other, &target).await;
    let again = save(&other, &target).await;
    assert_eq!(
        (again.snapshot.as_str(), again.files_opened),
        (report.snapshot.as_str(), 0)
    );
    assert_eq!(restore(&other, &target).await.files_written, 0);
    if is_root() {
        let options = RestoreOptions {
            numeric_ids: true,
            ..RestoreOptions::default()
        };
        let with = lab.path("with");
        restore_with(&lab.open_as("third").await, &with, options).await;
        assert_eq!(modes(&with), [0o4755, 0o2755, 0o6711, 0o1755, 0o2775]);
    }
}

async fn open_numeric(lab: &Lab, state: &str) -> Workspace {
    let options = OpenOptions {
        create: true,
        numeric_ids: true,
        state_dir: Some(lab.path(state)),
        ..OpenOptions::default()
    };
    Workspace::with_store(Arc::clone(&lab.store), options)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_with_numeric_ids_keep_owners() {
    if !is_root() {
        println!("skipped: only root may give files away");
        return;
    }
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 10);
    let give = |path: &str, uid: u32, gid: u32| {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(gid),
        );
        rustix::fs::chownat(CWD, work.join(path), Some(uid), Some(gid), flags).unwrap();
    };
    give("nb.ipynb", 1_000, 1_001);
    give("big.bin", 4_000_000_000, 3);
    give("lib", 12, 13);
    give("lib/link", 14, 15);
    set_mode(&work.join("big.bin"), 0o4755);
    let ws = open_numeric(&lab, "state").await;
    let first = save(&ws, &work).await;
    let copy = lab.path("copy");
    let other = open_numeric(&lab, "other").await;
    let report = restore(&other, &copy).await;
    assert!(report.complete && report.warnings.is_empty(), "{report:?}");
    let owners = |dir: &Path| -> BTreeMap<Vec<u8>, (u32, u32)> {
        tree(dir)
            .into_iter()
            .map(|(path, node)| (path, node.owner))
            .collect()
    };
    assert_eq!(owners(&work), owners(&copy));
    assert_same(&work, &copy);
    assert_eq!(save(&other, &copy).await.files_opened, 0);
    // A change of owner is a change here.
    give("nb.ipynb", 2_000, 2_000);
    give("lib/pkg1", 5, 5);
    give("lib/link", 6, 6);
    let second = save(&ws, &work).await;
    assert_ne!(second.snapshot, first.snapshot);
    let report = restore(&other, &copy).await;
    assert!(report.complete, "{report:?}");
    assert_eq!(owners(&work), owners(&copy));
    let back = restore_with(&ws, &work, of(&first.snapshot)).await;
    assert!(back.complete);
    assert_eq!(owners(&work)[&b"nb.ipynb"[..]], (1_000, 1_001));
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

// --- whole small trees ---------------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Thing {
    File {
        size: usize,
        seed: u8,
    },
    Sparse {
        size: u64,
        at: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    /// A further name of an earlier file.
    Link(usize),
}

#[derive(Clone, Debug)]
struct Spec {
    path: Vec<Vec<u8>>,
    thing: Thing,
    mode: u32,
    mtime: (i64, u32),
    xattrs: Vec<(u8, Vec<u8>)>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(&b"abc"[..]),
        2 => prop::sample::select(&b".-_ 0~"[..]),
        1 => any::<u8>().prop_filter("no part of a name", |b| *b != 0 && *b != b'/'),
    ];
    let any_name = prop::collection::vec(byte, 1..5);
    let long = prop::sample::select(&b"xyz"[..]).prop_map(|b| vec![b; 255]);
    prop_oneof![20 => any_name, 1 => long].prop_filter("reserved", |n| n != b"." && n != b"..")
}

fn thing() -> impl Strategy<Value = Thing> {
    let size = prop_oneof![3 => 0..300usize, 2 => 4_000..9_000usize, 1 => 60_000..400_000usize];
    let target = prop::collection::vec(any::<u8>().prop_filter("NUL", |b| *b != 0), 1..40);
    prop_oneof![
        6 => (size, 0..4u8).prop_map(|(size, seed)| Thing::File { size, seed }),
        1 => (1..3_000_000u64, 0..3_000_000u64).prop_map(|(size, at)| Thing::Sparse { size, at }),
        3 => Just(Thing::Directory),
        2 => target.prop_map(Thing::Symlink),
        2 => any::<usize>().prop_map(Thing::Link),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let mtime = (
        prop_oneof![-2_000_000_000..13_000_000_000i64, 0..2i64],
        0..1_000_000_000u32,
    );
    let xattrs = prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..20)), 0..3);
    (
        prop::collection::vec(name(), 1..4),
        thing(),
        0..0o10000u32,
        mtime,
        xattrs,
    )
        .prop_map(|(path, thing, mode, mtime, xattrs)| Spec {
            path,
            thing,
            mode,
            mtime,
            xattrs,
        })
}

/// Makes what of `specs` can be made; what is in the way of something wins. Modes and times come last, innermost first.
fn build(root: &Path, specs: &[Spec], has_xattrs: bool) {
    let mut files = Vec::new();
    let mut made = Vec::new();
    for spec in specs {
        let path = spec
            .path
            .iter()
            .fold(root.to_path_buf(), |at, name| at.join(os(name)));
        if fs::create_dir_all(path.parent().unwrap()).is_err()
            || fs::symlink_metadata(&path).is_ok()
        {
            continue;
        }
        match &spec.thing {
            Thing::File { size, seed } => {
                fs::write(&path, noise(u64::from(*seed), *size)).unwrap();
                files.push(path.clone());
            }
            Thing::Sparse { size, at } => {
                let file = fs::File::create(&path).unwrap();
                file.set_len(*size).unwrap();
                file.write_all_at(b"data", *at).unwrap();
                files.push(path.clone());
            }
            Thing::Directory => fs::create_dir(&path).unwrap(),
            Thing::Symlink(target) => symlink(os(target), &path).unwrap(),
            Thing::Link(at) if !files.is_empty() => {
                fs::hard_link(&files[at % files.len()], &path).unwrap();
                continue;
            }
            Thing::Link(_) => continue,
        }
        made.push((path, spec));
    }
    for (path, spec) in made.iter().rev() {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        if !kind.is_symlink() {
            let needed = match (is_root(), kind.is_dir()) {
                (true, _) => 0,
                (false, true) => 0o700,
                (false, false) => 0o600,
            };
            for (n, value) in spec.xattrs.iter().filter(|_| has_xattrs) {
                set_xattr(path, &format!("user.x{n}"), value).unwrap();
            }
            // Set-id bits of files do not come back, so they are not compared here.
            let mask = if kind.is_dir() { 0o7777 } else { 0o1777 };
            set_mode(path, spec.mode & mask | needed);
        }
        set_mtime(path, spec.mtime.0, spec.mtime.1);
    }
}

async fn check_trees(first: &[Spec], second: &[Spec], has_xattrs: bool) {
    let lab = Lab::new();
    let work = lab.fresh("w");
    build(&work, first, has_xattrs);
    let before = round_trip(&lab, &work).await;
    let expected = tree(&work);
    // Another tree in its place, with some of the old one left.
    for (at, entry) in fs::read_dir(&work).unwrap().flatten().enumerate() {
        if at % 2 == 0 {
            let path = entry.path();
            let is_directory = entry.file_type().unwrap().is_dir();
            match is_directory {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
    }
    build(&work, second, has_xattrs);
    let ws = lab.open().await;
    let after = save(&ws, &work).await;
    assert!(after.complete, "{after:?}");
    let changed = tree(&work);
    lab.assert_holds(&after.snapshot, &work).await;
    for (snapshot, wanted) in [(&before, &expected), (&after.snapshot, &changed)] {
        let report = restore_with(&ws, &work, of(snapshot)).await;
        assert!(report.complete && report.rescue.is_none(), "{report:?}");
        assert_alike(wanted, &tree(&work));
    }
    let last = save(&ws, &work).await;
    assert_eq!((last.snapshot, last.files_opened), (after.snapshot, 0));
    let check = nbws_engine::options::CheckOptions { read_data: 1.0 };
    assert!(
        ws.check(check, None, CancelToken::new())
            .await
            .unwrap()
            .complete
    );
}

#[test]
fn whole_small_trees_come_back() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let probe = Lab::new();
    write(&probe.path("probe"), "");
    let has_xattrs = set_xattr(&probe.path("probe"), "user.x", b"").is_ok();
    let cases = if soaks("2,000 trees") { 2_000 } else { 60 };
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let specs = || prop::collection::vec(spec(), 0..25);
    proptest!(config, |(first in specs(), second in specs())| {
        runtime.block_on(check_trees(&first, &second, has_xattrs));
    });
}
