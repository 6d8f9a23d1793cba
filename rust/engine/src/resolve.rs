//! Which snapshot a name means.

use crate::log::LogHead;
use crate::whole_log::readable_log;
use crate::workspace::Access;
use nbws_core::ledger::Log;
use nbws_core::record::{Head, Record};
use nbws_core::{Error, ErrorKind, Result};

/// A snapshot that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) head: Head,
    /// It is the workspace head.
    pub(crate) is_head: bool,
}

/// Finds `name`: `latest`, `latest~N`, a full id, or a unique prefix of an id of at least 4 digits; rescues by id too.
///
/// `latest` needs no request beyond the newest record. `NotFound` if nothing matches, `InvalidInput` if several do.
pub(crate) async fn resolve(
    access: &Access,
    newest: Option<&LogHead>,
    name: &str,
) -> Result<Resolved> {
    let head = newest.and_then(|h| h.record.head);
    let Some(head) = head else {
        return Err(nothing_yet(name));
    };
    if name == "latest" || name == "latest~0" || name == head.snapshot.to_hex() {
        return Ok(Resolved {
            head,
            is_head: true,
        });
    }
    let (log, mut damage) = readable_log(access, newest).await?;
    // With records missing nobody can count.
    if name.starts_with("latest~") && !damage.is_empty() {
        return Err(damage.swap_remove(0));
    }
    let found = match in_log(&log, name) {
        // It may be in a record that can't be read.
        Err(e) if e.kind() == ErrorKind::NotFound && !damage.is_empty() => {
            return Err(damage.swap_remove(0));
        }
        found => found?,
    };
    Ok(Resolved {
        head: found,
        is_head: found.snapshot == head.snapshot,
    })
}

/// Finds `name` in the whole log that ends with `newest`.
pub(crate) fn resolve_in(log: &Log, newest: Option<&Record>, name: &str) -> Result<Head> {
    match newest.and_then(|record| record.head) {
        None => Err(nothing_yet(name)),
        Some(head) if name == "latest" => Ok(head),
        Some(_) => in_log(log, name),
    }
}

fn nothing_yet(name: &str) -> Error {
    let why = "the repository holds no snapshot yet";
    Error::new(ErrorKind::NotFound, "find snapshot", why).at(name)
}

fn in_log(log: &Log, name: &str) -> Result<Head> {
    let snapshots: Vec<Head> = log
        .snapshots(None)
        .iter()
        .filter_map(|s| s.record.head)
        .collect();
    if let Some(back) = name.strip_prefix("latest~") {
        return back_from_latest(&snapshots, name, back);
    }
    let rescues = log.rescues();
    let rescues = rescues.iter().map(|r| Head {
        root: r.body.root,
        snapshot: r.body.snapshot,
    });
    by_prefix(snapshots.iter().copied().chain(rescues), name)
}

fn back_from_latest(snapshots: &[Head], name: &str, back: &str) -> Result<Head> {
    let back: usize = back.parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "find snapshot",
            "after latest~ comes a number, as in latest~2",
        )
        .at(name)
    })?;
    snapshots.iter().rev().nth(back).copied().ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "find snapshot",
            format!("there are only {} snapshots", snapshots.len()),
        )
        .at(name)
    })
}

fn by_prefix(all: impl Iterator<Item = Head>, name: &str) -> Result<Head> {
    let is_prefix = name.len() >= 4
        && name
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    if !is_prefix {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "find snapshot",
            "is no snapshot name; give latest, latest~2, an id, or at least 4 digits of one",
        )
        .at(name));
    }
    let matching: Vec<Head> = all
        .filter(|h| h.snapshot.to_hex().starts_with(name))
        .collect();
    match matching.as_slice() {
        [one] => Ok(*one),
        [] => Err(Error::new(
            ErrorKind::NotFound,
            "find snapshot",
            "no snapshot or rescue has this id",
        )
        .at(name)),
        several => {
            let ids: Vec<String> = several.iter().map(|h| h.snapshot.to_hex()).collect();
            let text = format!("is the beginning of several ids: {}", ids.join(", "));
            Err(Error::new(ErrorKind::InvalidInput, "find snapshot", text).at(name))
        }
    }
}
