//! The working part of nbws: I/O and the order of events; one verb, one file.

pub mod cancel;
pub mod clock;
#[allow(dead_code)]
mod local;
#[allow(dead_code)]
mod log;
pub mod store;

#[allow(clippy::all, unreachable_pub)]
mod surface_stub;
pub use cancel::CancelToken;
pub use nbws_core::{Error, ErrorKind, Result};
pub use surface_stub::*;
