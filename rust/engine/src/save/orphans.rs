//! Packs that an unfinished save left in the store.

use crate::log::LogHead;
use crate::session::Target;
use crate::workspace::Access;
use nbws_core::Result;
use nbws_core::index::{IndexPart, IndexPartBuilder};
use nbws_core::record::Kind;

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
        builder.add_part(&IndexPart::decode(bytes)?);
    }
    Ok(Some(builder.finish()))
}
