//! The attachment of a settings record: every setting in force (`docs/format.md`, section 8.5).

use crate::canonical;
use crate::error::Result;
use crate::limits::MAX_SETTINGS_BYTES;
use serde_json::{Map, Value};

const PROBE: &str = "probe";

/// All settings in force after a settings record. Those that this program does not know are carried on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// The newest outcome of the store's probe that the log holds, with the keys of the one in `format`.
    pub fn probe(&self) -> Option<&Map<String, Value>> {
        self.0.get(PROBE)?.as_object()
    }

    /// The same settings with another outcome of the probe.
    pub fn with_probe(mut self, outcome: Map<String, Value>) -> Self {
        self.0.insert(PROBE.to_owned(), Value::Object(outcome));
        self
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        canonical::encode(&self.0)
    }

    /// Decodes an attachment: `Corrupt` unless it is a canonical object.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        canonical::decode(bytes, MAX_SETTINGS_BYTES, "decode settings").map(Settings)
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
