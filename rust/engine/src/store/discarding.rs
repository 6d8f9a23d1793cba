//! A store that reads and only pretends to write, for previews.

use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Passes reads on and drops every write as if it had succeeded.
#[derive(Debug)]
pub struct Discarding {
    inner: Arc<dyn Store>,
}

impl Discarding {
    /// Shields `inner` from writes.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Discarding { inner }
    }
}

#[async_trait]
impl Store for Discarding {
    async fn put(&self, _: &str, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn create(&self, _: &str, _: Bytes) -> Result<Created> {
        Ok(Created::Yes)
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        Err(Error::internal("preview", "would delete an object").at(key))
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
