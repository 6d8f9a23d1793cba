//! A store on top of an `object_store` client.

use super::failure::{Redaction, Site, translate};
use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use nbws_core::limits::MAX_CONTAINER_BYTES;
use nbws_core::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A request to a remote store may take this long ...
const PATIENCE: Duration = Duration::from_secs(30);
/// ... and as much longer as its bytes need at this many bytes a second.
const SLOWEST_LINK: u64 = 32 << 10;

/// Objects behind a prefix of one client.
#[derive(Clone)]
pub(super) struct Objects {
    /// For everything but `create`; may repeat requests by itself, since they are idempotent.
    pub(super) client: Arc<dyn ObjectStore>,
    /// For `create`: never repeats a request by itself.
    pub(super) create_client: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) site: Site,
    pub(super) redaction: Redaction,
    pub(super) url: String,
}

/// Clients print their configuration, which may hold credentials; the URL says enough.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.url).finish()
    }
}

impl Objects {
    fn path(&self, operation: &'static str, key: &str) -> Result<Path> {
        let well_formed = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
            && key.split('/').all(|name| !matches!(name, "" | "." | ".."));
        if !well_formed {
            return Err(Error::internal(operation, "malformed object name").at(key));
        }
        Ok(self.below(key))
    }

    /// Joins without checks; `tail` may be empty.
    fn below(&self, tail: &str) -> Path {
        tail.split('/')
            .filter(|name| !name.is_empty())
            .fold(self.prefix.clone(), |path, name| path.join(name))
    }

    /// Where the store at `source` has the object `key`, if it is another prefix of this client.
    fn elsewhere(&self, source: &str, key: &str) -> Option<Path> {
        let (own, prefix) = (self.url.trim_end_matches('/'), self.prefix.as_ref());
        let base = own.strip_suffix(prefix)?.trim_end_matches('/');
        let other = source.trim_end_matches('/').strip_prefix(base)?;
        let is_whole = other.is_empty() || other.starts_with('/');
        let prefix = Path::from_url_path(other).ok().filter(|_| is_whole)?;
        Some(key.split('/').fold(prefix, |path, name| path.join(name)))
    }

    fn key(&self, location: &Path) -> Option<String> {
        let full = location.as_ref();
        let prefix = self.prefix.as_ref();
        if prefix.is_empty() {
            return Some(full.to_owned());
        }
        Some(full.strip_prefix(prefix)?.strip_prefix('/')?.to_owned())
    }

    fn failed(&self, operation: &'static str, key: &str, error: &object_store::Error) -> Error {
        translate(self.site, &self.redaction, operation, key, error)
    }

    /// `NotFound` is for reads of one object: a write or a listing that finds nothing has the wrong place.
    fn place_failed(
        &self,
        operation: &'static str,
        key: &str,
        error: &object_store::Error,
    ) -> Error {
        let error = self.failed(operation, key, error);
        if error.kind() == ErrorKind::NotFound {
            return Error::new(
                ErrorKind::InvalidInput,
                operation,
                "the bucket or directory does not exist",
            )
            .at(key);
        }
        error
    }

    /// Waits for a request, but not for ever: a stalled connection must not stall a save.
    async fn bounded<T>(
        &self,
        operation: &'static str,
        key: &str,
        bytes: u64,
        request: impl Future<Output = T>,
    ) -> Result<T> {
        if !matches!(self.site, Site::Remote(_)) {
            return Ok(request.await);
        }
        let limit = PATIENCE + Duration::from_secs(bytes / SLOWEST_LINK);
        tokio::time::timeout(limit, request).await.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                operation,
                format!("the store did not answer within {} s", limit.as_secs()),
            )
            .at(key)
        })
    }
}

fn listed(meta: &ObjectMeta, key: String) -> ObjectInfo {
    ObjectInfo {
        key,
        size: meta.size,
        modified_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
    }
}

