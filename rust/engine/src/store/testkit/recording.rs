//! Remembers every request, for exact assertions.

use super::Verb;
use crate::store::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::Result;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// One request: verb, name (of a listing: its prefix), and bytes sent by a write or received by a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was asked.
    pub verb: Verb,
    /// Of which object, or below which prefix.
    pub key: String,
    /// Bytes sent or received; 0 for a failed read and for other verbs.
    pub bytes: u64,
}

/// A store that remembers what passes through it, in the order in which requests ended.
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn Store>,
    requests: Mutex<Vec<Request>>,
}

impl Recording {
    /// Remembers nothing yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Recording {
            inner,
            requests: Mutex::default(),
        }
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As `take`, without the bytes.
    pub fn take_verbs(&self) -> Vec<(Verb, String)> {
        self.take().into_iter().map(|r| (r.verb, r.key)).collect()
    }

    fn note(&self, verb: Verb, key: &str, bytes: usize) {
        let request = Request {
            verb,
            key: key.to_owned(),
            bytes: bytes as u64,
        };
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
    }
}

#[async_trait]
impl Store for Recording {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let len = bytes.len();
        let result = self.inner.put(key, bytes).await;
        self.note(Verb::Put, key, len);
        result
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let len = bytes.len();
        let result = self.inner.create(key, bytes).await;
        self.note(Verb::Create, key, len);
        result
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let result = self.inner.get(key).await;
        self.note(Verb::Get, key, result.as_ref().map_or(0, Bytes::len));
        result
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let result = self.inner.get_range(key, range).await;
        self.note(Verb::GetRange, key, result.as_ref().map_or(0, Bytes::len));
        result
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let result = self.inner.head(key).await;
        self.note(Verb::Head, key, 0);
        result
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let result = self.inner.list(prefix, after).await;
        self.note(Verb::List, prefix, 0);
        result
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let result = self.inner.delete(key).await;
        self.note(Verb::Delete, key, 0);
        result
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
