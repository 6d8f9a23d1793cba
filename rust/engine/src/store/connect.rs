//! How remote stores are spoken to: no redirect is followed, Retry-After is obeyed, fewer requests run at once while a store is asked
//! too much, and listings are checked.

use super::listing;
use super::throttle::{Answer, Throttle};
use crate::clock::Deadline;
use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use reqwest::redirect::Policy;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A store that asks for a longer pause is asked again after this one: signatures must not grow old.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
const AGENT: &str = concat!("nbws/", env!("CARGO_PKG_VERSION"));

/// Until when a store wants to be left alone. Shared by all clients of one store.
#[derive(Debug, Default)]
struct Gate(Mutex<Option<Deadline>>);

impl Gate {
    fn wanted(&self) -> Option<Duration> {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*until)?.remaining().filter(|left| !left.is_zero())
    }

    /// Waits; a caller with a deadline stops waiting by itself.
    async fn pass(&self) {
        while let Some(left) = self.wanted() {
            tokio::time::sleep(left).await;
        }
    }

    fn close(&self, pause: Duration) {
        if self.wanted().is_none_or(|left| left < pause) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Deadline::after(pause));
        }
    }
}

/// Connects like the client does by itself, with the rules of this module.
#[derive(Clone, Debug, Default)]
pub(super) struct Connector {
    gate: Arc<Gate>,
    throttle: Arc<Throttle>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = client(options).map_err(|why| object_store::Error::Generic {
            store: "HTTP client",
            source: why.into(),
        })?;
        Ok(HttpClient::new(Careful {
            plain: HttpClient::new(plain),
            gate: Arc::clone(&self.gate),
            throttle: Arc::clone(&self.throttle),
        }))
    }
}

#[derive(Debug)]
struct Careful {
    plain: HttpClient,
    gate: Arc<Gate>,
    throttle: Arc<Throttle>,
}

#[async_trait]
impl HttpService for Careful {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_listing = listing::is_asked(request.uri().query());
        // Whoever has a turn waits for the gate with it: nobody else could go on either.
        let mut turn = self.throttle.turn().await;
        self.gate.pass().await;
        let response = self.plain.execute(request).await?;
        let status = response.status().as_u16();
        turn.answer = match status {
            429 | 503 => Answer::TooMuch,
            500.. => Answer::Unclear,
            _ => Answer::Served,
        };
        if matches!(status, 429 | 503) {
            let said = response.headers().get("retry-after");
            if let Some(pause) = said.and_then(|value| pause_of(value.to_str().ok()?)) {
                self.gate.close(pause);
            }
        }
        if is_listing && response.status().is_success() {
            return listing::checked(response).await;
        }
        Ok(response)
    }
}

/// Whole seconds, the form that object stores send; a date is left to the ordinary waits.
fn pause_of(value: &str) -> Option<Duration> {
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The client that these options describe. `object_store` builds one that follows redirects and takes its headers
/// along, of which a session token is one.
fn client(options: &ClientOptions) -> Result<reqwest::Client, String> {
    let text = |key: ClientConfigKey| options.get_config_value(&key);
    let flag = |key| text(key).is_some_and(|value| is_set(&value));
    let time = |key| match text(key) {
        Some(value) => humantime::parse_duration(&value)
            .map(Some)
            .map_err(|_| format!("not a time: {value}")),
        None => Ok(None),
    };
    let agent = text(ClientConfigKey::UserAgent).unwrap_or_else(|| AGENT.to_owned());
    let mut builder = reqwest::Client::builder()
        .user_agent(agent)
        .redirect(Policy::none())
        .https_only(!flag(ClientConfigKey::AllowHttp));
    if let Some(limit) = time(ClientConfigKey::Timeout)? {
        builder = builder.timeout(limit);
    }
    if let Some(limit) = time(ClientConfigKey::ConnectTimeout)? {
        builder = builder.connect_timeout(limit);
    }
    if let Some(limit) = time(ClientConfigKey::ReadTimeout)? {
        builder = builder.read_timeout(limit);
    }
    if let Some(limit) = time(ClientConfigKey::PoolIdleTimeout)? {
        builder = builder.pool_idle_timeout(limit);
    }
    if let Some(most) = text(ClientConfigKey::PoolMaxIdlePerHost).and_then(|n| n.parse().ok()) {
        builder = builder.pool_max_idle_per_host(most);
    }
    if flag(ClientConfigKey::Http1Only) {
        builder = builder.http1_only();
    }
    if flag(ClientConfigKey::Http2Only) {
        builder = builder.http2_prior_knowledge();
    }
    if flag(ClientConfigKey::AllowInvalidCertificates) {
        builder = builder.danger_accept_invalid_certs(true);
    }
    if let Some(url) = text(ClientConfigKey::ProxyUrl) {
        let excludes = text(ClientConfigKey::ProxyExcludes);
        let proxy = reqwest::Proxy::all(url).map_err(|_| "the proxy's URL can't be used")?;
        let excludes = excludes.and_then(|list| reqwest::NoProxy::from_string(&list));
        builder = builder.proxy(proxy.no_proxy(excludes));
    }
    if let Some(pem) = text(ClientConfigKey::ProxyCaCertificate) {
        let certificate = reqwest::Certificate::from_pem(pem.as_bytes())
            .map_err(|_| "the proxy's certificate can't be used")?;
        builder = builder.tls_certs_merge([certificate]);
    }
    builder
        .build()
        .map_err(|cause| format!("the HTTP client can't be made: {cause}"))
}

/// Whether the text of a flag says yes, as the client reads it.
pub(super) fn is_set(text: &str) -> bool {
    ["true", "1", "yes", "on", "y"].contains(&text.to_ascii_lowercase().as_str())
}

/// An error that counts as a broken connection, so that the request is repeated.
pub(super) fn refuse(why: &'static str) -> HttpError {
    HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(why))
}
