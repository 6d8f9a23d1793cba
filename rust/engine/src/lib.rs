//! The working part of nbws: I/O and the order of events; one verb, one file.

pub mod cancel;
#[allow(dead_code)]
pub mod clock;
#[allow(dead_code)]
mod local;
#[allow(dead_code, unused_imports)]
mod log;
pub mod store;

#[allow(dead_code)]
mod options;
#[allow(dead_code)]
mod progress;
#[allow(dead_code)]
mod report;
#[allow(clippy::all, unreachable_pub, missing_docs)]
mod surface_stub;
pub use cancel::CancelToken;
pub use nbws_core::tree::OmitReason;
pub use nbws_core::{Error, ErrorKind, Result};
pub use options::{CheckOptions, Delete, Level, OpenOptions, RestoreOptions, SaveOptions};
pub use progress::{Progress, ProgressSink};
pub use report::{
    CheckReport, Damage, Omitted, Requests, RestoreReport, SaveReport, Skipped, SnapshotInfo, UsageReport,
};
pub use surface_stub::Workspace;
