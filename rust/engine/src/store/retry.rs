//! Repeats idempotent requests while a store is unavailable.

use super::{Created, ObjectInfo, Store};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{Error, ErrorKind, Result};
use std::fmt;
use std::future::Future;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;

/// First wait; each following one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long one request is repeated if the deadline is later: rides out an outage of a minute and more.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a wait looks at the cancel token.
const GLANCE: Duration = Duration::from_millis(100);

/// A store that repeats `put`, `get`, `get_range`, `head`, `list` and `delete` after `Unavailable`, with growing,
/// random waits, until the deadline or for three minutes a request. Other errors are final.
///
/// `create` is passed through once: whoever calls it must look first what became of an unclear attempt. Every request,
/// also `create`, ends with `Unavailable` when the deadline passes and with `Cancelled` when the token is set.
#[derive(Debug)]
pub struct Retrying<S = Arc<dyn Store>> {
    inner: S,
    deadline: Deadline,
    cancel: CancelToken,
}

impl<S> Retrying<S>
where
    S: Deref<Target: Store> + fmt::Debug + Send + Sync,
{
    /// Repeats until `deadline` or until `cancel` is set.
    pub fn new(inner: S, deadline: Deadline, cancel: CancelToken) -> Self {
        Retrying {
            inner,
            deadline,
            cancel,
        }
    }

    async fn repeat<T, F: Future<Output = Result<T>>>(
        &self,
        operation: &'static str,
        key: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let end = self.deadline.min(Deadline::after(PATIENCE));
        let mut backoff = Backoff::new(FIRST_WAIT);
        loop {
            let error = match within(self.deadline, &self.cancel, operation, key, attempt()).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                decided => return decided,
            };
            let wait = backoff.next_wait();
            if end.remaining().is_some_and(|left| left <= wait) {
                return Err(error);
            }
            pause(wait, &self.cancel).await?;
        }
    }
}

/// Waits that grow and are random, so that many clients don't come back at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    /// Starts with a wait of about `first`.
    pub(crate) fn new(first: Duration) -> Self {
        Backoff(first)
    }

    /// Half to all of the present step; the next step is twice as long.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.0;
        self.0 = (step * 2).min(LONGEST_WAIT);
        // Without randomness the waits are only less spread.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        step / 2 + step.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }
}

/// Sleeps, but not past a cancellation.
pub(crate) async fn pause(wait: Duration, cancel: &CancelToken) -> Result<()> {
    let end = Deadline::after(wait);
    while let Some(left) = end.remaining().filter(|left| !left.is_zero()) {
        cancel.check()?;
        tokio::time::sleep(left.min(GLANCE)).await;
    }
    cancel.check()
}

/// Waits for `request` until the deadline or a cancellation; whether a write given up lands stays open.
pub(crate) async fn within<T>(
    deadline: Deadline,
    cancel: &CancelToken,
    operation: &'static str,
    key: &str,
    request: impl Future<Output = Result<T>>,
) -> Result<T> {
    cancel.check()?;
    let mut request = std::pin::pin!(request);
    loop {
        let glance = deadline.remaining().map_or(GLANCE, |left| left.min(GLANCE));
        if let Ok(result) = tokio::time::timeout(glance, &mut request).await {
            return result;
        }
        cancel.check()?;
        if deadline.passed() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                operation,
                "the store did not answer before the deadline",
            )
            .at(key));
        }
    }
}

#[async_trait]
impl<S> Store for Retrying<S>
where
    S: Deref<Target: Store> + fmt::Debug + Send + Sync,
{
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.repeat("store object", key, || self.inner.put(key, bytes.clone()))
            .await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let request = self.inner.create(key, bytes);
        within(self.deadline, &self.cancel, "create object", key, request).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        self.repeat("read object", key, || self.inner.get(key))
            .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.repeat("read object", key, || {
            self.inner.get_range(key, range.clone())
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.repeat("look up object", key, || self.inner.head(key))
            .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        self.repeat("list objects", prefix, || self.inner.list(prefix, after))
            .await
    }

    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        self.repeat("copy object", key, || self.inner.copy_from(source, key))
            .await
    }

    async fn children(&self) -> Result<Vec<String>> {
        self.repeat("list children", "", || self.inner.children())
            .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.repeat("delete object", key, || self.inner.delete(key))
            .await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
