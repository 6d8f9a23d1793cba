//! `s3:` stores: Amazon S3 and services that speak its protocol.

use super::connect::{Connector, is_set};
use super::failure::{Redaction, Service};
use super::object::Objects;
use super::open::StoreOptions;
use super::remote::{self, Place, RETRIES};
use nbws_core::Result;
use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use std::sync::Arc;
use url::Url;

/// Connects to the bucket and prefix of `url`, which has no userinfo and no query. Sends nothing yet.
pub(super) fn open(url: &Url, described: &str, options: &StoreOptions) -> Result<Objects> {
    let place = Place::of(Service::S3, url, described)?;
    let builder = configure(options)
        .map_err(|why| place.invalid(why))?
        .with_bucket_name(place.bucket);
    check_endpoint(&builder).map_err(|why| place.invalid(why))?;
    let redaction = secrets_of(&builder);
    let client = builder
        .clone()
        .build()
        .map_err(|e| place.failed(&redaction, &e))?;
    let create_client = builder
        .with_credentials(client.credentials().clone())
        .with_retry(remote::NO_RETRIES)
        .build()
        .map_err(|e| place.failed(&redaction, &e))?;
    Ok(place.objects(Arc::new(client), Arc::new(create_client), redaction))
}

/// The environment, then the options over it.
fn configure(options: &StoreOptions) -> Result<AmazonS3Builder, String> {
    let mut builder = AmazonS3Builder::from_env()
        .with_retry(RETRIES)
        .with_http_connector(Connector::default())
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true);
    if std::env::var_os("AWS_TIMEOUT").is_none() {
        let key = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        builder = builder.with_config(key, remote::NO_TIMEOUT);
    }
    for (name, value) in options.iter() {
        let key = remote::option::<AmazonS3ConfigKey>(name)?;
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// The client panics at the first request if the endpoint is no URL, and only then notices plain HTTP.
fn check_endpoint(builder: &AmazonS3Builder) -> Result<(), &'static str> {
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let may_be_plain = builder
        .get_config_value(&allow_http)
        .is_some_and(|text| is_set(&text));
    [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint]
        .iter()
        .filter_map(|key| builder.get_config_value(key))
        .try_for_each(|text| remote::check_endpoint(&text, may_be_plain))
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
    let urls = urls.iter().filter_map(|key| builder.get_config_value(key));
    Redaction::new(secrets.chain(urls.filter_map(remote::password)))
}
