//! Packs: is each there and whole, and does the index say what their directories say?

use super::Findings;
use crate::directories::{directory, is_damage};
use crate::report::CheckReport;
use crate::workspace::Access;
use futures::stream::{self, StreamExt};
use nbws_core::frame::{FrameDecoder, FrameKind, verify_checksum};
use nbws_core::id::{ChunkId, ContainerId};
use nbws_core::index::{ChunkLocation, Index};
use nbws_core::key::{self, ContainerKey};
use nbws_core::pack::{FrameSlot, open_container};
use nbws_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

const CONCURRENCY: usize = 8;

/// Every pack that the index names: is it there, whole, and what its directory says? A fraction is read in full.
pub(super) async fn packs(
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
    let mut named: HashMap<ContainerId, usize> = HashMap::new();
    for (_, location) in index.iter() {
        *named.entry(location.pack).or_default() += 1;
    }
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
            Ok(found) => {
                let misplaced = misplaced(index, id, &found.slots, named.get(&id).copied());
                let problems = [
                    ("a frame has other bytes than were written", found.damaged),
                    ("the index says otherwise than its directory", misplaced),
                ];
                for (problem, chunks) in problems.into_iter().filter(|(_, c)| !c.is_empty()) {
                    findings.pack(id, problem.to_owned(), Some(chunks));
                }
            }
            Err(error) if is_damage(&error) => findings.pack(id, error.message().to_owned(), None),
            Err(error) => return Err(error),
        }
        access.meter.add(1, 0);
    }
    Ok(())
}

/// What a pack says about itself.
struct Found {
    slots: Vec<FrameSlot>,
    /// The chunks that can't be read, if it was read in full.
    damaged: HashSet<ChunkId>,
}

/// Checks one pack.
async fn pack(access: &Access, id: ContainerId, size: Option<u64>, is_read: bool) -> Result<Found> {
    let key = ContainerKey::pack(id);
    let name = key.to_string();
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
        let slots = open_container(&bytes, |r| access.inner.format.accepts(r), key)?;
        let damaged = damaged_chunks(&bytes, &slots);
        return Ok(Found { slots, damaged });
    }
    let slots = directory(access, key, size).await?;
    Ok(Found {
        slots,
        damaged: HashSet::new(),
    })
}

/// Chunks that the index names in `pack`, and that are not where it says; `named` is how many it names.
fn misplaced(
    index: &Index,
    pack: ContainerId,
    slots: &[FrameSlot],
    named: Option<usize>,
) -> HashSet<ChunkId> {
    let mut right = HashSet::new();
    for slot in slots {
        let mut chunk_offset = 0;
        for chunk in &slot.chunks {
            let place = ChunkLocation {
                pack,
                offset: slot.offset,
                stored_len: slot.stored_len,
                plain_len: slot.plain_len,
                chunk_offset,
                chunk_len: chunk.length,
            };
            if index.lookup(&chunk.id) == Some(place) {
                right.insert(chunk.id);
            }
            chunk_offset += chunk.length;
        }
    }
    if named == Some(right.len()) {
        return HashSet::new();
    }
    let wrong = |(id, at): (ChunkId, ChunkLocation)| {
        (at.pack == pack && !right.contains(&id)).then_some(id)
    };
    index.iter().filter_map(wrong).collect()
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
