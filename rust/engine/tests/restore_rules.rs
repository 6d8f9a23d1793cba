//! What a restore may remove and replace, what it proves, and that it leaves everything else alone.
#![allow(
    clippy::type_complexity,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "common/living.rs"]
mod living;

use living::*;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Delete, RestoreOptions, SaveOptions};
use nbws_engine::progress::{Progress, ProgressSink};
use nbws_engine::report::RestoreReport;
use nbws_engine::{ErrorKind, Workspace};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tree without what an unfinished restore left.
fn settled(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut found = tree(root);
    found.retain(|path, _| !path.starts_with(b".nbws-"));
    found
}

fn leftovers(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with(".nbws-")).collect()
}

fn skip_reason<'r>(report: &'r RestoreReport, path: &str) -> Option<&'r str> {
    let found = report.skipped.iter().find(|s| s.path == path.as_bytes());
    found.map(|s| s.reason.as_str())
}

fn only(paths: &[&str]) -> RestoreOptions {
    RestoreOptions {
        paths: Some(paths.iter().map(|p| p.as_bytes().to_vec()).collect()),
        ..RestoreOptions::default()
    }
}

/// A saved workspace and the snapshot that holds it.
async fn saved(lab: &Lab, files: usize) -> (Workspace, std::path::PathBuf, String) {
    let work = lab.fresh("w");
    make_tree(&work, files);
    let ws = lab.open().await;
    let report = save(&ws, &work).await;
    (ws, work, report.snapshot)
}

