//! The working part of nbws: I/O and the order of events; one verb, one file.

mod base;
mod beside;
mod browse;
mod budget;
pub mod cancel;
mod check;
pub mod clock;
mod directories;
pub mod doctor;
mod export;
mod local;
mod log;
pub mod options;
mod preview;
pub mod progress;
mod prune;
mod random;
pub mod report;
mod resolve;
mod restore;
mod save;
mod session;
mod settings;
pub mod store;
mod stored_chunks;
mod stored_tree;
mod upkeep;
mod usage;
mod whole_log;
mod whole_tree;
mod workspace;

pub use browse::{FileReader, SnapshotReader};
pub use export::TarReader;
pub use nbws_core::{Error, ErrorKind, Result};
pub use prune::{ForgottenSnapshot, PinnedSnapshot, PruneReport, WaitingMark};
pub use workspace::Workspace;
