//! How a save with a deadline uses the time it has: values in, values out; who measures them is the engine's business.

/// What is sent first, while nobody knows how fast the store is.
pub const FIRST_PACK_BYTES: usize = 256 << 10;

/// Smaller packs than this are not worth their requests.
const LEAST_PACK_BYTES: usize = 64 << 10;

/// So few bytes go with the tree even when the time is over: a pack of their own takes longer.
const HARDLY_ANY_BYTES: u64 = 64 << 10;

/// Into so many packs the time that is left is cut: what is given up at the deadline is a small part of what was sent.
const PACKS_LEFT: f64 = 8.0;

/// The last pack takes at most this share of the time: an estimate must not leave none for the data.
const MOST_TAIL: f64 = 0.5;

/// What is known of the store's rate, from packs that were sent.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    limit: Option<f64>,
    in_flight: u32,
    in_flight_bytes: u64,
    /// Since when something is under way.
    since_s: f64,
    busy_s: f64,
    done_bytes: u64,
    /// Bytes a second of the newest pack that was stored.
    newest: f64,
}

impl Flow {
    /// Nothing was sent yet; `limit` bytes a second are not passed.
    pub fn new(limit: Option<u64>) -> Self {
        Flow {
            limit: limit.map(|l| l.max(1) as f64),
            ..Flow::default()
        }
    }

    /// A pack is under way from `now_s` on.
    pub fn begin(&mut self, bytes: u64, now_s: f64) {
        if self.in_flight == 0 {
            self.since_s = now_s;
        }
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
    }

    /// A pack that was under way since `began_s` has ended, stored or not.
    pub fn end(&mut self, bytes: u64, (began_s, now_s): (f64, f64), is_stored: bool) {
        const SHORTEST_S: f64 = 1e-6;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.busy_s += (now_s - self.since_s).max(SHORTEST_S);
        self.since_s = now_s;
        if is_stored {
            self.done_bytes += bytes;
            self.newest = bytes as f64 / (now_s - began_s).max(SHORTEST_S);
        }
    }

    /// Bytes a second that the store takes; `None` as long as nobody knows.
    pub fn rate(&self) -> Option<f64> {
        let seen =
            (self.done_bytes > 0).then(|| self.newest.max(self.done_bytes as f64 / self.busy_s));
        match (seen, self.limit) {
            (Some(seen), Some(limit)) => Some(seen.min(limit)),
            (seen, limit) => seen.or(limit),
        }
    }
}

/// Seconds for data out of `left_s`, when a tail of `tail_bytes` comes after it.
pub fn seconds_left(left_s: f64, total_s: f64, tail_bytes: u64, rate: Option<f64>) -> f64 {
    let tail = rate.map_or(0.0, |rate| tail_bytes as f64 / rate);
    left_s - tail.min(total_s * MOST_TAIL)
}

/// Whether a pack may begin: what is under way with it ends in time. Alone it may always try.
pub fn may_begin(flow: &Flow, bytes: u64, left_s: f64) -> bool {
    if flow.in_flight == 0 {
        return true;
    }
    flow.rate()
        .is_some_and(|rate| (flow.in_flight_bytes + bytes) as f64 <= rate * left_s)
}

/// The size of a pack: small ones first, until the rate is known; then a fraction of what can still be sent.
pub fn pack_bytes(rate: Option<f64>, left_s: f64, sealed: u64, full: usize) -> usize {
    let wished = match rate {
        Some(rate) => (rate * left_s / PACKS_LEFT).min(full as f64) as usize,
        None => FIRST_PACK_BYTES << sealed.min(16),
    };
    wished.clamp(LEAST_PACK_BYTES.min(full), full)
}

/// Whether so many bytes may wait for the pack that is sent in any case.
pub fn fits_in_tail(bytes: u64, left_s: f64, rate: Option<f64>) -> bool {
    if bytes <= HARDLY_ANY_BYTES {
        return true;
    }
    left_s > 0.0
        && match rate {
            Some(rate) => bytes as f64 <= rate * left_s / 4.0,
            None => bytes <= FIRST_PACK_BYTES as u64,
        }
}

