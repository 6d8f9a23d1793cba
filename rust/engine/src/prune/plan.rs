//! From a survey to what is to be done: snapshots, rescues, packs, marks.

use super::Run;
use super::keep::rules;
use super::survey::Survey;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::id::{ChunkId, ContainerId, SnapshotId};
use nbws_core::index::{LiveChunks, PackUse};
use nbws_core::key::{self, ContainerKey};
use nbws_core::ledger::MarkPhase;
use nbws_core::plan::prune::{Container, Disposal, dispose, live_bytes};
use nbws_core::plan::retention::{AUTOSAVE, Candidate, Verdict, select};
use nbws_core::record::Place;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Rescues that nobody wants are given up after this long.
const RESCUE_MS: u64 = 30 * 24 * 3_600_000;

/// What is to be done after one survey.
pub(super) struct Plan {
    /// Snapshots that the rules give up, and why.
    pub(super) forgotten: Vec<(SnapshotId, Verdict)>,
    /// Rescues that have expired.
    pub(super) expired: Vec<SnapshotId>,
    pub(super) disposal: Disposal,
    /// What has to be copied out of each pack that is repacked: chunks that are needed and that lookup finds there.
    pub(super) needed: HashMap<ContainerId, HashSet<ChunkId>>,
    /// All containers that are known of, marked ones included.
    pub(super) containers: u64,
    /// Marks whose deletes may begin.
    pub(super) sweepable: Vec<u64>,
    /// Marks that doom something that is needed, and what.
    pub(super) contradicted: Vec<(u64, ContainerKey)>,
}

impl Plan {
    /// Bytes that this plan newly names for deletion, what is copied first included.
    pub(super) fn bytes_to_delete(&self) -> u64 {
        let doomed = self.disposal.doomed.iter().map(|object| object.bytes);
        doomed.sum::<u64>() + self.disposal.repack_bytes
    }

    /// Whether somebody must say so before that much is deleted.
    pub(super) fn needs_force(&self) -> bool {
        self.disposal.needs_force(self.bytes_to_delete())
    }
}

/// Plans by a survey. Reads the trees of all snapshots that it has not seen yet; any error means that nothing may be deleted.
pub(super) async fn plan(run: &mut Run<'_>, survey: &Survey) -> Result<Plan> {
    let forgotten = forgotten(run, survey)?;
    let expired = expired(survey)?;
    let gone: BTreeSet<SnapshotId> = forgotten.iter().map(|(id, _)| *id).collect();
    let snapshots = survey.log.snapshots(None);
    let rescues = survey.log.rescues();
    let work = snapshots.iter().map(|s| (s.body.snapshot, s.body.root));
    let work = work.chain(rescues.iter().map(|r| (r.body.snapshot, r.body.root)));
    let mut now = LiveChunks::new(&survey.index);
    let mut after = LiveChunks::new(&survey.index);
    for (id, place) in work.collect::<Vec<(SnapshotId, Place)>>() {
        run.trees
            .mark(run.access, &survey.index, (id, &place), &mut now)
            .await?;
        if !gone.contains(&id) && !expired.contains(&id) {
            run.trees
                .mark(run.access, &survey.index, (id, &place), &mut after)
                .await?;
        }
    }
    let contradicted = contradicted(survey, &now);
    let listed = listed(run.access).await?;
    let containers = containers(survey, &after, listed);
    let disposal = disposal(run, &containers, survey);
    Ok(Plan {
        sweepable: sweepable(run, survey, &contradicted),
        contradicted,
        needed: needed(&disposal, &after),
        disposal,
        containers: containers.len() as u64,
        forgotten,
        expired,
    })
}

fn disposal(run: &Run<'_>, containers: &[Container], survey: &Survey) -> Disposal {
    let mut disposal = dispose(containers, survey.head.record.epoch);
    if !run.options.repack || run.is_full {
        disposal.repack.clear();
        (disposal.repack_bytes, disposal.copied_bytes) = (0, 0);
    }
    disposal
}

fn needed(disposal: &Disposal, live: &LiveChunks<'_>) -> HashMap<ContainerId, HashSet<ChunkId>> {
    let packs = disposal.repack.iter().map(|id| (*id, HashSet::new()));
    let mut needed: HashMap<ContainerId, HashSet<ChunkId>> = packs.collect();
    for (id, at) in live.iter() {
        if let Some(chunks) = needed.get_mut(&at.pack) {
            chunks.insert(id);
        }
    }
    needed
}

/// Stored bytes of every container that a listing shows. It only finds candidates: what it does not show is not deleted.
async fn listed(access: &Access) -> Result<BTreeMap<ContainerKey, u64>> {
    let mut found = BTreeMap::new();
    for prefix in [key::PACKS, key::INDEX] {
        for object in access.store.list(prefix, None).await? {
            if let Some(name) = ContainerKey::parse(&object.key) {
                found.insert(name, object.size);
            }
        }
    }
    Ok(found)
}

