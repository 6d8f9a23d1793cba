//! Which snapshots are kept: pins, the rules of the repository or the caller, and fewer autosaves the older they are.

use crate::id::SnapshotId;
use crate::record::Retention;
use std::collections::BTreeSet;

/// The origin of snapshots that nobody asked for.
pub const AUTOSAVE: &str = "autosave";
/// The newest autosaves, all of which are kept.
const AUTOSAVES: usize = 12;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// One snapshot as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub snapshot: SnapshotId,
    /// When it was made, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// A program made it while the notebook ran.
    pub is_autosave: bool,
    /// A pin that is in force holds it.
    pub is_pinned: bool,
    /// It is the workspace head.
    pub is_head: bool,
}

/// What becomes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The workspace head is always kept.
    Head,
    /// A pin holds it.
    Pinned,
    /// The rules keep it.
    Kept,
    /// There are newer ones enough.
    TooMany,
    /// It is too old.
    TooOld,
    /// An autosave that newer ones stand for.
    Thinned,
}

impl Verdict {
    /// Whether the snapshot stays.
    pub fn keeps(self) -> bool {
        matches!(self, Verdict::Head | Verdict::Pinned | Verdict::Kept)
    }

    /// One word for people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Head => "head",
            Verdict::Pinned => "pinned",
            Verdict::Kept => "kept",
            Verdict::TooMany => "too many",
            Verdict::TooOld => "too old",
            Verdict::Thinned => "thinned",
        }
    }
}

/// What becomes of each of `snapshots`, which are in the order of the log, oldest first; in the same order.
///
/// Autosaves follow rules of their own and take nobody's place in the history: the newest 12 stay, then the newest of each hour
/// for a day. Of all others the newest has position 0; `retained_number` and the age after `lifetime_eviction_threshold` give up
/// what no `keep_` rule holds. With `keep_` rules alone, everything else is given up. Clocks that are wrong only make ages wrong.
pub fn select(snapshots: &[Candidate], rules: &Retention, now_ms: u64) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::Kept; snapshots.len()];
    thin(
        snapshots,
        &newest_first(snapshots, true),
        now_ms,
        &mut verdicts,
    );
    let history = newest_first(snapshots, false);
    let held = held(snapshots, &history, rules, now_ms);
    for (position, at) in history.iter().enumerate() {
        if !held.contains(at) {
            let age_ms = now_ms.saturating_sub(snapshots[*at].time_ms);
            verdicts[*at] = evict(rules, position as u64, age_ms);
        }
    }
    for (verdict, snapshot) in verdicts.iter_mut().zip(snapshots) {
        if snapshot.is_head {
            *verdict = Verdict::Head;
        } else if snapshot.is_pinned {
            *verdict = Verdict::Pinned;
        }
    }
    verdicts
}

/// When the age rule gives the snapshot at `position` up if nothing else happens; none if never.
pub fn eviction_ms(rules: &Retention, position: u64, time_ms: u64) -> Option<u64> {
    let days = rules.lifetime_in_days?;
    (position >= rules.lifetime_eviction_threshold.unwrap_or(0))
        .then(|| time_ms.saturating_add(days.saturating_mul(DAY_MS)))
}

/// The places of the autosaves, or of all others, newest first.
fn newest_first(snapshots: &[Candidate], autosaves: bool) -> Vec<usize> {
    let chosen = |at: &usize| snapshots[*at].is_autosave == autosaves;
    (0..snapshots.len()).rev().filter(chosen).collect()
}

