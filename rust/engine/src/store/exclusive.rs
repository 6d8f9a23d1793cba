//! `create` for stores that offer no conditional one, where something outside of the store lets in one writer at a time.

use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// A store with one writer at a time: a create that the store can't carry out becomes a look and a write.
#[derive(Debug)]
pub struct Exclusive(Arc<dyn Store>);

impl Exclusive {
    /// Only for callers that hold the right to write while they create.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Exclusive(inner)
    }
}

#[async_trait]
impl Store for Exclusive {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.0.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        match self.0.create(key, bytes.clone()).await {
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            answered => return answered,
        }
        match self.0.head(key).await {
            Ok(_) => Ok(Created::Exists),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.0.put(key, bytes).await.map(|()| Created::Yes)
            }
            Err(e) => Err(e),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.0.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.0.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.0.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.0.list(prefix, after).await
    }

    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        self.0.copy_from(source, key).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
