//! `file:` stores. The directory is made by the first write, so that looking at a URL leaves nothing behind.

use super::failure::{Redaction, Site, from_errno};
use super::object::Objects;
use super::{Created, ObjectInfo, Store};
use async_trait::async_trait;
use bytes::Bytes;
use nbws_core::{Error, ErrorKind, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use url::Url;

const OPERATION: &str = "open store";

/// Objects in one directory, which may not exist yet.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    url: String,
    objects: OnceLock<Objects>,
}

impl Directory {
    /// Looks, but makes nothing. `InvalidInput` if something else than a directory is there.
    pub(super) fn open(root: PathBuf, url: String) -> Result<Self> {
        let directory = Directory {
            root,
            url,
            objects: OnceLock::new(),
        };
        directory.exists()?;
        Ok(directory)
    }

    fn exists(&self) -> Result<bool> {
        match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => Ok(true),
            Ok(_) => Err(Error::new(
                ErrorKind::InvalidInput,
                OPERATION,
                "the path is a file; a store needs a directory",
            )
            .at(self.url.clone())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.refused(&e)),
        }
    }

    fn refused(&self, error: &io::Error) -> Error {
        from_errno(OPERATION, error.raw_os_error().unwrap_or(0)).at(self.url.clone())
    }

    fn attach(&self) -> Result<&Objects> {
        if let Some(objects) = self.objects.get() {
            return Ok(objects);
        }
        let client = LocalFileSystem::new_with_prefix(&self.root)
            .map_err(|_| {
                Error::new(ErrorKind::LocalIo, OPERATION, "can't open the directory")
                    .at(self.url.clone())
            })?
            .with_fsync(true);
        let client = Arc::new(client);
        let objects = Objects {
            client: client.clone(),
            create_client: client,
            prefix: ObjectPath::ROOT,
            site: Site::Local,
            redaction: Redaction::default(),
            url: self.url.clone(),
        };
        Ok(self.objects.get_or_init(|| objects))
    }

    /// For reads: `None` while nobody wrote anything.
    fn present(&self) -> Result<Option<&Objects>> {
        if let Some(objects) = self.objects.get() {
            return Ok(Some(objects));
        }
        if !self.exists()? {
            return Ok(None);
        }
        self.attach().map(Some)
    }

    /// For writes: makes the directory, durably.
    fn made(&self) -> Result<&Objects> {
        if let Some(objects) = self.objects.get() {
            return Ok(objects);
        }
        if !self.exists()? {
            create_durably(&self.root).map_err(|e| self.refused(&e))?;
        }
        self.attach()
    }

    /// A directory that may be listed but not searched would look empty to the client's walk; that must be an error.
    fn check_searchable(&self, prefix: &str) -> Result<()> {
        let directory = &prefix[..prefix.rfind('/').map_or(0, |at| at + 1)];
        match fs::metadata(self.root.join(directory).join(".")) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => {
                Err(from_errno("list objects", e.raw_os_error().unwrap_or(0)).at(prefix.to_owned()))
            }
        }
    }
}

/// Creates `directory` and its missing ancestors and syncs each new entry, so that a power loss can't take away the
/// directory under objects that were acknowledged.
/// Gives a file a second name: objects are never changed, so that is as good as a copy. Where the file system can't, copies it.
fn link_durably(from: &Path, to: &Path) -> io::Result<()> {
    let parent = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_durably(parent)?;
    match fs::hard_link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(e),
        Ok(()) => {}
        Err(_) => {
            let temporary = to.with_extension("tmp");
            fs::copy(from, &temporary)?;
            fs::File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, to)?;
        }
    }
    fs::File::open(parent)?.sync_all()
}

fn create_durably(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    fs::create_dir_all(directory)?;
    for made in missing {
        if let Some(parent) = made.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn missing(operation: &'static str, key: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation, "does not exist").at(key)
}

#[async_trait]
impl Store for Directory {
    async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.made()?.put(key, bytes).await
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        self.made()?.create(key, bytes).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        match self.present()? {
            Some(objects) => objects.get(key).await,
            None => Err(missing("read object", key)),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        match self.present()? {
            Some(objects) => objects.get_range(key, range).await,
            None => Err(missing("read object", key)),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo> {
        match self.present()? {
            Some(objects) => objects.head(key).await,
            None => Err(missing("look up object", key)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>> {
        match self.present()? {
            Some(objects) => {
                self.check_searchable(prefix)?;
                objects.list(prefix, after).await
            }
            None => Ok(Vec::new()),
        }
    }

    async fn copy_from(&self, source: &str, key: &str) -> Result<()> {
        const OPERATION: &str = "copy object";
        let source = Url::parse(source)
            .ok()
            .and_then(|url| url.to_file_path().ok());
        let source =
            source.ok_or_else(|| Error::internal(OPERATION, "the source is no directory"))?;
        self.made()?;
        let (from, to, key) = (source.join(key), self.root.join(key), key.to_owned());
        let copied = tokio::task::spawn_blocking(move || link_durably(&from, &to));
        copied
            .await
            .map_err(|e| Error::internal(OPERATION, format!("a worker failed: {e}")))?
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => {
                    Error::new(ErrorKind::NotFound, OPERATION, "does not exist").at(key)
                }
                _ => from_errno(OPERATION, e.raw_os_error().unwrap_or(0)).at(key),
            })
    }

    async fn children(&self) -> Result<Vec<String>> {
        match self.present()? {
            Some(objects) => {
                self.check_searchable("")?;
                objects.children().await
            }
            None => Ok(Vec::new()),
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.present()? {
            Some(objects) => objects.delete(key).await,
            None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        self.url.clone()
    }
}
