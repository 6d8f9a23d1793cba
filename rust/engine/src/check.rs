//! Check: log, trees, index and pack directories always; data as far as asked. Changes nothing.

use crate::base;
use crate::clock::Stopwatch;
use crate::directories::{directory, index_for_reading, is_damage};
use crate::options::CheckOptions;
use crate::report::{CheckReport, Damage};
use crate::resolve::readable_log;
use crate::stored_chunks::chunks;
use crate::stored_tree;
use crate::whole_tree::WholeTree;
use crate::workspace::Access;
use futures::stream::{self, StreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind, verify_checksum};
use nbws_core::id::{ChunkId, ContainerId, SnapshotId};
use nbws_core::index::Index;
use nbws_core::key::{self, ContainerKey};
use nbws_core::ledger::Log;
use nbws_core::pack::{FrameSlot, open_container};
use nbws_core::record::Place;
use nbws_core::tree::{Body, Content, SegmentReader, decode_list};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap, HashSet};

const CONCURRENCY: usize = 8;

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

/// Every snapshot and rescue: are its tree and all its chunks there?
async fn snapshots(
    access: &Access,
    index: &Index,
    log: &Log,
    findings: &mut Findings,
    report: &mut CheckReport,
) -> Result<()> {
    let snapshots = log
        .snapshots(None)
        .iter()
        .map(|s| (s.body.snapshot, s.body.root))
        .collect::<Vec<_>>();
    let rescues = log
        .rescues()
        .iter()
        .map(|r| (r.body.snapshot, r.body.root))
        .collect::<Vec<_>>();
    access
        .meter
        .begin("check", (snapshots.len() + rescues.len()) as u64, 0);
    for (id, place) in snapshots.into_iter().chain(rescues) {
        access.cancel.check()?;
        report.snapshots += 1;
        if let Err(error) = snapshot(access, index, id, &place, findings).await {
            if !is_damage(&error) {
                return Err(error);
            }
            let object = if error.subject().is_empty() {
                place.object.to_string()
            } else {
                error.subject().to_owned()
            };
            findings.note(object, format!("snapshot {id}: {}", error.message()));
        }
        access.meter.add(1, 0);
    }
    Ok(())
}

/// Every pack that the index names: is it there, whole, and what its directory says? A fraction is read in full.
async fn packs(
    access: &Access,
    index: &Index,
    fraction: f64,
    findings: &mut Findings,
    report: &mut CheckReport,
) -> Result<()> {
    let listed: HashMap<String, u64> = access
        .store
        .list(key::PACKS, None)
        .await?
        .into_iter()
        .map(|info| (info.key, info.size))
        .collect();
    let mut expected: Vec<ContainerId> = index.parts().iter().flat_map(|p| p.packs()).collect();
    expected.sort_unstable();
    expected.dedup();
    access.meter.begin("check", expected.len() as u64, 0);
    let checks = expected.iter().enumerate().map(|(i, id)| {
        let size = listed.get(&ContainerKey::pack(*id).to_string()).copied();
        // Spread evenly, so that a small fraction still touches old and new packs.
        let is_read = ((i + 1) as f64 * fraction).floor() > (i as f64 * fraction).floor();
        async move { (*id, pack(access, *id, size, is_read).await) }
    });
    let mut found = stream::iter(checks.collect::<Vec<_>>()).buffered(CONCURRENCY);
    while let Some((id, outcome)) = found.next().await {
        access.cancel.check()?;
        report.objects += 1;
        match outcome {
            Ok(damaged) if damaged.is_empty() => {}
            Ok(damaged) => findings.pack(
                id,
                "a frame has other bytes than were written".to_owned(),
                Some(damaged),
            ),
            Err(error) if is_damage(&error) => findings.pack(id, error.message().to_owned(), None),
            Err(error) => return Err(error),
        }
        access.meter.add(1, 0);
    }
    Ok(())
}

/// Checks one pack; the chunks that can't be read if it is read in full.
async fn pack(
    access: &Access,
    id: ContainerId,
    size: Option<u64>,
    is_read: bool,
) -> Result<HashSet<ChunkId>> {
    let key = ContainerKey::pack(id);
    let name = key.to_string();
    let repository = access.inner.repository();
    let size = match size {
        Some(size) => size,
        // A listing may be behind.
        None => match access.store.head(&name).await {
            Ok(info) => info.size,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::corrupt("check pack", "is missing").at(name));
            }
            Err(e) => return Err(e),
        },
    };
    if is_read {
        let bytes = access.store.get(&name).await?;
        let slots = open_container(&bytes, repository, key)?;
        return Ok(damaged_chunks(&bytes, &slots));
    }
    directory(access, key, size).await?;
    Ok(HashSet::new())
}

fn damaged_chunks(bytes: &[u8], slots: &[FrameSlot]) -> HashSet<ChunkId> {
    let mut damaged = HashSet::new();
    let Ok(mut decoder) = FrameDecoder::new() else {
        return damaged;
    };
    let mut plain = Vec::new();
    for slot in slots {
        let stored = &bytes[slot.offset as usize..(slot.offset + slot.stored_len) as usize];
        let is_whole = verify_checksum(stored).is_ok()
            && decoder
                .decode(stored, slot.kind, slot.plain_len, &mut plain)
                .is_ok();
        if !is_whole {
            damaged.extend(slot.chunks.iter().map(|c| c.id));
            if slot.chunks.is_empty() {
                // Part of an index: named by no chunk, but damage all the same.
                damaged.insert(ChunkId([0; 32]));
            }
            continue;
        }
        if slot.kind != FrameKind::Chunks {
            continue;
        }
        let mut rest = plain.as_slice();
        for chunk in &slot.chunks {
            let (bytes, after) = rest.split_at(chunk.length as usize);
            if ChunkId::of(bytes) != chunk.id {
                damaged.insert(chunk.id);
            }
            rest = after;
        }
    }
    damaged
}

/// One snapshot: its root, its tree, and that every chunk is known and lies in an undamaged place.
async fn snapshot(
    access: &Access,
    index: &Index,
    id: SnapshotId,
    place: &Place,
    findings: &mut Findings,
) -> Result<()> {
    let root = stored_tree::snapshot_root(access, place, Some(index)).await?;
    let segments = stored_tree::segments(access, index, &root, None).await?;
    let mut whole = WholeTree::default();
    for segment in &segments {
        for entry in SegmentReader::new(segment)? {
            let entry = entry?;
            whole.push(&entry)?;
            let Body::File { content, .. } = &entry.body else {
                continue;
            };
            let hit = match content {
                Content::Inline(runs) => runs.iter().find_map(|run| findings.hits(index, &run.id)),
                Content::Listed { lists, .. } => {
                    let ids: Vec<ChunkId> = lists.iter().map(|l| l.id).collect();
                    let mut hit = ids.iter().find_map(|id| findings.hits(index, id));
                    if hit.is_none() {
                        for list in chunks(access, index, &ids).await? {
                            hit = hit.or(decode_list(&list)?
                                .iter()
                                .find_map(|run| findings.hits(index, &run.id)));
                        }
                    }
                    hit
                }
            };
            if let Some(object) = hit {
                findings.note(object.clone(), "lacks chunks that files need".to_owned());
                findings
                    .files
                    .entry(object)
                    .or_default()
                    .push((id.to_hex(), entry.path));
            }
        }
    }
    if root.snapshot != id {
        let why = "the root is not that of the snapshot";
        return Err(Error::corrupt("check", why).at(place.object.to_string()));
    }
    whole.finish(&root)
}
