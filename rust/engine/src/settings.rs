//! What the log says of the repository as a whole, beside what `format` says: later outcomes of the store's probe.

use crate::base;
use crate::beside::{Beside, append_beside, append_first};
use crate::directories::is_damage;
use crate::doctor;
use crate::local::cache::StateFolder;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::frame::{FrameEncoder, FrameKind};
use nbws_core::header::Header;
use nbws_core::id::{ContainerId, FrameHash, WriterId};
use nbws_core::key::ContainerKey;
use nbws_core::pack::PackBuilder;
use nbws_core::record::{Body, Place, Record, Settings, SettingsBody};
use nbws_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

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
        let epoch = newest.as_ref().map_or(1, |record| record.epoch);
        let (attachment, stored) =
            store_attachment(access, epoch, &settings.with_probe(outcome.clone())).await?;
        let body = Body::Settings(SettingsBody { attachment });
        let writer = WriterId(crate::random::bytes()?);
        let appended = match newest {
            Some(mut newest) => {
                newest.usage.objects += 1;
                newest.usage.stored_bytes += stored;
                append_beside(access, &newest, writer, body).await?
            }
            None => append_first(access, writer, body, stored).await?,
        };
        match appended {
            Beside::Appended(head) => return Ok(Some(head.record.seq)),
            Beside::Lost(_) => access.cancel.check()?,
        }
    }
}

/// Stores settings in a pack of their own. Returns where, and the bytes of the pack.
async fn store_attachment(
    access: &Access,
    epoch: u64,
    settings: &Settings,
) -> Result<(Place, u64)> {
    const LEVEL: i32 = 3;
    let plain = settings.encode()?;
    let key = ContainerKey::pack(ContainerId {
        epoch,
        random: crate::random::bytes()?,
    });
    let repository = access.inner.repository();
    let mut builder = PackBuilder::with_capacity(Header { repository, key }, 0);
    let frame = FrameEncoder::new()?.encode(FrameKind::Attachment, &plain, Vec::new(), LEVEL)?;
    let slot = builder.push(frame)?.clone();
    let sealed = builder.finish();
    let stored = sealed.bytes.len() as u64;
    access
        .store
        .put(&key.to_string(), sealed.bytes.into())
        .await?;
    let place = Place {
        hash: FrameHash::of(&plain),
        length: slot.stored_len,
        object: key,
        offset: slot.offset,
        plain: slot.plain_len,
    };
    Ok((place, stored))
}
