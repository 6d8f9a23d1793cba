//! Which live parts a save takes into its own part.

use crate::limits::{FOLD_INDEX_BYTES, LIVE_INDEX_PARTS, MAX_INDEX_PART_BYTES};
use std::cmp::Reverse;

const FOLD_BYTES: u64 = FOLD_INDEX_BYTES as u64;
/// A part below this is small: every save takes it in. An eighth below the bound, so that four grown parts and the
/// saves that made them grow stay within `4 * FOLD_BYTES`.
const SMALL_BYTES: u64 = FOLD_BYTES - FOLD_BYTES / 8;
const LARGEST_BYTES: u64 = MAX_INDEX_PART_BYTES as u64;

/// The positions, increasing, of the live parts that a save with a part of `own_bytes` takes into it.
///
/// `part_bytes` are the plain lengths of the live parts, oldest first. Small parts are taken in at once; grown ones are
/// joined with others of about their size, like the digits of a binary counter, up to a limit that starts at 128 KiB
/// and rises with the index; the smallest others follow only when more than 16 parts would stay live. n bytes beside
/// the largest part must lie in 15 parts, so no plan avoids parts, and writes, of n/15 bytes: after 10,000 saves of
/// 250 to 300 bytes the largest write was 256 KiB, and 128 KiB as long as they added less than 1.6 MB.
pub fn fold_plan(part_bytes: &[u64], own_bytes: u64) -> Vec<usize> {
    let limit = join_limit(part_bytes, own_bytes);
    let mut rest: Vec<usize> = (0..part_bytes.len()).collect();
    // Largest first: the next to take in is at the end. Of equal ones the newest goes first.
    rest.sort_by_key(|at| (Reverse(part_bytes[*at]), *at));
    let mut total = own_bytes;
    let mut folded = 0;
    let mut taken = Vec::new();
    while let Some(&at) = rest.last() {
        let next = part_bytes[at];
        let joined = total.saturating_add(next);
        let small = next < SMALL_BYTES && folded + next <= FOLD_BYTES;
        let equal = total >= SMALL_BYTES && next <= total + total / 4 && joined <= limit;
        // A grown part is not taken in by the next save, which therefore needs a place for its own.
        let live = if total < SMALL_BYTES {
            LIVE_INDEX_PARTS
        } else {
            LIVE_INDEX_PARTS - 1
        };
        let crowded = rest.len() + 1 > live;
        if joined > LARGEST_BYTES || !(small || equal || crowded) {
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

/// The smallest length, doubling from 128 KiB, at which the full parts and one part for each size below fit beside the
/// largest part.
fn join_limit(part_bytes: &[u64], own_bytes: u64) -> u64 {
    let all = part_bytes
        .iter()
        .fold(own_bytes, |sum, bytes| sum.saturating_add(*bytes));
    let largest = part_bytes.iter().fold(own_bytes, |a, b| a.max(*b));
    let rest = all - largest;
    let mut limit = 4 * FOLD_BYTES;
    while limit < LARGEST_BYTES
        && rest / limit + u64::from((limit / FOLD_BYTES).ilog2()) > LIVE_INDEX_PARTS as u64 - 1
    {
        limit *= 2;
    }
    limit
}