/// From when on each of `snapshots` is given up by [`select`] if no other one is made, in milliseconds since 1970 UTC: it stays at
/// that moment, and goes right after it. None where only newer snapshots could displace it. A date that has passed means that the
/// next prune takes it.
pub fn evictions(snapshots: &[Candidate], rules: &Retention) -> Vec<Option<u64>> {
    let mut dates = vec![None; snapshots.len()];
    let autosaves = newest_first(snapshots, true);
    let mut hours = BTreeSet::new();
    for (position, at) in autosaves.iter().enumerate() {
        let time_ms = snapshots[*at].time_ms;
        let is_first = hours.insert(time_ms / HOUR_MS);
        if let Some(surplus) = position.checked_sub(AUTOSAVES) {
            dates[*at] = Some(if is_first {
                time_ms.saturating_add(DAY_MS)
            } else {
                // Since then there have been newer ones enough.
                snapshots[autosaves[surplus]].time_ms
            });
        }
    }
    let history = newest_first(snapshots, false);
    let without_age = Retention {
        keep_within_ms: None,
        ..rules.clone()
    };
    let held = held(snapshots, &history, &without_age, 0);
    for (position, at) in history.iter().enumerate() {
        if !held.contains(at) {
            dates[*at] = history_eviction(snapshots, &history, rules, position);
        }
    }
    for (date, snapshot) in dates.iter_mut().zip(snapshots) {
        if snapshot.is_head || snapshot.is_pinned {
            *date = None;
        }
    }
    dates
}

/// As [`evictions`], of the snapshot at `position` of `history`, newest first, that no rule holds but perhaps `keep_within`.
fn history_eviction(
    snapshots: &[Candidate],
    history: &[usize],
    rules: &Retention,
    position: usize,
) -> Option<u64> {
    let time_ms = snapshots[history[position]].time_ms;
    // When the newer snapshot was made that took its place.
    let displaced = |most: usize| {
        let surplus = position.checked_sub(most)?;
        Some(snapshots[history[surplus]].time_ms)
    };
    let most = rules
        .retained_number
        .map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    let by_number = most.and_then(displaced);
    let by_age = eviction_ms(rules, position as u64, time_ms);
    let has_limits = rules.retained_number.is_some() || rules.lifetime_in_days.is_some();
    let date = match (by_number, by_age) {
        (Some(number), Some(age)) => Some(number.min(age)),
        (None, None) if has_keep_rules(rules) && !has_limits => Some(time_ms),
        (number, age) => number.or(age),
    };
    let held_ms = rules
        .keep_within_ms
        .map_or(0, |within| time_ms.saturating_add(within));
    date.map(|date| date.max(held_ms))
}

fn evict(rules: &Retention, position: u64, age_ms: u64) -> Verdict {
    if rules.retained_number.is_some_and(|most| position >= most) {
        return Verdict::TooMany;
    }
    if eviction_ms(rules, position, 0).is_some_and(|lifetime_ms| age_ms > lifetime_ms) {
        return Verdict::TooOld;
    }
    let has_limits = rules.retained_number.is_some() || rules.lifetime_in_days.is_some();
    if has_keep_rules(rules) && !has_limits {
        return Verdict::TooMany;
    }
    Verdict::Kept
}

fn has_keep_rules(rules: &Retention) -> bool {
    let counts = [
        rules.keep_last,
        rules.keep_daily,
        rules.keep_weekly,
        rules.keep_monthly,
    ];
    counts.iter().any(Option::is_some) || rules.keep_within_ms.is_some()
}

/// Those of `history` that a `keep_` rule holds.
fn held(
    snapshots: &[Candidate],
    history: &[usize],
    rules: &Retention,
    now_ms: u64,
) -> BTreeSet<usize> {
    let last = usize::try_from(rules.keep_last.unwrap_or(0)).unwrap_or(usize::MAX);
    let mut held: BTreeSet<usize> = history.iter().take(last).copied().collect();
    let within = |at: &&usize| {
        let age_ms = now_ms.saturating_sub(snapshots[**at].time_ms);
        rules.keep_within_ms.is_some_and(|most| age_ms <= most)
    };
    held.extend(history.iter().filter(within));
    type Bucket = fn(u64) -> u64;
    let calendar: [(Option<u64>, Bucket); 3] = [
        (rules.keep_daily, |ms| ms / DAY_MS),
        // 1970 began on a Thursday; weeks begin on Mondays.
        (rules.keep_weekly, |ms| (ms / DAY_MS + 3) / 7),
        (rules.keep_monthly, month),
    ];
    for (count, bucket) in calendar {
        let mut seen = BTreeSet::new();
        for at in history {
            if seen.len() as u64 >= count.unwrap_or(0) {
                break;
            }
            if seen.insert(bucket(snapshots[*at].time_ms)) {
                held.insert(*at);
            }
        }
    }
    held
}

