//! The only code that touches `log/` and `hint`: find the newest record, read records, append one.
//!
//! It decides nothing about work: a lost race is handed back, and the verb says what becomes of it.

mod append;
mod glance;
mod head;
mod hint;
mod ledger;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use append::{Appended, append, is_refusal};
pub(crate) use glance::newest_record;
pub(crate) use head::{LogHead, find_head, find_readable_head};
pub(crate) use hint::{try_write_hint, write_hint};
pub(crate) use ledger::{newest_ledger, remove_records, write_ledger};
pub(crate) use read::{is_unreadable, list_modified, read_each, read_from};
