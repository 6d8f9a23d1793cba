//! Which live parts a save takes into its own part.

use crate::limits::{FOLD_INDEX_BYTES, LIVE_INDEX_PARTS, MAX_INDEX_PART_BYTES};

/// A part below this is small: every save takes it in. An eighth below the bound, so that four grown parts and the
/// saves that made them grow stay within `EAGER_BYTES`.
const SMALL_BYTES: u64 = (FOLD_INDEX_BYTES - FOLD_INDEX_BYTES / 8) as u64;
/// Up to this size grown parts of about equal size are joined as they come, like the digits of a binary counter.
const EAGER_BYTES: u64 = 4 * FOLD_INDEX_BYTES as u64;

/// The positions, increasing, of the live parts that a save with a part of `own_bytes` takes into it.
///
/// `part_bytes` are the plain lengths of the live parts, oldest first. Small parts are taken in at once, and grown ones
/// are joined pairwise up to 128 KiB, so most saves write at most 32 KiB of index and a few up to 128 KiB. The smallest
/// others follow only when more than 16 parts would stay live; n bytes of index in 15 parts then need writes of about n/15.
pub fn fold_plan(part_bytes: &[u64], own_bytes: u64) -> Vec<usize> {
    let mut rest: Vec<usize> = (0..part_bytes.len()).collect();
    // Largest first: the next to take in is at the end. Of equal ones the newest goes first.
    rest.sort_by_key(|at| (std::cmp::Reverse(part_bytes[*at]), *at));
    let mut total = own_bytes;
    let mut folded = 0;
    let mut taken = Vec::new();
    while let Some(&at) = rest.last() {
        let next = part_bytes[at];
        let joined = total.saturating_add(next);
        let small = next < SMALL_BYTES && folded + next <= FOLD_INDEX_BYTES as u64;
        let equal = total >= SMALL_BYTES && next <= total + total / 4 && joined <= EAGER_BYTES;
        // A grown part is not taken in by the next save, which therefore needs a place for its own.
        let live = if total < SMALL_BYTES {
            LIVE_INDEX_PARTS
        } else {
            LIVE_INDEX_PARTS - 1
        };
        let crowded = rest.len() + 1 > live && joined <= MAX_INDEX_PART_BYTES as u64;
        if !(small || equal || crowded) {
            break;
        }
        if small {
            folded += next;
        }
        total = joined;
        taken.push(at);
        rest.pop();
    }
    taken.sort_unstable();
    taken
}
