//! Object names (`docs/format.md`, section 2).

use crate::id::{ContainerId, WriterId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The name of `format`.
pub const FORMAT: &str = "format";
/// The name of `hint`.
pub const HINT: &str = "hint";
/// Prefix of the log.
pub const LOG: &str = "log/";
/// Prefix of packs.
pub const PACKS: &str = "packs/";
/// Prefix of index objects.
pub const INDEX: &str = "index/";
/// Prefix of ledgers.
pub const LEDGER: &str = "ledger/";
/// Prefix of probe objects.
pub const PROBE: &str = "probe/";

/// `log/<20 decimal digits>`.
pub fn log(seq: u64) -> String {
    format!("{LOG}{seq:020}")
}

/// The sequence number of a log key, if it is one.
pub fn log_seq(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(LOG)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// `ledger/<20 decimal digits>`.
pub fn ledger(seq: u64) -> String {
    format!("{LEDGER}{seq:020}")
}

/// The sequence number of a ledger key, if it is one.
pub fn ledger_seq(key: &str) -> Option<u64> {
    log_seq(&format!("{LOG}{}", key.strip_prefix(LEDGER)?))
}

/// Room that is given up so that a full bucket takes one more record.
pub const BALLAST: &str = "ballast";

/// `hb/<writer>`.
pub fn heartbeat(writer: WriterId) -> String {
    format!("hb/{writer}")
}

/// What a container holds, which is also where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// Under `packs/`.
    Pack,
    /// Under `index/`.
    Index,
}

/// The name of a container object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey {
    /// Pack or index object.
    pub kind: ContainerKind,
    /// Epoch and random part.
    pub id: ContainerId,
}

impl ContainerKey {
    /// The key of pack `id`.
    pub fn pack(id: ContainerId) -> Self {
        ContainerKey {
            kind: ContainerKind::Pack,
            id,
        }
    }

    /// From a full object name.
    pub fn parse(key: &str) -> Option<Self> {
        let (kind, name) = match key.strip_prefix(PACKS) {
            Some(name) => (ContainerKind::Pack, name),
            None => (ContainerKind::Index, key.strip_prefix(INDEX)?),
        };
        Some(ContainerKey {
            kind,
            id: ContainerId::parse(name)?,
        })
    }
}

impl fmt::Display for ContainerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            ContainerKind::Pack => PACKS,
            ContainerKind::Index => INDEX,
        };
        write!(f, "{prefix}{}", self.id)
    }
}

impl Serialize for ContainerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContainerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        ContainerKey::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("not the name of a container"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_names_sort_like_numbers_and_refuse_other_spellings() {
        assert_eq!(log(42), "log/00000000000000000042");
        assert_eq!(log_seq(&log(u64::MAX)), Some(u64::MAX));
        for bad in [
            "log/42",
            "log/+0000000000000000042",
            "log/99999999999999999999",
            "logs/00000000000000000042",
        ] {
            assert_eq!(log_seq(bad), None, "{bad}");
        }
    }
}
