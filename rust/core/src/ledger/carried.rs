//! What stays known of records that were removed: the object `ledger/<seq>` (`docs/format.md`, section 8.4).

use super::{Log, MarkPhase};
use crate::canonical;
use crate::error::{Error, Result};
use crate::format::check_version;
use crate::id::WriterId;
use crate::limits::{FORMAT_VERSION, MAX_LEDGER_BYTES, MAX_RECORD_BYTES};
use crate::record::{Body, Record, Usage};
use crate::state::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

const DECODE: &str = "decode ledger";

/// What is remembered of one removed record: enough for the history of states and for the bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// What a person said.
    pub comment: Option<String>,
    /// Epoch in force.
    pub epoch: u64,
    /// What the program said about a change of state.
    pub info: Option<String>,
    /// Kind of the record.
    pub kind: String,
    /// Its number.
    pub seq: u64,
    /// State after it.
    pub state: State,
    /// Writer's clock, milliseconds since 1970 UTC.
    #[serde(rename = "time")]
    pub time_ms: u64,
    /// Usage after it.
    pub usage: Usage,
    /// Who wrote it.
    pub writer: WriterId,
}

impl Past {
    fn of(record: &Record) -> Self {
        let info = match &record.body {
            Body::State(body) => body.info.clone(),
            _ => None,
        };
        Past {
            comment: record.body.comment().map(str::to_owned),
            epoch: record.epoch,
            info,
            kind: record.kind().name().to_owned(),
            seq: record.seq,
            state: record.state,
            time_ms: record.time_ms,
            usage: record.usage,
            writer: record.writer,
        }
    }
}

/// The fold of the records up to and including the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Every record up to the last, in short, oldest first.
    pub history: Vec<Past>,
    /// Records before the last that still mean something, oldest first.
    pub kept: Vec<Record>,
    /// The record that the next one names as its parent.
    pub last: Record,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelled {
    history: Vec<Past>,
    kept: Vec<Value>,
    last: Value,
    version: u16,
}

impl Ledger {
    /// Folds the records of `log` up to and including `seq`, which must be one of them: the same bytes, whoever does it and whenever.
    ///
    /// Kept are snapshots that no sweep has forgotten, rescues that nobody dismissed, marks whose deletes are not finished with
    /// their sweeps, and the claim of the session. The lists of the marks must be known ([`Log::note_doomed`]). `None` if the
    /// record is not there, or is a snapshot that was forgotten: then a neighbour can be the last.
    pub fn of(log: &Log, seq: u64) -> Option<Ledger> {
        let at = log.records.binary_search_by_key(&seq, |r| r.seq).ok()?;
        let (last, before) = log.records[..=at].split_last()?;
        let mut prefix = Log::default();
        for record in &log.records[..=at] {
            prefix.take(record.clone());
        }
        prefix.doomed.clone_from(&log.doomed);
        let gone =
            prefix.forgotten_by(|phase| matches!(phase, MarkPhase::Sweeping | MarkPhase::Swept));
        if matches!(&last.body, Body::Snapshot(body) if gone.contains(&body.snapshot)) {
            return None;
        }
        let rescues: BTreeSet<u64> = prefix.rescues().iter().map(|r| r.record.seq).collect();
        let open = |seq: &u64| {
            let phase = prefix.marks.get(seq).map(|mark| mark.1);
            matches!(phase, Some(MarkPhase::Marked | MarkPhase::Sweeping))
        };
        let claim = before.iter().rfind(|r| matches!(r.body, Body::Claim(_)));
        let is_kept = |record: &&Record| match &record.body {
            Body::Snapshot(body) => !gone.contains(&body.snapshot),
            Body::Rescue(_) => rescues.contains(&record.seq),
            Body::Mark(_) => open(&record.seq),
            Body::Sweep(body) => body.marks.iter().any(open),
            Body::Claim(_) => prefix.owner.is_some() && claim.map(|c| c.seq) == Some(record.seq),
            _ => false,
        };
        let known = log.history.last().map_or(0, |past| past.seq);
        let newer = log.records[..=at].iter().filter(|r| r.seq > known);
        Some(Ledger {
            history: log
                .history
                .iter()
                .cloned()
                .chain(newer.map(Past::of))
                .collect(),
            kept: before.iter().filter(is_kept).cloned().collect(),
            last: last.clone(),
        })
    }

    /// The number of the last record, which is also in the name.
    pub fn seq(&self) -> u64 {
        self.last.seq
    }

    /// The canonical bytes; `Internal` over 64 MiB.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let value = |record: &Record| {
            serde_json::from_slice::<Value>(&record.encode()?)
                .map_err(|e| Error::internal("encode ledger", "a record is no JSON").caused_by(e))
        };
        let bytes = canonical::encode(&Spelled {
            history: self.history.clone(),
            kept: self.kept.iter().map(value).collect::<Result<_>>()?,
            last: value(&self.last)?,
            version: FORMAT_VERSION,
        })?;
        if bytes.len() > MAX_LEDGER_BYTES {
            return Err(Error::internal("encode ledger", "is over 64 MiB"));
        }
        Ok(bytes)
    }

    /// Reads the canonical bytes. `Unsupported` for another version, `Corrupt` for anything that `encode` does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_version(bytes, MAX_LEDGER_BYTES, DECODE)?;
        let spelled: Spelled = canonical::parse(bytes, MAX_LEDGER_BYTES, DECODE)?;
        let record = |value: &Value| -> Result<Record> {
            let bytes = canonical::encode(value)?;
            debug_assert!(bytes.len() <= MAX_LEDGER_BYTES.max(MAX_RECORD_BYTES));
            Record::decode(&bytes)
        };
        let ledger = Ledger {
            kept: spelled.kept.iter().map(record).collect::<Result<_>>()?,
            last: record(&spelled.last)?,
            history: spelled.history,
        };
        ledger.check().map_err(|why| Error::corrupt(DECODE, why))?;
        canonical::compare(ledger.encode(), bytes, DECODE)?;
        Ok(ledger)
    }

    fn check(&self) -> Result<(), &'static str> {
        let all = self.kept.iter().chain([&self.last]);
        if !all.clone().is_sorted_by(|a, b| a.seq < b.seq) {
            return Err("kept records are not increasing");
        }
        if all.clone().any(|r| r.repository != self.last.repository) {
            return Err("a kept record belongs to another repository");
        }
        let whole = self
            .history
            .iter()
            .map(|past| past.seq)
            .eq(1..=self.last.seq);
        if whole {
            Ok(())
        } else {
            Err("the history has gaps")
        }
    }
}
