//! What must be kept: rules, pins, rescues; and the settings records that say so.

use super::meta::write_meta;
use super::plan::Plan;
use super::record::{Change, append_after, append_step};
use super::survey::Survey;
use super::{Run, Step};
use crate::base;
use crate::log::LogHead;
use crate::options::PruneOptions;
use crate::resolve::resolve;
use crate::settings::{check_writers, settings};
use crate::workspace::Access;
use nbws_core::id::SnapshotId;
use nbws_core::record::{Body, DismissBody, Pin, Retention, Settings, SettingsBody};
use nbws_core::{Error, ErrorKind, Result};
use serde_json::Value;

/// A change of the settings that keeps losing its slot gives up after so many attempts.
const MAX_ATTEMPTS: u32 = 64;

/// The rules in force: those of the caller, else of this repository, else of its container; without any, all is kept.
pub(super) fn rules(options: &PruneOptions, settings: &Settings) -> Result<Retention> {
    let own = match &options.retention {
        Some(rules) => Some(rules.clone()),
        None => settings.retention()?,
    };
    Ok(own
        .or_else(|| options.default_retention.clone())
        .unwrap_or_default())
}

/// The settings in force.
pub(crate) async fn read_settings(access: &Access) -> Result<Settings> {
    let newest = base::newest(access, None).await?;
    settings(access, None, newest.as_ref().map(|h| &h.record)).await
}

/// One change of the settings.
pub(crate) enum Edit {
    /// The rules of this repository; none leaves it to those of its container.
    Retention(Option<Retention>),
    /// Keeps what has this name.
    Pin {
        name: String,
        until_ms: Option<u64>,
        comment: Option<String>,
    },
    /// Ends the pin of what this id or prefix names.
    Unpin(String),
    /// Sets a key that only the caller understands, or removes it.
    Set { key: String, value: Option<Value> },
}

impl Edit {
    /// Makes the change; the snapshot that it is about, if it is about one.
    async fn make(
        &self,
        access: &Access,
        newest: Option<&LogHead>,
        settings: &mut Settings,
    ) -> Result<Option<SnapshotId>> {
        match self {
            Edit::Retention(rules) => {
                settings.set_retention(rules.as_ref())?;
                Ok(None)
            }
            Edit::Pin {
                name,
                until_ms,
                comment,
            } => {
                let snapshot = resolve(access, newest, name).await?.head.snapshot;
                settings.pin(Pin {
                    comment: comment.clone(),
                    snapshot,
                    until_ms: *until_ms,
                })?;
                Ok(Some(snapshot))
            }
            Edit::Unpin(name) => {
                let snapshot = pinned_as(settings, name)?;
                settings.unpin(snapshot)?;
                Ok(Some(snapshot))
            }
            Edit::Set { key, value } => {
                settings.set(key, value.as_ref())?;
                Ok(None)
            }
        }
    }
}

/// The pinned snapshot whose id begins so.
fn pinned_as(settings: &Settings, name: &str) -> Result<SnapshotId> {
    let pins = settings.pins()?;
    let ids = pins.iter().map(|pin| pin.snapshot);
    let named: Vec<SnapshotId> = ids.filter(|id| id.to_hex().starts_with(name)).collect();
    let (kind, why) = match named.as_slice() {
        [one] => return Ok(*one),
        [] => (ErrorKind::NotFound, "no pin holds a snapshot with this id"),
        _ => (ErrorKind::InvalidInput, "is the beginning of several ids"),
    };
    Err(Error::new(kind, "unpin", why).at(name))
}

/// Reads the settings, changes them and appends them; nothing if that changes nothing. Another one's change is never lost: an
/// edit that loses its slot is made again on the newest settings.
pub(crate) async fn change_settings(access: &Access, edit: Edit) -> Result<Option<SnapshotId>> {
    access.inner.check_writable()?;
    for _ in 0..MAX_ATTEMPTS {
        access.cancel.check()?;
        let newest = base::newest(access, None).await?;
        let record = newest.as_ref().map(|h| &h.record);
        check_writers(access, None, record).await?;
        let before = settings(access, None, record).await?;
        let mut changed = before.clone();
        let about = edit.make(access, newest.as_ref(), &mut changed).await?;
        if changed == before {
            return Ok(about);
        }
        let epoch = record.map_or(1, |record| record.epoch);
        let written = write_meta(access, epoch, Some(&changed.encode()?), None).await?;
        let attachment = written.list()?;
        let body = Body::Settings(SettingsBody { attachment });
        let change = Change {
            added: written.added,
            ..Change::default()
        };
        if append_after(access, record, body, change).await?.is_some() {
            return Ok(about);
        }
    }
    let why = "other writers were faster each time; try again";
    Err(Error::new(ErrorKind::Conflict, "change settings", why))
}

/// Gives up one rescue that has expired; the others follow one by one.
pub(super) async fn dismiss_expired(
    run: &mut Run<'_>,
    survey: &Survey,
    plan: &Plan,
) -> Result<Step> {
    let Some(rescue) = plan.expired.first().copied() else {
        return Ok(Step::Nothing);
    };
    let body = Body::Dismiss(DismissBody { rescue });
    let (step, _) = append_step(run.access, &survey.log, body, Change::default()).await?;
    Ok(step)
}
