//! `gs:` stores: Google Cloud Storage.

use super::connect::{Connector, is_set};
use super::failure::{Redaction, Service};
use super::object::Objects;
use super::open::StoreOptions;
use super::remote::{self, Place, RETRIES};
use nbws_core::Result;
use object_store::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use std::sync::Arc;
use url::Url;

/// Connects to the bucket and prefix of `url`, which has no userinfo and no query. Sends nothing yet.
pub(super) fn open(url: &Url, described: &str, options: &StoreOptions) -> Result<Objects> {
    let place = Place::of(Service::Gcs, url, described)?;
    let builder = configure(options)
        .map_err(|why| place.invalid(why))?
        .with_bucket_name(place.bucket);
    let may_be_plain = builder
        .get_config_value(&GoogleConfigKey::Client(ClientConfigKey::AllowHttp))
        .is_some_and(|text| is_set(&text));
    if let Some(endpoint) = builder.get_config_value(&GoogleConfigKey::BaseUrl) {
        remote::check_endpoint(&endpoint, may_be_plain).map_err(|why| place.invalid(why))?;
    }
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
fn configure(options: &StoreOptions) -> Result<GoogleCloudStorageBuilder, String> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_retry(RETRIES)
        .with_http_connector(Connector::default());
    // The client would take plain HTTP without being asked.
    for (name, key, value) in [
        (
            "GOOGLE_TIMEOUT",
            ClientConfigKey::Timeout,
            remote::NO_TIMEOUT,
        ),
        ("GOOGLE_ALLOW_HTTP", ClientConfigKey::AllowHttp, "false"),
    ] {
        if std::env::var_os(name).is_none() {
            builder = builder.with_config(GoogleConfigKey::Client(key), value);
        }
    }
    for (name, value) in options.iter() {
        let key = remote::option::<GoogleConfigKey>(name)?;
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// Everything that must not appear in an error text.
fn secrets_of(builder: &GoogleCloudStorageBuilder) -> Redaction {
    let secrets = ["service_account_key", "bearer_token"]
        .iter()
        .filter_map(|name| builder.get_config_value(&name.parse().ok()?));
    let urls = [
        GoogleConfigKey::BaseUrl,
        GoogleConfigKey::Client(ClientConfigKey::ProxyUrl),
    ];
    let urls = urls.iter().filter_map(|key| builder.get_config_value(key));
    Redaction::new(secrets.chain(urls.filter_map(remote::password)))
}
