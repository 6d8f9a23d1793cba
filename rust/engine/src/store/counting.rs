//! Counts requests and bytes, for reports.

use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::Result;
use std::ops::{Add, Range, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests by verb and bytes by direction. Every attempt counts, also a failed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTotals {
    /// Writes: `put` and `create`.
    pub put: u64,
    /// Reads: `get` and `get_range`.
    pub get: u64,
    /// Listings, not pages.
    pub list: u64,
    /// `head` requests.
    pub head: u64,
    /// Deletes.
    pub delete: u64,
    /// Bytes of objects sent.
    pub bytes_up: u64,
    /// Bytes of objects received.
    pub bytes_down: u64,
}

impl RequestTotals {
    /// Requests of all verbs.
    pub fn requests(&self) -> u64 {
        self.put + self.get + self.list + self.head + self.delete
    }
}

impl Add for RequestTotals {
    type Output = RequestTotals;

    fn add(self, other: RequestTotals) -> RequestTotals {
        RequestTotals {
            put: self.put + other.put,
            get: self.get + other.get,
            list: self.list + other.list,
            head: self.head + other.head,
            delete: self.delete + other.delete,
            bytes_up: self.bytes_up + other.bytes_up,
            bytes_down: self.bytes_down + other.bytes_down,
        }
    }
}

impl Sub for RequestTotals {
    type Output = RequestTotals;

    fn sub(self, earlier: RequestTotals) -> RequestTotals {
        RequestTotals {
            put: self.put.saturating_sub(earlier.put),
            get: self.get.saturating_sub(earlier.get),
            list: self.list.saturating_sub(earlier.list),
            head: self.head.saturating_sub(earlier.head),
            delete: self.delete.saturating_sub(earlier.delete),
            bytes_up: self.bytes_up.saturating_sub(earlier.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(earlier.bytes_down),
        }
    }
}

/// A store that counts what passes through it.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Store>,
    put: AtomicU64,
    get: AtomicU64,
    list: AtomicU64,
    head: AtomicU64,
    delete: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Counting {
    /// Counts from zero.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Counting {
            inner,
            put: AtomicU64::new(0),
            get: AtomicU64::new(0),
            list: AtomicU64::new(0),
            head: AtomicU64::new(0),
            delete: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        }
    }

    /// What passed so far; subtract an earlier value to get a span.
    pub fn totals(&self) -> RequestTotals {
        RequestTotals {
            put: self.put.load(Ordering::Relaxed),
            get: self.get.load(Ordering::Relaxed),
            list: self.list.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[async_trait]
impl Store for Counting {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        add(&self.put, 1);
        add(&self.bytes_up, bytes.len() as u64);
        self.inner.put(key, bytes).await
    }

    async fn put_parts(&self, key: &str, parts: Vec<Bytes>) -> Result<bool> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let requests = parts.len() as u64 + 2;
        let is_sent = self.inner.put_parts(key, parts).await?;
        if is_sent {
            add(&self.put, requests);
            add(&self.bytes_up, bytes as u64);
        }
        Ok(is_sent)
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        add(&self.put, 1);
        add(&self.bytes_up, bytes.len() as u64);
        self.inner.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        add(&self.get, 1);
        let bytes = self.inner.get(key).await?;
        add(&self.bytes_down, bytes.len() as u64);
        Ok(bytes)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        add(&self.get, 1);
        let bytes = self.inner.get_range(key, range).await?;
        add(&self.bytes_down, bytes.len() as u64);
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        add(&self.head, 1);
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        add(&self.list, 1);
        self.inner.list(prefix, after).await
    }

    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        add(&self.put, 1);
        self.inner.copy_from(source, key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        add(&self.delete, 1);
        self.inner.delete(key).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
