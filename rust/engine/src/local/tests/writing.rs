use super::*;
use std::os::unix::fs::symlink;

#[test]
fn nothing_is_written_through_a_link() {
    let dir = directory();
    let outside = directory();
    write(outside.path().join("canary"), "untouched");
    write(outside.path().join("sub/x"), "untouched");
    symlink(outside.path(), dir.path().join("out")).unwrap();
    symlink(outside.path().join("canary"), dir.path().join("file")).unwrap();
    symlink("inner", dir.path().join("near")).unwrap();
    write(dir.path().join("inner/x"), "");
    for root in both_roots(dir.path()) {
        for base in ["out", "near"] {
            let at = |name: &str| format!("{base}/{name}").into_bytes();
            let refused = [
                root.make_directory(&at("new")).err(),
                root.create_file(&at("new")).err(),
                root.reopen_file(&at("canary")).err(),
                root.open_file(&at("x")).err(),
                root.read_link(&at("x")).err(),
                root.make_symlink(&at("new"), b"x").err(),
                root.make_hard_link(&at("canary"), b"mine").err(),
                root.make_hard_link(b"inner/x", &at("mine")).err(),
                root.rename(&at("canary"), b"mine").err(),
                root.rename(b"inner/x", &at("canary")).err(),
                root.remove_file(&at("canary")).err(),
                root.remove_directory(&at("sub")).err(),
                root.set_metadata(&at("sub"), FileKind::Directory, &metadata(0, 0))
                    .err(),
                root.set_metadata(base.as_bytes(), FileKind::Directory, &metadata(0, 0))
                    .err(),
                root.xattrs_of_link_or_directory(&at("sub")).err(),
            ];
            for (at, error) in refused.into_iter().enumerate() {
                let error = error.unwrap_or_else(|| panic!("call {at} below {base} went through"));
                assert_eq!(error.kind(), ErrorKind::LocalIo, "{at}: {error}");
                assert!(!error.subject().is_empty());
            }
            assert_eq!(root.stat(&at("x")).unwrap(), None);
        }
        assert!(root.reopen_file(b"file").is_err());
        assert!(root.open_file(b"file").is_err());
        assert_eq!(
            root.create_file(b"file").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            root.create_file(b"out").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
    }
    assert_eq!(
        std::fs::read(outside.path().join("canary")).unwrap(),
        b"untouched"
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
}

#[test]
fn hostile_paths_are_refused_before_any_call() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    for path in [
        &b"../x"[..],
        b"/x",
        b"a/../x",
        b"",
        b"a\0b",
        b"./x",
        b"a//b",
        &[b'n'; 256],
    ] {
        assert!(root.make_directory(path).is_err());
        assert!(root.create_file(path).is_err());
        assert!(root.reopen_file(path).is_err());
        assert!(root.open_file(path).is_err());
        assert!(root.stat(path).is_err());
        assert!(root.make_symlink(path, b"x").is_err());
        assert!(root.make_hard_link(path, b"x").is_err());
        assert!(root.make_hard_link(b"x", path).is_err());
        assert!(root.rename(path, b"x").is_err());
        assert!(root.rename(b"x", path).is_err());
        assert!(root.remove_file(path).is_err());
        assert!(root.remove_directory(path).is_err());
    }
    for target in [&b""[..], b"a\0b", &vec![b'x'; 70_000]] {
        assert!(root.make_symlink(b"l", target).is_err());
    }
    assert!(plain_scan(&root).is_empty());
}

#[test]
fn links_renames_and_removals() {
    let dir = directory();
    for root in both_roots(dir.path()) {
        root.make_directory(b"d").unwrap();
        assert_eq!(
            root.make_directory(b"d").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        root.create_file(b"d/f").unwrap().write_at(0, b"1").unwrap();
        root.make_symlink(b"d/l", b"f").unwrap();
        assert_eq!(
            root.make_symlink(b"d/l", b"g").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        // A hard link to a symbolic link is one more name of the link itself.
        root.make_hard_link(b"d/l", b"d/l2").unwrap();
        assert_eq!(root.read_link(b"d/l2").unwrap(), b"f");
        root.make_hard_link(b"d/f", b"g").unwrap();
        let stats = [b"d/f".as_slice(), b"g"].map(|p| root.stat(p).unwrap().unwrap());
        assert_eq!(stats[0].ino, stats[1].ino);
        assert_eq!(stats[0].nlink, 2);
        root.create_file(b"n").unwrap().write_at(0, b"22").unwrap();
        root.rename(b"n", b"d/l").unwrap();
        assert_eq!(root.stat(b"d/l").unwrap().unwrap().size, 2);
        assert_eq!(root.stat(b"d/f").unwrap().unwrap().size, 1);
        let error = root.remove_directory(b"d").unwrap_err();
        assert_eq!(
            error.os_error(),
            Some(rustix::io::Errno::NOTEMPTY.raw_os_error())
        );
        assert!(root.remove_file(b"d").is_err());
        for path in [&b"d/f"[..], b"d/l", b"d/l2", b"g", b"g"] {
            root.remove_file(path).unwrap();
        }
        root.remove_directory(b"d").unwrap();
        root.remove_directory(b"d").unwrap();
        root.sync_file_system().unwrap();
        assert!(plain_scan(&root).is_empty());
    }
}

#[test]
fn files_are_private_until_finished_and_can_be_reopened() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    let file = root.create_file(b"f").unwrap();
    assert_eq!(file.stat().unwrap().mode, 0o600);
    file.write_at(4, b"late").unwrap();
    drop(file);
    let file = root.reopen_file(b"f").unwrap();
    file.write_at(0, b"head").unwrap();
    let (stat, _) = file.finish(&metadata(0o444, 1_000)).unwrap();
    assert_eq!((stat.size, stat.mode), (8, 0o444));
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"headlate");
    assert_eq!(
        root.create_file(b"f").unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
}

#[test]
fn holes_are_found_and_kept() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    let file = root.create_file(b"f").unwrap();
    let length = 1 << 40;
    file.set_length(length).unwrap();
    file.write_at(1 << 20, &[1; 4_096]).unwrap();
    file.write_at(1 << 39, &[2; 8_192]).unwrap();
    let stat = file.stat().unwrap();
    drop(file);
    let open = root.open_file(b"f").unwrap();
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = open.next_data(at, length).unwrap() {
        assert!(start >= at && end > start && end <= length);
        ranges.push((start, end));
        at = end;
    }
    if ranges == [(0, length)] {
        println!("skipped: no map of holes here");
        return;
    }
    assert!(stat.blocks * 512 < 1 << 24);
    for wanted in [1 << 20, 1 << 39] {
        assert!(
            ranges
                .iter()
                .any(|(start, end)| (*start..*end).contains(&wanted))
        );
    }
    assert!(ranges.iter().map(|(start, end)| end - start).sum::<u64>() < 1 << 24);
    assert_eq!(open.next_data(length, length).unwrap(), None);
    // The size that the caller knows bounds the answer.
    assert_eq!(
        open.next_data(1 << 20, (1 << 20) + 10).unwrap(),
        Some((1 << 20, (1 << 20) + 10))
    );
}

#[test]
fn reads_end_with_the_file() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("old"), vec![7; 1_000_000]).unwrap();
    let old = root.open_file(b"old").unwrap();
    let mut buffer = vec![0; 20];
    assert_eq!(old.read_at(999_990, &mut buffer).unwrap(), 10);
    assert_eq!(old.read_at(2_000_000, &mut buffer).unwrap(), 0);
    old.sync_data().unwrap();
    assert_eq!(old.stat().unwrap().size, 1_000_000);
}

#[test]
fn a_full_disk_is_a_local_error_with_its_number() {
    let dir = directory();
    let target = dir.path().join("small");
    std::fs::create_dir(&target).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=4", "tmpfs"])
        .arg(&target)
        .output();
    if !mounted.is_ok_and(|out| out.status.success()) {
        println!("skipped: mounting is not permitted here");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let no_space = Some(rustix::io::Errno::NOSPC.raw_os_error());
        let root = Root::open(&target).unwrap();
        let file = root.create_file(b"a").unwrap();
        let error = file.write_at(0, &vec![1; 1 << 20]).unwrap_err();
        assert_eq!(
            (error.kind(), error.os_error()),
            (ErrorKind::LocalIo, no_space)
        );
        drop(file);
        root.remove_file(b"a").unwrap();
        for name in [b"b", b"c", b"d"] {
            root.make_directory(name).unwrap();
        }
        assert_eq!(root.create_file(b"e").unwrap_err().os_error(), no_space);
        assert_eq!(root.make_directory(b"e").unwrap_err().os_error(), no_space);
        assert_eq!(plain_scan(&root).len(), 3);
    });
    let _ = std::process::Command::new("umount").arg(&target).output();
    outcome.unwrap();
}
