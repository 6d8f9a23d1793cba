//! From a URL to a store.

use super::failure::{Redaction, Site};
use super::file::Directory;
use super::object::Objects;
use super::{Store, azure, gcs, s3};
use nbws_core::{Error, ErrorKind, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use url::Url;

const OPERATION: &str = "open store";
const KNOWN: &str = "known are file:///absolute/directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix \
                     and memory:///name";

/// Options of a store by name, as obstore spells them: `endpoint`, `access_key_id`, `secret_access_key`, `region`,
/// `session_token`, `virtual_hosted_style_request`, `client_options.allow_http` and so on for `s3:`,
/// `service_account_key` and `base_url` for `gs:`, `account_name` and `account_key` for `az:`.
///
/// Only remote stores have options; they go before `AWS_*`, `GOOGLE_*` and `AZURE_*` variables of the environment. `Debug` shows
/// names, never values.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreOptions(BTreeMap<String, String>);

impl StoreOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one option.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for StoreOptions {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(options: I) -> Self {
        StoreOptions(
            options
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Opens the store behind `url`: `file:///directory`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or
/// `memory:///name`.
///
/// Sends nothing and creates nothing; a `file:` directory is made by the first write. Two calls with one `memory:`
/// name share the objects for as long as the program runs. `InvalidInput` for other URLs and unknown options,
/// `Denied` if credentials are missing in part.
pub fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>> {
    let parsed = Url::parse(url).map_err(|e| {
        // The text is not shown: it may hold a password.
        invalid(format!("not a URL ({e}); {KNOWN}"))
    })?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(invalid(
            "the URL holds credentials; pass them as options or environment variables instead",
        ));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(invalid(
            "the URL has a query or fragment; write ? as %3F and # as %23, and pass options separately",
        ));
    }
    let described = parsed.as_str().trim_end_matches('/').to_owned();
    if matches!(parsed.scheme(), "file" | "memory")
        && let Some((name, _)) = options.iter().next()
    {
        return Err(invalid(format!("unknown store option {name:?}")).at(described));
    }
    match parsed.scheme() {
        "file" => Ok(Arc::new(open_file(&parsed, described)?)),
        "memory" => Ok(Arc::new(open_memory(&parsed)?)),
        "gs" => Ok(Arc::new(gcs::open(&parsed, &described, options)?)),
        "az" => Ok(Arc::new(azure::open(&parsed, &described, options)?)),
        "s3" => Ok(Arc::new(s3::open(&parsed, &described, options)?)),
        other => Err(invalid(format!("unknown scheme {other:?}; {KNOWN}"))),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, OPERATION, message.into())
}

fn open_file(url: &Url, described: String) -> Result<Directory> {
    let root = url
        .to_file_path()
        .map_err(|()| invalid("a file URL needs an absolute path: file:///directory"))?;
    if root.parent().is_none() {
        return Err(invalid("the root of the file system can't be a store"));
    }
    Directory::open(root, described)
}

type Rooms = Mutex<HashMap<String, Arc<InMemory>>>;

fn open_memory(url: &Url) -> Result<Objects> {
    static ROOMS: OnceLock<Rooms> = OnceLock::new();
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(invalid("write memory:///name, with three slashes"));
    }
    let name = url.path().trim_matches('/').to_owned();
    let (room, prefix) = name.split_once('/').unwrap_or((&name, ""));
    let prefix = Path::from_url_path(prefix)
        .map_err(|e| invalid(format!("the prefix can't be used: {e}")))?;
    let mut rooms = ROOMS
        .get_or_init(Rooms::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let client = rooms.entry(room.to_owned()).or_default().clone();
    Ok(Objects {
        client: client.clone(),
        create_client: client,
        prefix,
        site: Site::Memory,
        redaction: Redaction::default(),
        url: format!("memory:///{name}"),
    })
}
