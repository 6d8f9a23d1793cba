//! The working part of nbws: I/O and the order of events; one verb, one file.

mod ballast;
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
mod fork;
mod local;
mod log;
mod notebook;
pub mod options;
mod place;
mod preview;
pub mod progress;
mod prune;
mod random;
pub mod report;
mod resolve;
mod restore;
mod rights;
mod save;
mod session;
mod settings;
pub mod store;
mod stored_chunks;
mod stored_tree;
mod tally;
mod upkeep;
mod usage;
mod whole_log;
mod whole_tree;
mod workspace;

pub use browse::{FileReader, SnapshotReader};
pub use export::TarReader;
pub use fork::Forked;
pub use nbws_core::lifecycle::{Transition, transitions};
pub use nbws_core::state::State;
pub use nbws_core::{Error, ErrorKind, Result};
pub use notebook::{ClaimOptions, Claimed, DEFAULT_TTL, FoundSession, Hold, LogEvent, TargetState};
pub use prune::{ForgottenSnapshot, PinnedSnapshot, PruneReport, WaitingMark};
pub use tally::{Tallied, tally};
pub use workspace::Workspace;

/// Names of what lies directly below `url`, sorted: the repositories of a container. A few listings.
pub async fn children(url: &str, options: &store::StoreOptions) -> Result<Vec<String>> {
    let deadline = clock::Deadline::after(workspace::OPEN_PATIENCE);
    let store = store::open(url, options)?;
    let patient = store::Retrying::new(store, deadline, cancel::CancelToken::new());
    store::Store::children(&patient).await
}
