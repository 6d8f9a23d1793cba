//! Quotas in a save: when the limits are looked at, what a refusal says, and what a report says of them.

use super::plan::{Planned, omit_text};
use super::tree_writer::NewTree;
use crate::options::SaveOptions;
use nbws_core::plan::admit::{Account, Excess, Over, Quota, Totals, size_text};
use nbws_core::plan::save_order::{Value, value};
use nbws_core::record::Record;
use nbws_core::tree::OmitReason;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// How a warning about a hard limit begins.
const OVER_HARD: &str = "over the hard limit: ";

/// The limits of one save, and what the repository takes in the store before it.
pub(crate) struct Limits {
    pub(crate) quota: Quota,
    pub(crate) stored: u64,
}

impl Limits {
    /// The quota that is in force: the last save of a run and work that is kept as a rescue are never refused.
    pub(crate) fn of(options: &SaveOptions, newest: Option<&Record>, is_head: bool) -> Self {
        let mut quota = options.quota;
        if options.is_last || !is_head {
            quota.over = Over::KeepSmall;
        }
        let stored = newest.map_or(0, |record| record.usage.stored_bytes);
        Limits { quota, stored }
    }

    /// The last look, at everything that this save has packed: only a refusal can come of it, and not of a save that brings no
    /// files.
    pub(crate) fn check_packed(&self, packed: u64, brings_files: bool) -> Result<()> {
        let totals = Totals {
            stored: self.stored + packed,
            ..Totals::default()
        };
        match self.quota.over {
            Over::Refuse if brings_files && self.quota.bounds_stored() => self
                .quota
                .over_hard(&totals)
                .map_or(Ok(()), |e| Err(refused(e))),
            _ => Ok(()),
        }
    }

    /// What a report says: how far the workspace is over its limits, and where most lies.
    pub(crate) fn warnings(
        &self,
        wished: Option<Excess>,
        tree: &NewTree,
        packed: u64,
    ) -> Vec<String> {
        let totals = Totals {
            files: tree.files,
            bytes: tree.bytes,
            stored: self.stored + packed,
        };
        let mut out = Vec::new();
        if let Some(excess) = wished.or_else(|| self.quota.over_hard(&totals)) {
            out.push(format!(
                "{OVER_HARD}{excess}; notebooks, code and small files are saved all the same{}",
                largest(tree)
            ));
        }
        if let Some(excess) = self.quota.over_soft(&totals) {
            out.push(format!("over the soft limit: {excess}{}", largest(tree)));
        }
        out
    }
}

pub(crate) fn refused(excess: Excess) -> Error {
    Error::new(
        ErrorKind::QuotaExceeded,
        "save",
        format!(
            "there would be {excess}; nothing was saved, and the newest snapshot stays what it is. Remove or exclude something, or raise the limit"
        ),
    )
}

/// What was admitted so far, shared by readers and encoders.
pub(crate) struct Admitted {
    quota: Quota,
    whole: u64,
    open: Mutex<Open>,
}

struct Open {
    account: Account,
    /// Bytes that files count as which have another size than the scan saw, by work number.
    resized: HashMap<u32, u64>,
}

impl Admitted {
    pub(crate) fn new(quota: Quota, totals: Totals, whole: u64) -> Self {
        let account = Account::new(quota, totals, whole);
        let resized = HashMap::new();
        Admitted {
            quota,
            whole,
            open: Mutex::new(Open { account, resized }),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether a file may go in with the size that it has now; an error if the whole save is refused.
    pub(crate) fn admits(&self, planned: &Planned, work: u32, found: u64) -> Result<bool> {
        let applicant = planned.applicant(work);
        let mut open = self.open();
        let counted = open.resized.get(&work).copied().unwrap_or(applicant.size);
        if found == counted {
            return Ok(true);
        }
        let is_in = open
            .account
            .resize(&applicant, counted, found)
            .map_err(refused)?;
        let counts_as = if is_in {
            found
        } else {
            applicant.before.unwrap_or(0)
        };
        open.resized.insert(work, counts_as);
        Ok(is_in)
    }

    /// Whether the chunks of a file of this size have to ask for room in the store.
    pub(crate) fn bounds(&self, path: &[u8], size: u64) -> bool {
        self.quota.over == Over::KeepSmall
            && self.quota.bounds_stored()
            && value(path, size, self.whole) == Value::Large
    }

    /// Takes room for the plain bytes of chunks; `false`: there is none.
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        self.open().account.reserve(bytes)
    }

    /// A frame of so many bytes goes into a pack.
    pub(crate) fn store(&self, bytes: u64, reserved: u64) -> Result<()> {
        self.open().account.store(bytes, reserved).map_err(refused)
    }
}

/// Whether a save with these warnings would be refused if it were told to refuse.
pub(crate) fn is_over_hard(warnings: &[String]) -> bool {
    let left_out = omit_text(OmitReason::Quota);
    let is_it = |text: &String| text.starts_with(OVER_HARD) || text.ends_with(left_out);
    warnings.iter().any(is_it)
}

fn largest(tree: &NewTree) -> String {
    let named = tree.largest.top();
    if named.is_empty() {
        return String::new();
    }
    let named: Vec<String> = named
        .iter()
        .map(|(name, bytes)| format!("{} ({})", String::from_utf8_lossy(name), size_text(*bytes)))
        .collect();
    format!("; most lies in {}", named.join(", "))
}

/// The largest of what lies at the top of a tree, whose entries come in order.
#[derive(Default)]
pub(crate) struct Largest {
    present: (Vec<u8>, u64),
    top: Vec<(Vec<u8>, u64)>,
}

impl Largest {
    const KEPT: usize = 3;

    /// Adds a file.
    pub(crate) fn add(&mut self, path: &[u8], bytes: u64) {
        let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
        let name = &path[..end];
        if self.present.0 != name {
            self.close();
            self.present = (name.to_vec(), 0);
        }
        self.present.1 += bytes;
    }

    fn close(&mut self) {
        let done = std::mem::take(&mut self.present);
        if done.1 > 0 {
            self.top.push(done);
            self.top.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            self.top.truncate(Self::KEPT);
        }
    }

    /// No more files come.
    pub(crate) fn finish(&mut self) {
        self.close();
    }

    fn top(&self) -> &[(Vec<u8>, u64)] {
        &self.top
    }
}