/// Keeps the newest autosaves, then one for each hour of a day.
fn thin(snapshots: &[Candidate], autosaves: &[usize], now_ms: u64, verdicts: &mut [Verdict]) {
    let mut hours = BTreeSet::new();
    for (position, at) in autosaves.iter().enumerate() {
        let time_ms = snapshots[*at].time_ms;
        let is_first = hours.insert(time_ms / HOUR_MS);
        let is_recent = now_ms.saturating_sub(time_ms) <= DAY_MS;
        if position >= AUTOSAVES && !(is_first && is_recent) {
            verdicts[*at] = Verdict::Thinned;
        }
    }
}

/// Months since 0000-03, by the civil calendar of UTC.
fn month(time_ms: u64) -> u64 {
    // Days since 0000-03-01, so that the leap day ends a year; then whole eras of 400 years.
    let days = time_ms / DAY_MS + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * of_year + 2) / 153
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(times: &[u64]) -> Vec<Candidate> {
        let one = |(n, time_ms): (usize, &u64)| Candidate {
            snapshot: SnapshotId([n as u8; 16]),
            time_ms: *time_ms,
            is_autosave: false,
            is_pinned: false,
            is_head: n + 1 == times.len(),
        };
        times.iter().enumerate().map(one).collect()
    }

    fn kept(verdicts: &[Verdict]) -> Vec<usize> {
        (0..verdicts.len())
            .filter(|at| verdicts[*at].keeps())
            .collect()
    }

    fn days(list: &[u64]) -> Vec<u64> {
        list.iter().map(|day| day * DAY_MS + HOUR_MS).collect()
    }

    #[test]
    fn without_rules_everything_is_kept() {
        let all = history(&days(&[1, 2, 3]));
        assert_eq!(
            kept(&select(&all, &Retention::default(), 1_000 * DAY_MS)),
            [0, 1, 2]
        );
    }

    #[test]
    fn number_age_and_threshold() {
        let all = history(&days(&[1, 2, 3, 4, 5]));
        let mut rules = Retention {
            retained_number: Some(2),
            ..Retention::default()
        };
        assert_eq!(kept(&select(&all, &rules, 6 * DAY_MS)), [3, 4]);
        rules.retained_number = Some(0);
        assert_eq!(
            kept(&select(&all, &rules, 6 * DAY_MS)),
            [4],
            "the head stays"
        );
        rules = Retention {
            lifetime_in_days: Some(2),
            ..Retention::default()
        };
        let verdicts = select(&all, &rules, 6 * DAY_MS);
        assert_eq!(kept(&verdicts), [3, 4]);
        assert_eq!(verdicts[0], Verdict::TooOld);
        // The age counts from position 3 on: the newest three stay however old they are.
        rules.lifetime_eviction_threshold = Some(3);
        assert_eq!(kept(&select(&all, &rules, 100 * DAY_MS)), [2, 3, 4]);
        assert_eq!(eviction_ms(&rules, 2, 7), None);
        assert_eq!(eviction_ms(&rules, 3, 7), Some(7 + 2 * DAY_MS));
    }

    #[test]
    fn what_has_a_date_goes_right_after_it() {
        // Every combination of these rules over one history with autosaves, a pin and a head: the date and the choice agree.
        let now = 40 * DAY_MS;
        let times: Vec<u64> = (0..60).map(|n| now - (60 - n) * 5 * HOUR_MS / 2).collect();
        let mut all = history(&times);
        for (n, snapshot) in all.iter_mut().enumerate() {
            snapshot.is_autosave = n % 2 == 1 || (30..50).contains(&n);
        }
        all[4].is_pinned = true;
        let options = [None, Some(0), Some(2), Some(5)];
        let mut dated = 0;
        for number in options {
            for days in options {
                for keep_last in options {
                    for within in options {
                        let rules = Retention {
                            retained_number: number,
                            lifetime_in_days: days,
                            lifetime_eviction_threshold: days.map(|days| days / 2),
                            keep_last,
                            keep_within_ms: within.map(|days| days * DAY_MS),
                            keep_daily: within,
                            ..Retention::default()
                        };
                        let dates = evictions(&all, &rules);
                        dated += dates.iter().flatten().count();
                        for at in [now + 1, now + DAY_MS, now + 2 * DAY_MS, now + 30 * DAY_MS] {
                            let goes: Vec<bool> =
                                dates.iter().map(|d| d.is_some_and(|d| at > d)).collect();
                            let verdicts = select(&all, &rules, at);
                            let gone: Vec<bool> = verdicts.iter().map(|v| !v.keeps()).collect();
                            assert_eq!(goes, gone, "{rules:?} at {at}");
                        }
                    }
                }
            }
        }
        assert!(dated > 1_000, "{dated}");
    }

    #[test]
    fn pins_and_keep_rules_hold_what_limits_would_give_up() {
        let mut all = history(&days(&[1, 2, 3, 4, 5]));
        all[0].is_pinned = true;
        let rules = Retention {
            retained_number: Some(1),
            keep_last: Some(2),
            keep_within_ms: Some(3 * DAY_MS),
            ..Retention::default()
        };
        let verdicts = select(&all, &rules, 6 * DAY_MS);
        assert_eq!(kept(&verdicts), [0, 2, 3, 4]);
        assert_eq!(
            (verdicts[0], verdicts[1]),
            (Verdict::Pinned, Verdict::TooMany)
        );
    }

    #[test]
    fn keep_rules_alone_give_the_rest_up() {
        // 1970-01-05 is a Monday; days 4 to 10 are one week, 31 is the first of February and a Sunday.
        let all = history(&days(&[3, 4, 5, 5, 10, 11, 31, 32]));
        let by = |rules: Retention| kept(&select(&all, &rules, 33 * DAY_MS));
        let none = Retention::default();
        assert_eq!(
            by(Retention {
                keep_last: Some(2),
                ..none.clone()
            }),
            [6, 7]
        );
        assert_eq!(
            by(Retention {
                keep_daily: Some(5),
                ..none.clone()
            }),
            [3, 4, 5, 6, 7]
        );
        assert_eq!(
            by(Retention {
                keep_weekly: Some(4),
                ..none.clone()
            }),
            [4, 5, 6, 7]
        );
        assert_eq!(
            by(Retention {
                keep_monthly: Some(2),
                ..none.clone()
            }),
            [5, 7]
        );
        assert_eq!(
            by(Retention {
                keep_within_ms: Some(0),
                ..none
            }),
            [7]
        );
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        // 2024-02-29, 2024-03-01, 2023-12-31, 2024-01-01.
        let at = |day: u64| month(day * DAY_MS);
        assert_eq!(at(19_782) + 1, at(19_783));
        assert_eq!(at(19_722) + 1, at(19_723));
        assert_eq!(at(19_723), at(19_753));
    }

    #[test]
    fn autosaves_thin_out_and_take_no_place() {
        // One every ten minutes for three days, then a backup by hand.
        let now = 10 * DAY_MS;
        let times: Vec<u64> = (0..432).map(|n| now - (432 - n) * 600_000).collect();
        let mut all = history(&times);
        for snapshot in &mut all[..431] {
            snapshot.is_autosave = true;
        }
        all[0].is_autosave = false;
        let rules = Retention {
            retained_number: Some(2),
            ..Retention::default()
        };
        let verdicts = select(&all, &rules, now);
        let kept = kept(&verdicts);
        assert_eq!((verdicts[0], verdicts[431]), (Verdict::Kept, Verdict::Head));
        let autosaves: Vec<_> = kept.iter().filter(|at| all[**at].is_autosave).collect();
        // Twelve, and the newest of each of the 22 or 23 hours of the day before them.
        assert!(
            (12 + 21..=12 + 24).contains(&autosaves.len()),
            "{}",
            autosaves.len()
        );
        assert!(verdicts[1..280].iter().all(|v| *v == Verdict::Thinned));
        assert!(verdicts[419..431].iter().all(|v| v.keeps()));
    }
}
