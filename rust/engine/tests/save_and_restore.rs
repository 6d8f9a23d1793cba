//! The main line: save, restore, save again, on real directories and a recorded store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, RestoreOptions, SaveOptions};
use nbws_engine::report::{RestoreReport, SaveReport};
use nbws_engine::{ErrorKind, Workspace};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        Machine {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self, url: &str) -> Workspace {
        let options = OpenOptions {
            create: true,
            state_dir: Some(self.path("state")),
            ..OpenOptions::default()
        };
        Workspace::open(url, options).await.unwrap()
    }
}

fn url(dir: &TempDir) -> String {
    format!("file://{}/objects", dir.path().display())
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

fn make_tree(root: &Path, files: usize) {
    for i in 0..files {
        write(
            &root.join(format!("lib/pkg{}/m{i}.py", i % 17)),
            format!("x = {i}\n").repeat(i % 40),
        );
    }
    write(&root.join("big.bin"), noise(1, 3_000_000));
    write(&root.join("nb.ipynb"), noise(2, 5_000));
    fs::create_dir_all(root.join("empty/dir")).unwrap();
    std::os::unix::fs::symlink("../nb.ipynb", root.join("lib/link")).unwrap();
    fs::hard_link(root.join("nb.ipynb"), root.join("lib/again.ipynb")).unwrap();
}

async fn save(ws: &Workspace, dir: &Path) -> SaveReport {
    ws.save(dir, SaveOptions::default(), None, CancelToken::new())
        .await
        .unwrap()
}

async fn restore(ws: &Workspace, dir: &Path) -> RestoreReport {
    ws.restore(
        dir,
        RestoreOptions {
            verify: true,
            ..RestoreOptions::default()
        },
        None,
        CancelToken::new(),
    )
    .await
    .unwrap()
}

fn listing(root: &Path) -> Vec<(PathBuf, u32, i64, i64, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut out = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() {
                fs::read(&path).unwrap()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                todo.push(path.clone());
                Vec::new()
            };
            out.push((
                path.strip_prefix(root).unwrap().to_path_buf(),
                meta.mode(),
                meta.mtime(),
                meta.mtime_nsec(),
                content,
            ));
        }
    }
    out.sort();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_and_the_next_save_reads_nothing() {
    let (machine, other, store) = (Machine::new(), Machine::new(), tempfile::tempdir().unwrap());
    let work = machine.path("w");
    make_tree(&work, 500);
    let ws = machine.open(&url(&store)).await;
    let first = save(&ws, &work).await;
    assert!(first.complete, "{first:?}");
    assert_eq!(first.files_total, 504);
    let again = save(&ws, &work).await;
    assert_eq!(
        (
            again.files_opened,
            again.requests.put,
            again.requests.get + again.requests.list
        ),
        (0, 0, 2),
        "{again:?}"
    );
    assert_eq!(again.snapshot, first.snapshot);

    let ws2 = other.open(&url(&store)).await;
    let target = other.path("elsewhere");
    let restored = restore(&ws2, &target).await;
    assert!(restored.complete, "{restored:?}");
    assert_eq!(listing(&work), listing(&target));
    let after = save(&ws2, &target).await;
    assert_eq!(
        (after.files_opened, after.requests.put),
        (0, 0),
        "{after:?}"
    );
    assert_eq!(after.snapshot, first.snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_edit_costs_two_puts_and_a_listing() {
    let (machine, store) = (Machine::new(), tempfile::tempdir().unwrap());
    let work = machine.path("w");
    make_tree(&work, 2_000);
    let ws = machine.open(&url(&store)).await;
    save(&ws, &work).await;
    for i in 0..5 {
        write(&work.join("nb2.ipynb"), noise(100 + i, 5_000));
        let report = save(&ws, &work).await;
        assert_eq!(
            (
                report.requests.put,
                report.requests.list,
                report.requests.get
            ),
            (2, 1, 0),
            "{report:?}"
        );
        assert!(report.bytes_uploaded < 256 << 10, "{report:?}");
        assert_eq!(report.files_opened, 1);
    }
    let check = ws
        .check(
            nbws_engine::options::CheckOptions { read_data: 1.0 },
            None,
            CancelToken::new(),
        )
        .await
        .unwrap();
    assert!(check.complete, "{check:?}");
    assert_eq!(ws.snapshots().await.unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_tree_is_brought_up_to_date() {
    let (machine, store) = (Machine::new(), tempfile::tempdir().unwrap());
    let work = machine.path("w");
    make_tree(&work, 100);
    let ws = machine.open(&url(&store)).await;
    let first = save(&ws, &work).await;
    let before = listing(&work);
    write(&work.join("lib/pkg1/new.py"), "new");
    fs::remove_file(work.join("lib/pkg2/m2.py")).unwrap();
    let mut big = fs::read(work.join("big.bin")).unwrap();
    big[1_500_000] ^= 1;
    write(&work.join("big.bin"), &big);
    fs::remove_dir_all(work.join("empty")).unwrap();
    write(&work.join("empty"), "a file where a directory was");
    save(&ws, &work).await;
    let options = RestoreOptions {
        snapshot: first.snapshot.clone(),
        ..RestoreOptions::default()
    };
    let report = ws
        .restore(&work, options, None, CancelToken::new())
        .await
        .unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!(listing(&work), before);
    // One changed chunk of an incompressible file costs its frame of 1 MiB.
    assert!(
        report.bytes_downloaded < 1_500_000,
        "only what differs is fetched: {report:?}"
    );
    let back = save(&ws, &work).await;
    assert_ne!(back.snapshot, first.snapshot);
    assert_eq!(back.files_opened, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unproven_directory_becomes_a_rescue_and_not_the_head() {
    let (machine, other, store) = (Machine::new(), Machine::new(), tempfile::tempdir().unwrap());
    let (work, stray) = (machine.path("w"), other.path("stray"));
    make_tree(&work, 20);
    write(&stray.join("a.py"), "stray");
    let ws = machine.open(&url(&store)).await;
    let first = save(&ws, &work).await;
    let ws2 = other.open(&url(&store)).await;
    let error = ws2
        .save(&stray, SaveOptions::default(), None, CancelToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let rescue = error.rescue().unwrap().to_owned();
    assert_eq!(ws2.rescues().await.unwrap()[0].snapshot, rescue);
    assert_eq!(
        ws2.snapshots().await.unwrap().last().unwrap().snapshot,
        first.snapshot
    );
    let options = RestoreOptions {
        snapshot: rescue.clone(),
        ..RestoreOptions::default()
    };
    ws2.restore(&other.path("copy"), options, None, CancelToken::new())
        .await
        .unwrap();
    assert_eq!(fs::read(other.path("copy/a.py")).unwrap(), b"stray");
    ws2.dismiss(&rescue[..8]).await.unwrap();
    assert!(ws2.rescues().await.unwrap().is_empty());
    // The first writer's next save rebases over the rescue and its dismissal.
    write(&work.join("b.py"), "more");
    let next = save(&ws, &work).await;
    assert_eq!(next.seq, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faster_writer_fences_and_the_slower_work_is_kept() {
    let (machine, other, store) = (Machine::new(), Machine::new(), tempfile::tempdir().unwrap());
    let (work, copy) = (machine.path("w"), other.path("w"));
    make_tree(&work, 20);
    let ws = machine.open(&url(&store)).await;
    save(&ws, &work).await;
    let ws2 = other.open(&url(&store)).await;
    restore(&ws2, &copy).await;
    write(&copy.join("theirs.py"), "2");
    save(&ws2, &copy).await;
    write(&work.join("mine.py"), "1");
    let error = ws
        .save(&work, SaveOptions::default(), None, CancelToken::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    assert!(error.rescue().is_some());
    let report = save_with(
        &ws,
        &work,
        SaveOptions {
            take_over: true,
            ..SaveOptions::default()
        },
    )
    .await;
    assert!(report.complete);
}

async fn save_with(ws: &Workspace, dir: &Path, options: SaveOptions) -> SaveReport {
    ws.save(dir, options, None, CancelToken::new())
        .await
        .unwrap()
}
