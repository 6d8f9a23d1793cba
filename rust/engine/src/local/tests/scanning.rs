use super::*;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn entries_come_in_order_of_path_bytes_with_their_stats() {
    let dir = directory();
    for path in ["a/x", "a-b", "a0", "a/b/c", "a.d/z", "b", "a/b-c", "é"] {
        write(dir.path().join(path), path);
    }
    symlink("a/x", dir.path().join("link")).unwrap();
    for root in both_roots(dir.path()) {
        for threads in [1, 2, 5] {
            let scanned = scan_with(&root, &Rules::default(), threads);
            assert_eq!(
                paths(&scanned),
                [
                    "a", "a-b", "a.d", "a.d/z", "a/b", "a/b-c", "a/b/c", "a/x", "a0", "b", "link",
                    "é"
                ]
            );
            assert_eq!(scanned.files_opened, 0);
            assert!(scanned.skipped.is_empty() && scanned.excluded.is_empty());
            for entry in scanned.iter() {
                let path = dir.path().join(std::str::from_utf8(entry.path).unwrap());
                let real = std::fs::symlink_metadata(path).unwrap();
                let stat = entry.stat;
                assert_eq!(stat.ino, real.ino());
                assert_eq!(stat.dev, real.dev());
                assert_eq!(stat.size, real.size());
                assert_eq!(stat.blocks, real.blocks());
                assert_eq!(u32::from(stat.mode), real.mode() & 0o7777);
                assert_eq!((stat.uid, stat.gid), (real.uid(), real.gid()));
                assert_eq!(u64::from(stat.nlink), real.nlink());
                assert_eq!(stat.mtime.seconds, real.mtime());
                assert_eq!(i64::from(stat.mtime.nanos), real.mtime_nsec());
                assert_eq!(stat.ctime.seconds, real.ctime());
                assert_eq!(i64::from(stat.ctime.nanos), real.ctime_nsec());
                assert_eq!(stat.kind == FileKind::Symlink, real.is_symlink());
                assert_eq!(stat.kind == FileKind::Directory, real.is_dir());
                assert!(stat.ctime <= root.file_system_clock().unwrap());
                assert_eq!(root.stat(entry.path).unwrap(), Some(stat));
            }
            assert_eq!(scanned.find(b"a/b"), Ok(4));
            assert_eq!(scanned.find(b"a1"), Err(9));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_in_order(names in prop::collection::btree_set(
        prop::collection::vec("[a\\-/.0\u{7f}]{1,3}", 1..5), 0..40,
    )) {
        let dir = directory();
        for parts in &names {
            let text = parts.concat();
            let names = text.split('/').filter(|name| !matches!(*name, "" | "." | ".."));
            let _ = std::fs::create_dir_all(dir.path().join(names.collect::<Vec<_>>().join("/")));
        }
        let mut expected = Vec::new();
        let mut open = vec![dir.path().to_owned()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                expected.push(path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned());
                open.push(path);
            }
        }
        expected.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let scanned = plain_scan(&Root::open(dir.path()).unwrap());
        prop_assert_eq!(paths(&scanned), expected);
    }
}

#[test]
fn special_files_are_skipped_and_never_opened() {
    let dir = directory();
    write(dir.path().join("file"), "x");
    let at = |name: &str| dir.path().join(name);
    let make = |name: &str, kind, number| mknodat(CWD, at(name), kind, Mode::RWXU, number);
    make("fifo", FileType::Fifo, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let mut expected = vec![("fifo", SkipReason::Fifo), ("socket", SkipReason::Socket)];
    // Opening this device (the system's memory of the kernel log) would be seen; making it needs rights.
    if make(
        "device",
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 5),
    )
    .is_ok()
    {
        expected.insert(0, ("device", SkipReason::Device));
    } else {
        println!("no device tested: making one is not permitted");
    }
    for root in both_roots(dir.path()) {
        let scanned = plain_scan(&root);
        assert_eq!(paths(&scanned), ["file"]);
        let skipped: Vec<_> = scanned
            .skipped
            .iter()
            .map(|s| (&s.path[..], &s.reason))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(p, r)| (p.as_bytes(), r)).collect();
        assert_eq!(skipped, expected);
        for name in ["fifo", "socket"] {
            let error = root.open_file(name.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LocalIo, "{error}");
        }
    }
}

