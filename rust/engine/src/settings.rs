//! What the log says of the repository as a whole, beside what `format` says: later outcomes of the store's probe, rules, pins, and keys of callers.

use crate::base;
use crate::beside::{Change, append_after};
use crate::clock::now_ms;
use crate::directories::is_damage;
use crate::doctor;
use crate::local::cache::StateFolder;
use crate::log::LogHead;
use crate::prune::write_meta;
use crate::resolve::resolve;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::frame::FrameKind;
use nbws_core::id::SnapshotId;
use nbws_core::record::{Body, Fork, Pin, Record, Retention, Settings, SettingsBody};
use nbws_core::state::State;
use nbws_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// A change of the settings that keeps losing its slot gives up after so many attempts.
const MAX_ATTEMPTS: u32 = 64;

/// An outcome of the probe, with the keys that `docs/format.md` lists.
pub(crate) type Outcome = Map<String, Value>;

/// The settings in force after `record`. One request if they are not known here.
pub(crate) async fn settings(
    access: &Access,
    folder: Option<&StateFolder>,
    record: Option<&Record>,
) -> Result<Settings> {
    let Some(place) = record.and_then(|r| r.settings.as_ref()) else {
        return Ok(Settings::default());
    };
    let bytes = base::frame(access, folder, place, FrameKind::Attachment).await?;
    Settings::decode(&bytes).map_err(|e| e.at(place.object.to_string()))
}

/// The newest known outcome: the one that the log carries, else the one at creation.
fn newest_outcome(access: &Access, settings: &Settings) -> Option<Outcome> {
    let kept = settings.probe().or(access.inner.format.probe.as_ref());
    kept.cloned()
}

/// The newest outcome that is known of the repository's store; none if nothing was ever measured.
pub(crate) async fn known_outcome(access: &Access) -> Result<Option<Outcome>> {
    let newest = base::newest(access, None).await?.map(|head| head.record);
    let settings = settings_or_none(access, newest.as_ref()).await?;
    Ok(newest_outcome(access, &settings))
}

/// What can't be read any more is begun anew, and may have said that one writer at a time is allowed.
async fn settings_or_none(access: &Access, record: Option<&Record>) -> Result<Settings> {
    match settings(access, None, record).await {
        Err(e) if is_damage(&e) => {
            let careful = [("multi_writer".to_owned(), Value::Bool(false))];
            Ok(Settings::default().with_probe(careful.into_iter().collect()))
        }
        settings => settings,
    }
}

/// Fails with `Unsupported` where the newest known outcome says that several writers could win, unless the caller sees to it that
/// there is one; with `Corrupt` where it can't be read. No request without a settings record.
pub(crate) async fn check_writers(
    access: &Access,
    folder: Option<&StateFolder>,
    record: Option<&Record>,
) -> Result<()> {
    let options = &access.inner.options;
    if options.exclusive {
        return Ok(());
    }
    let settings = match settings(access, folder, record).await {
        Ok(settings) => settings,
        Err(e) if is_damage(&e) => return Err(unreadable(&e)),
        Err(e) => return Err(e),
    };
    let outcome = newest_outcome(access, &settings);
    doctor::check_writers(outcome.as_ref(), options, &access.inner.store.describe())
}

/// Before a record whose fate is open is sent again: whether the store may have this writer, by the newest record that is known
/// here, or by the log if that one says no.
pub(crate) async fn may_append(access: &Access, target: &Target) -> Result<()> {
    let (folder, known) = (target.folder.as_ref(), target.known_head());
    if target.session.pending.is_none() {
        return Ok(());
    }
    match check_writers(access, folder, known.as_ref().map(|h| &h.record)).await {
        Err(e) if e.kind() == ErrorKind::Unsupported => {}
        checked => return checked,
    }
    let newest = base::newest(access, None).await?;
    check_writers(access, folder, newest.as_ref().map(|h| &h.record)).await
}

fn unreadable(error: &Error) -> Error {
    let why = format!(
        "the repository's settings can't be read ({}), so nobody knows whether several writers are safe; run nbws doctor with a lock \
         that all writers use, and save with it",
        error.message()
    );
    Error::new(ErrorKind::Corrupt, "read settings", why).at(error.subject())
}

/// Appends a settings record with this outcome, and everything else as it was. `None` if `is_news` says of the newest known outcome
/// that this one adds nothing.
pub(crate) async fn keep_outcome(
    access: &Access,
    outcome: &Outcome,
    is_news: impl Fn(Option<&Outcome>) -> Result<bool>,
) -> Result<Option<u64>> {
    access.inner.check_writable()?;
    loop {
        let newest = base::newest(access, None).await?.map(|head| head.record);
        let settings = settings_or_none(access, newest.as_ref()).await?;
        if !is_news(newest_outcome(access, &settings).as_ref())? {
            return Ok(None);
        }
        let settings = settings.with_probe(outcome.clone());
        if let Some(seq) = append_settings(access, newest.as_ref(), &settings).await? {
            return Ok(Some(seq));
        }
        access.cancel.check()?;
    }
}

/// Stores settings in a pack of their own and appends their record right behind `newest`; its number, or none if the slot was lost.
async fn append_settings(
    access: &Access,
    newest: Option<&Record>,
    settings: &Settings,
) -> Result<Option<u64>> {
    let epoch = newest.map_or(1, |record| record.epoch);
    let written = write_meta(access, epoch, Some(&settings.encode()?), None).await?;
    let attachment = written.list()?;
    let change = Change {
        added: written.added,
        ..Change::default()
    };
    let body = Body::Settings(SettingsBody { attachment });
    append_after(access, newest, body, change).await
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
    /// The same, as long as the repository is no notebook yet.
    SetFirst { key: String, value: Option<Value> },
    /// Keeps what a fork begins with.
    BeginFork(Fork),
    /// The fork to this target is made.
    EndFork(String),
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
            Edit::SetFirst { key, value } => {
                if newest.is_some_and(|head| head.record.state != State::None) {
                    let why = "somebody else has made it a notebook";
                    return Err(Error::new(ErrorKind::AlreadyExists, "change settings", why));
                }
                settings.set(key, value.as_ref())?;
                Ok(None)
            }
            Edit::BeginFork(fork) => {
                settings.begin_fork(fork.clone(), now_ms())?;
                Ok(Some(fork.snapshot))
            }
            Edit::EndFork(target) => {
                settings.end_fork(target)?;
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
        if append_settings(access, record, &changed).await?.is_some() {
            return Ok(about);
        }
    }
    let why = "other writers were faster each time; try again";
    Err(Error::new(ErrorKind::Conflict, "change settings", why))
}
