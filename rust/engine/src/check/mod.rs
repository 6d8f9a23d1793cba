//! Check: log, trees, index and pack directories always; data as far as asked. Changes nothing.

mod packs;
mod trees;

use crate::base;
use crate::clock::Stopwatch;
use crate::directories::index_for_reading;
use crate::options::CheckOptions;
use crate::report::{CheckReport, Damage};
use crate::whole_log::readable_log;
use crate::workspace::Access;
use nbws_core::id::{ChunkId, ContainerId};
use nbws_core::index::Index;
use nbws_core::key::ContainerKey;
use nbws_core::{Error, ErrorKind, Result};
use packs::packs;
use std::collections::{BTreeMap, HashMap, HashSet};
use trees::snapshots;

/// Damage by object, and which packs are damaged.
#[derive(Default)]
struct Findings {
    problems: BTreeMap<String, String>,
    /// Packs with damage; `None` for the whole pack, else the chunks hit.
    packs: HashMap<ContainerId, Option<HashSet<ChunkId>>>,
    files: BTreeMap<String, Vec<(String, Vec<u8>)>>,
}

impl Findings {
    fn note(&mut self, object: String, problem: String) {
        self.problems.entry(object).or_insert(problem);
    }

    fn pack(&mut self, id: ContainerId, problem: String, chunks: Option<HashSet<ChunkId>>) {
        self.note(ContainerKey::pack(id).to_string(), problem);
        match (self.packs.get_mut(&id), chunks) {
            (Some(Some(known)), Some(more)) => known.extend(more),
            (Some(hit), None) => *hit = None,
            (Some(None), Some(_)) => {}
            (None, chunks) => drop(self.packs.insert(id, chunks)),
        }
    }

    fn hits(&self, index: &Index, id: &ChunkId) -> Option<String> {
        let Some(at) = index.lookup(id) else {
            return Some("index".to_owned());
        };
        let is_hit = match self.packs.get(&at.pack)? {
            None => true,
            Some(chunks) => chunks.contains(id),
        };
        is_hit.then(|| ContainerKey::pack(at.pack).to_string())
    }
}

/// Looks for damage. Errors are for what stops the check itself; damage is in the report.
pub(crate) async fn check(access: &Access, options: CheckOptions) -> Result<CheckReport> {
    if !(0.0..=1.0).contains(&options.read_data) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "check",
            "the fraction of data to read is from 0 to 1",
        ));
    }
    let watch = Stopwatch::start();
    let (newest, unread) = base::newest_readable(access).await?;
    let (log, gaps) = readable_log(access, newest.as_ref()).await?;
    let record = newest.as_ref().map(|h| &h.record);
    let (index, index_damage) = index_for_reading(access, None, record).await?;
    let mut findings = Findings::default();
    for error in unread.iter().chain(&gaps).chain(&index_damage) {
        findings.note(error.subject().to_owned(), error.message().to_owned());
    }
    let mut report = CheckReport {
        objects: (log.records().len() + unread.len() + gaps.len()) as u64 + 1,
        ..CheckReport::default()
    };
    packs(
        access,
        &index,
        options.read_data,
        &mut findings,
        &mut report,
    )
    .await?;
    snapshots(access, &index, &log, &mut findings, &mut report).await?;
    report.bytes_read = access.totals().bytes_down;
    report.requests = access.totals().into();
    let mut files = findings.files;
    let damaged = |(object, problem): (String, String)| Damage {
        files: files.remove(&object).unwrap_or_default(),
        object,
        problem,
    };
    report.damaged = findings.problems.into_iter().map(damaged).collect();
    report.complete = report.damaged.is_empty();
    report.duration_s = watch.elapsed().as_secs_f64();
    access.meter.end();
    Ok(report)
}
