//! The only code that touches `log/` and `hint`: find the newest record, read records, append one.
//!
//! It decides nothing about work: a lost race is handed back, and the verb says what becomes of it.

mod append;
mod head;
mod hint;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use append::{Appended, append, is_refusal};
pub(crate) use head::{LogHead, find_head, find_readable_head};
pub(crate) use hint::write_hint;
pub(crate) use read::{read_each, read_from};
