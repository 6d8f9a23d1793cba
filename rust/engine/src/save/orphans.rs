//! Packs that an unfinished save left in the store.

use crate::log::{LogHead, read_from};
use crate::session::Target;
use crate::whole_log;
use crate::workspace::Access;
use nbws_core::id::ContainerId;
use nbws_core::index::{IndexPart, IndexPartBuilder};
use nbws_core::key::ContainerKey;
use nbws_core::record::Body;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashSet;

/// Packs that an unfinished save of this target left in the store, but for those that a Mark since then names.
///
/// Without all records and marks since the upload nobody can know, and none is reused.
pub(crate) async fn load_orphans(
    access: &Access,
    target: &Target,
    head: Option<&LogHead>,
) -> Result<Option<IndexPart>> {
    let Some(folder) = &target.folder else {
        return Ok(None);
    };
    let uploaded = folder.load_uploaded();
    let Some(oldest) = uploaded.iter().map(|(seq, _)| *seq).min() else {
        return Ok(None);
    };
    let newest = head.map_or(0, |h| h.record.seq);
    let Ok(doomed) = doomed_since(access, oldest, newest).await else {
        folder.clear_uploaded();
        return Ok(None);
    };
    let mut builder = IndexPartBuilder::new();
    for (_, bytes) in uploaded {
        let part = IndexPart::decode(bytes)?;
        let is_doomed = part.packs().any(|pack| doomed.contains(&pack));
        if !is_doomed && is_there(access, &part).await? {
            builder.add_part(&part);
        }
    }
    Ok(Some(builder.finish()))
}

/// The packs that marks after record `oldest` doom, cancelled or not.
async fn doomed_since(access: &Access, oldest: u64, newest: u64) -> Result<HashSet<ContainerId>> {
    let mut doomed = HashSet::new();
    if oldest > newest {
        return Err(Error::internal("save", "packs of a log that was put back"));
    }
    let repository = access.inner.repository();
    for record in read_from(&*access.store, repository, oldest + 1, newest).await? {
        if let Body::Mark(mark) = &record.body {
            let list = whole_log::doomed(access, &mark.attachment).await?;
            doomed.extend(list.objects.iter().map(|object| object.name.id));
        }
    }
    Ok(doomed)
}

/// Nothing in the log protects these packs: somebody may have put the store back to a time before them.
async fn is_there(access: &Access, part: &IndexPart) -> Result<bool> {
    for pack in part.packs() {
        let name = ContainerKey::pack(pack).to_string();
        match access.store.head(&name).await {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
