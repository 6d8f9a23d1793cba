//! Keeps what was measured with the repository, and says who may write by it.

use super::{RACERS, WAY_OUT, measure};
use crate::cancel::CancelToken;
use crate::clock::now_ms;
use crate::options::OpenOptions;
use crate::report::DoctorReport;
use crate::settings;
use crate::store::Store;
use crate::workspace::Workspace;
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// A store that was found to let several creates win is measured so often again before it is believed.
const CONFIRMATIONS: usize = 2;
/// An outcome that is known is kept again after this time.
const DAY_MS: u64 = 86_400_000;

/// Keeps the outcome with the repository that is there; `None` without one, without a decision, and for what is known already.
pub(super) async fn keep(
    store: &Arc<dyn Store>,
    options: OpenOptions,
    report: &mut DoctorReport,
) -> Result<Option<u64>> {
    let exclusive = options.exclusive;
    let options = OpenOptions {
        create: false,
        ..options
    };
    let workspace = match Workspace::with_store(Arc::clone(store), options).await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let access = workspace.access(None, CancelToken::new());
    let known = settings::known_outcome(&access).await?;
    if refuses(known.as_ref()) && report.multi_writer && exclusive {
        // One lucky measurement must not let several writers in.
        for _ in 0..CONFIRMATIONS {
            let again = measure(Arc::clone(store)).await?;
            if !again.multi_writer {
                *report = again;
                break;
            }
        }
    }
    if !is_decided(report) {
        return Ok(None);
    }
    let found = outcome(report);
    let is_news = |known: Option<&settings::Outcome>| {
        if known.is_some_and(|known| says_the_same(known, &found)) {
            return Ok(false);
        }
        if exclusive || report.multi_writer && !refuses(known) {
            return Ok(true);
        }
        Err(Error::new(
            ErrorKind::InvalidState,
            "keep outcome",
            "where one writer at a time is allowed, or was until now, the log is written with the lock that all writers use; give \
             exclusive= (--lock-file) and stop writers that have none",
        ))
    };
    settings::keep_outcome(&access, &found, is_news).await
}

/// Whether the outcome says that several writers could win.
fn refuses(outcome: Option<&settings::Outcome>) -> bool {
    outcome.is_some_and(|outcome| outcome.get("multi_writer") == Some(&false.into()))
}

/// Whether the measurement says yes or no; a store that answers too few creates says neither.
fn is_decided(report: &DoctorReport) -> bool {
    let broken = report.most_winners > 1 || report.losers_wrote || !report.sequential_create;
    report.multi_writer || broken || !report.read_after_write
}

/// Whether both say the same of the store and were measured within a day: the log does not grow by looking.
fn says_the_same(known: &settings::Outcome, found: &settings::Outcome) -> bool {
    let time = |outcome: &settings::Outcome| outcome.get("time").and_then(|time| time.as_u64());
    let is_recent = match (time(known), time(found)) {
        (Some(known), Some(found)) => found.saturating_sub(known) < DAY_MS,
        _ => false,
    };
    is_recent
        && found
            .iter()
            .all(|(key, value)| key == "time" || known.get(key) == Some(value))
}

/// What of a report is kept with the repository.
pub(crate) fn outcome(report: &DoctorReport) -> serde_json::Map<String, serde_json::Value> {
    let DoctorReport {
        client,
        multi_writer,
        sequential_create,
        rounds,
        rounds_with_one_winner,
        most_winners,
        read_after_write,
        list_after_write,
        multipart,
        ..
    } = report;
    serde_json::json!({
        "client": client, "list_after_write": list_after_write, "most_winners": most_winners, "multi_writer": multi_writer, "multipart": multipart,
        "read_after_write": read_after_write, "rounds": rounds, "rounds_with_one_winner": rounds_with_one_winner,
        "sequential_create": sequential_create, "time": now_ms(),
    })
    .as_object()
    .cloned()
    .unwrap_or_default()
}

/// Refuses a store on which several writers could win, unless the caller sees to it that there is one.
pub(crate) fn check_writers(
    probe: Option<&serde_json::Map<String, serde_json::Value>>,
    options: &OpenOptions,
    place: &str,
) -> Result<()> {
    if !refuses(probe) || options.exclusive {
        return Ok(());
    }
    let most = probe
        .and_then(|probe| probe.get("most_winners")?.as_u64())
        .unwrap_or(0);
    let what = match most {
        0 | 1 => "two writers could both believe that they won".to_owned(),
        _ => format!("up to {most} of {RACERS} creates of one name succeeded at once"),
    };
    Err(Error::new(
        ErrorKind::Unsupported,
        "open for writing",
        format!("the conditional PUT of this store is not atomic ({what}), so several writers would lose work; {WAY_OUT}"),
    )
    .at(place))
}
