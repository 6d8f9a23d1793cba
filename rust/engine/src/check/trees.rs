//! Snapshots: is every tree whole, and is every chunk that it needs in an undamaged place?

use super::Findings;
use crate::directories::is_damage;
use crate::report::CheckReport;
use crate::stored_tree;
use crate::whole_tree::WholeTree;
use crate::workspace::Access;
use nbws_core::id::SnapshotId;
use nbws_core::index::Index;
use nbws_core::ledger::Log;
use nbws_core::record::Place;
use nbws_core::tree::{Body, Content, Entry, SegmentReader};
use nbws_core::{Error, Result};

/// Every snapshot and rescue: are its tree and all its chunks there?
pub(super) async fn snapshots(
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

/// One snapshot: its root, its tree, and that every chunk is known and lies in an undamaged place.
async fn snapshot(
    access: &Access,
    index: &Index,
    id: SnapshotId,
    place: &Place,
    findings: &mut Findings,
) -> Result<()> {
    let root = match stored_tree::snapshot_root(access, place, None).await {
        Err(error) if is_damage(&error) => {
            // A repacked root has moved; where its pack is still in use, the record is wrong.
            if index
                .parts()
                .iter()
                .any(|p| p.packs().any(|id| id == place.object.id))
            {
                let problem = format!("the root of snapshot {id} is not where its record says");
                findings.note(place.object.to_string(), problem);
            }
            stored_tree::snapshot_root(access, place, Some(index)).await?
        }
        root => root?,
    };
    let segments = stored_tree::segments(access, index, &root, None).await?;
    let mut whole = WholeTree::default();
    for segment in &segments {
        for entry in SegmentReader::new(segment)? {
            let entry = entry?;
            whole.push(&entry)?;
            let hit = file(access, index, &entry, findings).await?;
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

/// Checks the chunks of one file; the damaged object that it needs, if any.
async fn file(
    access: &Access,
    index: &Index,
    entry: &Entry,
    findings: &Findings,
) -> Result<Option<String>> {
    let Body::File { content, size, .. } = &entry.body else {
        return Ok(None);
    };
    if let Content::Listed { lists, .. } = content
        && let Some(hit) = lists.iter().find_map(|list| findings.hits(index, &list.id))
    {
        return Ok(Some(hit));
    }
    for run in &stored_tree::file_runs(access, index, content, *size).await? {
        let at = index.lookup(&run.id);
        if at.is_some_and(|at| at.chunk_len != run.length) {
            let why = "a chunk has another length than the tree says";
            return Err(Error::corrupt("check tree", why));
        }
        if let Some(hit) = findings.hits(index, &run.id) {
            return Ok(Some(hit));
        }
    }
    Ok(None)
}
