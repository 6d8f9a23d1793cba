//! What a hard limit leaves out: large new files stay out, notebooks and code go in even above it.

use super::save_order::{Candidate, Value, value};

/// What the limit does to one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Stored.
    Admit,
    /// Left out; the previous version, if there is one, stays.
    LeaveOut,
}

/// Decides for each candidate whether it fits under `hard_bytes` of logical bytes.
///
/// `kept_bytes` are the bytes of entries that are taken over unchanged. Candidates are admitted in the order of worth;
/// notebooks, code and small files always are.
pub fn admit(
    candidates: &[Candidate<'_>],
    kept_bytes: u64,
    hard_bytes: Option<u64>,
    whole: u64,
) -> Vec<Admission> {
    let mut out = vec![Admission::Admit; candidates.len()];
    let Some(limit) = hard_bytes else { return out };
    let mut total = kept_bytes;
    let mut large: Vec<usize> = Vec::new();
    for (i, candidate) in candidates.iter().enumerate() {
        if value(candidate.path, candidate.size, whole) == Value::Large {
            large.push(i);
        } else {
            total = total.saturating_add(candidate.size);
        }
    }
    large.sort_by_key(|i| (candidates[*i].size, *i));
    for i in large {
        let after = total.saturating_add(candidates[i].size);
        if after > limit {
            out[i] = Admission::LeaveOut;
        } else {
            total = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_goes_in_above_the_limit_and_large_files_do_not() {
        let files = [
            Candidate {
                path: b"big.bin",
                size: 5_000,
            },
            Candidate {
                path: b"a.py",
                size: 400,
            },
            Candidate {
                path: b"mid.bin",
                size: 300,
            },
        ];
        use Admission::{Admit, LeaveOut};
        assert_eq!(admit(&files, 0, None, 100), [Admit, Admit, Admit]);
        assert_eq!(admit(&files, 0, Some(1_000), 100), [LeaveOut, Admit, Admit]);
        assert_eq!(admit(&files, 0, Some(10), 100), [LeaveOut, Admit, LeaveOut]);
        assert_eq!(
            admit(&files, 400, Some(1_100), 100),
            [LeaveOut, Admit, Admit]
        );
    }
}
