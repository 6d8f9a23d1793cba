//! Turns the errors of `object_store` into ours: by kind, in plain words, without secrets.

use nbws_core::{Error, ErrorKind};
use rustix::io::Errno;
use std::error::Error as StdError;
use std::fmt;

/// Longest text that is taken over from a server or a library.
const MAX_FOREIGN_TEXT: usize = 400;

/// Whose protocol a remote store speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Amazon S3 and what is like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Service {
    fn credentials_hint(self) -> &'static str {
        match self {
            Service::S3 => {
                "no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY \
                 (and AWS_SESSION_TOKEN for temporary ones), or pass access_key_id and secret_access_key"
            }
            Service::Gcs => {
                "no usable credentials: set GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, \
                 or pass service_account_key or bearer_token"
            }
            Service::Azure => {
                "no usable credentials: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_KEY), \
                 or pass account_name and account_key"
            }
        }
    }
}

/// Where a store lives, which decides how its errors are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A directory.
    Local,
    /// The memory of this program.
    Memory,
    /// The other end of a network.
    Remote(Service),
}

/// Removes secrets from texts that somebody else wrote.
#[derive(Clone, Default)]
pub(super) struct Redaction(Vec<String>);

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redaction({} secrets)", self.0.len())
    }
}

impl Redaction {
    /// Longer secrets first, so that one that contains another disappears whole. Very short ones would only garble.
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|s| s.len() >= 4).collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Redaction(secrets)
    }

    /// `text` without secrets, without userinfo and queries of URLs, cut to a bounded length.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "***");
        }
        let words: Vec<String> = text.split_whitespace().map(clean_url).collect();
        let mut text = words.join(" ");
        if text.len() > MAX_FOREIGN_TEXT {
            let end = (0..=MAX_FOREIGN_TEXT)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push_str("...");
        }
        text
    }
}

/// Drops userinfo and query of a URL inside one word; they may hold passwords and signatures.
fn clean_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// An error of `operation` on `key`, by kind and in plain words.
pub(super) fn translate(
    site: Site,
    redaction: &Redaction,
    operation: &'static str,
    key: &str,
    error: &object_store::Error,
) -> Error {
    if !matches!(site, Site::Remote(_))
        && let Some(errno) = find::<std::io::Error>(error).and_then(|e| e.raw_os_error())
        && !matches!(error, object_store::Error::NotFound { .. })
    {
        return from_errno(operation, errno).at(key);
    }
    let (kind, message) = match error {
        object_store::Error::NotFound { .. } => not_found(error),
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => (
            ErrorKind::Unavailable,
            "another write of the same object is under way".to_owned(),
        ),
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => refused(error, redaction),
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => (
            ErrorKind::Unsupported,
            "the store can't carry out this operation".to_owned(),
        ),
        object_store::Error::InvalidPath { .. } => (
            ErrorKind::InvalidInput,
            format!("the store can't hold this name: {}", said(error, redaction)),
        ),
        object_store::Error::UnknownConfigurationKey { key, .. } => (
            ErrorKind::InvalidInput,
            format!("unknown store option {key:?}"),
        ),
        _ => generic(site, redaction, error),
    };
    Error::new(kind, operation, message).at(key)
}

/// What a server answered, read from the text of the client's error, whose type is private to `object_store` 0.14.
struct Answer<'a> {
    status: Option<u16>,
    body: &'a str,
}

impl<'a> Answer<'a> {
    fn of(text: &'a str) -> Self {
        const STATUS: &str = "Server returned non-2xx status code: ";
        const BODY: &str = "Server returned error response: ";
        if let Some(at) = text.find(STATUS) {
            let rest = &text[at + STATUS.len()..];
            let status = rest.get(..3).and_then(|digits| digits.parse().ok());
            let body = rest.split_once(": ").map_or("", |(_, body)| body);
            return Answer { status, body };
        }
        match text.find(BODY) {
            Some(at) => Answer {
                status: Some(500),
                body: &text[at + BODY.len()..],
            },
            None => Answer {
                status: None,
                body: "",
            },
        }
    }

    fn says(&self, code: &str) -> bool {
        self.body.contains(code)
    }
}

/// A missing bucket must not look like a missing object: the latter may mean "new notebook".
fn not_found(error: &object_store::Error) -> (ErrorKind, String) {
    let text = error.to_string();
    let answer = Answer::of(&text);
    if answer.says("NoSuchBucket") || answer.says("ContainerNotFound") {
        return (
            ErrorKind::InvalidInput,
            "the bucket does not exist; create it first, or correct the URL or region".to_owned(),
        );
    }
    (ErrorKind::NotFound, "does not exist".to_owned())
}

fn refused(error: &object_store::Error, redaction: &Redaction) -> (ErrorKind, String) {
    let text = error.to_string();
    let answer = Answer::of(&text);
    if answer.says("QuotaExceeded") {
        return full();
    }
    if answer.says("RequestTimeTooSkewed") {
        return (
            ErrorKind::Denied,
            "the store refuses the signature because the clock of this machine is wrong".to_owned(),
        );
    }
    (
        ErrorKind::Denied,
        format!(
            "the store refuses these credentials ({})",
            said(error, redaction)
        ),
    )
}

fn full() -> (ErrorKind, String) {
    (
        ErrorKind::QuotaExceeded,
        "the store is full; nothing that was stored before is harmed".to_owned(),
    )
}

