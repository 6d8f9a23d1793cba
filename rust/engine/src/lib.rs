//! The working part of nbws: I/O and the order of events; one verb, one file.

#[allow(dead_code)]
mod local;
#[allow(dead_code)]
mod log;
pub mod store;
