//! Quotas at every position of a save: the head is always readable, code is always in it, and what is refused leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/faults.rs"]
mod faults;

use faults::*;
use nbws_core::plan::admit::size_text;
use nbws_engine::cancel::CancelToken;
use nbws_engine::options::{Count, Over, PreviewOptions, Quota, SaveOptions};
use nbws_engine::report::SaveReport;
use nbws_engine::store::Store;
use nbws_engine::store::testkit::Recording;
use nbws_engine::{ErrorKind, Result, Workspace};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Files above this are large.
const WHOLE: usize = 65_536;

/// What a save with any quota keeps.
const SMALL: [&str; 4] = ["nb.ipynb", "src/a.py", "src/b.py", "notes.txt"];

fn fill(work: &Path) {
    write(&work.join("nb.ipynb"), noise(1, 700));
    write(&work.join("src/a.py"), "print('a')\n".repeat(20));
    write(&work.join("src/b.py"), noise(2, 333));
    write(&work.join("notes.txt"), noise(3, 90));
    write(&work.join("data/large.bin"), noise(4, WHOLE + 1));
    write(&work.join("data/larger.bin"), noise(5, WHOLE + 3_000));
}

fn limited(quota: Quota) -> SaveOptions {
    SaveOptions {
        quota,
        ..save_options()
    }
}

async fn save_as(ws: &Workspace, work: &Path, options: SaveOptions) -> Result<SaveReport> {
    ws.save(work, options, None, CancelToken::new()).await
}

fn left_out(report: &SaveReport) -> BTreeSet<String> {
    let names = report.omitted.iter();
    names
        .map(|o| String::from_utf8(o.path.clone()).unwrap())
        .collect()
}

/// One save with one quota into a repository that has a snapshot; returns whether it was committed whole, partial, or refused.
async fn at(limit: u64, count: Count, over: Over) -> &'static str {
    let repo = Repo::with(0).await;
    let work = repo.work();
    fs::remove_dir_all(&work).unwrap();
    write(&work.join("src/a.py"), "print('old')\n");
    let ws = repo.writer().await;
    let first = save(&ws, &work).await.unwrap();
    let before = listing(&work);
    fill(&work);
    let objects = repo.shelf.keys("");
    let quota = Quota {
        hard_bytes: Some(limit),
        count,
        over,
        ..Quota::default()
    };
    let outcome = save_as(&ws, &work, limited(quota)).await;
    let (id, head) = tree_of(repo.shelf.clone(), "latest").await.unwrap();
    let case = format!("{limit} {count:?} {over:?}");
    let report = match outcome {
        Err(error) => {
            assert_eq!(over, Over::Refuse, "{case}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{case}");
            assert_eq!(repo.shelf.keys(""), objects, "{case}");
            assert_eq!(id, first.snapshot, "{case}");
            assert_eq!(difference(&head, &before), None, "{case}");
            return "refused";
        }
        Ok(report) => report,
    };
    assert_eq!(id, report.snapshot, "{case}");
    let late = left_out(&report);
    for (path, fact) in &listing(&work) {
        let name = path.to_string_lossy();
        if late.contains(&*name) {
            assert!(!SMALL.contains(&&*name), "{case}: {name}");
            assert!(!head.contains_key(path), "{case}: {name}");
        } else {
            assert_eq!(head[path].content, fact.content, "{case}: {name}");
        }
    }
    assert_eq!(report.partial, !late.is_empty(), "{case}");
    if over == Over::Refuse {
        assert!(late.is_empty(), "{case}");
    }
    if count == Count::Logical && !late.is_empty() {
        // Beyond the limit only what always goes in.
        assert!(report.bytes_total <= limit.max(1_400), "{case}");
    }
    let machine = scratch();
    let other = look(repo.shelf.clone(), machine.path()).await.unwrap();
    assert!(check(&other).await.unwrap().damaged.is_empty(), "{case}");
    match late.is_empty() {
        true => "whole",
        false => "partial",
    }
}

/// Every limit from nothing to more than everything: byte by byte where little is stored and around each threshold, and by steps
/// in between, where only the bytes inside large files lie.
fn positions() -> Vec<u64> {
    let large = (WHOLE + 1) as u64;
    let larger = (WHOLE + 3_000) as u64;
    let small = 700 + 220 + 333 + 90;
    let mut out: BTreeSet<u64> = (0..small + 20).collect();
    for threshold in [small + large, small + larger, small + large + larger] {
        out.extend(threshold - 8..threshold + 8);
    }
    let end = small + large + larger + 12_000;
    out.extend((0..end).step_by(1_499));
    out.into_iter().collect()
}