#[test]
fn ignore_files_nest_negate_and_never_hide_the_marker() {
    let dir = directory();
    let at = |name: &str| dir.path().join(name);
    write(at(".nbwsignore"), "*\n!*.py\n!sub/\n!.nbwsignore\n");
    write(at(".workspace.initialized"), "id");
    write(at("sub/.workspace.initialized"), "not at the top");
    write(at("a.py"), "");
    write(at("a.txt"), "");
    write(at("sub/.nbwsignore"), "b.py\n!*.txt\nbuild/\n[bad\n");
    write(at("sub/a.txt"), "");
    write(at("sub/b.py"), "");
    write(at("sub/build"), "a file, not a directory");
    write(at("gone/below/x.py"), "");
    write(at(".nbws-tmp-1"), "");
    write(at("sub/.nbws-tmp-2/x"), "");
    write(at(".nbws-restoring"), "");
    let root = Root::open(dir.path()).unwrap();
    let scanned = plain_scan(&root);
    let expected = [
        ".nbwsignore",
        ".workspace.initialized",
        "a.py",
        "sub",
        "sub/.nbwsignore",
        "sub/a.txt",
    ];
    assert_eq!(paths(&scanned), expected);
    let left_out = [
        "a.txt",
        "gone",
        "sub/.workspace.initialized",
        "sub/b.py",
        "sub/build",
    ];
    assert_eq!(shown(&scanned.excluded), left_out);
    assert_eq!(scanned.files_opened, 2);
    assert_eq!(scanned.problems.len(), 1);
    assert_eq!(scanned.problems[0].path, b"sub/.nbwsignore");
    assert_eq!(scanned.problems[0].line, 4);

    let rules = Rules::new(&["sub/".into(), "!a.txt".into()], false).unwrap();
    let scanned = scan_with(&root, &rules, 1);
    let expected = [".nbwsignore", ".workspace.initialized", "a.py", "a.txt"];
    assert_eq!(paths(&scanned), expected);
    assert_eq!(shown(&scanned.excluded), ["gone", "sub"]);
    assert_eq!(scanned.files_opened, 1);
}

#[test]
fn strange_ignore_files_are_reported_and_not_followed() {
    let dir = directory();
    let outside = directory();
    let at = |name: &str| dir.path().join(name);
    write(outside.path().join("rules"), "*\n");
    std::fs::create_dir_all(at("link")).unwrap();
    symlink(outside.path().join("rules"), at("link/.nbwsignore")).unwrap();
    write(at("link/kept"), "");
    mkfifo(&at(".nbwsignore"));
    write(at("big/.nbwsignore"), &"# long\n".repeat(200_000));
    write(at("big/kept"), "");
    std::fs::create_dir_all(at("d/.nbwsignore")).unwrap();
    let scanned = plain_scan(&Root::open(dir.path()).unwrap());
    let expected = [
        "big",
        "big/.nbwsignore",
        "big/kept",
        "d",
        "d/.nbwsignore",
        "link",
        "link/.nbwsignore",
        "link/kept",
    ];
    assert_eq!(paths(&scanned), expected);
    assert_eq!(scanned.problems.len(), 1);
    assert_eq!(scanned.problems[0].path, b"big/.nbwsignore");
    assert_eq!(scanned.problems[0].line, 0);
}

fn mkfifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn tagged_caches_keep_only_their_tag() {
    let dir = directory();
    let at = |name: &str| dir.path().join(name);
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# cache";
    write(at("cache/CACHEDIR.TAG"), tag);
    write(at("cache/x"), "");
    write(at("cache/d/y"), "");
    write(at("other/CACHEDIR.TAG"), "something else");
    write(at("other/x"), "");
    let root = Root::open(dir.path()).unwrap();
    let rules = Rules::new(&[], true).unwrap();
    let scanned = scan_with(&root, &rules, 2);
    let expected = [
        "cache",
        "cache/CACHEDIR.TAG",
        "other",
        "other/CACHEDIR.TAG",
        "other/x",
    ];
    assert_eq!(paths(&scanned), expected);
    assert_eq!(shown(&scanned.excluded), ["cache/d", "cache/x"]);
    assert_eq!(plain_scan(&root).len(), 8);
}

#[test]
fn odd_names_stay_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let dir = directory();
    let long = vec![b'n'; 255];
    let names: [&[u8]; 5] = [
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[2J",
        "e\u{301}".as_bytes(),
        &long,
    ];
    let root = Root::open(dir.path()).unwrap();
    for name in names {
        root.create_file(name).unwrap().write_at(0, name).unwrap();
    }
    let mut expected = names.to_vec();
    expected.sort_unstable();
    let scanned = plain_scan(&root);
    let found: Vec<&[u8]> = scanned.iter().map(|entry| entry.path).collect();
    assert_eq!(found, expected);
    for name in names {
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(path).unwrap(), name);
    }
}

#[test]
fn trees_deeper_than_one_call_can_name() {
    let dir = directory();
    for root in both_roots(dir.path()) {
        let name = [b'd'; 200];
        let mut path = Vec::new();
        for _ in 0..40 {
            path = nbws_core::path::join(&path, &name);
            root.make_directory(&path).unwrap();
        }
        assert!(path.len() > 8_000);
        let leaf = nbws_core::path::join(&path, b"leaf");
        let file = root.create_file(&leaf).unwrap();
        file.write_at(0, b"deep").unwrap();
        file.finish(&metadata(0o644, 5)).unwrap();
        let scanned = plain_scan(&root);
        assert_eq!(scanned.len(), 41);
        assert_eq!(scanned.get(40).path, leaf);
        let mut buffer = [0; 8];
        let open = root.open_file(&leaf).unwrap();
        assert_eq!(open.read_at(0, &mut buffer).unwrap(), 4);
        root.make_hard_link(&leaf, b"near").unwrap();
        root.rename(b"near", &leaf).unwrap();
        root.remove_file(b"near").unwrap();
        root.remove_file(&leaf).unwrap();
        while !path.is_empty() {
            root.remove_directory(&path).unwrap();
            path = nbws_core::path::parent(&path).unwrap_or_default().to_vec();
        }
        assert!(plain_scan(&root).is_empty());
    }
}

