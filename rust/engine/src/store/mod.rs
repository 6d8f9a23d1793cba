//! The store port: objects behind one prefix, by name. The only module that names `object_store`.
//!
//! Eight verbs are all that the engine asks of a store (and a ninth that only the doctor tries). `create` is the one commit primitive: everything that must
//! have a single winner goes through it, and it is never repeated blindly.

mod azure;
mod below;
mod connect;
mod counting;
mod discarding;
mod exclusive;
mod failure;
mod file;
mod gcs;
mod listing;
mod object;
mod open;
mod remote;
mod retry;
mod s3;
#[cfg(feature = "testkit")]
pub mod testkit;
mod throttle;

pub use below::Below;
pub use counting::{Counting, RequestTotals};
pub use discarding::Discarding;
pub use exclusive::Exclusive;
pub use open::{StoreOptions, open};
pub use retry::Retrying;
pub(crate) use retry::{Backoff, pause, within};

use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// What a listing or a `head` says about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, relative to the store's prefix.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written by the store's clock, in milliseconds since 1970 UTC.
    pub modified_ms: u64,
}

/// Outcome of a `create` that the store decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there with exactly these bytes, durably.
    Yes,
    /// The store refused because the name is taken, or contended (409). Says nothing about whose bytes are there:
    /// an earlier attempt of the same writer may have landed. Read it back.
    Exists,
}

/// Objects behind one prefix.
///
/// Names are ASCII, relative, with `/` between components. Writes are atomic: a reader sees the whole object or none.
/// Kinds of errors: `NotFound` (only `get`, `get_range`, `head`), `Denied`, `QuotaExceeded` (the store is full),
/// `Corrupt` (fewer bytes than asked for), `Unsupported`, `InvalidInput` (no such bucket, bad option), `LocalIo`
/// (`file:`), and `Unavailable`, after which nobody knows whether a write landed.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Writes the object, replacing it if it exists.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()>;
    /// Writes the object in parts, replacing it if it exists: only measured, since nbws sends every object as one. False, and nothing
    /// done, where a store knows no parts.
    async fn put_parts(&self, _key: &str, _parts: Vec<Bytes>) -> Result<bool> {
        Ok(false)
    }
    /// Writes the object if the name is free. Sent once: an unclear outcome is an error, and the caller reads back.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created>;
    /// Reads the whole object.
    async fn get(&self, key: &str) -> Result<Bytes>;
    /// Reads exactly `range`, or fails.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;
    /// Size and time of the object.
    async fn head(&self, key: &str) -> Result<ObjectInfo>;
    /// Every object whose name starts with `prefix` and sorts after `after`, sorted by name. Never a part of them:
    /// a page that fails makes the call fail. A store without the prefix lists nothing.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>>;
    /// First components of names that have more than one, sorted: what a container of repositories holds.
    async fn children(&self) -> Result<Vec<String>> {
        let listed = self.list("", None).await?;
        let first = |object: &ObjectInfo| {
            object
                .key
                .split_once('/')
                .map(|(first, _)| first.to_owned())
        };
        let found: BTreeSet<String> = listed.iter().filter_map(first).collect();
        Ok(found.into_iter().collect())
    }
    /// Copies the object of the same name from the store at `source`, another prefix of the same bucket, by the service itself: its bytes
    /// don't pass through this program. Replaces what is there. `Unsupported` where that can't be done, `NotFound` if there is none.
    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        let why = "copies within the store can't be had here";
        Err(Error::new(ErrorKind::Unsupported, "copy object", why).at(format!("{source}/{key}")))
    }
    /// Removes the object; one that is not there counts as removed.
    async fn delete(&self, key: &str) -> Result<()>;
    /// The store's URL without secrets.
    fn describe(&self) -> String;
}
