//! Adds the time that a network takes.

use crate::store::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A store behind a link: each request waits for the latency, and its bytes share one bandwidth in each direction.
#[derive(Debug)]
pub struct Slow {
    inner: Arc<dyn Store>,
    latency: Duration,
    bytes_per_second: u64,
    up: Mutex<()>,
    down: Mutex<()>,
}

impl Slow {
    /// `bytes_per_second` of 0 means that only the latency counts.
    pub fn new(inner: Arc<dyn Store>, latency: Duration, bytes_per_second: u64) -> Self {
        Slow {
            inner,
            latency,
            bytes_per_second,
            up: Mutex::new(()),
            down: Mutex::new(()),
        }
    }

    async fn wait(&self) {
        tokio::time::sleep(self.latency).await;
    }

    async fn carry(&self, direction: &Mutex<()>, bytes: usize) {
        let Some(micros) = (bytes as u64)
            .saturating_mul(1_000_000)
            .checked_div(self.bytes_per_second)
        else {
            return;
        };
        let _turn = direction.lock().await;
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

#[async_trait]
impl Store for Slow {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.wait().await;
        self.carry(&self.up, bytes.len()).await;
        self.inner.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.wait().await;
        self.carry(&self.up, bytes.len()).await;
        self.inner.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.wait().await;
        let bytes = self.inner.get(key).await?;
        self.carry(&self.down, bytes.len()).await;
        Ok(bytes)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.wait().await;
        let bytes = self.inner.get_range(key, range).await?;
        self.carry(&self.down, bytes.len()).await;
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.wait().await;
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.wait().await;
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.wait().await;
        self.inner.delete(key).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
