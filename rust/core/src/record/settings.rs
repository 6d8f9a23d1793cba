//! What a settings record points to (`docs/format.md`, section 8.5).
//!
//! A program writes all settings anew when it changes one, so it carries on the keys that it does not know.

use crate::canonical;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::limits::{MAX_COMMENT_BYTES, MAX_SETTINGS_BYTES};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const DECODE: &str = "decode settings";
const PROBE: &str = "probe";
const RETENTION: &str = "retention";
const PINS: &str = "pins";
const FORKS: &str = "forks";

/// Which snapshots are kept. Without any rule all are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The newest of each of so many days.
    pub keep_daily: Option<u64>,
    /// The newest so many, whatever the other rules say.
    pub keep_last: Option<u64>,
    /// The newest of each of so many months.
    pub keep_monthly: Option<u64>,
    /// The newest of each of so many weeks.
    pub keep_weekly: Option<u64>,
    /// All that are younger than this, in milliseconds.
    #[serde(rename = "keep_within")]
    pub keep_within_ms: Option<u64>,
    /// Position in the history, 0 for the newest, from which the age counts.
    pub lifetime_eviction_threshold: Option<u64>,
    /// Older ones are given up.
    pub lifetime_in_days: Option<u64>,
    /// At most so many are kept.
    pub retained_number: Option<u64>,
}

/// A snapshot that is kept whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// What a person or program said about it.
    pub comment: Option<String>,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When the pin ends, milliseconds since 1970 UTC; never if it is none.
    #[serde(rename = "until")]
    pub until_ms: Option<u64>,
}

/// A fork that is under way: what it begins with is kept like a pinned snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The snapshot that it begins with.
    pub snapshot: SnapshotId,
    /// Name of the new repository.
    pub target: String,
    /// When it counts as dead, milliseconds since 1970 UTC.
    #[serde(rename = "until")]
    pub until_ms: u64,
}

