//! Lists what is not there any more, or not what is there.

use crate::store::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::Result;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// How a listing lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Staleness {
    /// Not at all.
    #[default]
    Fresh,
    /// Leaves out the last names.
    DropLast(usize),
    /// Answers as of the time of [`StaleList::freeze`], with objects deleted since and without new ones.
    Frozen(Vec<ObjectInfo>),
    /// Shows nothing.
    Empty,
}

/// A store whose reads and writes are right and whose listings are not.
#[derive(Debug)]
pub struct StaleList {
    inner: Arc<dyn Store>,
    staleness: Mutex<Staleness>,
}

impl StaleList {
    /// Fresh until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        StaleList {
            inner,
            staleness: Mutex::default(),
        }
    }

    /// Lies this way from now on.
    pub fn set(&self, staleness: Staleness) {
        *self
            .staleness
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = staleness;
    }

    /// From now on listings answer as of this moment.
    pub async fn freeze(&self) -> Result<()> {
        let now = self.inner.list("", None).await?;
        self.set(Staleness::Frozen(now));
        Ok(())
    }
}

#[async_trait]
impl Store for StaleList {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.inner.create(key, bytes).await
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
        let mut found = self.inner.list(prefix, after).await?;
        let staleness = self
            .staleness
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*staleness {
            Staleness::Fresh => {}
            Staleness::DropLast(n) => found.truncate(found.len().saturating_sub(*n)),
            Staleness::Frozen(then) => {
                found = then
                    .iter()
                    .filter(|o| {
                        o.key.starts_with(prefix)
                            && after.is_none_or(|after| o.key.as_str() > after)
                    })
                    .cloned()
                    .collect();
            }
            Staleness::Empty => found.clear(),
        }
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
