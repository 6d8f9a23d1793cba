//! Packs that an unfinished save left in the store.

use crate::log::LogHead;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::index::{IndexPart, IndexPartBuilder};
use nbws_core::key::ContainerKey;
use nbws_core::record::Kind;
use nbws_core::{ErrorKind, Result};

/// Packs that an unfinished save of this target left in the store, unless a Mark may name them.
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
    let is_safe = oldest <= newest
        && (oldest == newest || {
            let since = crate::log::read_from(
                &*access.store,
                access.inner.repository(),
                oldest + 1,
                newest,
            )
            .await;
            since.is_ok_and(|records| {
                records
                    .iter()
                    .all(|r| !matches!(r.kind(), Kind::Mark | Kind::Repack))
            })
        });
    if !is_safe {
        folder.clear_uploaded();
        return Ok(None);
    }
    let mut builder = IndexPartBuilder::new();
    for (_, bytes) in uploaded {
        let part = IndexPart::decode(bytes)?;
        if is_there(access, &part).await? {
            builder.add_part(&part);
        }
    }
    Ok(Some(builder.finish()))
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