fn generic(site: Site, redaction: &Redaction, error: &object_store::Error) -> (ErrorKind, String) {
    let text = error.to_string();
    if [
        "Out of range",
        "Wanted range",
        "object was only",
        "Requested range",
    ]
    .iter()
    .any(|marker| text.contains(marker))
    {
        return (
            ErrorKind::Corrupt,
            "the object is shorter than it must be".to_owned(),
        );
    }
    match site {
        Site::Local => (ErrorKind::LocalIo, said(error, redaction)),
        Site::Memory => (ErrorKind::Internal, said(error, redaction)),
        Site::Remote(service) => remote(service, redaction, error, &text),
    }
}

/// What the clients say when they found no credentials and asked the machine's metadata service in vain.
const NO_CREDENTIALS: [&str; 5] = [
    "169.254.",
    "metadata.google.internal",
    "Missing AccessKeyId",
    "Missing SecretAccessKey",
    "Account must be specified",
];

fn remote(
    service: Service,
    redaction: &Redaction,
    error: &object_store::Error,
    text: &str,
) -> (ErrorKind, String) {
    if NO_CREDENTIALS.iter().any(|marker| text.contains(marker)) {
        return (ErrorKind::Denied, service.credentials_hint().to_owned());
    }
    let answer = Answer::of(text);
    let said = said(error, redaction);
    match answer.status {
        None if text.contains("redirect without LOCATION") => (
            ErrorKind::InvalidInput,
            "the bucket is in another region; set region".to_owned(),
        ),
        None => (
            ErrorKind::Unavailable,
            format!("can't reach the store ({said})"),
        ),
        Some(401 | 403) => refused(error, redaction),
        Some(404) => not_found(error),
        Some(507) => full(),
        Some(_) if answer.says("QuotaExceeded") => full(),
        Some(416) => (
            ErrorKind::Corrupt,
            "the object is shorter than it must be".to_owned(),
        ),
        Some(501) => (
            ErrorKind::Unsupported,
            format!("the store does not offer this operation ({said})"),
        ),
        Some(400) if answer.says("ExpiredToken") || answer.says("InvalidToken") => (
            ErrorKind::Denied,
            format!("the session token has expired or is wrong ({said})"),
        ),
        Some(400) if answer.says("BadDigest") || answer.says("RequestTimeout") => (
            ErrorKind::Unavailable,
            format!("the request was damaged or cut on its way ({said})"),
        ),
        Some(status @ 300..=399) => (
            ErrorKind::InvalidInput,
            format!(
                "the endpoint redirects to another one (status {status}, {said}), which is not followed, since credentials must not \
                 go there; correct endpoint and region"
            ),
        ),
        Some(status @ (400 | 405 | 411..=417)) => (
            ErrorKind::InvalidInput,
            format!(
                "the store refuses the request with status {status} ({said}); check endpoint, region and bucket"
            ),
        ),
        Some(status) => (
            ErrorKind::Unavailable,
            format!("the store answered status {status} ({said})"),
        ),
    }
}

/// What the server or the library said: `<Code>: <Message>` of an XML body, else the innermost cause.
pub(super) fn said(error: &object_store::Error, redaction: &Redaction) -> String {
    let text = error.to_string();
    let answer = Answer::of(&text);
    if let Some(status) = answer.status {
        // The rest of a body may repeat what was signed.
        let said = match (
            element(answer.body, "Code"),
            element(answer.body, "Message"),
        ) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => format!("status {status}"),
        };
        return redaction.clean(&said);
    }
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    redaction.clean(&innermost.to_string())
}

fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let start = body.find(&format!("<{name}>"))? + name.len() + 2;
    let end = body[start..].find("</")?;
    Some(&body[start..start + end])
}

/// The first cause of type `T`, the error itself included.
fn find<T: StdError + 'static>(error: &object_store::Error) -> Option<&T> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error of the file system under a `file:` store.
pub(super) fn from_errno(operation: &'static str, errno: i32) -> Error {
    let cause = std::io::Error::from_raw_os_error(errno);
    let is = |e: Errno| e.raw_os_error() == errno;
    let (kind, message) = if [Errno::NOSPC, Errno::DQUOT, Errno::FBIG]
        .into_iter()
        .any(is)
    {
        full()
    } else if [Errno::ACCESS, Errno::PERM].into_iter().any(is) {
        (
            ErrorKind::Denied,
            "no permission in the store's directory".to_owned(),
        )
    } else if is(Errno::ROFS) {
        (
            ErrorKind::Denied,
            "the store lies on a read-only file system".to_owned(),
        )
    } else if [Errno::NOTDIR, Errno::ISDIR, Errno::NAMETOOLONG, Errno::LOOP]
        .into_iter()
        .any(is)
    {
        (
            ErrorKind::InvalidInput,
            format!("the store's path can't be used: {cause}"),
        )
    } else {
        (ErrorKind::LocalIo, cause.to_string())
    };
    Error::new(kind, operation, message).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_userinfo_and_queries_are_removed() {
        let redaction =
            Redaction::new(["s3cr3t-canary".to_owned(), "s3cr3t-canary-long".to_owned()]);
        let text = redaction.clean(
            "Error performing GET https://user:pass@host/b/k?X-Amz-Signature=abc&y in 1ms s3cr3t-canary-long s3cr3t-canary",
        );
        assert_eq!(text, "Error performing GET https://host/b/k in 1ms *** ***");
        assert!(redaction.clean(&"ä".repeat(1_000)).len() < MAX_FOREIGN_TEXT + 4);
    }

    #[test]
    fn a_full_disk_is_a_full_store() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = from_errno("store", errno.raw_os_error());
            assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
            assert!(error.message().contains("full"));
            assert_eq!(error.os_error(), Some(errno.raw_os_error()));
        }
        assert_eq!(
            from_errno("store", Errno::ROFS.raw_os_error()).kind(),
            ErrorKind::Denied
        );
    }
}
