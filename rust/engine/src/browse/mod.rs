//! Looking without restoring. Here: what the log holds (snapshots, rescues), and giving a rescue up. Beside: one snapshot opened
//! (`reader`), its paths (`list`), its files (`read`), what differs (`diff`).

mod diff;
mod frames;
mod list;
mod local_side;
mod read;
mod reader;

pub use read::FileReader;
pub use reader::SnapshotReader;
pub(crate) use reader::{clean, open};

use crate::base;
use crate::beside::{Beside, append_beside};
use crate::clock::now_ms;
use crate::directories::is_damage;
use crate::report::SnapshotInfo;
use crate::settings::{check_writers, settings};
use crate::whole_log::whole_log;
use crate::workspace::Access;
use nbws_core::id::{SnapshotId, WriterId};
use nbws_core::ledger::LoggedSnapshot;
use nbws_core::plan::retention::{AUTOSAVE, Candidate, evictions};
use nbws_core::record::{Body, DismissBody, Retention, Settings};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// The end of the year 9999: where clocks and calendars of callers end.
const FOR_GOOD_MS: u64 = 253_402_300_799_000;

/// The snapshots that are kept, oldest first, with the dates by the rules of the repository or else of its container. Reads every
/// record once.
pub(crate) async fn snapshots(
    access: &Access,
    default_retention: Option<Retention>,
) -> Result<Vec<SnapshotInfo>> {
    let newest = base::newest(access, None).await?;
    let log = whole_log(access, newest.as_ref()).await?;
    let listed = log.snapshots(None);
    let mut pins: HashMap<SnapshotId, u64> = HashMap::new();
    for s in &listed {
        if let (Some(base), Some(until)) = (s.body.base, s.body.pin_base_until_ms) {
            let pin = pins.entry(base).or_default();
            *pin = until.max(*pin);
        }
    }
    // Without its settings a repository still has snapshots; prune is stricter.
    let settings = match settings(access, None, newest.as_ref().map(|h| &h.record)).await {
        Err(e) if is_damage(&e) => Settings::default(),
        settings => settings?,
    };
    for (snapshot, until_ms) in settings.holds()? {
        let pin = pins.entry(snapshot).or_default();
        *pin = until_ms.unwrap_or(FOR_GOOD_MS).max(*pin);
    }
    let rules = settings.retention()?.or(default_retention);
    let head = newest.and_then(|h| h.record.head).map(|h| h.snapshot);
    let dates = eviction_dates(&listed, &rules.unwrap_or_default(), head, &pins);
    let describe = |(s, date): (&LoggedSnapshot<'_>, Option<u64>)| SnapshotInfo {
        snapshot: s.body.snapshot.to_hex(),
        seq: s.record.seq,
        time_ms: s.record.time_ms,
        comment: s.body.comment.clone(),
        files: s.body.files,
        bytes: s.body.bytes,
        tree_root: s.body.tree_root.to_hex(),
        framework: s.body.framework.clone(),
        python: s.body.python.clone(),
        partial: s.body.partial,
        origin: s.body.origin.clone(),
        reason: None,
        pinned_until_ms: pins.get(&s.body.snapshot).copied(),
        eviction_ms: date,
    };
    Ok(listed.iter().zip(dates).map(describe).collect())
}

/// When rules and pins let each snapshot go; a pin that ends before the rules give a snapshot up moves nothing, and one without
/// rules is all that is known of it.
fn eviction_dates(
    listed: &[LoggedSnapshot<'_>],
    rules: &Retention,
    head: Option<SnapshotId>,
    pins: &HashMap<SnapshotId, u64>,
) -> Vec<Option<u64>> {
    let candidate = |s: &LoggedSnapshot<'_>| Candidate {
        snapshot: s.body.snapshot,
        time_ms: s.record.time_ms,
        is_autosave: s.body.origin == AUTOSAVE,
        is_pinned: false,
        is_head: head == Some(s.body.snapshot),
    };
    let candidates: Vec<Candidate> = listed.iter().map(candidate).collect();
    let now = now_ms();
    let in_force = |id: &SnapshotId| pins.get(id).copied().filter(|until| *until > now);
    let date = |(one, by_rules): (&Candidate, Option<u64>)| match in_force(&one.snapshot) {
        _ if one.is_head => None,
        Some(until) => Some(by_rules.map_or(until, |date| date.max(until))),
        None => by_rules,
    };
    let dates = candidates
        .iter()
        .zip(evictions(&candidates, rules))
        .map(date);
    dates
        .map(|date| date.filter(|ms| *ms < FOR_GOOD_MS))
        .collect()
}

/// The rescues that nobody has given up, oldest first. Reads every record once.
pub(crate) async fn rescues(access: &Access) -> Result<Vec<SnapshotInfo>> {
    let newest = base::newest(access, None).await?;
    let log = whole_log(access, newest.as_ref()).await?;
    let describe = |r: &nbws_core::ledger::LoggedRescue<'_>| SnapshotInfo {
        snapshot: r.body.snapshot.to_hex(),
        seq: r.record.seq,
        time_ms: r.record.time_ms,
        comment: r.body.comment.clone(),
        files: r.body.files,
        bytes: r.body.bytes,
        tree_root: r.body.tree_root.to_hex(),
        framework: r.body.framework.clone(),
        python: r.body.python.clone(),
        partial: r.body.partial,
        origin: r.body.origin.clone(),
        reason: Some(r.body.reason.clone()),
        pinned_until_ms: None,
        eviction_ms: None,
    };
    Ok(log.rescues().iter().map(describe).collect())
}

/// Gives up the rescue whose id starts with `name`. `NotFound` if there is none, `InvalidInput` if there are several.
pub(crate) async fn dismiss(access: &Access, name: &str) -> Result<()> {
    access.inner.check_writable()?;
    loop {
        let newest = base::newest(access, None).await?;
        check_writers(access, None, newest.as_ref().map(|h| &h.record)).await?;
        let log = whole_log(access, newest.as_ref()).await?;
        let matching: Vec<_> = log
            .rescues()
            .iter()
            .map(|r| r.body.snapshot)
            .filter(|id| id.to_hex().starts_with(name))
            .collect();
        let (Some(head), [rescue]) = (newest.map(|h| h.record), matching.as_slice()) else {
            let (kind, why) = match matching.len() {
                0 => (ErrorKind::NotFound, "no rescue has this id"),
                _ => (
                    ErrorKind::InvalidInput,
                    "several rescues have ids that begin so; give more digits",
                ),
            };
            return Err(Error::new(kind, "dismiss", why).at(name));
        };
        let body = Body::Dismiss(DismissBody { rescue: *rescue });
        let writer = WriterId(crate::random::bytes()?);
        match append_beside(access, &head, writer, body).await? {
            Beside::Appended(_) => return Ok(()),
            Beside::Lost(_) => access.cancel.check()?,
        }
    }
}
