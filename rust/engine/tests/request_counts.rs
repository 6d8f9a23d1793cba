//! What each verb may cost in requests, bytes and opened files, asserted request by request.
#![allow(clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/counts.rs"]
mod counts;

use async_trait::async_trait;
use bytes::Bytes;
use counts::*;
use nbws_core::limits::LIVE_INDEX_PARTS;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{OpenOptions, RestoreOptions, SaveOptions};
use nbws_engine::report::SaveReport;
use nbws_engine::store::testkit::{Recording, Request, Verb};
use nbws_engine::store::{Created, ObjectInfo, Store};
use nbws_engine::{ErrorKind, Result, Workspace};
use std::fs;
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Files of the tree in which a notebook is edited.
const FILES: usize = 10_000;

/// Saves versions of the notebook of 5 KB each, and asserts the cost of every save. Returns the most bytes uploaded.
async fn edit_and_save(
    workspace: &Workspace,
    store: &Recording,
    work: &Path,
    edits: RangeInclusive<u64>,
) -> u64 {
    let mut most = 0;
    for edit in edits {
        write(&work.join(NOTEBOOK), noise(edit, 5_000));
        let report = save(workspace, work).await;
        let seq = report.seq;
        let mut expected = vec![
            "put packs".to_owned(),
            format!("create {seq}"),
            "list log".to_owned(),
        ];
        // After the acknowledgement, now and then, so that a fresh machine finds the end of a long log sooner.
        if seq.is_multiple_of(64) {
            expected.push("put hint".to_owned());
        }
        assert_eq!(words(store), expected, "save {edit}");
        assert_eq!((report.files_opened, report.files_changed), (1, 1));
        assert_eq!((report.bytes_read, report.bytes_new), (5_000, 5_000));
        assert!(
            report.bytes_uploaded <= 256 * KIB,
            "save {edit}: {report:?}"
        );
        let parts = index_root(store, seq).await.parts.len();
        assert!(parts <= LIVE_INDEX_PARTS, "save {edit}: {parts} parts");
        store.take();
        most = most.max(report.bytes_uploaded);
    }
    most
}