fn forgotten(run: &Run<'_>, survey: &Survey) -> Result<Vec<(SnapshotId, Verdict)>> {
    let snapshots = survey.log.snapshots(None);
    let head = survey.head.record.head.map(|head| head.snapshot);
    let pins = pinned(survey)?;
    let candidates: Vec<Candidate> = snapshots
        .iter()
        .map(|s| Candidate {
            snapshot: s.body.snapshot,
            time_ms: survey.time_of(s.record.seq, s.record.time_ms),
            is_autosave: s.body.origin == AUTOSAVE,
            is_pinned: pins.contains(&s.body.snapshot),
            is_head: head == Some(s.body.snapshot),
        })
        .collect();
    let rules = rules(run.options, &survey.settings)?;
    let verdicts = select(&candidates, &rules, survey.now_ms);
    let given_up = candidates.iter().zip(verdicts).filter(|(_, v)| !v.keeps());
    Ok(given_up.map(|(c, verdict)| (c.snapshot, verdict)).collect())
}

/// Snapshots that a pin in force holds, or a fork that is under way: of the settings, or of a save that lost much of its base.
fn pinned(survey: &Survey) -> Result<BTreeSet<SnapshotId>> {
    let in_force = |until_ms: Option<u64>| until_ms.is_none_or(|until| until > survey.now_ms);
    let mut pinned = BTreeSet::new();
    for (snapshot, until_ms) in survey.settings.holds()? {
        if in_force(until_ms) {
            pinned.insert(snapshot);
        }
    }
    for snapshot in survey.log.snapshots(None) {
        if let (Some(base), Some(until)) = (snapshot.body.base, snapshot.body.pin_base_until_ms)
            && in_force(Some(until))
        {
            pinned.insert(base);
        }
    }
    Ok(pinned)
}

/// Rescues that are old and that no pin holds.
fn expired(survey: &Survey) -> Result<Vec<SnapshotId>> {
    let (rescues, pins) = (survey.log.rescues(), pinned(survey)?);
    let is_old =
        |seq, time_ms| survey.now_ms.saturating_sub(survey.time_of(seq, time_ms)) > RESCUE_MS;
    let old = rescues
        .iter()
        .filter(|r| is_old(r.record.seq, r.record.time_ms))
        .map(|r| r.body.snapshot);
    Ok(old.filter(|id| !pins.contains(id)).collect())
}

/// Marks in their grace or being swept that doom a container that something needs.
fn contradicted(survey: &Survey, live: &LiveChunks<'_>) -> Vec<(u64, ContainerKey)> {
    let mut needed = survey.held();
    needed.extend(survey.index_containers().into_keys());
    let packs = live.packs();
    let used = packs.iter().filter(|(_, pack)| !pack.frames.is_empty());
    needed.extend(used.map(|(id, _)| ContainerKey::pack(*id)));
    let mut found = Vec::new();
    for mark in survey.log.marks() {
        let is_open = matches!(mark.phase, MarkPhase::Marked | MarkPhase::Sweeping);
        let objects = mark.doomed.iter().flat_map(|doomed| &doomed.objects);
        let hit = objects
            .map(|object| object.name)
            .find(|name| needed.contains(name));
        if let (true, Some(name)) = (is_open, hit) {
            found.push((mark.record.seq, name));
        }
    }
    found
}

fn sweepable(run: &Run<'_>, survey: &Survey, contradicted: &[(u64, ContainerKey)]) -> Vec<u64> {
    let grace_ms = u64::try_from(run.grace.as_millis()).unwrap_or(u64::MAX);
    let marks = survey.log.marks();
    let due = marks.iter().filter(|mark| {
        mark.phase == MarkPhase::Marked
            && survey.age_ms(mark) >= grace_ms
            && !contradicted.iter().any(|(seq, _)| *seq == mark.record.seq)
    });
    due.map(|mark| mark.record.seq).collect()
}

fn containers(
    survey: &Survey,
    live: &LiveChunks<'_>,
    listed: BTreeMap<ContainerKey, u64>,
) -> Vec<Container> {
    let packs: BTreeMap<ContainerId, PackUse> = live.packs();
    let (held, index, named) = (survey.held(), survey.index_containers(), survey.named());
    let marked = marked(survey);
    let of_index = packs.keys().map(|id| ContainerKey::pack(*id));
    let known: BTreeSet<ContainerKey> = listed.keys().copied().chain(of_index).collect();
    let one = |name: ContainerKey| {
        let used = (name == ContainerKey::pack(name.id))
            .then(|| packs.get(&name.id))
            .flatten();
        Container {
            name,
            bytes: listed
                .get(&name)
                .copied()
                .unwrap_or(used.map_or(0, |pack| pack.extent)),
            live_bytes: used.map_or(0, live_bytes) + index.get(&name).copied().unwrap_or(0),
            is_held: held.contains(&name),
            is_referenced: used.is_some() || named.contains(&name),
            is_marked: marked.contains(&name),
        }
    };
    known.into_iter().map(one).collect()
}

/// What marks in their grace or being swept name.
fn marked(survey: &Survey) -> BTreeSet<ContainerKey> {
    let marks = survey.log.marks();
    let open = marks
        .iter()
        .filter(|m| matches!(m.phase, MarkPhase::Marked | MarkPhase::Sweeping));
    let lists = open.filter_map(|mark| mark.doomed);
    lists
        .flat_map(|list| list.objects.iter().map(|object| object.name))
        .collect()
}
