//! The pure part of nbws: bytes in, values out.
//!
//! No async, file system, network, clock, randomness or logging. Groups import only leftward:
//! `error limits id | key path header wire canonical | chunker codec frame pack index tree snapshot state format record
//! ledger | filter diff lifecycle | plan` (a test in `tests/arch` enforces it). The format that these modules read and
//! write is specified in `docs/format.md`.

pub mod error;
pub mod id;
pub mod limits;

pub mod canonical;
pub mod header;
pub mod key;
pub mod path;
pub mod wire;

pub mod chunker;
pub mod codec;
pub mod format;
pub mod frame;
pub mod index;
pub mod ledger;
pub mod pack;
pub mod record;
pub mod snapshot;
pub mod state;
pub mod tree;

pub mod diff;
pub mod filter;
pub mod lifecycle;

pub mod plan;

pub use error::{Error, ErrorKind, Result};
