//! `s3:` stores: Amazon S3 and services that speak its protocol.

use super::failure::{Redaction, Site, said, translate};
use super::listing::ListingCheck;
use super::object::Objects;
use super::open::StoreOptions;
use nbws_core::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

const OPERATION: &str = "open store";

/// Reads and plain writes repeat a little by themselves; the long waits are `Retrying`'s, which knows the deadline.
const RETRIES: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
    },
    max_retries: 2,
    retry_timeout: Duration::from_secs(10),
};

/// A conditional PUT that is sent again after a 5xx can meet its own first copy, so this client never does that.
const NO_RETRIES: RetryConfig = RetryConfig {
    max_retries: 0,
    ..RETRIES
};

/// Connects to the bucket and prefix of `url`, which has no userinfo and no query. Sends nothing yet.
pub(super) fn open(url: &Url, described: &str, options: &StoreOptions) -> Result<Objects> {
    let invalid =
        |why: String| Error::new(ErrorKind::InvalidInput, OPERATION, why).at(described.to_owned());
    let bucket = url.host_str().unwrap_or_default();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if bucket.is_empty() || !bucket.bytes().all(is_name) {
        return Err(invalid(
            "the URL names no possible bucket; write s3://bucket/prefix".to_owned(),
        ));
    }
    let prefix = Path::from_url_path(url.path())
        .map_err(|e| invalid(format!("the prefix can't be used: {e}")))?;
    let builder = configure(options)
        .map_err(invalid)?
        .with_bucket_name(bucket);
    check_endpoint(&builder).map_err(|why| invalid(why.to_owned()))?;
    let redaction = secrets_of(&builder);
    let failed = |e: object_store::Error| {
        let error = translate(Site::Remote, &redaction, OPERATION, described, &e);
        // Nothing was sent: what fails here is an option.
        match error.kind() {
            ErrorKind::Unavailable => {
                invalid(format!("an option can't be used: {}", said(&e, &redaction)))
            }
            _ => error,
        }
    };
    let client = builder.clone().build().map_err(failed)?;
    let create_client = builder
        .with_credentials(client.credentials().clone())
        .with_retry(NO_RETRIES)
        .build()
        .map_err(failed)?;
    Ok(Objects {
        client: Arc::new(client),
        create_client: Arc::new(create_client),
        prefix,
        site: Site::Remote,
        redaction,
        url: described.to_owned(),
    })
}

/// The environment, then the options over it.
fn configure(options: &StoreOptions) -> Result<AmazonS3Builder, String> {
    let mut builder = AmazonS3Builder::from_env()
        .with_retry(RETRIES)
        .with_http_connector(ListingCheck)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true);
    if std::env::var_os("AWS_TIMEOUT").is_none() {
        // Requests are bounded by their size (`Objects::bounded`); one figure for all would cut slow uploads.
        let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        builder = builder.with_config(key, "1 day");
    }
    for (name, value) in options.iter() {
        let bare = name.strip_prefix("client_options.").unwrap_or(name);
        let key: AmazonS3ConfigKey = bare
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| format!("unknown store option {name:?}"))?;
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// The client panics at the first request if the endpoint is no URL, and only then notices plain HTTP.
fn check_endpoint(builder: &AmazonS3Builder) -> Result<(), &'static str> {
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let may_be_plain = builder.get_config_value(&allow_http).is_some_and(|text| {
        ["true", "1", "yes", "on", "y"].contains(&text.to_ascii_lowercase().as_str())
    });
    for key in [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint] {
        let Some(text) = builder.get_config_value(&key) else {
            continue;
        };
        let scheme = Url::parse(&text)
            .ok()
            .filter(Url::has_host)
            .map(|url| url.scheme().to_owned());
        match scheme.as_deref() {
            Some("https") => {}
            Some("http") if may_be_plain => {}
            Some("http") => {
                return Err("the endpoint is plain http; if that is meant, set allow_http to true");
            }
            _ => return Err("the endpoint is no URL; write https://host or https://host:port"),
        }
    }
    Ok(())
}

/// Everything that must not appear in an error text.
fn secrets_of(builder: &AmazonS3Builder) -> Redaction {
    // One of the keys has a type without a public name, so all are spelled.
    let secrets = ["secret_access_key", "token", "sse_customer_key_base64"]
        .iter()
        .filter_map(|name| builder.get_config_value(&name.parse().ok()?));
    let urls = [
        AmazonS3ConfigKey::Endpoint,
        AmazonS3ConfigKey::S3Endpoint,
        AmazonS3ConfigKey::Client(ClientConfigKey::ProxyUrl),
    ];
    let passwords = urls
        .iter()
        .filter_map(|key| builder.get_config_value(key))
        .filter_map(|text| Url::parse(&text).ok()?.password().map(str::to_owned));
    Redaction::new(secrets.chain(passwords))
}
