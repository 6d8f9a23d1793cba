//! `az:` stores: Azure Blob Storage.

use super::connect::{Connector, is_set};
use super::failure::{Redaction, Service};
use super::object::Objects;
use super::open::StoreOptions;
use super::remote::{self, Place, RETRIES};
use nbws_core::Result;
use object_store::ClientConfigKey;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use std::sync::Arc;
use url::Url;

/// Options whose values must not appear in an error text.
const SECRET: [&str; 6] = [
    "account_key",
    "client_secret",
    "sas_key",
    "token",
    "fabric_session_token",
    "encryption_key",
];

/// Connects to the container and prefix of `url`, which has no userinfo and no query. Sends nothing yet.
pub(super) fn open(url: &Url, described: &str, options: &StoreOptions) -> Result<Objects> {
    let place = Place::of(Service::Azure, url, described)?;
    let builder = configure(options)
        .map_err(|why| place.invalid(why))?
        .with_container_name(place.bucket);
    let may_be_plain = builder
        .get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp))
        .is_some_and(|text| is_set(&text));
    if let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) {
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
fn configure(options: &StoreOptions) -> Result<MicrosoftAzureBuilder, String> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_retry(RETRIES)
        .with_http_connector(Connector::default());
    if std::env::var_os("AZURE_TIMEOUT").is_none() {
        let key = AzureConfigKey::Client(ClientConfigKey::Timeout);
        builder = builder.with_config(key, remote::NO_TIMEOUT);
    }
    for (name, value) in options.iter() {
        let key = remote::option::<AzureConfigKey>(name)?;
        builder = builder.with_config(key, value);
    }
    Ok(builder)
}

/// Everything that must not appear in an error text.
fn secrets_of(builder: &MicrosoftAzureBuilder) -> Redaction {
    let secrets = SECRET
        .iter()
        .filter_map(|name| builder.get_config_value(&name.parse().ok()?));
    let urls = [
        AzureConfigKey::Endpoint,
        AzureConfigKey::Client(ClientConfigKey::ProxyUrl),
    ];
    let urls = urls.iter().filter_map(|key| builder.get_config_value(key));
    Redaction::new(secrets.chain(urls.filter_map(remote::password)))
}
