//! The working part of nbws: I/O and the order of events; one verb, one file.

pub mod cancel;
#[allow(dead_code)]
pub mod clock;
#[allow(dead_code)]
mod local;
#[allow(dead_code, unused_imports)]
mod log;
pub mod store;
