//! Quotas: what goes in when there is little room. Notebooks, code and other small files do even above the limit; large files stay
//! out; a save that is told to refuse is refused as a whole.

use super::save_order::{Value, value};
use std::fmt;

/// What a limit on bytes counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// The bytes of the files in the workspace.
    #[default]
    Logical,
    /// The bytes that the repository takes in the store, all its snapshots together.
    Stored,
}

/// What happens over a hard limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Notebooks, code and small files go in, large files stay out.
    #[default]
    KeepSmall,
    /// Nothing is saved.
    Refuse,
}

/// Limits of one workspace. Nothing is limited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes above which a save warns.
    pub soft_bytes: Option<u64>,
    /// Bytes that a save does not pass.
    pub hard_bytes: Option<u64>,
    /// Files above which a save warns.
    pub soft_files: Option<u64>,
    /// Files that a save does not pass.
    pub hard_files: Option<u64>,
    /// What the limits on bytes count.
    pub count: Count,
    /// What happens over a hard limit.
    pub over: Over,
}

/// How far something is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// `bytes`, `stored bytes` or `files`.
    pub of: &'static str,
    /// How much there would be.
    pub found: u64,
    /// How much there may be.
    pub limit: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = self.found - self.limit;
        if self.of == Quota::FILES {
            let (found, limit) = (self.found, self.limit);
            return write!(f, "{found} files, {over} over the limit of {limit}");
        }
        let kept = if self.of == Quota::STORED {
            " stored"
        } else {
            ""
        };
        let [found, over, limit] = [self.found, over, self.limit].map(size_text);
        write!(f, "{found}{kept}, {over} over the limit of {limit}")
    }
}

/// A size in bytes as text for people, such as `1.5 MiB`.
pub fn size_text(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1_024.0 {
            let digits = usize::from(unit != "B");
            return format!("{size:.digits$} {unit}");
        }
        size /= 1_024.0;
    }
    format!("{size:.1} TiB")
}

fn excess(of: &'static str, found: u64, limit: Option<u64>) -> Option<Excess> {
    let limit = limit.filter(|limit| found > *limit)?;
    Some(Excess { of, found, limit })
}

/// Files and bytes of a workspace, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Names of files and links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes in the store.
    pub stored: u64,
}

impl Quota {
    const BYTES: &'static str = "bytes";
    const STORED: &'static str = "stored bytes";
    const FILES: &'static str = "files";

    /// How far `totals` are over the hard limits: bytes first.
    pub fn over_hard(&self, totals: &Totals) -> Option<Excess> {
        self.over_limits(totals, self.hard_bytes, self.hard_files)
    }

    /// How far `totals` are over the soft limits: bytes first.
    pub fn over_soft(&self, totals: &Totals) -> Option<Excess> {
        self.over_limits(totals, self.soft_bytes, self.soft_files)
    }

    fn over_limits(
        &self,
        totals: &Totals,
        bytes: Option<u64>,
        files: Option<u64>,
    ) -> Option<Excess> {
        let of_bytes = match self.count {
            Count::Logical => excess(Self::BYTES, totals.bytes, bytes),
            Count::Stored => excess(Self::STORED, totals.stored, bytes),
        };
        of_bytes.or_else(|| excess(Self::FILES, totals.files, files))
    }

    /// Whether a large file of these bytes needs the limit looked at while it is read.
    pub fn bounds_stored(&self) -> bool {
        self.count == Count::Stored && self.hard_bytes.is_some()
    }
}

/// A file that has to be read.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// Relative to the workspace.
    pub path: &'a [u8],
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of the version that is kept if this one stays out; `None`: it is new.
    pub before: Option<u64>,
    /// Under how many names it is stored.
    pub names: u64,
}

impl Applicant<'_> {
    fn bytes(&self) -> u64 {
        self.size.saturating_mul(self.names)
    }

    fn bytes_before(&self) -> u64 {
        self.before.unwrap_or(0).saturating_mul(self.names)
    }
}

/// What the limits do to a save whose sizes are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Applicants that stay out, by number, increasing.
    pub left_out: Vec<u32>,
    /// What the workspace will have.
    pub totals: Totals,
    /// How far everything together would be over a hard limit.
    pub excess: Option<Excess>,
    /// The whole save is refused for that.
    pub is_refused: bool,
}