/// A chain of directories with a sibling at every level, 3,000 levels deep: descriptors stay within their budget.
#[test]
fn descriptors_are_bounded_in_deep_and_wide_trees() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    let levels = 3_000;
    let mut at =
        rustix::fs::openat(CWD, dir.path(), rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..levels {
        for name in ["a", "b", "c"] {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        }
        at = rustix::fs::openat(&at, "b", rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
    }
    let peak = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let own = std::process::id();
    let scanned = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let open = std::fs::read_dir(format!("/proc/{own}/fd")).map_or(0, Iterator::count);
                peak.fetch_max(open, std::sync::atomic::Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let scanned = scan_with(&root, &Rules::default(), 3);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        scanned
    });
    assert_eq!(scanned.len(), 3 * levels);
    // Other tests have descriptors as well.
    assert!(peak.into_inner() < 512 + 150);
    drop(at);
    remove_deep(&root, &scanned);
}

fn remove_deep(root: &Root, scanned: &Scanned) {
    for at in (0..scanned.len()).rev() {
        root.remove_directory(scanned.get(at).path).unwrap();
    }
}

#[test]
fn mounts_are_reported_and_not_entered() {
    let dir = directory();
    let other = directory();
    write(other.path().join("inside"), "");
    let target = dir.path().join("mnt");
    write(dir.path().join("mnt/below"), "");
    write(dir.path().join("plain"), "");
    write(dir.path().join("bound-file"), "");
    let mount = |from: &Path, to: &Path| {
        let run = std::process::Command::new("mount")
            .arg("--bind")
            .args([from, to])
            .output();
        run.is_ok_and(|out| out.status.success())
    };
    // tmpfs on tmpfs: the same device, so only the mount tells.
    if !mount(other.path(), &target) {
        println!("skipped: mounting is not permitted here");
        return;
    }
    let file = dir.path().join("bound-file");
    let bound = mount(&other.path().join("inside"), &file);
    let outcome = std::panic::catch_unwind(|| {
        for root in both_roots(dir.path()) {
            let scanned = plain_scan(&root);
            let expected = if bound {
                vec!["plain"]
            } else {
                vec!["bound-file", "plain"]
            };
            assert_eq!(paths(&scanned), expected);
            assert!(
                scanned
                    .skipped
                    .iter()
                    .all(|s| s.reason == SkipReason::Mount)
            );
            assert!(shown(&scanned.excluded).contains(&"mnt".to_owned()));
            assert_ne!(root.identity().unwrap().mnt_id, None);
        }
    });
    for path in [&target, &file] {
        let _ = std::process::Command::new("umount").arg(path).output();
    }
    outcome.unwrap();
}

#[test]
fn unreadable_directories_keep_their_entry_and_are_reported() {
    if is_root() {
        println!("skipped: root may read everything");
        return;
    }
    let dir = directory();
    write(dir.path().join("closed/x"), "");
    let closed = dir.path().join("closed");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let scanned = plain_scan(&Root::open(dir.path()).unwrap());
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(paths(&scanned), ["closed"]);
    assert_eq!(scanned.skipped[0].path, b"closed");
    assert!(scanned.skipped[0].reason.keeps_base());
}

#[test]
fn the_root_must_be_there_and_a_directory() {
    let dir = directory();
    write(dir.path().join("file"), "");
    let kind = |path: &Path| Root::open(path).unwrap_err().kind();
    assert_eq!(kind(&dir.path().join("none")), ErrorKind::NotFound);
    assert_eq!(kind(&dir.path().join("file")), ErrorKind::InvalidInput);
    assert_eq!(
        Root::create(&dir.path().join("file")).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let made = Root::create(&dir.path().join("x/y")).unwrap();
    assert!(plain_scan(&made).is_empty());
    // A root that was removed is an error, not an empty tree.
    std::fs::remove_dir(dir.path().join("x/y")).unwrap();
    let cancel = CancelToken::new();
    let rules = Rules::default();
    let options = ScanOptions {
        rules: &rules,
        threads: 2,
        cancel: &cancel,
    };
    assert_eq!(
        scan(&made, &options).unwrap_err().kind(),
        ErrorKind::LocalIo
    );
    cancel.cancel();
    let root = Root::open(dir.path()).unwrap();
    assert_eq!(
        scan(&root, &options).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
}
