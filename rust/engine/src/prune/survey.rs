//! What a step is decided by: the whole log, the index of its newest record, the settings, and the store's time.

use crate::ballast;
use crate::base;
use crate::clock::now_ms;
use crate::log::{LogHead, list_modified, try_write_hint, write_hint};
use crate::rights::purged;
use crate::settings;
use crate::whole_log::extended;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::index::{Index, IndexRoot};
use nbws_core::key::{self, ContainerKey};
use nbws_core::ledger::{Log, LoggedMark};
use nbws_core::record::{Place, Settings};
use std::collections::{BTreeMap, BTreeSet};

/// Everything up to the log head, read strictly: what can't be understood stops prune.
pub(super) struct Survey {
    pub(super) head: LogHead,
    pub(super) log: Log,
    pub(super) index_root: IndexRoot,
    pub(super) index: Index,
    pub(super) settings: Settings,
    /// When the store took each record.
    modified_ms: BTreeMap<u64, u64>,
    /// The store's time if something may be written, this machine's for a mere plan.
    pub(super) now_ms: u64,
}

/// Reads all of it, of the log only what is not in `known`; `None` without records.
pub(super) async fn survey(
    access: &Access,
    may_write: bool,
    known: Option<Log>,
) -> Result<Option<Survey>> {
    let Some(head) = base::newest(access, None).await? else {
        return Ok(None);
    };
    if may_write {
        settings::check_writers(access, None, Some(&head.record)).await?;
    }
    let log = extended(access, known.unwrap_or_default(), &head).await?;
    if log.is_purged() {
        return Err(purged());
    }
    let index_root = base::index_root(access, None, Some(&head.record)).await?;
    let index = base::index(access, None, &index_root).await?;
    let settings = settings::settings(access, None, Some(&head.record)).await?;
    let modified_ms = list_modified(&*access.store).await?;
    let now_ms = match may_write {
        true => store_time_ms(access, head.record.seq).await?,
        false => now_ms(),
    };
    Ok(Some(Survey {
        head,
        log,
        index_root,
        index,
        settings,
        modified_ms,
        now_ms,
    }))
}

/// What time the store takes it to be: that of an object just written. The hint is written for that; it carries no safety.
async fn store_time_ms(access: &Access, seq: u64) -> Result<u64> {
    let written = try_write_hint(&*access.store, seq).await;
    if ballast::made_room(access, written.as_ref().err()).await {
        write_hint(&*access.store, seq).await;
    }
    Ok(access.store.head(key::HINT).await?.modified_ms)
}

impl Survey {
    /// When a record came into the log: by the store's clock, or by its writer's if it was removed and lives on in a ledger.
    pub(super) fn time_of(&self, seq: u64, writer_ms: u64) -> u64 {
        self.modified_ms.get(&seq).copied().unwrap_or(writer_ms)
    }

    /// When the store took a record that is still in its slot.
    pub(super) fn modified_ms(&self, seq: u64) -> Option<u64> {
        self.modified_ms.get(&seq).copied()
    }

    /// How long a mark has been in the log, in milliseconds; nothing if a listing that is behind does not show it.
    pub(super) fn age_ms(&self, mark: &LoggedMark<'_>) -> u64 {
        let (seq, writer_ms) = (mark.record.seq, mark.record.time_ms);
        let is_removed = self
            .log
            .history()
            .last()
            .is_some_and(|past| seq <= past.seq);
        let otherwise = if is_removed { writer_ms } else { self.now_ms };
        let since = self.modified_ms(seq).unwrap_or(otherwise);
        self.now_ms.saturating_sub(since)
    }

    /// Containers that records name and that can't be rewritten: lists of marks that count, and the present settings.
    pub(super) fn held(&self) -> BTreeSet<ContainerKey> {
        let mut places: Vec<Place> = self.log.settings().into_iter().collect();
        let marks = self.log.marks();
        places.extend(marks.iter().map(|m| m.body.attachment));
        places.iter().map(|place| place.object).collect()
    }

    /// Containers that hold the index root and parts in force, with the stored bytes of those.
    pub(super) fn index_containers(&self) -> BTreeMap<ContainerKey, u64> {
        let root = self.head.record.index.iter();
        let root = root.map(|place| (place.object, u64::from(place.length)));
        let parts = self.index_root.parts.iter();
        let parts = parts.map(|part| (part.key, u64::from(part.stored_len)));
        let mut found = BTreeMap::new();
        for (key, bytes) in root.chain(parts) {
            *found.entry(key).or_default() += bytes;
        }
        found
    }

    /// Containers that some record names, needed or not: the saves that made them are decided.
    pub(super) fn named(&self) -> BTreeSet<ContainerKey> {
        let records = self.log.records().iter();
        let places = records.flat_map(|r| {
            let root = r.head.map(|head| head.root);
            [root, r.index, r.settings, r.body.place().copied()]
        });
        places.flatten().map(|place| place.object).collect()
    }
}