/// Decides by the sizes that a scan saw. `kept` is everything that is not read again, and what the store holds now.
///
/// Bytes that the store will take are known only when they have been compressed: [`Account`] decides about those.
pub fn admit(applicants: &[Applicant<'_>], kept: Totals, quota: &Quota, whole: u64) -> Admission {
    let mut totals = kept;
    for applicant in applicants {
        totals.files += applicant.names;
        totals.bytes = totals.bytes.saturating_add(applicant.bytes());
    }
    let mut out = Admission {
        totals,
        excess: quota.over_hard(&totals),
        ..Admission::default()
    };
    if quota.over == Over::Refuse {
        // Where nothing is to be stored nothing is refused: a workspace above a new limit can be cleaned.
        out.is_refused = out.excess.is_some() && !applicants.is_empty();
        return out;
    }
    let is_left_out = leave_out(applicants, &mut out.totals, quota, whole);
    let numbers = 0..applicants.len() as u32;
    out.left_out = numbers.filter(|i| is_left_out[*i as usize]).collect();
    out
}

/// The least of what may stay out that brings the totals below the limits: the largest files, then the rest by number.
fn leave_out(
    applicants: &[Applicant<'_>],
    totals: &mut Totals,
    quota: &Quota,
    whole: u64,
) -> Vec<bool> {
    let mut is_left_out = vec![false; applicants.len()];
    let class = |a: &Applicant<'_>| value(a.path, a.size, whole);
    if let Some(limit) = quota.hard_bytes.filter(|_| quota.count == Count::Logical) {
        // As if all that may stay out did, and then as much as fits, small before large.
        let mut large: Vec<usize> = Vec::new();
        for (i, applicant) in applicants.iter().enumerate() {
            if class(applicant) == Value::Large && applicant.bytes() > applicant.bytes_before() {
                totals.bytes -= applicant.bytes() - applicant.bytes_before();
                large.push(i);
            }
        }
        large.sort_by_key(|i| (applicants[*i].size, *i));
        for i in large {
            let more = applicants[i].bytes() - applicants[i].bytes_before();
            let after = totals.bytes.saturating_add(more);
            if after > limit {
                is_left_out[i] = true;
                totals.files -= if applicants[i].before.is_none() {
                    applicants[i].names
                } else {
                    0
                };
            } else {
                totals.bytes = after;
            }
        }
    }
    if let Some(limit) = quota.hard_files {
        let mut rest: Vec<(Value, u64, usize)> = Vec::new();
        for (i, applicant) in applicants.iter().enumerate() {
            if applicant.before.is_none() && !is_left_out[i] && class(applicant) != Value::Work {
                rest.push((class(applicant), applicant.size, i));
            }
        }
        rest.sort_unstable();
        while totals.files > limit {
            let Some((.., i)) = rest.pop() else { break };
            is_left_out[i] = true;
            totals.files -= applicants[i].names;
            totals.bytes -= applicants[i].bytes();
        }
    }
    is_left_out
}

/// What has been admitted while files are read: they may have grown since the scan, and only now it shows what they take in the store.
#[derive(Debug)]
pub struct Account {
    quota: Quota,
    totals: Totals,
    whole: u64,
}

impl Account {
    /// Goes on from what [`admit`] found.
    pub fn new(quota: Quota, totals: Totals, whole: u64) -> Self {
        Account {
            quota,
            totals,
            whole,
        }
    }

    /// What was admitted so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// A file that counted as `counted` bytes has `found` now. `Ok(false)`: it stays out, with the version before it or nothing.
    /// An error: the whole save is refused.
    pub fn resize(
        &mut self,
        applicant: &Applicant<'_>,
        counted: u64,
        found: u64,
    ) -> Result<bool, Excess> {
        let names = applicant.names;
        let (counted, found_bytes) = (counted.saturating_mul(names), found.saturating_mul(names));
        let after = self
            .totals
            .bytes
            .saturating_sub(counted)
            .saturating_add(found_bytes);
        let is_over = self.quota.count == Count::Logical
            && after > self.totals.bytes
            && self.quota.hard_bytes.is_some_and(|limit| after > limit);
        if is_over && self.quota.over == Over::Refuse {
            let totals = Totals {
                bytes: after,
                ..self.totals
            };
            return self.quota.over_hard(&totals).map_or(Ok(true), Err);
        }
        if is_over && value(applicant.path, found, self.whole) == Value::Large {
            let less = counted.saturating_sub(applicant.bytes_before());
            self.totals.bytes = self.totals.bytes.saturating_sub(less);
            return Ok(false);
        }
        self.totals.bytes = after;
        Ok(true)
    }

    /// Takes room for so many bytes of a large file, before they are compressed; `false`: there is none.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let after = self.totals.stored.saturating_add(bytes);
        if self.quota.over == Over::KeepSmall
            && self.quota.bounds_stored()
            && self.quota.hard_bytes.is_some_and(|limit| after > limit)
        {
            return false;
        }
        self.totals.stored = after;
        true
    }

    /// So many bytes go into the store, of which `reserved` have their room already.
    pub fn store(&mut self, bytes: u64, reserved: u64) -> Result<(), Excess> {
        let before = self.totals.stored.saturating_sub(reserved);
        self.totals.stored = before.saturating_add(bytes);
        match self.quota.over {
            Over::Refuse if self.quota.bounds_stored() => {
                self.quota.over_hard(&self.totals).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: u64 = 100;

    fn new(path: &'static str, size: u64) -> Applicant<'static> {
        Applicant {
            path: path.as_bytes(),
            size,
            before: None,
            names: 1,
        }
    }

    fn bytes(limit: u64) -> Quota {
        Quota {
            hard_bytes: Some(limit),
            ..Quota::default()
        }
    }

    fn kept(bytes: u64) -> Totals {
        Totals {
            bytes,
            ..Totals::default()
        }
    }

    #[test]
    fn code_goes_in_above_the_limit_and_large_files_do_not() {
        let files = [new("big.bin", 5_000), new("a.py", 400), new("mid.bin", 300)];
        let left_out =
            |kept_bytes, quota: &Quota| admit(&files, kept(kept_bytes), quota, WHOLE).left_out;
        assert!(left_out(0, &Quota::default()).is_empty());
        assert_eq!(left_out(0, &bytes(1_000)), [0]);
        assert_eq!(left_out(0, &bytes(10)), [0, 2]);
        assert_eq!(left_out(400, &bytes(1_100)), [0]);
        assert_eq!(left_out(401, &bytes(1_100)), [0, 2]);
    }

    #[test]
    fn the_version_that_stays_counts_and_less_always_goes_in() {
        let grown = Applicant {
            before: Some(200),
            ..new("a.bin", 500)
        };
        let shrunk = Applicant {
            before: Some(900),
            ..new("b.bin", 300)
        };
        let files = [grown, shrunk, new("c.bin", 150)];
        // What stays in any case: 200 and 300.
        assert_eq!(admit(&files, kept(0), &bytes(649), WHOLE).left_out, [0, 2]);
        let found = admit(&files, kept(0), &bytes(650), WHOLE);
        assert_eq!(
            (found.left_out, found.totals.bytes, found.totals.files),
            (vec![0], 650, 3)
        );
        assert!(
            admit(&files, kept(0), &bytes(950), WHOLE)
                .left_out
                .is_empty()
        );
    }

    #[test]
    fn new_files_that_are_nobodys_work_stay_out_above_the_limit_on_files() {
        let files = [
            new("big.bin", 5_000),
            new("small.dat", 10),
            new("a.py", 10),
            Applicant {
                before: Some(1),
                ..new("old.bin", 20)
            },
            Applicant {
                names: 2,
                ..new("linked.dat", 5)
            },
        ];
        let quota = |limit| Quota {
            hard_files: Some(limit),
            ..Quota::default()
        };
        let held = Totals {
            files: 10,
            ..Totals::default()
        };
        let left_out = |limit| admit(&files, held, &quota(limit), WHOLE).left_out;
        assert!(left_out(16).is_empty());
        assert_eq!(left_out(15), [0]);
        assert_eq!(left_out(14), [0, 1]);
        assert_eq!(left_out(13), [0, 1, 4]);
        assert_eq!(left_out(0), [0, 1, 4]);
        let found = admit(&files, held, &quota(0), WHOLE);
        assert_eq!((found.totals.files, found.totals.bytes), (12, 30));
    }

    #[test]
    fn a_refusal_is_of_the_whole_and_says_by_how_much() {
        let refuse = Quota {
            over: Over::Refuse,
            ..bytes(100)
        };
        let files = [new("a.py", 60), new("b.py", 41)];
        let found = admit(&files, kept(0), &refuse, WHOLE);
        assert!(found.is_refused);
        let excess = found.excess.unwrap();
        assert_eq!(excess.to_string(), "101 B, 1 B over the limit of 100 B");
        assert!(found.left_out.is_empty());
        assert!(!admit(&files[..1], kept(40), &refuse, WHOLE).is_refused);
        assert!(!admit(&[], kept(500), &refuse, WHOLE).is_refused);
        let files_only = Quota {
            hard_files: Some(1),
            over: Over::Refuse,
            ..Quota::default()
        };
        assert_eq!(
            admit(&files, kept(0), &files_only, WHOLE)
                .excess
                .unwrap()
                .of,
            "files"
        );
    }

    /// Every limit from nothing to more than everything: work always goes in, and what goes in beyond the limit may not stay out.
    #[test]
    fn at_every_limit_work_goes_in_and_the_rest_fits() {
        let files = [
            new("nb.ipynb", 700),
            new("small.dat", 90),
            new("a.bin", 101),
            new("b.bin", 333),
            Applicant {
                before: Some(50),
                ..new("c.bin", 400)
            },
            Applicant {
                before: Some(600),
                ..new("d.bin", 150)
            },
            Applicant {
                names: 3,
                ..new("e.bin", 120)
            },
        ];
        let mut last = usize::MAX;
        for limit in 0..3_000 {
            let found = admit(&files, kept(20), &bytes(limit), WHOLE);
            let is_in = |i: u32| !found.left_out.contains(&i);
            assert!(is_in(0) && is_in(1) && is_in(5), "{limit}");
            let actual: u64 = files
                .iter()
                .enumerate()
                .map(|(i, a)| match is_in(i as u32) {
                    true => a.bytes(),
                    false => a.bytes_before(),
                })
                .sum();
            assert_eq!(found.totals.bytes, actual + 20, "{limit}");
            let least = 20 + 700 + 90 + 50 + 150;
            assert!(actual + 20 <= limit.max(least), "{limit}");
            assert!(
                found.left_out.len() <= last,
                "{limit}: a higher limit leaves out no more files"
            );
            last = found.left_out.len();
        }
        assert_eq!(last, 0);
    }

    #[test]
    fn what_grows_while_it_is_read_is_counted_again() {
        let (code, data) = (new("a.py", 100), new("b.bin", 200));
        let mut account = Account::new(bytes(400), kept(300), WHOLE);
        assert_eq!(account.resize(&data, 200, 300), Ok(true));
        assert_eq!(account.resize(&data, 300, 301), Ok(false));
        assert_eq!(account.totals().bytes, 100);
        assert_eq!(account.resize(&code, 100, 5_000), Ok(true));
        assert_eq!(account.totals().bytes, 5_000);
        // What shrinks goes in even now.
        assert_eq!(account.resize(&data, 200, 150), Ok(true));
        let mut refusing = Account::new(
            Quota {
                over: Over::Refuse,
                ..bytes(400)
            },
            kept(300),
            WHOLE,
        );
        assert_eq!(refusing.resize(&code, 100, 200), Ok(true));
        assert_eq!(refusing.resize(&code, 200, 201).unwrap_err().found, 401);
    }

    #[test]
    fn what_the_store_takes_is_counted_when_it_is_known() {
        let quota = Quota {
            count: Count::Stored,
            ..bytes(1_000)
        };
        let held = Totals {
            stored: 400,
            ..Totals::default()
        };
        let mut account = Account::new(quota, held, WHOLE);
        assert!(account.reserve(500));
        assert!(!account.reserve(101));
        account.store(200, 500).unwrap();
        assert_eq!(account.totals().stored, 600);
        assert!(account.reserve(400));
        // Notebooks and code ask nobody.
        account.store(5_000, 0).unwrap();
        assert!(!account.reserve(1));
        let mut refusing = Account::new(
            Quota {
                over: Over::Refuse,
                ..quota
            },
            held,
            WHOLE,
        );
        assert!(refusing.reserve(5_000));
        refusing.store(600, 5_000).unwrap();
        assert_eq!(
            refusing.store(1, 0).unwrap_err().to_string(),
            "1001 B stored, 1 B over the limit of 1000 B"
        );
        let mut logical = Account::new(bytes(1), held, WHOLE);
        assert!(logical.reserve(u64::MAX));
    }
}
