use super::*;
use std::os::unix::fs::MetadataExt;

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr {
        name: name.as_bytes().to_vec(),
        value: value.to_vec(),
    }
}

#[test]
fn files_directories_and_links_come_back_as_they_were() {
    let dir = directory();
    for (round, root) in both_roots(dir.path()).iter().enumerate() {
        let name = |name: &str| format!("{name}{round}").into_bytes();
        let xattrs = [xattr("user.a", b"1"), xattr("user.b", b"\0\xff")];
        let hostile = [xattr("security.capability", b"x"), xattr("trusted.x", b"y")];
        let with_hostile = [&xattrs[..], &hostile[..]].concat();
        let wanted = Metadata {
            mode: 0o4751,
            owner: None,
            mtime: Timestamp {
                seconds: -86_401,
                nanos: 123_456_789,
            },
            xattrs: &with_hostile,
        };
        let file = root.create_file(&name("file")).unwrap();
        file.write_at(0, b"abc").unwrap();
        let (stat, unapplied) = file.finish(&wanted).unwrap();
        root.make_directory(&name("dir")).unwrap();
        let other = root
            .set_metadata(&name("dir"), FileKind::Directory, &wanted)
            .unwrap();
        root.make_symlink(&name("link"), b"no/where").unwrap();
        let rest = root
            .set_metadata(&name("link"), FileKind::Symlink, &wanted)
            .unwrap();
        assert!(rest.is_empty());
        assert_eq!(stat.mtime, wanted.mtime);
        assert_eq!(stat.mode, 0o4751);
        assert_eq!(stat.size, 3);
        assert_eq!(root.stat(&name("file")).unwrap(), Some(stat));
        for path in ["dir", "link"] {
            let stat = root.stat(&name(path)).unwrap().unwrap();
            assert_eq!(stat.mtime, wanted.mtime);
        }
        assert_eq!(root.stat(&name("dir")).unwrap().unwrap().mode, 0o4751);
        assert_eq!(root.read_link(&name("link")).unwrap(), b"no/where");
        assert_eq!(root.xattrs_of_link_or_directory(&name("link")).unwrap(), []);
        if unapplied.is_empty() {
            let open = root.open_file(&name("file")).unwrap();
            assert_eq!(open.xattrs().unwrap(), xattrs);
            let found = root.xattrs_of_link_or_directory(&name("dir")).unwrap();
            assert_eq!(found, xattrs);
        } else {
            println!("no xattrs here: {unapplied:?}");
            assert_eq!(unapplied, other);
        }
    }
}

#[test]
fn metadata_of_what_is_there_is_replaced() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    write(dir.path().join("file"), "kept");
    let first = [xattr("user.old", b"1"), xattr("user.same", b"2")];
    let second = [xattr("user.new", &[3; 2_000]), xattr("user.same", b"2")];
    let with = |xattrs| Metadata {
        xattrs,
        ..metadata(0o600, 9)
    };
    let unapplied = root
        .set_metadata(b"file", FileKind::File, &with(&first))
        .unwrap();
    if !unapplied.is_empty() {
        println!("skipped: no xattrs here");
        return;
    }
    root.set_metadata(b"file", FileKind::File, &with(&second))
        .unwrap();
    let open = root.open_file(b"file").unwrap();
    assert_eq!(open.xattrs().unwrap(), second);
    assert_eq!(open.opened().mode, 0o600);
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"kept");
    // The kind must be what the caller thinks it is.
    root.make_symlink(b"link", b"file").unwrap();
    for kind in [FileKind::File, FileKind::Directory] {
        assert!(
            root.set_metadata(b"link", kind, &metadata(0o777, 1))
                .is_err()
        );
    }
    assert!(
        root.set_metadata(b"file", FileKind::Directory, &metadata(0o777, 1))
            .is_err()
    );
    assert_eq!(root.stat(b"file").unwrap().unwrap().mode, 0o600);
}

#[test]
fn modes_without_access_are_no_obstacle() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    root.make_directory(b"d").unwrap();
    root.create_file(b"f")
        .unwrap()
        .finish(&metadata(0, 1))
        .unwrap();
    let xattrs = [xattr("user.a", b"1")];
    let closed = Metadata {
        xattrs: &xattrs,
        ..metadata(0, 2)
    };
    root.set_metadata(b"d", FileKind::Directory, &metadata(0, 1))
        .unwrap();
    for (path, kind) in [(b"d", FileKind::Directory), (b"f", FileKind::File)] {
        root.set_metadata(path, kind, &closed).unwrap();
        let stat = root.stat(path).unwrap().unwrap();
        assert_eq!((stat.mode, stat.mtime.seconds), (0, 2));
    }
    if is_root() {
        println!("root has access anyway: the way round was not needed");
    }
    std::fs::set_permissions(
        dir.path().join("d"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
}

#[test]
fn owners_are_set_when_asked_and_possible() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    let foreign = Metadata {
        owner: Some((12_345, 54_321)),
        ..metadata(0o6755, 1)
    };
    let file = root.create_file(b"f").unwrap();
    let (stat, unapplied) = file.finish(&foreign).unwrap();
    root.make_symlink(b"l", b"f").unwrap();
    let of_link = root
        .set_metadata(b"l", FileKind::Symlink, &foreign)
        .unwrap();
    assert_eq!(unapplied, of_link);
    if unapplied.is_empty() {
        assert_eq!((stat.uid, stat.gid), (12_345, 54_321));
        let link = std::fs::symlink_metadata(dir.path().join("l")).unwrap();
        assert_eq!((link.uid(), link.gid()), (12_345, 54_321));
        // chown takes these bits away, so they are set after it.
        assert_eq!(stat.mode, 0o6755);
    } else {
        assert_eq!(unapplied[0].what, "owner");
    }
    let nobody = Metadata {
        owner: Some((u32::MAX, u32::MAX)),
        ..foreign
    };
    let (_, unapplied) = root.create_file(b"g").unwrap().finish(&nobody).unwrap();
    assert_eq!(unapplied[0].what, "owner");
}

#[test]
fn too_many_xattrs_are_refused_not_cut() {
    let dir = directory();
    let root = Root::open(dir.path()).unwrap();
    write(dir.path().join("f"), "");
    let many: Vec<Xattr> = (0..200)
        .map(|i| xattr(&format!("user.{i:03}"), &[0; 1_500]))
        .collect();
    let wanted = Metadata {
        xattrs: &many,
        ..metadata(0o600, 1)
    };
    let unapplied = root.set_metadata(b"f", FileKind::File, &wanted).unwrap();
    if !unapplied.is_empty() {
        println!("skipped: this file system holds fewer: {}", unapplied.len());
        return;
    }
    let error = root.open_file(b"f").unwrap().xattrs().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