#[async_trait]
impl Store for Objects {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        const OPERATION: &str = "store object";
        let path = self.path(OPERATION, key)?;
        let len = bytes.len() as u64;
        let request = self.client.put(&path, PutPayload::from_bytes(bytes));
        self.bounded(OPERATION, key, len, request)
            .await?
            .map_err(|e| self.place_failed(OPERATION, key, &e))?;
        Ok(())
    }

    async fn put_parts(&self, key: &str, parts: Vec<Bytes>) -> Result<bool> {
        const OPERATION: &str = "store object in parts";
        if !matches!(self.site, Site::Remote(_)) {
            return Ok(false);
        }
        let path = self.path(OPERATION, key)?;
        let len = parts.iter().map(|part| part.len() as u64).sum();
        let upload = async {
            let mut upload = self.client.put_multipart(&path).await?;
            for part in parts {
                if let Err(error) = upload.put_part(PutPayload::from_bytes(part)).await {
                    // Parts that stay behind cost until the bucket's own rules remove them.
                    drop(upload.abort().await);
                    return Err(error);
                }
            }
            upload.complete().await
        };
        self.bounded(OPERATION, key, len, upload)
            .await?
            .map_err(|e| self.place_failed(OPERATION, key, &e))?;
        Ok(true)
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        const OPERATION: &str = "create object";
        let path = self.path(OPERATION, key)?;
        let len = bytes.len() as u64;
        let request = self.create_client.put_opts(
            &path,
            PutPayload::from_bytes(bytes),
            PutOptions::from(PutMode::Create),
        );
        match self.bounded(OPERATION, key, len, request).await? {
            Ok(_) => Ok(Created::Yes),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotModified { .. },
            ) => Ok(Created::Exists),
            Err(e) => Err(self.place_failed(OPERATION, key, &e)),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        const OPERATION: &str = "read object";
        let path = self.path(OPERATION, key)?;
        let found = self
            .bounded(OPERATION, key, 0, self.client.get(&path))
            .await?
            .map_err(|e| self.failed(OPERATION, key, &e))?;
        let size = found.meta.size;
        if size > MAX_CONTAINER_BYTES {
            return Err(Error::corrupt(
                OPERATION,
                format!("is larger than any object: {size} bytes"),
            )
            .at(key));
        }
        let bytes = self
            .bounded(OPERATION, key, size, found.bytes())
            .await?
            .map_err(|e| self.failed(OPERATION, key, &e))?;
        exactly(OPERATION, key, bytes, size)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        const OPERATION: &str = "read object";
        let path = self.path(OPERATION, key)?;
        let len = range.end.saturating_sub(range.start);
        if len == 0 {
            return Ok(Bytes::new());
        }
        if len > MAX_CONTAINER_BYTES {
            return Err(Error::internal(OPERATION, "range is larger than any object").at(key));
        }
        let bytes = self
            .bounded(OPERATION, key, len, self.client.get_range(&path, range))
            .await?
            .map_err(|e| self.failed(OPERATION, key, &e))?;
        exactly(OPERATION, key, bytes, len)
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        const OPERATION: &str = "look up object";
        let path = self.path(OPERATION, key)?;
        let meta = self
            .bounded(OPERATION, key, 0, self.client.head(&path))
            .await?
            .map_err(|e| self.failed(OPERATION, key, &e))?;
        Ok(listed(&meta, key.to_owned()))
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        const OPERATION: &str = "list objects";
        // Clients list whole components only; the rest of the prefix is compared here.
        let directory = &prefix[..prefix.rfind('/').map_or(0, |at| at + 1)];
        let below = self.below(directory);
        let below = (!below.is_root()).then_some(&below);
        let mut pages = match after {
            Some(after) => self.client.list_with_offset(below, &self.below(after)),
            None => self.client.list(below),
        };
        let mut found = Vec::new();
        loop {
            let next = self
                .bounded(OPERATION, prefix, 0, pages.try_next())
                .await?
                .map_err(|e| self.place_failed(OPERATION, prefix, &e))?;
            let Some(meta) = next else { break };
            let Some(key) = self.key(&meta.location) else {
                continue;
            };
            if key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after) {
                found.push(listed(&meta, key));
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        const OPERATION: &str = "copy object";
        let to = self.path(OPERATION, key)?;
        let from = self.elsewhere(source, key).ok_or_else(|| {
            let why = "the source does not lie in the same bucket";
            Error::new(ErrorKind::Unsupported, OPERATION, why).at(source)
        })?;
        self.bounded(
            OPERATION,
            key,
            MAX_CONTAINER_BYTES,
            self.client.copy(&from, &to),
        )
        .await?
        .map_err(|e| self.failed(OPERATION, key, &e))
    }

    async fn children(&self) -> Result<Vec<String>> {
        const OPERATION: &str = "list children";
        let below = self.below("");
        let below = (!below.is_root()).then_some(&below);
        let listed = self
            .bounded(OPERATION, "", 0, self.client.list_with_delimiter(below))
            .await?
            .map_err(|e| self.place_failed(OPERATION, "", &e))?;
        let mut found: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|prefix| prefix.filename().map(str::to_owned))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        const OPERATION: &str = "delete object";
        let path = self.path(OPERATION, key)?;
        match self
            .bounded(OPERATION, key, 0, self.client.delete(&path))
            .await?
        {
            Ok(()) => Ok(()),
            Err(e) => match self.failed(OPERATION, key, &e) {
                e if e.kind() == ErrorKind::NotFound => Ok(()),
                e => Err(e),
            },
        }
    }

    fn describe(&self) -> String {
        self.url.clone()
    }
}

fn exactly(operation: &'static str, key: &str, bytes: Bytes, len: u64) -> Result<Bytes> {
    if bytes.len() as u64 == len {
        return Ok(bytes);
    }
    Err(Error::corrupt(
        operation,
        format!("the store returned {} of {len} bytes", bytes.len()),
    )
    .at(key))
}
