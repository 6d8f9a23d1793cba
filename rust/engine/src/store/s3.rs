//! `s3:` stores: Amazon S3 and services that speak its protocol.

use super::failure::{Redaction, Site, translate};
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
    let bucket = url.host_str().filter(|b| !b.is_empty()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            OPERATION,
            "the URL names no bucket; write s3://bucket/prefix",
        )
    })?;
    let prefix = Path::from_url_path(url.path()).map_err(|e| {
        Error::new(
            ErrorKind::InvalidInput,
            OPERATION,
            format!("the prefix can't be used: {e}"),
        )
        .at(described.to_owned())
    })?;
    let mut builder = AmazonS3Builder::from_env()
        .with_retry(RETRIES)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true);
    if std::env::var_os("AWS_TIMEOUT").is_none() {
        // Requests are bounded by their size (`Objects::bounded`); one figure for all would cut slow uploads.
        let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        builder = builder.with_config(key, "1 day");
    }
    for (name, value) in options.iter() {
        let name = name.strip_prefix("client_options.").unwrap_or(name);
        let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| {
            Error::new(
                ErrorKind::InvalidInput,
                OPERATION,
                format!("unknown store option {name:?}"),
            )
            .at(described.to_owned())
        })?;
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket);
    let redaction = secrets_of(&builder);
    let failed = |e: &object_store::Error| {
        let error = translate(Site::Remote, &redaction, OPERATION, described, e);
        // Nothing was sent: what fails here is the configuration.
        match error.kind() {
            ErrorKind::Unavailable => Error::new(
                ErrorKind::InvalidInput,
                OPERATION,
                error.message().to_owned(),
            )
            .at(described.to_owned()),
            _ => error,
        }
    };
    let client = builder.clone().build().map_err(|e| failed(&e))?;
    let create_client = builder
        .with_credentials(client.credentials().clone())
        .with_retry(NO_RETRIES)
        .build()
        .map_err(|e| failed(&e))?;
    Ok(Objects {
        client: Arc::new(client),
        create_client: Arc::new(create_client),
        prefix,
        site: Site::Remote,
        redaction,
        url: described.to_owned(),
    })
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
