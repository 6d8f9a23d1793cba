//! What the stores at the other end of a network share: bucket and prefix of a URL, retries, options, endpoints.

use super::failure::{Redaction, Service, Site, said, translate};
use super::object::Objects;
use nbws_core::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

const OPERATION: &str = "open store";

/// Reads and plain writes repeat a little by themselves; the long waits are `Retrying`'s, which knows the deadline.
pub(super) const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
    },
    max_retries: 2,
    retry_timeout: Duration::from_secs(10),
};

/// A conditional PUT that is sent again after a 5xx can meet its own first copy, so this client never does that.
pub(super) const NO_RETRIES: RetryConfig = RetryConfig {
    max_retries: 0,
    ..RETRIES
};

/// Requests are bounded by their size (`Objects::bounded`); one figure for all would cut slow uploads.
pub(super) const NO_TIMEOUT: &str = "1 day";

/// Bucket (or container) and prefix of a URL.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    service: Service,
    url: &'a Url,
    described: &'a str,
    pub(super) bucket: &'a str,
}

impl<'a> Place<'a> {
    /// `InvalidInput` unless the URL names a bucket and a prefix that a store can hold.
    pub(super) fn of(service: Service, url: &'a Url, described: &'a str) -> Result<Self> {
        let bucket = url.host_str().unwrap_or_default();
        let place = Place {
            service,
            url,
            described,
            bucket,
        };
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if bucket.is_empty() || !bucket.bytes().all(is_name) {
            let scheme = url.scheme();
            return Err(place.invalid(format!(
                "the URL names no possible bucket; write {scheme}://bucket/prefix"
            )));
        }
        place.prefix()?;
        Ok(place)
    }

    fn prefix(&self) -> Result<Path> {
        Path::from_url_path(self.url.path())
            .map_err(|e| self.invalid(format!("the prefix can't be used: {e}")))
    }

    pub(super) fn invalid(&self, why: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, OPERATION, why.into()).at(self.described)
    }

    /// Why a client could not be made. Nothing was sent: what fails here is an option.
    pub(super) fn failed(&self, redaction: &Redaction, error: &object_store::Error) -> Error {
        let site = Site::Remote(self.service);
        let translated = translate(site, redaction, OPERATION, self.described, error);
        match translated.kind() {
            ErrorKind::Unavailable | ErrorKind::NotFound => self.invalid(format!(
                "an option can't be used: {}",
                said(error, redaction)
            )),
            _ => translated,
        }
    }

    /// The store of two clients, of which the second one never repeats a request.
    pub(super) fn objects(
        &self,
        client: Arc<dyn ObjectStore>,
        create_client: Arc<dyn ObjectStore>,
        redaction: Redaction,
    ) -> Objects {
        Objects {
            client,
            create_client,
            prefix: self.prefix().unwrap_or(Path::ROOT),
            site: Site::Remote(self.service),
            redaction,
            url: self.described.to_owned(),
        }
    }
}

/// The key of an option, as obstore spells it: in any letter case, client options with or without their prefix.
pub(super) fn option<K: FromStr>(name: &str) -> Result<K, String> {
    name.strip_prefix("client_options.")
        .unwrap_or(name)
        .to_ascii_lowercase()
        .parse()
        .map_err(|_| format!("unknown store option {name:?}"))
}

/// Clients panic at the first request if the endpoint is no URL, and only then notice plain HTTP.
pub(super) fn check_endpoint(text: &str, may_be_plain: bool) -> Result<(), &'static str> {
    let scheme = Url::parse(text)
        .ok()
        .filter(Url::has_host)
        .map(|url| url.scheme().to_owned());
    match scheme.as_deref() {
        Some("https") => Ok(()),
        Some("http") if may_be_plain => Ok(()),
        Some("http") => Err("the endpoint is plain http; if that is meant, set allow_http to true"),
        _ => Err("the endpoint is no URL; write https://host or https://host:port"),
    }
}

/// The password in a URL.
pub(super) fn password(url: String) -> Option<String> {
    Url::parse(&url).ok()?.password().map(str::to_owned)
}