async fn sweep(count: Count, over: Over) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for group in positions().chunks(8) {
        let runs = group
            .iter()
            .map(|limit| tokio::spawn(at(*limit, count, over)));
        for run in futures::future::join_all(runs).await {
            seen.insert(run.unwrap());
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_limit_on_logical_bytes() {
    assert_eq!(
        sweep(Count::Logical, Over::KeepSmall).await,
        ["partial", "whole"].into()
    );
    assert_eq!(
        sweep(Count::Logical, Over::Refuse).await,
        ["refused", "whole"].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_limit_on_stored_bytes() {
    assert_eq!(
        sweep(Count::Stored, Over::KeepSmall).await,
        ["partial", "whole"].into()
    );
    assert_eq!(
        sweep(Count::Stored, Over::Refuse).await,
        ["refused", "whole"].into()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_files_keeps_what_is_somebodys_work() {
    for limit in 0..8 {
        let repo = Repo::with(0).await;
        fs::remove_dir_all(repo.work()).unwrap();
        fill(&repo.work());
        let ws = repo.writer().await;
        let quota = Quota {
            hard_files: Some(limit),
            ..Quota::default()
        };
        let report = save_as(&ws, &repo.work(), limited(quota)).await.unwrap();
        assert_eq!(report.files_total, limit.clamp(3, 6), "{limit}");
        let late = left_out(&report);
        assert!(
            late.iter()
                .all(|name| name.starts_with("data/") || name == "notes.txt")
        );
        assert_eq!(report.partial, limit < 6);
        let refuse = Quota {
            over: Over::Refuse,
            ..quota
        };
        write(&repo.work().join("more.py"), "more");
        let outcome = save_as(&ws, &repo.work(), limited(refuse)).await;
        assert_eq!(outcome.is_err(), limit < 7, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_save_of_a_run_and_a_rescue_are_never_refused() {
    let repo = Repo::with(1).await;
    let refuse = Quota {
        hard_bytes: Some(10),
        over: Over::Refuse,
        ..Quota::default()
    };
    fill(&repo.work());
    let ws = repo.writer().await;
    let error = save_as(&ws, &repo.work(), limited(refuse))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert!(error.message().contains("over the limit of 10"), "{error}");
    let last = SaveOptions {
        is_last: true,
        ..limited(refuse)
    };
    let report = save_as(&ws, &repo.work(), last).await.unwrap();
    assert!(report.partial, "{report:?}");
    assert_eq!(
        left_out(&report),
        ["data/large.bin".into(), "data/larger.bin".into()].into()
    );
    // Another writer's work, which can't become the head.
    let (other, place) = repo.stranger().await;
    restore(&other, &place).await.unwrap();
    write(&repo.work().join("src/c.py"), "more");
    save(&ws, &repo.work()).await.unwrap();
    write(&place.join("mine.py"), "mine");
    // A process that looks at the log first, as all but an open writer do.
    drop(other);
    let state = place.parent().unwrap().join("state");
    let other = look(repo.shelf.clone(), &state).await.unwrap();
    let fenced = save_as(&other, &place, limited(refuse)).await.unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced:?}");
    let (_, kept) = tree_of(repo.shelf.clone(), fenced.rescue().unwrap())
        .await
        .unwrap();
    assert!(kept.contains_key(Path::new("mine.py")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_room_is_not_refused() {
    let repo = Repo::with(0).await;
    fs::remove_dir_all(repo.work()).unwrap();
    fill(&repo.work());
    let ws = repo.writer().await;
    save(&ws, &repo.work()).await.unwrap();
    let quota = Quota {
        hard_bytes: Some(1_000),
        over: Over::Refuse,
        ..Quota::default()
    };
    fs::remove_file(repo.work().join("data/large.bin")).unwrap();
    let report = save_as(&ws, &repo.work(), limited(quota)).await.unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!(report.files_removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_soft_limit_a_save_says_by_how_much_and_where_it_lies() {
    let repo = Repo::with(0).await;
    fs::remove_dir_all(repo.work()).unwrap();
    fill(&repo.work());
    let ws = repo.writer().await;
    let quota = Quota {
        soft_bytes: Some(100_000),
        ..Quota::default()
    };
    let report = save_as(&ws, &repo.work(), limited(quota)).await.unwrap();
    assert!(report.complete && !report.partial, "{report:?}");
    let [warning] = &report.warnings[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        *warning,
        format!(
            "over the soft limit: {}, {} over the limit of 97.7 KiB; most lies in data ({}), nb.ipynb (700 B), src (553 B)",
            size_text(report.bytes_total),
            size_text(report.bytes_total - 100_000),
            size_text(2 * WHOLE as u64 + 3_001)
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_would_be_left_out_or_refused() {
    let repo = Repo::with(1).await;
    fill(&repo.work());
    let ws = repo.writer().await;
    for over in [Over::KeepSmall, Over::Refuse] {
        let quota = Quota {
            hard_bytes: Some(1_000),
            over,
            ..Quota::default()
        };
        let options = PreviewOptions {
            save: limited(quota),
            estimate: false,
        };
        let preview = ws
            .preview(&repo.work(), options, None, CancelToken::new())
            .await
            .unwrap();
        assert_eq!(preview.omitted.len(), 2, "{preview:?}");
        let refused = preview
            .warnings
            .iter()
            .any(|w| w.contains("would be refused"));
        assert_eq!(refused, over == Over::Refuse, "{preview:?}");
    }
    assert_eq!(repo.seq(), 1);
}

/// The files that were opened by a save.
async fn opened(ws: &Workspace, work: &Path, is_last: bool) -> SaveReport {
    let options = SaveOptions {
        is_last,
        ..save_options()
    };
    save_as(ws, work, options).await.unwrap()
}

fn age(path: &Path, seconds: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(then)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_save_that_changes_nothing_does_not_repeat_what_the_snapshot_lacks() {
    let repo = Repo::with(0).await;
    fs::remove_dir_all(repo.work()).unwrap();
    fill(&repo.work());
    let ws = repo.writer().await;
    let quota = Quota {
        hard_bytes: Some(1_400),
        ..Quota::default()
    };
    let first = save_as(&ws, &repo.work(), limited(quota)).await.unwrap();
    assert_eq!(left_out(&first).len(), 2);
    let (other, place) = repo.stranger().await;
    restore_with(&other, &place, restore_options())
        .await
        .unwrap();
    for is_last in [false, true] {
        let report = opened(&other, &place, is_last).await;
        assert!(report.complete && report.omitted.is_empty(), "{report:?}");
        assert_eq!(report.snapshot, first.snapshot);
        assert_eq!(report.files_opened > 0, is_last, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_save_of_a_run_reads_again_what_was_modified_shortly_before_the_one_before() {
    let repo = Repo::with(0).await;
    fs::remove_dir_all(repo.work()).unwrap();
    fill(&repo.work());
    age(&repo.work().join("src/a.py"), 3_600);
    age(&repo.work().join("src/b.py"), 90);
    let shelf: Arc<dyn Store> = repo.shelf.clone();
    let recording = Arc::new(Recording::new(shelf));
    let ws = repo.writer_on(recording.clone()).await;
    let first = opened(&ws, &repo.work(), false).await;
    assert_eq!(first.files_opened, 6);
    assert_eq!(opened(&ws, &repo.work(), false).await.files_opened, 0);
    recording.take();
    // Not the two that are older; and nothing is written, because nothing differs.
    let last = opened(&ws, &repo.work(), true).await;
    assert_eq!(last.files_opened, 4, "{last:?}");
    assert_eq!(last.snapshot, first.snapshot);
    assert!(recording.take().iter().all(|r| !r.verb.writes()));
    // Where there is no time for it, nothing is missing: their stats say that they are as they were.
    let options = SaveOptions {
        is_last: true,
        deadline: Some(std::time::Duration::ZERO),
        ..save_options()
    };
    let hurried = save_as(&ws, &repo.work(), options.clone()).await.unwrap();
    assert_eq!(hurried.files_opened, 0, "{hurried:?}");
    assert!(hurried.complete && !hurried.partial, "{hurried:?}");
    assert_eq!(hurried.snapshot, first.snapshot);
    write(&repo.work().join("new.py"), "new");
    let hurried = save_as(&ws, &repo.work(), options).await.unwrap();
    assert_eq!(left_out(&hurried), ["new.py".into()].into());
    fs::remove_file(repo.work().join("new.py")).unwrap();
    let again = opened(&ws, &repo.work(), false).await;
    assert!(again.complete && again.files_opened == 0, "{again:?}");
    // A process that knows the tree from local state reads the same.
    let ws = repo.writer_on(recording.clone()).await;
    assert_eq!(opened(&ws, &repo.work(), true).await.files_opened, 4);
    assert_eq!(opened(&ws, &repo.work(), false).await.files_opened, 0);
}
