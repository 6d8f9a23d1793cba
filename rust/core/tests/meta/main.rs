//! Encodings of metadata (tree, snapshot, format, records) and the rules of the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attachments;
mod format;
mod ledger;
mod lifecycle;
mod records;
mod samples;
mod snapshot;
mod tree;
mod tree_order;
