//! What packs say about themselves: their directories, and an index made of them for readers of a repository whose index is damaged.

use crate::base;
use crate::local::cache::StateFolder;
use crate::workspace::Access;
use futures::stream::{self, StreamExt};
use nbws_core::header::{HEADER_BYTES, Header};
use nbws_core::index::{Index, IndexPartBuilder};
use nbws_core::key::{self, ContainerKey};
use nbws_core::limits::MAX_INDEX_PART_BYTES;
use nbws_core::pack::{FrameSlot, TRAILER_BYTES, Trailer, decode_directory};
use nbws_core::record::Record;
use nbws_core::{Error, ErrorKind, Result};
use std::sync::Arc;

const CONCURRENCY: usize = 8;

/// Whether stored bytes are wrong or gone, as opposed to a store that does not answer.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound)
}

/// The frames of a container of `size` bytes by its own directory: three small reads.
pub(crate) async fn directory(
    access: &Access,
    key: ContainerKey,
    size: u64,
) -> Result<Vec<FrameSlot>> {
    let name = key.to_string();
    let corrupt = |why: &'static str| Error::corrupt("read directory", why).at(name.clone());
    if size < (HEADER_BYTES + TRAILER_BYTES) as u64 {
        return Err(corrupt("is too short"));
    }
    let header = access
        .store
        .get_range(&name, 0..HEADER_BYTES as u64)
        .await?;
    Header::expect(&header, |r| access.inner.format.accepts(r), key)?;
    let trailer_at = size - TRAILER_BYTES as u64;
    let trailer = access.store.get_range(&name, trailer_at..size).await?;
    let trailer = Trailer::decode(&trailer).map_err(|e| e.at(name.clone()))?;
    let Some(directory_at) = trailer_at.checked_sub(u64::from(trailer.directory_len)) else {
        return Err(corrupt("its directory is longer than it is"));
    };
    let directory = access
        .store
        .get_range(&name, directory_at..trailer_at)
        .await?;
    decode_directory(&header, &directory, &trailer, size).map_err(|e| e.at(name.clone()))
}

/// The index for a reader: as `record` says, or from the packs where that is damaged; then also what is damaged.
///
/// What is made from the packs may name doomed and uncommitted ones, so no save may rely on it.
pub(crate) async fn index_for_reading(
    access: &Access,
    folder: Option<&StateFolder>,
    record: Option<&Record>,
) -> Result<(Index, Vec<Error>)> {
    let recorded = async {
        let root = base::index_root(access, folder, record).await?;
        base::index(access, folder, &root).await
    };
    match recorded.await {
        Ok(index) => Ok((index, Vec::new())),
        Err(error) if is_damage(&error) => {
            let (index, mut damage) = index_from_packs(access).await?;
            damage.insert(0, error);
            Ok((index, damage))
        }
        Err(error) => Err(error),
    }
}

async fn index_from_packs(access: &Access) -> Result<(Index, Vec<Error>)> {
    let listed = access.store.list(key::PACKS, None).await?;
    let packs = listed
        .iter()
        .filter_map(|object| Some((ContainerKey::parse(&object.key)?, object.size)));
    let reads = packs.map(|(key, size)| async move { (key, directory(access, key, size).await) });
    let mut directories = stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY);
    let (mut parts, mut damage) = (Vec::new(), Vec::new());
    let mut builder = IndexPartBuilder::new();
    while let Some((key, frames)) = directories.next().await {
        access.cancel.check()?;
        match frames {
            Ok(frames) => frames.iter().for_each(|f| builder.add_frame(key.id, f)),
            Err(error) if is_damage(&error) => damage.push(error),
            Err(error) => return Err(error),
        }
        if builder.bytes_bound() > MAX_INDEX_PART_BYTES / 2 {
            parts.push(Arc::new(std::mem::take(&mut builder).finish()));
        }
    }
    parts.push(Arc::new(builder.finish()));
    Ok((Index::new(parts), damage))
}