// --- the delete rules --------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_directory_is_touched_only_when_told() {
    let lab = Lab::new();
    let (_, work, snapshot) = saved(&lab, 10).await;
    let foreign = |name: &str| {
        let path = lab.fresh(name);
        write(&path.join("nb.ipynb"), "another notebook");
        write(&path.join("mine/a"), "a");
        write(&path.join("mine/b"), "b");
        path
    };
    let ws = lab.open_as("other").await;
    let target = foreign("auto");
    let before = tree(&target);
    let error = try_restore(&ws, &target, RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(
        text.contains("holds 3 paths") && text.contains("and 1 that differ"),
        "{text}"
    );
    assert!(
        text.contains("delete=True") && text.contains("delete=False"),
        "{text}"
    );
    assert_alike(&before, &tree(&target));
    // The refusal leaves nothing that would make the next one less strict.
    assert_eq!(
        try_restore(&ws, &target, RestoreOptions::default())
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidInput
    );
    // Yes: exactly the snapshot.
    let report = restore_with(&ws, &target, deleting(Delete::Yes)).await;
    assert!(report.complete && report.rescue.is_none(), "{report:?}");
    assert_eq!(report.files_removed, 3);
    assert_same(&work, &target);
    assert_eq!(save(&ws, &target).await.snapshot, snapshot);
    // No: what differs is replaced, what is extra stays.
    let target = foreign("no");
    let report = restore_with(&ws, &target, deleting(Delete::No)).await;
    assert!(report.complete && report.files_removed == 0, "{report:?}");
    let (found, expected) = (tree(&target), tree(&work));
    assert!(
        expected
            .iter()
            .all(|(path, node)| node.content == found[path].content)
    );
    assert_eq!(fs::read(target.join("mine/a")).unwrap(), b"a");
    // It holds the head and more: the next save is the head.
    let after = save(&ws, &target).await;
    assert_eq!((after.files_new, after.files_opened), (2, 2));
    // A directory that has nothing else needs no word: nothing, parts of the snapshot, or all of it.
    let target = lab.path("parts");
    let status = Command::new("cp")
        .arg("-a")
        .args([&work, &target])
        .status()
        .unwrap();
    assert!(status.success());
    fs::remove_dir_all(target.join("lib/pkg1")).unwrap();
    fs::remove_dir_all(target.join("empty")).unwrap();
    fs::remove_file(target.join("nb.ipynb")).unwrap();
    fs::remove_file(target.join("lib/again.ipynb")).unwrap();
    let again = lab.open_as("third").await;
    let options = of(&snapshot);
    let report = restore_with(&again, &target, options).await;
    assert!(report.complete && report.files_kept > 5, "{report:?}");
    assert_same(&work, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_state_is_the_proof_that_extra_paths_may_go() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 10).await;
    let expected = tree(&work);
    let extra = || {
        write(&work.join("extra/deep/file"), "extra");
        write(&work.join("nb.ipynb"), "differs");
    };
    // Saved from here, in this process or another one.
    for ws in [&ws, &lab.open().await] {
        extra();
        let report = restore(ws, &work).await;
        assert!(report.complete && report.rescue.is_some());
        assert_eq!(report.files_removed, 3);
        assert_alike(&expected, &tree(&work));
    }
    // Restored to here.
    let other = lab.open_as("other").await;
    let target = lab.path("t");
    restore(&other, &target).await;
    write(&target.join("extra"), "extra");
    let report = restore(&lab.open_as("other").await, &target).await;
    assert!(report.complete && report.rescue.is_some() && !target.join("extra").exists());
    // The state is gone, or the directory is another one.
    extra();
    let lost = lab.open_as("lost").await;
    let error = try_restore(&lost, &work, RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    fs::rename(&work, lab.path("away")).unwrap();
    fs::create_dir(&work).unwrap();
    extra();
    let error = try_restore(&ws, &work, RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(work.join("extra/deep/file").exists());
    let report = restore_with(&ws, &work, deleting(Delete::Yes)).await;
    assert!(report.complete);
    assert_alike(&expected, &tree(&work));
    assert_eq!(save(&ws, &work).await.snapshot, snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_may_not_delete_leaves_no_licence_behind() {
    // delete=False on a foreign directory fails half-way; the next restore must not take the rest for its own.
    let lab = Lab::new();
    let (ws, work, _) = saved(&lab, 10).await;
    drop(work);
    let target = lab.fresh("foreign");
    write(&target.join("mine"), "mine");
    write(&target.join("nb.ipynb"), "another");
    let token = CancelToken::new();
    let cancel = token.clone();
    let sink: ProgressSink = Arc::new(move |p: Progress| {
        if p.phase == "restore" {
            cancel.cancel();
        }
    });
    let outcome = ws
        .restore(&target, deleting(Delete::No), Some(sink), token)
        .await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    let error = try_restore(&ws, &target, RestoreOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    if let Some(guard) = Immutable::set(&target.join("nb.ipynb")) {
        let error = try_restore(&ws, &target, deleting(Delete::No))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LocalIo, "{error:?}");
        drop(guard);
        let error = try_restore(&ws, &target, RestoreOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    assert_eq!(fs::read(target.join("mine")).unwrap(), b"mine");
    let report = restore_with(&ws, &target, deleting(Delete::No)).await;
    assert!(report.complete && target.join("mine").exists());
}

/// A file that nobody can replace as long as this lives.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn set(path: &Path) -> Option<Self> {
        match Command::new("chattr").arg("+i").arg(path).output() {
            Ok(out) if out.status.success() => Some(Immutable(path.to_owned())),
            _ => {
                println!("skipped: no immutable files here");
                None
            }
        }
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

// --- what survives -----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn ignored_excluded_special_and_marker_paths_survive_every_restore() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    make_tree(&work, 10);
    write(&work.join(".nbwsignore"), "/ignored/\n*.tmp\n");
    let ws = lab.open().await;
    let options = SaveOptions {
        exclude: vec!["/secret".to_owned(), "*.key".to_owned()],
        ..SaveOptions::default()
    };
    let first = save_with(&ws, &work, options.clone()).await;
    let protected = [
        "ignored/a/b",
        "lib/x.tmp",
        "secret/deep/file",
        "lib/my.key",
        ".workspace.initialized",
        "gone/only.tmp",
    ];
    for path in protected {
        write(&work.join(path), path);
    }
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        work.join("lib/fifo"),
        kind,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(work.join("socket")).unwrap();
    write(&work.join("extra"), "extra");
    write(&work.join("gone/extra"), "extra");
    for delete in [Delete::Auto, Delete::Yes] {
        let report = restore_with(
            &lab.open().await,
            &work,
            RestoreOptions {
                delete,
                ..of(&first.snapshot)
            },
        )
        .await;
        assert!(report.complete, "{report:?}");
        for path in protected {
            assert_eq!(
                fs::read(work.join(path)).unwrap(),
                path.as_bytes(),
                "{path}"
            );
        }
        assert!(!work.join("extra").exists() && !work.join("gone/extra").exists());
        assert!(fs::symlink_metadata(work.join("lib/fifo")).is_ok());
        assert!(fs::symlink_metadata(work.join("socket")).is_ok());
        // The rescue keeps what would have been lost, and nothing that was to be left out.
        if let Some(rescue) = report.rescue {
            let kept = tree(&lab.copy_of(&rescue).await);
            let names: Vec<_> = kept
                .keys()
                .map(|p| String::from_utf8_lossy(p).into_owned())
                .collect();
            let has_extra =
                names.contains(&"extra".to_owned()) && names.contains(&"gone/extra".to_owned());
            assert_eq!(has_extra, delete == Delete::Auto, "{names:?}");
            let left_out = |n: &String| {
                n.starts_with("ignored")
                    || n.starts_with("secret")
                    || n.ends_with(".tmp")
                    || n.ends_with(".key")
            };
            assert!(!names.iter().any(left_out), "{names:?}");
        }
    }
    let report = save_with(&ws, &work, options).await;
    assert!(report.complete, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignore_file_that_can_not_be_read_protects_all_below_it() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 10).await;
    write(
        &work.join("lib/.nbwsignore"),
        "#".repeat(1 << 20) + "\nprecious\n",
    );
    write(&work.join("lib/precious"), "would be ignored");
    write(&work.join("outside"), "extra");
    let report = restore_with(&ws, &work, of(&snapshot)).await;
    assert!(
        work.join("lib/precious").exists(),
        "its rules are unknown: {report:?}"
    );
    assert!(!work.join("outside").exists());
    assert!(
        report.warnings.iter().any(|w| w.contains(".nbwsignore")),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_and_all_below_it_survive() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for path in ["m/a", "m/sub/b", "file", "other"] {
        write(&work.join(path), path);
    }
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    let Some(mount) = Mount::tmpfs(&work.join("m"), "size=1m") else {
        return;
    };
    write(&work.join("m/a"), "on the mount");
    write(&work.join("m/extra"), "on the mount");
    let extra = Mount::tmpfs(&work.join("extra/n"), "size=1m").unwrap();
    write(&work.join("extra/n/file"), "on the mount");
    write(&work.join("extra/gone"), "gone");
    write(&work.join("file"), "changed");
    fs::remove_file(work.join("other")).unwrap();
    for delete in [Delete::Auto, Delete::Yes] {
        let options = RestoreOptions {
            delete,
            ..of(&first.snapshot)
        };
        let report = restore_with(&ws, &work, options).await;
        assert!(!report.complete, "what the mount hides was not restored");
        assert!(skip_reason(&report, "m/a").is_some(), "{report:?}");
        for path in ["m/a", "m/extra", "extra/n/file"] {
            assert_eq!(
                fs::read(work.join(path)).unwrap(),
                b"on the mount",
                "{path}"
            );
        }
        assert_eq!(fs::read(work.join("file")).unwrap(), b"file");
        assert_eq!(fs::read(work.join("other")).unwrap(), b"other");
        assert!(!work.join("extra/gone").exists());
        assert!(
            !work.join("m/sub").exists(),
            "nothing is written on a mount"
        );
    }
    // A part of the snapshot is not there, so it takes a word to go on from here; what the mount hides is kept then.
    write(&work.join("file"), "next");
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let options = SaveOptions {
        take_over: true,
        ..SaveOptions::default()
    };
    let next = save_with(&ws, &work, options).await;
    assert!(!next.complete && leftovers(&work).is_empty());
    write(&work.join("file"), "and next");
    let next = save(&ws, &work).await;
    drop((mount, extra));
    let copy = lab.copy_of(&next.snapshot).await;
    assert_eq!(fs::read(copy.join("m/sub/b")).unwrap(), b"m/sub/b");
    assert_eq!(fs::read(copy.join("file")).unwrap(), b"and next");
    // Without the mount, what it hid is the old tree.
    let report = restore(&ws, &work).await;
    assert!(report.complete, "{report:?}");
    assert_eq!(fs::read(work.join("m/a")).unwrap(), b"m/a");
    fs::remove_dir_all(work.join("extra")).ok();
}

// --- kinds ---------------------------------------------------------------------------------------------------------------

const KINDS: [&str; 7] = [
    "none",
    "file",
    "empty-file",
    "symlink",
    "empty-directory",
    "directory",
    "deep",
];

fn make_kind(path: &Path, kind: &str, turn: u64) {
    match kind {
        "none" => {}
        "file" => write(path, noise(turn, 3_000)),
        "empty-file" => write(path, ""),
        "symlink" => symlink(format!("target-{turn}"), path).unwrap(),
        "empty-directory" => fs::create_dir_all(path).unwrap(),
        "directory" => {
            write(&path.join("in"), noise(turn, 100));
            symlink("in", path.join("link")).unwrap();
        }
        _ => {
            write(&path.join("in/deeper/file"), noise(turn + 9, 90_000));
            write(&path.join("in-2"), "x");
            fs::create_dir(path.join("empty")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_gives_way_to_every_other() {
    let lab = Lab::new();
    let (before, after) = (lab.fresh("w"), lab.fresh("v"));
    for from in KINDS {
        for to in KINDS {
            let name = format!("{from}-to-{to}");
            make_kind(&before.join(&name), from, 1);
            make_kind(&after.join(&name), to, 2);
        }
    }
    write(&after.join("present"), "for the record");
    let ws = lab.open().await;
    let first = save(&ws, &before).await;
    let options = SaveOptions {
        take_over: true,
        ..SaveOptions::default()
    };
    let second = save_with(&ws, &after, options).await;
    let expected = tree(&before);
    // In place over the other tree, both ways, and over what this process did not save.
    for (target, ws) in [(&before, &ws), (&before, &lab.open().await)] {
        let report = restore_with(ws, target, of(&second.snapshot)).await;
        assert!(report.complete, "{report:?}");
        assert_same(&after, target);
        let report = restore_with(ws, target, of(&first.snapshot)).await;
        assert!(report.complete, "{report:?}");
        assert_alike(&expected, &tree(target));
        assert!(leftovers(target).is_empty());
        let kept = restore_with(ws, target, of(&first.snapshot)).await;
        assert_eq!(
            (kept.files_written, kept.bytes_downloaded > 500_000),
            (0, false),
            "{kept:?}"
        );
        assert!(kept.rescue.is_none());
    }
    let foreign = lab.path("foreign");
    assert!(
        Command::new("cp")
            .arg("-a")
            .args([&after, &foreign])
            .status()
            .unwrap()
            .success()
    );
    let options = RestoreOptions {
        delete: Delete::Yes,
        ..of(&first.snapshot)
    };
    let other = lab.open_as("other").await;
    let report = restore_with(&other, &foreign, options).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&expected, &tree(&foreign));
    // Saving the restored older snapshot makes it the head again, without reading a file.
    let report = save(&lab.open().await, &before).await;
    assert_eq!(report.files_opened, 0, "{report:?}");
    assert_ne!(report.snapshot, first.snapshot);
    lab.assert_holds(&report.snapshot, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_to_delete_extra_paths_stand_in_the_way() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for path in ["a", "b", "c"] {
        write(&work.join(path), "wanted");
    }
    let ws = lab.open().await;
    save(&ws, &work).await;
    let foreign = lab.fresh("foreign");
    write(&foreign.join("a/mine"), "mine");
    write(&foreign.join("a/deep/mine"), "mine");
    fs::create_dir(foreign.join("b")).unwrap();
    let other = lab.open_as("other").await;
    let report = restore_with(&other, &foreign, deleting(Delete::No)).await;
    assert_eq!(
        fs::read(foreign.join("a/mine")).unwrap(),
        b"mine",
        "an extra path was removed"
    );
    assert_eq!(fs::read(foreign.join("a/deep/mine")).unwrap(), b"mine");
    assert!(
        !report.complete && skip_reason(&report, "a").is_some(),
        "{report:?}"
    );
    assert_eq!(
        fs::read(foreign.join("b")).unwrap(),
        b"wanted",
        "an empty directory is no loss"
    );
    assert_eq!(fs::read(foreign.join("c")).unwrap(), b"wanted");
    let error = try_save(&other, &foreign, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidState,
        "an incomplete restore proves nothing"
    );
    let report = restore_with(&other, &foreign, deleting(Delete::Yes)).await;
    assert!(report.complete);
    assert_same(&work, &foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_changes_of_metadata_and_links_are_undone() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 10).await;
    let has_xattrs = set_xattr(&work.join("big.bin"), "user.probe", b"1").is_ok();
    let snapshot = if has_xattrs {
        save(&ws, &work).await.snapshot
    } else {
        snapshot
    };
    let expected = tree(&work);
    let changes: Vec<(&str, Box<dyn Fn()>)> = vec![
        ("mode", Box::new(|| set_mode(&work.join("nb.ipynb"), 0o600))),
        ("mtime", Box::new(|| set_mtime(&work.join("big.bin"), 5, 6))),
        (
            "mode of a directory",
            Box::new(|| set_mode(&work.join("lib"), 0o700)),
        ),
        (
            "a link less",
            Box::new(|| fs::remove_file(work.join("lib/again.ipynb")).unwrap()),
        ),
        (
            "a link more",
            Box::new(|| fs::hard_link(work.join("big.bin"), work.join("more")).unwrap()),
        ),
        (
            "a link broken up",
            Box::new(|| {
                let bytes = fs::read(work.join("nb.ipynb")).unwrap();
                fs::remove_file(work.join("nb.ipynb")).unwrap();
                write(&work.join("nb.ipynb"), bytes);
            }),
        ),
        (
            "a symlink elsewhere",
            Box::new(|| {
                fs::remove_file(work.join("lib/link")).unwrap();
                symlink("elsewhere", work.join("lib/link")).unwrap();
            }),
        ),
        (
            "content behind its times",
            Box::new(|| {
                let stat = fs::metadata(work.join("lib/pkg1/m1.py")).unwrap();
                let size = stat.len() as usize;
                fs::write(work.join("lib/pkg1/m1.py"), noise(3, size)).unwrap();
                set_mtime(
                    &work.join("lib/pkg1/m1.py"),
                    stat.mtime(),
                    stat.mtime_nsec() as u32,
                );
            }),
        ),
        (
            "an attribute more",
            Box::new(|| {
                if has_xattrs {
                    set_xattr(&work.join("nb.ipynb"), "user.more", b"more").unwrap();
                    set_xattr(&work.join("lib"), "user.more", b"more").unwrap();
                }
            }),
        ),
        (
            "an attribute less",
            Box::new(|| {
                if has_xattrs {
                    rustix::fs::removexattr(work.join("big.bin"), "user.probe").unwrap();
                }
            }),
        ),
    ];
    for (what, change) in &changes {
        change();
        let restored = restore_with(&ws, &work, of(&snapshot)).await;
        assert!(restored.complete, "{what}: {restored:?}");
        let found = tree(&work);
        for (path, node) in &expected {
            assert_eq!(
                format!("{node:?}"),
                format!("{:?}", found[path]),
                "{what}: {}",
                String::from_utf8_lossy(path)
            );
        }
        assert_alike(&expected, &found);
        let after = save(&ws, &work).await;
        assert_eq!(
            (after.snapshot == snapshot, after.files_opened),
            (true, 0),
            "after {what}: {after:?}"
        );
    }
}

// --- parts -----------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_part_changes_nothing_outside_and_proves_nothing() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 20).await;
    let original = tree(&work);
    write(&work.join("nb.ipynb"), "edited");
    write(&work.join("lib/pkg1/m1.py"), "edited");
    write(&work.join("lib/pkg1/extra.py"), "extra");
    write(&work.join("lib/pkg2/extra.py"), "extra");
    set_mode(&work.join("lib"), 0o711);
    set_mtime(&work.join("lib"), 12, 13);
    fs::remove_file(work.join("big.bin")).unwrap();
    let before = tree(&work);
    let keep = |options: RestoreOptions| RestoreOptions {
        discard_changes: true,
        snapshot: snapshot.clone(),
        ..options
    };
    let report = restore_with(&ws, &work, keep(only(&["lib/pkg1"]))).await;
    assert!(report.complete && report.files_removed == 1, "{report:?}");
    let after = tree(&work);
    for (path, node) in &before {
        if !path.starts_with(b"lib/pkg1") {
            assert_eq!(
                after.get(path),
                Some(node),
                "{}",
                String::from_utf8_lossy(path)
            );
        }
    }
    let within: Vec<_> = original
        .iter()
        .filter(|(p, _)| p.starts_with(b"lib/pkg1"))
        .collect();
    let found: Vec<_> = after
        .iter()
        .filter(|(p, _)| p.starts_with(b"lib/pkg1"))
        .collect();
    assert_eq!(within, found);
    assert!(leftovers(&work).is_empty());
    // The proof is what it was: the target holds the head and changes of it.
    let report = save(&ws, &work).await;
    assert!(report.complete, "{report:?}");
    assert_ne!(report.snapshot, snapshot);
    lab.assert_holds(&report.snapshot, &work).await;
    assert_eq!(
        save(&lab.open().await, &work).await.snapshot,
        report.snapshot
    );
    // A single file, twice; a file that is gone; a path that is not in the snapshot; everything.
    for _ in 0..2 {
        let report = restore_with(&ws, &work, keep(only(&["big.bin", "nb.ipynb"]))).await;
        assert!(report.complete, "{report:?}");
        assert_eq!(fs::read(work.join("nb.ipynb")).unwrap(), noise(2, 5_000));
    }
    let before = tree(&work);
    let error = try_restore(&ws, &work, keep(only(&["nb.ipynb", "no/such"])))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no/such"));
    assert_alike(&before, &tree(&work));
    for bad in ["/etc", "../x", "lib//x", "lib/..", "."] {
        let error = try_restore(&ws, &work, keep(only(&[bad])))
            .await
            .unwrap_err();
        let kinds = [ErrorKind::InvalidInput, ErrorKind::NotFound];
        assert!(kinds.contains(&error.kind()), "{bad}: {error:?}");
    }
    assert_alike(&before, &tree(&work));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_in_other_places() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 20).await;
    // Into nothing: the parents come along, further names become plain files.
    let other = lab.open_as("other").await;
    let target = lab.path("part");
    let report = restore_with(&other, &target, only(&["lib/again.ipynb", "lib/pkg3"])).await;
    assert!(report.complete, "{report:?}");
    let (found, expected) = (tree(&target), tree(&work));
    assert_eq!(
        found[&b"lib/again.ipynb"[..]].content,
        expected[&b"lib/again.ipynb"[..]].content
    );
    assert_eq!(found[&b"lib/again.ipynb"[..]].leader, None);
    assert_eq!(found[&b"lib"[..]].mode, expected[&b"lib"[..]].mode);
    assert!(
        found
            .keys()
            .all(|p| p == b"lib" || p == b"lib/again.ipynb" || p.starts_with(b"lib/pkg3"))
    );
    // It is no proof: a save of it is a rescue.
    let error = try_save(&other, &target, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    assert_eq!(head(&ws).await.0, snapshot);
    // A foreign directory is asked about only where something would go.
    let foreign = lab.fresh("foreign");
    write(&foreign.join("mine"), "mine");
    let third = lab.open_as("third").await;
    let report = restore_with(&third, &foreign, only(&["nb.ipynb"])).await;
    assert!(report.complete);
    assert!(foreign.join("mine").exists() && foreign.join("nb.ipynb").exists());
    write(&foreign.join("nb.ipynb"), "edited");
    let error = try_restore(&third, &foreign, only(&["nb.ipynb"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // A parent that is no directory is outside of what was asked for.
    for kind in ["file", "symlink"] {
        let foreign = lab.fresh(&format!("blocked-{kind}"));
        let elsewhere = lab.fresh("elsewhere");
        match kind {
            "file" => write(&foreign.join("lib"), "mine"),
            _ => symlink(&elsewhere, foreign.join("lib")).unwrap(),
        }
        let before = tree(&foreign);
        for delete in [Delete::Auto, Delete::No, Delete::Yes] {
            let options = RestoreOptions {
                delete,
                ..only(&["lib/pkg3"])
            };
            let error = try_restore(&third, &foreign, options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
        assert_alike(&before, &tree(&foreign));
        assert!(tree(&elsewhere).is_empty());
    }
    // A half-restored target stays half restored.
    let half = lab.path("half");
    cancel_restore(&third, &half).await;
    let report = restore_with(&third, &half, only(&["nb.ipynb"])).await;
    assert!(report.complete);
    let error = try_save(&third, &half, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
    let report = restore(&third, &half).await;
    assert!(report.complete);
    assert_same(&work, &half);
}

/// Starts a restore into `target` that is cancelled when it begins to write.
async fn cancel_restore(ws: &Workspace, target: &Path) {
    let token = CancelToken::new();
    let cancel = token.clone();
    let sink: ProgressSink = Arc::new(move |p: Progress| {
        if p.phase == "restore" {
            cancel.cancel();
        }
    });
    let error = ws
        .restore(target, RestoreOptions::default(), Some(sink), token)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error:?}");
}

// --- unsaved work ------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn unsaved_work_becomes_a_rescue_first() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 20).await;
    // Nothing changed: no rescue, whatever is restored.
    assert!(restore(&ws, &work).await.rescue.is_none());
    write(&work.join("second"), "second");
    let second = save(&ws, &work).await;
    let report = restore_with(&ws, &work, of(&snapshot)).await;
    assert!(
        report.rescue.is_none() && !work.join("second").exists(),
        "{report:?}"
    );
    let report = restore_with(&ws, &work, of("latest")).await;
    assert!(
        report.rescue.is_none() && work.join("second").exists(),
        "{report:?}"
    );
    assert!(ws.rescues().await.unwrap().is_empty());
    assert_eq!(head(&ws).await, (second.snapshot.clone(), 2));
    // New, changed and removed files; the head stays.
    write(&work.join("nb.ipynb"), "unsaved work");
    write(&work.join("new"), "unsaved");
    fs::remove_file(work.join("big.bin")).unwrap();
    let unsaved = tree(&work);
    let report = restore_with(&ws, &work, of("latest~1")).await;
    let rescue = report.rescue.expect("a rescue");
    assert_eq!(report.snapshot, snapshot);
    assert_alike(&unsaved, &tree(&lab.copy_of(&rescue).await));
    assert_eq!(head(&ws).await, (second.snapshot.clone(), 2));
    assert_eq!(ws.rescues().await.unwrap()[0].snapshot, rescue);
    assert!(!work.join("new").exists());
    // The rescue can be restored in place, and the work goes on from it.
    let report = restore_with(&ws, &work, of(&rescue)).await;
    assert!(report.complete && report.rescue.is_none(), "{report:?}");
    assert_alike(&unsaved, &tree(&work));
    let saved = save(&ws, &work).await;
    assert_eq!(saved.files_opened, 0);
    assert_eq!(head(&ws).await, (saved.snapshot.clone(), 3));
    // Given up on purpose.
    write(&work.join("nb.ipynb"), "worthless");
    let options = RestoreOptions {
        discard_changes: true,
        ..RestoreOptions::default()
    };
    let report = restore_with(&ws, &work, options).await;
    assert!(report.rescue.is_none());
    assert_eq!(fs::read(work.join("nb.ipynb")).unwrap(), b"unsaved work");
    assert_eq!(ws.rescues().await.unwrap().len(), 1);
    // What was named is found before the rescue moves the names on.
    write(&work.join("nb.ipynb"), "again");
    let error = try_restore(&ws, &work, of("latest~9")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fs::read(work.join("nb.ipynb")).unwrap(), b"again");
    assert_eq!(
        ws.rescues().await.unwrap().len(),
        1,
        "a restore that can't begin saves nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_restored_and_saved_is_the_head() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    let ws = lab.open().await;
    let mut snapshots = Vec::new();
    for turn in 0..4u64 {
        write(&work.join("turn"), turn.to_string());
        write(&work.join(format!("only-{turn}")), noise(turn, 1_000));
        if turn > 0 {
            fs::remove_file(work.join(format!("only-{}", turn - 1))).unwrap();
        }
        snapshots.push(save(&ws, &work).await.snapshot);
    }
    let other = lab.open_as("other").await;
    let elsewhere = lab.path("elsewhere");
    for (ws, target) in [(&ws, &work), (&other, &elsewhere)] {
        restore_with(ws, target, of(&snapshots[1])).await;
        assert_eq!(fs::read(target.join("turn")).unwrap(), b"1");
        let report = save(ws, target).await;
        assert_eq!(report.files_opened, 0, "{report:?}");
        assert_eq!(head(ws).await.0, report.snapshot);
        lab.assert_holds(&report.snapshot, target).await;
        // Nothing changed since: it stays.
        assert_eq!(save(ws, target).await.snapshot, report.snapshot);
        write(&target.join("turn"), "5");
        let next = save(ws, target).await;
        assert_eq!(head(ws).await.0, next.snapshot);
    }
    // The first machine is behind now.
    write(&work.join("turn"), "late");
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

// --- restores that do not finish -----------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_half_restored_target_is_never_the_head_and_is_resumed() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 200).await;
    let target = lab.path("t");
    let other = lab.open_as("other").await;
    cancel_restore(&other, &target).await;
    for ws in [
        &other,
        &lab.open_as("other").await,
        &lab.open_as("stranger").await,
    ] {
        let error = try_save(ws, &target, SaveOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
        assert_eq!(head(ws).await, (snapshot.clone(), 1));
    }
    // It needs no leave to finish, and makes no rescue of what it left.
    let rescues = ws.rescues().await.unwrap().len();
    let report = restore(&other, &target).await;
    assert!(report.complete && report.rescue.is_none(), "{report:?}");
    assert_same(&work, &target);
    assert!(leftovers(&target).is_empty());
    let after = save(&other, &target).await;
    assert_eq!((after.snapshot, after.files_opened), (snapshot.clone(), 0));
    assert_eq!(ws.rescues().await.unwrap().len(), rescues);
    // In place: nothing was changed yet, so the old tree goes on as if nothing had been asked.
    write(&work.join("nb.ipynb"), "edited");
    let second = save(&ws, &work).await;
    write(&work.join("later"), "unsaved");
    let before = tree(&work);
    cancel_restore_of(&ws, &work, &snapshot).await;
    assert_alike(&before, &settled(&work));
    let report = save(&ws, &work).await;
    assert_eq!(report.files_new, 1, "{report:?}");
    assert_eq!(head(&ws).await, (report.snapshot.clone(), 3));
    lab.assert_holds(&report.snapshot, &work).await;
    assert_ne!(report.snapshot, second.snapshot);
}

async fn cancel_restore_of(ws: &Workspace, target: &Path, snapshot: &str) {
    let token = CancelToken::new();
    let cancel = token.clone();
    let sink: ProgressSink = Arc::new(move |p: Progress| {
        if p.phase == "restore" {
            cancel.cancel();
        }
    });
    let outcome = ws.restore(target, of(snapshot), Some(sink), token).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_that_breaks_off_is_resumed() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 30).await;
    let original = tree(&work);
    for path in ["nb.ipynb", "lib/pkg1/m1.py", "lib/pkg5/m5.py", "z-extra"] {
        write(&work.join(path), format!("edited {path}"));
    }
    fs::remove_file(work.join("big.bin")).unwrap();
    let second = save(&ws, &work).await;
    let Some(guard) = Immutable::set(&work.join("lib/pkg5/m5.py")) else {
        return;
    };
    let error = try_restore(&ws, &work, of(&snapshot)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalIo, "{error:?}");
    assert!(error.to_string().contains("lib/pkg5/m5.py"), "{error}");
    drop(guard);
    // Half of it is the old snapshot: it must not become the head.
    let error = try_save(&ws, &work, SaveOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState, "{error:?}");
    assert!(error.rescue().is_some());
    assert_eq!(head(&ws).await, (second.snapshot.clone(), 2));
    let report = restore_with(&lab.open().await, &work, of(&snapshot)).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&original, &tree(&work));
    assert!(leftovers(&work).is_empty());
    assert_eq!(save(&ws, &work).await.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_cancelled_at_any_moment_is_typed_and_repeatable() {
    let lab = Lab::new();
    let (ws, work, _) = saved(&lab, 300).await;
    write(&work.join("large.bin"), noise(9, 12_000_000));
    let big = save(&ws, &work).await;
    let expected = tree(&work);
    let mut cancelled = 0;
    for micros in [0, 200, 1_000, 3_000, 6_000, 12_000, 25_000, 50_000, 100_000] {
        for in_place in [false, true] {
            let other = lab.open_as(&format!("s{micros}{in_place}")).await;
            let target = lab.path(&format!("t{micros}{in_place}"));
            if in_place {
                restore(&other, &target).await;
                write(&target.join("nb.ipynb"), "edited");
                write(&target.join("extra"), "extra");
                fs::remove_file(target.join("large.bin")).unwrap();
                fs::remove_dir_all(target.join("lib/pkg1")).unwrap();
            }
            let token = CancelToken::new();
            let cancel = token.clone();
            let timer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(micros));
                cancel.cancel();
            });
            let outcome = other.restore(&target, of(&big.snapshot), None, token).await;
            timer.join().unwrap();
            if let Err(error) = outcome {
                // While the rescue's record was on its way, nobody knows whether it landed; the next restore finds out.
                let kinds = [ErrorKind::Cancelled, ErrorKind::CommitUnknown];
                assert!(kinds.contains(&error.kind()), "{micros}: {error:?}");
                cancelled += 1;
            }
            let report = restore_with(&other, &target, of(&big.snapshot)).await;
            assert!(report.complete, "{micros} {in_place}: {report:?}");
            assert_alike(&expected, &tree(&target));
            let after = save(&other, &target).await;
            assert_eq!(
                (after.snapshot.as_str(), after.files_opened),
                (big.snapshot.as_str(), 0)
            );
            fs::remove_dir_all(&target).unwrap();
        }
    }
    assert!(cancelled >= 4, "{cancelled}");
}

// --- a full disk -----------------------------------------------------------------------------------------------------------------

/// A workspace on a small file system of its own, and a snapshot of what it held before it grew.
struct Small {
    lab: Lab,
    mount: Mount,
    work: std::path::PathBuf,
    ws: Workspace,
    larger: String,
    smaller: String,
}

impl Small {
    /// The target holds the smaller tree; restoring the larger one needs about 3 MiB and 80 inodes more.
    async fn make() -> Option<Small> {
        let lab = Lab::new();
        let work = lab.fresh("w");
        let mount = Mount::tmpfs(&work, "size=64m,nr_inodes=10000")?;
        let ws = lab.open().await;
        for i in 0..20u64 {
            write(&work.join(format!("d{}/f{i}", i % 4)), noise(i, 10_000));
        }
        write(&work.join("changes"), noise(50, 900_000));
        symlink("changes", work.join("link")).unwrap();
        let smaller = save(&ws, &work).await.snapshot;
        for i in 0..40u64 {
            write(
                &work.join(format!("new{}/deep{}/f{i}", i % 5, i % 3)),
                noise(100 + i, 20_000),
            );
        }
        write(&work.join("changes"), noise(51, 1_200_000));
        write(&work.join("d1/f1"), noise(52, 9_000));
        fs::hard_link(work.join("d1/f1"), work.join("d1/f1-again")).unwrap();
        symlink("elsewhere", work.join("d1/symlink")).unwrap();
        fs::create_dir_all(work.join("empty/one/two")).unwrap();
        fs::remove_file(work.join("link")).unwrap();
        write(&work.join("link/now-a-directory"), "x");
        let larger = save(&ws, &work).await.snapshot;
        let report = restore_with(&ws, &work, of(&smaller)).await;
        assert!(report.complete && report.rescue.is_none(), "{report:?}");
        Some(Small {
            lab,
            mount,
            work,
            ws,
            larger,
            smaller,
        })
    }

    fn used(&self) -> (u64, u64) {
        let s = rustix::fs::statvfs(&self.work).unwrap();
        ((s.f_blocks - s.f_bfree) * s.f_frsize, s.f_files - s.f_ffree)
    }

    /// Restores with `limit` in force; whether it succeeded. If not, the old tree must be as it was and in good standing.
    async fn attempt(&self, limit: &str) -> bool {
        let before = tree(&self.work);
        self.mount.remount(limit);
        let outcome = try_restore(&self.ws, &self.work, of(&self.larger)).await;
        let error = match outcome {
            Ok(report) => {
                assert!(report.complete, "{limit}: {report:?}");
                return true;
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::LocalIo, "{limit}: {error:?}");
        assert_eq!(error.os_error(), Some(28), "{limit}: {error:?}");
        assert_alike(&before, &tree(&self.work));
        self.mount.remount("size=64m,nr_inodes=10000");
        assert!(
            leftovers(&self.work).is_empty(),
            "{limit}: {:?}",
            leftovers(&self.work)
        );
        false
    }

    async fn check_retry(&self) {
        self.mount.remount("size=64m,nr_inodes=10000");
        let found = tree(&self.work);
        assert_alike(&found, &tree(&self.lab.copy_of(&self.larger).await));
        let back = restore_with(&self.ws, &self.work, of(&self.smaller)).await;
        assert!(back.complete && back.rescue.is_none(), "{back:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_the_old_tree_untouched() {
    let Some(small) = Small::make().await else {
        return;
    };
    let (bytes, _) = small.used();
    let (mut failed, mut extra) = (0, 0);
    while !small.attempt(&format!("size={}", bytes + extra)).await {
        failed += 1;
        extra += if extra < 40_000 { 4_096 } else { 300_000 };
        assert!(extra < 60 << 20);
    }
    small.check_retry().await;
    assert!(failed > 8, "{failed}");
    // The tree that the failed attempts left alone was saved all the time.
    let error_free = small.ws.rescues().await.unwrap();
    assert!(error_free.is_empty(), "{error_free:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_inodes_leaves_the_old_tree_untouched() {
    let Some(small) = Small::make().await else {
        return;
    };
    let (_, inodes) = small.used();
    let (mut failed, mut extra) = (0, 0);
    while !small
        .attempt(&format!("nr_inodes={}", inodes + extra))
        .await
    {
        failed += 1;
        // One by one at first, where names, links and directories are made, and where it nearly fits.
        extra += if (8..60).contains(&extra) { 7 } else { 1 };
        assert!(extra < 1_000);
    }
    small.check_retry().await;
    println!("{failed} attempts without inodes");
    assert!(failed > 20, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_after_a_disk_was_full() {
    let Some(small) = Small::make().await else {
        return;
    };
    let (bytes, _) = small.used();
    assert!(!small.attempt(&format!("size={}", bytes + 200_000)).await);
    // The tree is what it was, so its next save is the head, and its unsaved work is rescued by the next attempt.
    write(&small.work.join("d0/f0"), "edited");
    let saved = save(&small.ws, &small.work).await;
    assert_eq!(saved.files_opened, 1, "{saved:?}");
    write(&small.work.join("d0/f0"), "edited again");
    assert!(!small.attempt(&format!("size={}", bytes + 200_000)).await);
    write(&small.work.join("d0/f0"), "and again");
    let report = restore_with(&small.ws, &small.work, of(&small.larger)).await;
    let rescue = report.rescue.expect("unsaved work");
    let copy = small.lab.copy_of(&rescue).await;
    assert_eq!(fs::read(copy.join("d0/f0")).unwrap(), b"and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_target_without_room_is_finished_later() {
    let lab = Lab::new();
    let (_, work, snapshot) = saved(&lab, 50).await;
    let other = lab.open_as("other").await;
    for (n, limit) in ["size=200k", "size=500k", "nr_inodes=3", "nr_inodes=30"]
        .into_iter()
        .enumerate()
    {
        let target = lab.path(&format!("t{n}"));
        let Some(mount) = Mount::tmpfs(&target, limit) else {
            return;
        };
        let error = try_restore(&other, &target, RestoreOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.os_error()),
            (ErrorKind::LocalIo, Some(28)),
            "{limit}: {error:?}"
        );
        mount.remount("size=64m,nr_inodes=10000");
        let error = try_save(&other, &target, SaveOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidState, "{limit}: {error:?}");
        let report = restore(&other, &target).await;
        assert!(report.complete && report.rescue.is_none(), "{report:?}");
        assert_same(&work, &target);
        let after = save(&other, &target).await;
        assert_eq!((after.snapshot, after.files_opened), (snapshot.clone(), 0));
    }
}

// --- rights ------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_user_restores_into_directories_that_are_closed_to_writing() {
    let lab = Lab::on_disk();
    let place = lab.fresh("child");
    set_mode(place.parent().unwrap(), 0o755);
    run_unprivileged("closed_directories_child", &place);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_directories_child() {
    let Some(place) = child_directory() else {
        return;
    };
    let lab = Lab::new();
    let work = place.join("w");
    // As package caches have them: nobody may write, not even the owner.
    for path in ["mod/a/one.go", "mod/a/two.go", "mod/b/three.go", "open/x"] {
        write(&work.join(path), path);
    }
    let close = || {
        for (path, mode) in [
            ("mod/a/one.go", 0o444),
            ("mod/a", 0o555),
            ("mod/b", 0o555),
            ("mod", 0o555),
        ] {
            set_mode(&work.join(path), mode);
        }
    };
    let open = || {
        ["mod", "mod/a", "mod/b"]
            .iter()
            .for_each(|p| set_mode(&work.join(p), 0o755))
    };
    close();
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    let expected = tree(&work);
    let copy = lab.copy_of(&first.snapshot).await;
    assert_alike(&expected, &tree(&copy));
    // Changed, removed and new files in them, and one of them closed altogether.
    open();
    set_mode(&work.join("mod/a/one.go"), 0o644);
    write(&work.join("mod/a/one.go"), "changed");
    fs::remove_file(work.join("mod/a/two.go")).unwrap();
    write(&work.join("mod/b/extra"), "extra");
    write(&work.join("mod/new/extra"), "extra");
    set_mode(&work.join("mod/new"), 0o555);
    close();
    save(&ws, &work).await;
    let report = restore_with(&ws, &work, of(&first.snapshot)).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&expected, &tree(&work));
    let after = save(&ws, &work).await;
    assert_eq!(after.files_opened, 0, "{after:?}");
    // A directory that may not even be entered is opened for its owner, restored and closed again.
    set_mode(&work.join("open"), 0o000);
    let report = restore_with(&ws, &work, of(&first.snapshot)).await;
    assert!(report.complete, "{report:?}");
    assert_alike(&expected, &tree(&work));
    for dir in [&work, &copy] {
        ["mod", "mod/a", "mod/b"]
            .iter()
            .for_each(|p| set_mode(&dir.join(p), 0o755));
    }
}

// --- damage and links ----------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_file_that_was_changed_behind_its_back() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 400).await;
    write(&work.join("zz.bin"), noise(5, 30_000_000));
    let second = save(&ws, &work).await;
    assert_ne!(second.snapshot, snapshot);
    for round in 0..10 {
        let other = lab.open_as(&format!("s{round}")).await;
        let target = lab.path(&format!("t{round}"));
        let (path, done) = (
            target.join("lib/pkg0/m0.py"),
            target.join(".nbws-restoring"),
        );
        // The first small file to be there is changed while large ones are written.
        let spoiler = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(20);
            while Instant::now() < end {
                let is_whole = fs::read(&path).is_ok_and(|b| b == b"x = 0\n");
                if is_whole && done.exists() {
                    return fs::write(&path, "y = 1\n").is_ok();
                }
            }
            false
        });
        let options = RestoreOptions {
            verify: true,
            ..RestoreOptions::default()
        };
        let report = restore_with(&other, &target, options).await;
        assert!(spoiler.join().unwrap());
        let is_spoiled = fs::read(target.join("lib/pkg0/m0.py")).unwrap() == b"y = 1\n";
        if !report.complete {
            assert!(
                is_spoiled && skip_reason(&report, "lib/pkg0/m0.py").is_some(),
                "{report:?}"
            );
            let error = try_save(&other, &target, SaveOptions::default())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidState);
            let report = restore(&other, &target).await;
            assert!(report.complete);
            assert_same(&work, &target);
            return;
        }
        // It came too late for this restore: the next save sees it.
        fs::remove_dir_all(&target).unwrap();
    }
    panic!("no change was early enough to be found");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_the_target_lead_nowhere() {
    let lab = Lab::new();
    let (ws, work, snapshot) = saved(&lab, 20).await;
    let expected = tree(&work);
    let outside = lab.fresh("outside");
    for path in ["pkg1/m1.py", "m1.py", "nb.ipynb", "file"] {
        write(&outside.join(path), "outside");
    }
    let before = tree(&outside);
    let other = lab.open_as("other").await;
    for ours in [true, false] {
        // Directories and files replaced by links, dangling ones, loops, and links in the place of temporary names.
        for path in ["lib", "empty"] {
            fs::remove_dir_all(work.join(path)).unwrap();
            symlink(&outside, work.join(path)).unwrap();
        }
        fs::remove_file(work.join("nb.ipynb")).unwrap();
        symlink(outside.join("nb.ipynb"), work.join("nb.ipynb")).unwrap();
        fs::remove_file(work.join("big.bin")).unwrap();
        symlink("big.bin", work.join("big.bin")).unwrap();
        symlink(&outside, work.join("extra")).unwrap();
        symlink(&outside, work.join(".nbws-tmp-restore")).unwrap();
        let ws = if ours { &ws } else { &other };
        let options = RestoreOptions {
            delete: Delete::Yes,
            verify: true,
            ..of(&snapshot)
        };
        let report = restore_with(ws, &work, options).await;
        assert!(report.complete, "{report:?}");
        assert_alike(&expected, &tree(&work));
        assert_alike(&before, &tree(&outside));
    }
    // A marker that is a link is not written through.
    let target = lab.fresh("t");
    symlink(
        outside.join("made-by-restore"),
        target.join(".nbws-restoring"),
    )
    .unwrap();
    let _ = try_restore(&other, &target, RestoreOptions::default()).await;
    assert_alike(&before, &tree(&outside));
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_swapped_for_links_under_a_restore_lead_nowhere() {
    let lab = Lab::new();
    let work = lab.fresh("w");
    for i in 0..60u64 {
        write(&work.join(format!("a/b{}/f{i}", i % 3)), noise(i, 4_000));
        write(&work.join(format!("a/b{}/c/g{i}", i % 3)), noise(i, 4_000));
    }
    let ws = lab.open().await;
    let first = save(&ws, &work).await;
    let outside = lab.fresh("outside");
    for name in ["b0", "b1", "b2"] {
        write(&outside.join(name).join("c/precious"), "precious");
        write(&outside.join(name).join("f0"), "precious");
    }
    write(&outside.join("c/precious"), "precious");
    let before = tree(&outside);
    let gate = Arc::new(std::sync::Mutex::new(()));
    let mut writers = Writers::new();
    let (dir, link, key) = (work.join("a"), lab.path("swap"), Arc::clone(&gate));
    let (inner, inner_link) = (work.join("a/b1"), lab.path("swap-inner"));
    let elsewhere = outside.clone();
    writers.spawn(move |n| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (dir, link, to) = match n % 3 {
            0 => (&inner, &inner_link, elsewhere.join("b1")),
            _ => (&dir, &link, elsewhere.clone()),
        };
        let swap = || rustix::fs::renameat_with(rustix::fs::CWD, dir, rustix::fs::CWD, link, flags);
        // The test prepares its tree only while nothing is swapped.
        let guard = key.lock().unwrap();
        symlink(&to, link).unwrap();
        if swap().is_ok() {
            std::thread::sleep(Duration::from_micros(50 + n % 7 * 100));
            // The restore may have put something else in the place of the link.
            let _ = swap();
        }
        match link.is_symlink() {
            true => fs::remove_file(link).unwrap(),
            false => fs::remove_dir_all(link).unwrap_or_default(),
        }
        drop(guard);
        std::thread::sleep(Duration::from_micros(100 + n % 5 * 200));
    });
    let end = Instant::now() + Duration::from_secs(5);
    let (mut done, mut refused) = (0, 0);
    while Instant::now() < end {
        {
            let _guard = gate.lock().unwrap();
            for i in 0..60 {
                let _ = fs::remove_file(work.join(format!("a/b{}/f{i}", i % 3)));
                let _ = fs::write(work.join(format!("a/b{}/extra{i}", i % 3)), "extra");
            }
        }
        let options = RestoreOptions {
            delete: Delete::Yes,
            discard_changes: true,
            ..of(&first.snapshot)
        };
        match try_restore(&ws, &work, options).await {
            Ok(_) => done += 1,
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::LocalIo | ErrorKind::AlreadyExists),
                    "{error:?}"
                );
                refused += 1;
            }
        }
        let _guard = gate.lock().unwrap();
        assert_alike(&before, &tree(&outside));
    }
    writers.stop();
    println!("{done} restores under swaps, {refused} broke off");
    assert_eq!(before.len(), tree(&outside).len());
    if work.join("a").is_symlink() {
        fs::remove_file(work.join("a")).unwrap();
    }
    let report = restore_with(
        &ws,
        &work,
        RestoreOptions {
            delete: Delete::Yes,
            discard_changes: true,
            ..of(&first.snapshot)
        },
    )
    .await;
    assert!(report.complete, "{report:?}");
    lab.assert_holds(&first.snapshot, &work).await;
}
