//! One prefix of a store that is open already: the repositories of a container share its connections.

use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::Result;
use std::ops::Range;
use std::sync::Arc;

/// The objects of a store below `name/`.
#[derive(Debug)]
pub struct Below {
    whole: Arc<dyn Store>,
    name: String,
}

impl Below {
    /// What lies in `whole` below `name/`.
    pub fn new(whole: Arc<dyn Store>, name: &str) -> Self {
        Below {
            whole,
            name: name.to_owned(),
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.name)
    }

    fn relative(&self, mut object: ObjectInfo) -> Option<ObjectInfo> {
        let key = object.key.strip_prefix(&self.name)?.strip_prefix('/')?;
        object.key = key.to_owned();
        Some(object)
    }
}

#[async_trait]
impl Store for Below {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.whole.put(&self.key(key), bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.whole.create(&self.key(key), bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.whole.get(&self.key(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.whole.get_range(&self.key(key), range).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        let mut found = self.whole.head(&self.key(key)).await?;
        found.key = key.to_owned();
        Ok(found)
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        let after = after.map(|after| self.key(after));
        let listed = self.whole.list(&self.key(prefix), after.as_deref()).await?;
        Ok(listed
            .into_iter()
            .filter_map(|o| self.relative(o))
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.whole.delete(&self.key(key)).await
    }

    fn describe(&self) -> String {
        format!("{}/{}", self.whole.describe(), self.name)
    }
}