/// All settings of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// The canonical bytes. `InvalidInput` if a comment has more than 1,024 bytes or all together over 64 KiB.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let too_long = |pin: &Pin| {
            pin.comment
                .as_ref()
                .is_some_and(|c| c.len() > MAX_COMMENT_BYTES)
        };
        let bytes = canonical::encode(&self.0)?;
        if bytes.len() > MAX_SETTINGS_BYTES || self.pins()?.iter().any(too_long) {
            let why = "a comment has at most 1,024 bytes, all settings 64 KiB";
            return Err(Error::new(ErrorKind::InvalidInput, "encode settings", why));
        }
        Ok(bytes)
    }

    /// Reads the canonical bytes; `Corrupt` for anything else. Keys that this program does not know are kept.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let settings = Settings(canonical::decode(bytes, MAX_SETTINGS_BYTES, DECODE)?);
        let mut again = settings.clone();
        again.set_retention(settings.retention()?.as_ref())?;
        let pins = settings.pins()?;
        again.set(PINS, (!pins.is_empty()).then_some(&pins))?;
        let forks = settings.forks()?;
        again.set(FORKS, (!forks.is_empty()).then_some(&forks))?;
        if again != settings {
            let why = "retention, pins or forks lack keys, or are empty";
            return Err(Error::corrupt(DECODE, why));
        }
        if !forks.is_sorted_by(|a, b| a.target < b.target) {
            return Err(Error::corrupt(DECODE, "forks are not strictly increasing"));
        }
        if !pins.is_sorted_by(|a, b| a.snapshot < b.snapshot) {
            return Err(Error::corrupt(DECODE, "pins are not strictly increasing"));
        }
        Ok(settings)
    }

    /// The value of a key, if it is set.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let read = |value: &Value| serde_json::from_value(value.clone());
        self.0
            .get(key)
            .map(read)
            .transpose()
            .map_err(|e| Error::corrupt(DECODE, format!("{key}: {e}")))
    }

    /// Sets a key, or removes it.
    pub fn set<T: Serialize>(&mut self, key: &str, value: Option<T>) -> Result<()> {
        match value {
            None => drop(self.0.remove(key)),
            Some(value) => {
                let value = serde_json::to_value(value).map_err(|e| {
                    Error::internal("encode settings", "can't be JSON").caused_by(e)
                })?;
                self.0.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }

    /// The newest outcome of the store's probe that the log holds, with the keys of the one in `format`.
    pub fn probe(&self) -> Option<&Map<String, Value>> {
        self.0.get(PROBE)?.as_object()
    }

    /// The same settings with another outcome of the probe.
    #[must_use]
    pub fn with_probe(mut self, outcome: Map<String, Value>) -> Self {
        self.0.insert(PROBE.to_owned(), Value::Object(outcome));
        self
    }

    /// The rules of this repository; none if it has none of its own.
    pub fn retention(&self) -> Result<Option<Retention>> {
        self.get(RETENTION)
    }

    /// Sets the rules of this repository.
    pub fn set_retention(&mut self, retention: Option<&Retention>) -> Result<()> {
        self.set(RETENTION, retention)
    }

    /// The pins, by snapshot.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        Ok(self.get(PINS)?.unwrap_or_default())
    }

    /// Adds a pin in place of an older one of the same snapshot.
    pub fn pin(&mut self, pin: Pin) -> Result<()> {
        let mut pins = self.pins()?;
        pins.retain(|old| old.snapshot != pin.snapshot);
        pins.push(pin);
        pins.sort_unstable_by_key(|pin| pin.snapshot);
        self.set(PINS, Some(pins))
    }

    /// The forks that are under way, or died, by target.
    pub fn forks(&self) -> Result<Vec<Fork>> {
        Ok(self.get(FORKS)?.unwrap_or_default())
    }

    /// Adds a fork in place of an older one to the same target. Those that were dead at `now_ms` are dropped.
    pub fn begin_fork(&mut self, fork: Fork, now_ms: u64) -> Result<()> {
        let mut forks = self.forks()?;
        forks.retain(|old| old.target != fork.target && old.until_ms > now_ms);
        forks.push(fork);
        forks.sort_unstable_by(|a, b| a.target.cmp(&b.target));
        self.set(FORKS, Some(forks))
    }

    /// Ends the fork to a target.
    pub fn end_fork(&mut self, target: &str) -> Result<()> {
        let mut forks = self.forks()?;
        forks.retain(|fork| fork.target != target);
        self.set(FORKS, (!forks.is_empty()).then_some(forks))
    }

    /// Snapshots that a pin or a fork holds, and until when; none: for good.
    pub fn holds(&self) -> Result<Vec<(SnapshotId, Option<u64>)>> {
        let pins = self
            .pins()?
            .into_iter()
            .map(|pin| (pin.snapshot, pin.until_ms));
        let forks = self
            .forks()?
            .into_iter()
            .map(|fork| (fork.snapshot, Some(fork.until_ms)));
        Ok(pins.chain(forks).collect())
    }

    /// Removes the pin of a snapshot; says whether there was one.
    pub fn unpin(&mut self, snapshot: SnapshotId) -> Result<bool> {
        let mut pins = self.pins()?;
        let before = pins.len();
        pins.retain(|pin| pin.snapshot != snapshot);
        let found = pins.len() < before;
        self.set(PINS, (!pins.is_empty()).then_some(pins))?;
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(yes: bool) -> Map<String, Value> {
        json!({"multi_writer": yes, "time": 7})
            .as_object()
            .cloned()
            .unwrap()
    }

    #[test]
    fn settings_that_nobody_knows_are_carried_on() {
        let bytes = br#"{"labels":["a"],"probe":{"multi_writer":true,"time":7}}"#;
        let settings = Settings::decode(bytes).unwrap();
        assert_eq!(settings.probe(), Some(&outcome(true)));
        assert_eq!(settings.encode().unwrap(), bytes);
        let changed = settings.with_probe(outcome(false)).encode().unwrap();
        assert_eq!(
            changed,
            br#"{"labels":["a"],"probe":{"multi_writer":false,"time":7}}"#
        );
    }

    #[test]
    fn forks_hold_what_they_begin_with_until_they_end_or_are_dead() {
        let fork = |target: &str, until_ms| Fork {
            snapshot: SnapshotId([7; 16]),
            target: target.to_owned(),
            until_ms,
        };
        let mut settings = Settings::default();
        for (target, until_ms) in [("b", 50), ("a", 90), ("b", 80)] {
            settings.begin_fork(fork(target, until_ms), 10).unwrap();
        }
        assert_eq!(settings.forks().unwrap(), [fork("a", 90), fork("b", 80)]);
        let read = Settings::decode(&settings.encode().unwrap()).unwrap();
        assert_eq!(
            read.holds().unwrap(),
            [
                (SnapshotId([7; 16]), Some(90)),
                (SnapshotId([7; 16]), Some(80))
            ]
        );
        settings.begin_fork(fork("c", 200), 85).unwrap();
        assert_eq!(
            settings.forks().unwrap(),
            [fork("a", 90), fork("c", 200)],
            "b was dead"
        );
        settings.end_fork("a").unwrap();
        settings.end_fork("c").unwrap();
        assert_eq!(settings, Settings::default());
        assert!(Settings::decode(br#"{"forks":[]}"#).is_err());
    }

    #[test]
    fn anything_but_a_canonical_object_is_refused() {
        assert_eq!(Settings::default().encode().unwrap(), b"{}");
        assert_eq!(Settings::decode(b"{}").unwrap().probe(), None);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_SETTINGS_BYTES));
        for bad in [
            &b"[]"[..],
            b"{ }",
            b"{\"a\":1.5}",
            b"{}{}",
            b"",
            long.as_bytes(),
        ] {
            assert!(Settings::decode(bad).is_err());
        }
    }
}
