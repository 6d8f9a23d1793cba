//! The working part of nbws: I/O and the order of events; one verb, one file.

pub mod cancel;
pub mod clock;
#[allow(dead_code)]
mod local;
#[allow(dead_code)]
mod log;
pub mod store;
