//! Which containers may go: those that nothing needs, and those of which less than half is needed once that half was copied.

use crate::id::ContainerId;
use crate::index::{FrameUse, PackUse};
use crate::key::{ContainerKey, ContainerKind};
use crate::record::DoomedObject;

/// More than this share of the stored bytes is deleted only on demand.
pub const FREE_PERCENT: u64 = 20;
/// About what a chunk and a frame take in a directory.
const CHUNK_OVERHEAD: u64 = 36;
const FRAME_OVERHEAD: u64 = 12;
/// So many packs that are less than half needed are worth copying, however small they are.
const MANY_PACKS: usize = 16;
/// Copying is worth it if it frees this part of the stored bytes.
const WORTHWHILE_PART: u64 = 20;

/// One container as prune sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: ContainerKey,
    /// Its stored bytes.
    pub bytes: u64,
    /// Of these, what is needed and could be copied: frames, parts of the index, their share of the directory.
    pub live_bytes: u64,
    /// It holds something that can't be copied: an attachment that a record names.
    pub is_held: bool,
    /// The index or a record names it: its save is decided.
    pub is_referenced: bool,
    /// A mark dooms it already.
    pub is_marked: bool,
}

/// What is to become of the containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disposal {
    /// Nothing needs them.
    pub doomed: Vec<DoomedObject>,
    /// Less than half of each is needed: copied elsewhere, they can go.
    pub repack: Vec<ContainerId>,
    /// Bytes that can go once they were copied.
    pub repack_bytes: u64,
    /// Of these, what has to be copied.
    pub copied_bytes: u64,
    /// Bytes of all containers that are not marked already.
    pub stored_bytes: u64,
}

impl Disposal {
    /// Whether so many bytes are so large a share of what is stored that somebody must say so.
    pub fn needs_force(&self, bytes: u64) -> bool {
        bytes.saturating_mul(100) > self.stored_bytes.saturating_mul(FREE_PERCENT)
    }
}

/// What of a pack would have to be copied, in bytes.
pub fn live_bytes(pack: &PackUse) -> u64 {
    let cost = |frame: &FrameUse| {
        u64::from(frame.stored_len) + FRAME_OVERHEAD + u64::from(frame.live_chunks) * CHUNK_OVERHEAD
    };
    pack.frames.values().map(cost).sum()
}

/// Decides what goes. A pack of `epoch` or a later one that nothing names may belong to a save under way, and is left alone.
pub fn dispose(containers: &[Container], epoch: u64) -> Disposal {
    let mut disposal = Disposal::default();
    for container in containers.iter().filter(|c| !c.is_marked) {
        let Container { name, bytes, .. } = *container;
        disposal.stored_bytes = disposal.stored_bytes.saturating_add(bytes);
        if container.is_held {
            continue;
        }
        if container.live_bytes == 0 {
            if container.is_referenced || name.id.epoch < epoch {
                disposal.doomed.push(DoomedObject { bytes, name });
            }
        } else if name.kind == ContainerKind::Pack && container.live_bytes < bytes / 2 {
            disposal.repack.push(name.id);
            disposal.repack_bytes += bytes;
            disposal.copied_bytes += container.live_bytes;
        }
    }
    let freed = disposal.repack_bytes - disposal.copied_bytes;
    let is_worth_it = disposal.repack.len() >= MANY_PACKS
        || freed.saturating_mul(WORTHWHILE_PART) >= disposal.stored_bytes;
    if !is_worth_it {
        disposal.repack.clear();
        (disposal.repack_bytes, disposal.copied_bytes) = (0, 0);
    }
    disposal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8, epoch: u64, bytes: u64, live_bytes: u64) -> Container {
        let id = ContainerId {
            epoch,
            random: [n; 16],
        };
        Container {
            name: ContainerKey::pack(id),
            bytes,
            live_bytes,
            is_held: false,
            is_referenced: true,
            is_marked: false,
        }
    }

    fn doomed(containers: &[Container]) -> Vec<u8> {
        let disposal = dispose(containers, 5);
        disposal
            .doomed
            .iter()
            .map(|d| d.name.id.random[0])
            .collect()
    }

    #[test]
    fn what_is_needed_held_or_perhaps_of_a_save_under_way_stays() {
        let held = Container {
            is_held: true,
            ..pack(2, 1, 10, 0)
        };
        let orphan = |n, epoch| Container {
            is_referenced: false,
            ..pack(n, epoch, 10, 0)
        };
        let marked = Container {
            is_marked: true,
            ..pack(7, 1, 10, 0)
        };
        let all = [
            pack(1, 1, 10, 9),
            held,
            pack(3, 9, 10, 0),
            orphan(4, 4),
            orphan(5, 5),
            orphan(6, 6),
            marked,
        ];
        assert_eq!(doomed(&all), [3, 4]);
        assert_eq!(dispose(&all, 5).stored_bytes, 60);
    }

    #[test]
    fn packs_are_copied_where_it_frees_enough() {
        let repacked = |containers: &[Container]| dispose(containers, 5).repack.len();
        assert_eq!(repacked(&[pack(1, 1, 100, 49)]), 1);
        assert_eq!(repacked(&[pack(1, 1, 100, 50)]), 0);
        // 51 of 1,100 bytes are not worth it.
        assert_eq!(repacked(&[pack(1, 1, 100, 49), pack(2, 1, 1_000, 900)]), 0);
        let mut many: Vec<Container> = (0..16).map(|n| pack(n, 1, 10, 4)).collect();
        many.push(pack(99, 1, 100_000, 100_000));
        assert_eq!(repacked(&many), 16);
    }

    #[test]
    fn a_fifth_may_go_without_a_word() {
        let disposal = Disposal {
            stored_bytes: 100,
            ..Disposal::default()
        };
        assert!(!disposal.needs_force(20));
        assert!(disposal.needs_force(21));
        assert!(!Disposal::default().needs_force(0));
    }
}
