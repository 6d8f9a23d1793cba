//! Lists that are too long for a record and lie in a pack instead (`docs/format.md`, section 8.6).

use crate::canonical;
use crate::error::{Error, Result};
use crate::id::{ContainerId, SnapshotId};
use crate::key::{ContainerKey, ContainerKind};
use crate::limits::MAX_ATTACHMENT_BYTES;
use serde::{Deserialize, Serialize};

const DECODE: &str = "decode attachment";

/// A container that a mark names for deletion, or that a repack has emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoomedObject {
    /// Its stored bytes, as far as known.
    pub bytes: u64,
    /// Its name.
    pub name: ContainerKey,
}

impl DoomedObject {
    /// Names in the order of their bytes: `index/` before `packs/`.
    fn order(&self) -> (bool, ContainerId) {
        (self.name.kind == ContainerKind::Pack, self.name.id)
    }
}

/// What a mark dooms and forgets. Of a repack: the packs whose chunks were copied; it forgets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doomed {
    /// Containers, strictly increasing by name.
    pub objects: Vec<DoomedObject>,
    /// Forgotten snapshots, strictly increasing.
    pub snapshots: Vec<SnapshotId>,
}

impl Doomed {
    /// The canonical bytes; sorts first. `Internal` if they would not fit into an attachment.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        self.objects.sort_unstable_by_key(DoomedObject::order);
        self.objects.dedup_by_key(|object| object.name);
        self.snapshots.sort_unstable();
        self.snapshots.dedup();
        let bytes = canonical::encode(&self)?;
        if bytes.len() > MAX_ATTACHMENT_BYTES {
            return Err(Error::internal(
                "encode attachment",
                "a mark names too many packs at once",
            ));
        }
        Ok(bytes)
    }

    /// Reads the canonical bytes; `Corrupt` for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let doomed: Doomed = canonical::decode(bytes, MAX_ATTACHMENT_BYTES, DECODE)?;
        let objects = doomed.objects.is_sorted_by(|a, b| a.order() < b.order());
        if objects && doomed.snapshots.is_sorted_by(|a, b| a < b) {
            Ok(doomed)
        } else {
            Err(Error::corrupt(DECODE, "names are not strictly increasing"))
        }
    }

    /// Sum of the stored bytes of all containers.
    pub fn bytes(&self) -> u64 {
        self.objects
            .iter()
            .fold(0, |sum, object| sum.saturating_add(object.bytes))
    }
}