/// Plain bytes of a frame of small files: `usual`, or less where a frame would take too long.
pub fn frame_bytes(limit: Option<u64>, deadline_s: Option<f64>, usual: u64) -> u64 {
    const LEAST: u64 = 64 << 10;
    let Some(deadline_s) = deadline_s else {
        return usual;
    };
    let fits = limit.map_or(FIRST_PACK_BYTES as f64, |limit| {
        limit as f64 * deadline_s / PACKS_LEFT
    });
    (fits.min(FIRST_PACK_BYTES as f64) as u64)
        .max(LEAST)
        .min(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    #[test]
    fn the_rate_is_what_was_seen_and_never_more_than_the_limit() {
        let mut flow = Flow::new(None);
        assert_eq!(flow.rate(), None);
        flow.begin(1_000, 0.0);
        assert_eq!(flow.rate(), None);
        flow.end(1_000, (0.0, 2.0), true);
        assert_eq!(flow.rate(), Some(500.0));
        // Two at once: together they are faster than each.
        flow.begin(1_000, 10.0);
        flow.begin(1_000, 10.0);
        flow.end(1_000, (10.0, 10.5), true);
        flow.end(1_000, (10.0, 10.5), true);
        assert_eq!(flow.rate(), Some(2_000.0));
        flow.begin(1_000, 20.0);
        flow.begin(1_000, 20.0);
        flow.end(1_000, (20.0, 24.0), true);
        flow.end(1_000, (20.0, 24.0), true);
        assert!(
            flow.rate() > Some(700.0) && flow.rate() < Some(900.0),
            "{flow:?}"
        );
        // One that was given up says that time went by.
        let mut given_up = Flow::new(None);
        given_up.begin(1_000, 0.0);
        given_up.end(1_000, (0.0, 1.0), true);
        given_up.begin(9_000, 1.0);
        given_up.end(9_000, (1.0, 9.0), false);
        assert_eq!(given_up.rate(), Some(1_000.0));
        let mut limited = Flow::new(Some(700));
        assert_eq!(limited.rate(), Some(700.0));
        limited.begin(1_000, 0.0);
        limited.end(1_000, (0.0, 0.1), true);
        assert_eq!(limited.rate(), Some(700.0));
        limited.begin(1_000, 1.0);
        limited.end(1_000, (1.0, 9.0), true);
        assert!(limited.rate() < Some(700.0));
    }

    #[test]
    fn one_pack_may_try_and_more_only_if_they_end_in_time() {
        let mut flow = Flow::new(None);
        assert!(may_begin(&flow, 1 << 30, 0.1));
        flow.begin(1_000, 0.0);
        // Nothing is known: not a second one.
        assert!(!may_begin(&flow, 1, 100.0));
        flow.end(1_000, (0.0, 1.0), true);
        flow.begin(1_000, 1.0);
        assert!(may_begin(&flow, 1_000, 2.0));
        assert!(!may_begin(&flow, 1_001, 2.0));
    }

    #[test]
    fn packs_follow_the_time_that_is_left() {
        let full = 32 << 20;
        assert_eq!(pack_bytes(None, 3.0, 0, full), FIRST_PACK_BYTES);
        assert_eq!(pack_bytes(None, 3.0, 2, full), 4 * FIRST_PACK_BYTES);
        assert_eq!(pack_bytes(None, 3.0, 60, full), full);
        assert_eq!(pack_bytes(Some(MIB), 3.0, 9, full), 3 << 17);
        assert_eq!(pack_bytes(Some(MIB), 80.0, 9, full), 10 << 20);
        assert_eq!(pack_bytes(Some(1e12), 80.0, 9, full), full);
        assert_eq!(pack_bytes(Some(1.0), 80.0, 9, full), LEAST_PACK_BYTES);
        // A budget of memory below the smallest pack stays in force.
        assert_eq!(pack_bytes(Some(1e12), 80.0, 9, 1_000), 1_000);
    }

    #[test]
    fn the_tail_has_its_time_but_not_all_of_it() {
        assert_eq!(seconds_left(3.0, 3.0, 1_000_000, None), 3.0);
        assert_eq!(seconds_left(3.0, 3.0, 1_000_000, Some(1e6)), 2.0);
        assert_eq!(seconds_left(3.0, 3.0, 100_000_000, Some(1e6)), 1.5);
        assert!(seconds_left(0.5, 3.0, 1_000_000, Some(1e6)) < 0.0);
    }

    #[test]
    fn little_goes_with_the_tree_and_much_does_not() {
        assert!(fits_in_tail(HARDLY_ANY_BYTES, -1.0, None));
        assert!(!fits_in_tail(HARDLY_ANY_BYTES + 1, -1.0, Some(1e9)));
        assert!(fits_in_tail(FIRST_PACK_BYTES as u64, 1.0, None));
        assert!(!fits_in_tail(FIRST_PACK_BYTES as u64 + 1, 1.0, None));
        assert!(fits_in_tail(1_000_000, 4.0, Some(1e6)));
        assert!(!fits_in_tail(1_000_001, 4.0, Some(1e6)));
    }

    #[test]
    fn frames_of_small_files_are_small_where_there_is_little_time() {
        assert_eq!(frame_bytes(None, None, 1 << 20), 1 << 20);
        assert_eq!(frame_bytes(Some(10), None, 1 << 20), 1 << 20);
        assert_eq!(frame_bytes(None, Some(3.0), 1 << 20), 256 << 10);
        assert_eq!(frame_bytes(Some(1 << 20), Some(1.0), 1 << 20), 128 << 10);
        assert_eq!(frame_bytes(Some(1), Some(1.0), 1 << 20), 64 << 10);
    }
}