/// As the issue counts: puts, listings, other reads.
fn counted(report: &SaveReport) -> (u64, u64, u64) {
    let requests = &report.requests;
    assert_eq!(requests.delete, 0);
    (requests.put, requests.list, requests.get + requests.head)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_costs_the_same_after_a_thousand_saves() {
    let machine = Machine::new();
    let work = machine.path("work");
    make_tree(&work, FILES);
    let store = recorded("thousand");
    let workspace = machine.open(store.clone()).await;
    save(&workspace, &work).await;
    store.take();
    let start = Instant::now();
    let mut most = 0;
    // Saves 1, 100 and 1,000 are looked at as the issue counts them, all others request by request.
    for (before, edit) in [(1, 1), (2, 100), (101, 1_000)] {
        if before < edit {
            most = most.max(edit_and_save(&workspace, &store, &work, before..=edit - 1).await);
        }
        write(&work.join(NOTEBOOK), noise(edit, 5_000));
        let report = save(&workspace, &work).await;
        assert_eq!(counted(&report), (2, 1, 0), "save {edit}: {report:?}");
        assert!(
            report.bytes_uploaded <= 256 * KIB,
            "save {edit}: {report:?}"
        );
        println!("save {edit}: {} bytes uploaded", report.bytes_uploaded);
        store.take();
    }
    println!(
        "1,000 saves of {FILES} files in {:.1} s; at most {most} bytes uploaded by one",
        start.elapsed().as_secs_f64()
    );
    open_on_a_fresh_machine(&store, 1_001).await;
    continue_in_a_fresh_process(&machine, &store, &work, 1_001).await;
}

/// Restores one file of record `seq`, and asserts what it takes to get at head and index.
async fn open_on_a_fresh_machine(store: &Arc<Recording>, seq: u64) {
    let newest = record(&**store, seq).await;
    let parts = index_root(&**store, seq).await.parts;
    store.take();
    let machine = Machine::new();
    let workspace = machine.open(store.clone()).await;
    let options = RestoreOptions {
        paths: Some(vec![NOTEBOOK.into()]),
        ..RestoreOptions::default()
    };
    let target = machine.path("one");
    restore_with(&workspace, &target, options).await;
    assert_eq!(
        fs::read(target.join(NOTEBOOK)).unwrap(),
        noise(1_000, 5_000)
    );

    let requests = store.take();
    let (head, rest) = requests.split_at(5);
    let head: Vec<String> = head.iter().map(word).collect();
    let slots = [format!("get {seq}"), format!("get {}", seq + 1)];
    let expected = ["get format", "get hint", "list log", &slots[0], &slots[1]];
    assert_eq!(head, expected);

    let (index, root) = (newest.index.unwrap(), newest.head.unwrap().root);
    let range = |object: String, length: u32| Request {
        verb: Verb::GetRange,
        key: object,
        bytes: u64::from(length),
    };
    assert_eq!(rest[0], range(index.object.to_string(), index.length));
    let (fetched, rest) = rest[1..].split_at(parts.len());
    for part in &parts {
        let expected = range(part.key.to_string(), part.stored_len);
        assert!(fetched.contains(&expected), "{part:?} in {fetched:?}");
    }
    assert_eq!(rest[0], range(root.object.to_string(), root.length));
    assert!(head.len() + 2 <= 8 && parts.len() <= 16);
    println!(
        "a fresh machine: {} requests for the head, {} for the index, {} for tree and file",
        head.len() + 2,
        parts.len(),
        rest.len() - 1
    );
    // The segments that 1,000 saves left are in two packs: the first save's and the newest.
    assert!(rest.len() <= 6, "{rest:?}");
}

async fn continue_in_a_fresh_process(
    machine: &Machine,
    store: &Arc<Recording>,
    work: &Path,
    seq: u64,
) {
    let look = ["list log".to_owned(), format!("get {}", seq + 1)];
    let process = machine.open(store.clone()).await;
    store.take();
    let same = save(&process, work).await;
    assert_eq!(words(store), look);
    assert_eq!(counted(&same), (0, 1, 1));
    assert_eq!((same.files_opened, same.seq), (0, seq));

    let process = machine.open(store.clone()).await;
    store.take();
    write(&work.join(NOTEBOOK), noise(2_000, 5_000));
    let edited = save(&process, work).await;
    assert_eq!(counted(&edited), (2, 2, 1), "two reads more: {edited:?}");
    assert_eq!(
        words(store)[2..],
        [
            "put packs".to_owned(),
            format!("create {}", seq + 1),
            "list log".to_owned()
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_changed_costs_two_reads_and_opens_nothing() {
    let (machine, store) = (Machine::new(), recorded("unchanged"));
    let work = machine.path("work");
    make_tree(&work, 2_000);
    let workspace = machine.open(store.clone()).await;
    let first = save(&workspace, &work).await;
    assert_eq!(first.files_opened, 2_001);
    for _ in 0..3 {
        store.take();
        let same = save(&workspace, &work).await;
        assert_eq!(words(&store), ["list log", "get 2"]);
        assert_eq!((same.files_opened, same.bytes_read), (0, 0));
        assert_eq!((same.bytes_uploaded, &same.snapshot), (0, &first.snapshot));
    }
    // The ignore file is the one file that every scan opens.
    write(&work.join(".nbwsignore"), "*.tmp\n");
    let ignoring = save(&workspace, &work).await;
    assert_eq!((ignoring.files_opened, ignoring.files_new), (2, 1));
    write(&work.join("lib/scratch.tmp"), "left out");
    let listed = save(&workspace, &work).await;
    // The directory's times moved, so the tree has changed, but nothing was read for it.
    assert_eq!((listed.files_opened, listed.files_changed), (1, 0));
    store.take();
    for process in [workspace, machine.open(store.clone()).await] {
        store.take();
        let same = save(&process, &work).await;
        assert_eq!(words(&store), ["list log", "get 4"]);
        assert_eq!((same.files_opened, same.requests.put), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_elsewhere_the_first_save_opens_nothing() {
    let (machine, other, store) = (Machine::new(), Machine::new(), recorded("elsewhere"));
    let (work, target) = (machine.path("work"), other.path("other/place"));
    make_tree(&work, FILES);
    let workspace = machine.open(store.clone()).await;
    let first = save(&workspace, &work).await;
    let there = other.open(store.clone()).await;
    let restored = restore(&there, &target).await;
    assert_eq!(restored.files_written, FILES as u64 + 1);
    store.take();
    let same = save(&there, &target).await;
    assert_eq!((same.files_opened, same.bytes_read), (0, 0), "{same:?}");
    assert_eq!(words(&store), ["list log", "get 2"]);
    assert_eq!(same.snapshot, first.snapshot);
    // The restore has read the newest record: whoever saves after it is an open writer, or a fresh process.
    edit_and_save(&there, &store, &target, 1..=2).await;
    let process = other.open(store.clone()).await;
    let same = save(&process, &target).await;
    assert_eq!((same.files_opened, same.requests.put), (0, 0));

    // Restoring over it what it holds already writes and opens nothing.
    store.take();
    let again = restore(&process, &target).await;
    assert_eq!((again.files_written, again.bytes_written), (0, 0));
    let same = save(&process, &target).await;
    assert_eq!((same.files_opened, same.requests.put), (0, 0));
}

const ANOTHER_USER: u32 = 42_420;
const URL: &str = "NBWS_TEST_URL";
const PLACE: &str = "NBWS_TEST_PLACE";

/// Restores and saves as whoever runs it; the parent process is the next test. Does nothing without being told where.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_child_process() {
    let (Ok(url), Ok(place)) = (std::env::var(URL), std::env::var(PLACE)) else {
        return;
    };
    let place = Path::new(&place);
    let options = OpenOptions {
        state_dir: Some(place.join("state")),
        ..OpenOptions::default()
    };
    let workspace = Workspace::open(&url, options).await.unwrap();
    let target = place.join("work");
    let restored = restore(&workspace, &target).await;
    let numeric_ids = url.ends_with("numeric");
    assert_eq!(!restored.warnings.is_empty(), numeric_ids);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(target.join(NOTEBOOK)).unwrap().uid(),
        ANOTHER_USER
    );
    // The store belongs to the other user: where something has to be written, this fails.
    let saved = workspace
        .save(&target, SaveOptions::default(), None, CancelToken::new())
        .await;
    if numeric_ids {
        assert_eq!(saved.unwrap_err().kind(), ErrorKind::Denied);
    } else {
        let saved = saved.unwrap();
        assert_eq!((saved.files_opened, saved.requests.put), (0, 0));
        assert_eq!(saved.snapshot, restored.snapshot);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_restores_and_opens_nothing_unless_owners_are_kept() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let machine = Machine::new();
    let top = machine.path("");
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    let work = machine.path("work");
    make_tree(&work, 1_000);
    for name in ["plain", "numeric"] {
        let url = format!("file://{}/{name}", top.display());
        let options = OpenOptions {
            create: true,
            numeric_ids: name == "numeric",
            state_dir: Some(machine.path("state")),
            ..OpenOptions::default()
        };
        let workspace = Workspace::open(&url, options).await.unwrap();
        let first = save(&workspace, &work).await;
        let place = machine.path(&format!("place-{name}"));
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::chown(&place, Some(ANOTHER_USER), Some(ANOTHER_USER)).unwrap();
        // The name under /proc can be run by a user who can't reach the directory of the tests.
        let output = Command::new("/proc/self/exe")
            .args(["--exact", "in_a_child_process", "--nocapture"])
            .envs([(URL, url.as_str()), (PLACE, place.to_str().unwrap())])
            .uid(ANOTHER_USER)
            .gid(ANOTHER_USER)
            .current_dir("/")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {text}");

        // Given away after the restore: every ctime has moved, so all is read, and all of it is as it was.
        let given = machine.path(&format!("given-{name}"));
        restore(&workspace, &given).await;
        let status = Command::new("chown")
            .args(["-R", &format!("{ANOTHER_USER}:{ANOTHER_USER}")])
            .arg(&given)
            .status();
        assert!(status.unwrap().success());
        let saved = save(&workspace, &given).await;
        assert_eq!(saved.files_opened, 1_001);
        assert_eq!(saved.snapshot == first.snapshot, name == "plain");
        assert_eq!(saved.requests.put == 0, name == "plain", "{saved:?}");
        assert_eq!(save(&workspace, &given).await.files_opened, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_reads_long_ranges() {
    let (machine, store) = (Machine::new(), recorded("ranges"));
    let work = machine.path("work");
    for i in 0..1_500 {
        write(
            &work.join(format!("data/{}/{i}.bin", i % 30)),
            noise(i, 30_000),
        );
    }
    write(&work.join("large.bin"), noise(1 << 32, 20 << 20));
    let workspace = machine.open(store.clone()).await;
    let first = save(&workspace, &work).await;
    let packs = first.requests.put - 1;
    store.take();
    let other = Machine::new();
    let there = other.open(store.clone()).await;
    let restored = restore(&there, &other.path("work")).await;
    let ranges = store
        .take()
        .into_iter()
        .filter(|r| r.verb == Verb::GetRange);
    let ranges: Vec<u64> = ranges.map(|r| r.bytes).collect();
    println!(
        "{} bytes of {} files from {packs} packs in {} ranges, {} bytes downloaded",
        first.bytes_total,
        first.files_total,
        ranges.len(),
        restored.bytes_downloaded
    );
    // Root, index and tree, then 4 MiB at a time, and a shorter rest for each pack.
    let data = first.bytes_uploaded.div_ceil(3 * MIB) + packs;
    assert!(ranges.len() as u64 <= 4 + data, "{ranges:?}");
    assert!(ranges.iter().all(|bytes| *bytes <= 4 * MIB + 64 * KIB));
    // Nothing is read twice and nothing for nothing.
    assert!(restored.bytes_downloaded <= first.bytes_uploaded);
    assert_eq!(restored.requests.head + restored.requests.put, 0);
}

/// Cancels a save once so many packs are stored.
#[derive(Debug)]
struct CancelAfter {
    inner: Arc<Recording>,
    token: CancelToken,
    packs_left: AtomicU64,
}

#[async_trait]
impl Store for CancelAfter {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await?;
        if key.starts_with("packs/") && self.packs_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.token.cancel();
        }
        Ok(())
    }
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.inner.create(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_cancelled_save_are_reused() {
    for is_same_process in [true, false] {
        let (machine, store) = (
            Machine::new(),
            recorded(&format!("cancelled-{is_same_process}")),
        );
        let work = machine.path("work");
        for i in 0..1_600 {
            write(&work.join(format!("d{}/{i}.bin", i % 20)), noise(i, 30_000));
        }
        let token = CancelToken::new();
        let cancelling = Arc::new(CancelAfter {
            inner: store.clone(),
            token: token.clone(),
            packs_left: AtomicU64::new(4),
        });
        let options = SaveOptions {
            memory_bytes: Some(16 * MIB),
            ..SaveOptions::default()
        };
        let workspace = machine.open(cancelling).await;
        let error = workspace
            .save(&work, options.clone(), None, token)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        let stored = store
            .take()
            .into_iter()
            .filter(|r| r.key.starts_with("packs/"));
        let (packs, bytes) = stored.fold((0, 0), |(n, sum), r| (n + 1, sum + r.bytes));
        assert!(
            packs >= 4 && bytes > 30 * MIB,
            "{packs} packs, {bytes} bytes"
        );
        let workspace = match is_same_process {
            true => workspace,
            false => machine.open(store.clone()).await,
        };
        let saved = save_with(&workspace, &work, options).await;
        println!(
            "{packs} packs, {bytes} bytes before the cancellation, {} bytes after it",
            saved.bytes_uploaded
        );
        let whole = saved.bytes_total;
        assert!(
            saved.bytes_uploaded + bytes <= whole + 2 * MIB,
            "{bytes} of {whole}: {saved:?}"
        );
        let other = Machine::new();
        let there = other.open(store.clone()).await;
        let target = other.path("work");
        restore(&there, &target).await;
        assert_eq!(fs::read(target.join("d7/7.bin")).unwrap(), noise(7, 30_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebase_costs_what_it_has_to_read() {
    let (machine, other, store) = (Machine::new(), Machine::new(), recorded("rebase"));
    let (work, stray) = (machine.path("work"), other.path("stray"));
    make_tree(&work, 200);
    write(&stray.join("a.py"), "stray");
    let workspace = machine.open(store.clone()).await;
    save(&workspace, &work).await;
    // A rescue brings a pack and an index root of its own: that root is read, and one that names both parts is stored.
    let there = other.open(store.clone()).await;
    let error = there
        .save(&stray, SaveOptions::default(), None, CancelToken::new())
        .await
        .unwrap_err();
    store.take();
    write(&work.join(NOTEBOOK), noise(1, 5_000));
    let rebased = save(&workspace, &work).await;
    let lost = ["put packs", "create 2", "get 2", "list log", "get 3"];
    let won = ["range packs", "put packs", "create 3", "list log"];
    assert_eq!(words(&store), [&lost[..], &won].concat());
    assert_eq!(rebased.seq, 3);
    // A dismissal brings a record only. The part of the rescue is fetched before that, once: it may hold what is saved.
    there.dismiss(error.rescue().unwrap()).await.unwrap();
    store.take();
    write(&work.join(NOTEBOOK), noise(2, 5_000));
    let rebased = save(&workspace, &work).await;
    let lost = [
        "range packs",
        "put packs",
        "create 4",
        "get 4",
        "list log",
        "get 5",
    ];
    let won = ["create 5", "list log"];
    assert_eq!(words(&store), [&lost[..], &won].concat());
    assert_eq!(rebased.seq, 5);
    edit_and_save(&workspace, &store, &work, 3..=4).await;
}
