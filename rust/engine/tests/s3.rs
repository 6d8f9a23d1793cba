//! The S3 store against a scripted server: which requests it sends, and what it makes of the answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use nbws_core::ErrorKind;
use nbws_engine::store::{Created, Store, StoreOptions, open};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Answers each request with the next of `answers` (status and body), the last one again and again. A body that starts with
/// `cut:` is announced as longer than it is.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Server {
    fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut answers: VecDeque<(u16, String)> = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()))
            .collect();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut reader = BufReader::new(connection.unwrap());
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    continue;
                }
                let mut headers = Vec::new();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    if header.trim().is_empty() {
                        break;
                    }
                    headers.push(header.trim().to_ascii_lowercase());
                }
                let length = headers
                    .iter()
                    .find_map(|h| h.strip_prefix("content-length: "))
                    .map_or(0, |n| n.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let head = line.starts_with("HEAD");
                seen.lock().unwrap().push(Seen {
                    line: line.trim().to_owned(),
                    headers,
                    body,
                });
                let (status, answer) = match answers.len() {
                    1 => answers[0].clone(),
                    _ => answers.pop_front().unwrap(),
                };
                let length = answer.len() + if answer.starts_with("cut:") { 10 } else { 0 };
                let shown = if head { "" } else { &answer };
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nETag: \"e\"\r\n\
                     Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n{shown}"
                );
            }
        });
        Server { endpoint, requests }
    }

    fn store(&self) -> Arc<dyn Store> {
        let options = StoreOptions::from_iter([
            ("endpoint", self.endpoint.as_str()),
            ("access_key_id", "canary-key-id"),
            ("secret_access_key", "canary-secret-key"),
            ("session_token", "canary-token"),
            ("region", "eu-west-1"),
            ("client_options.allow_http", "true"),
        ]);
        open("s3://bucket/some/prefix", &options).unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }
}

fn error(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said canary-secret-key</Message>\
         <StringToSign>canary-string</StringToSign></Error>"
    )
}

#[tokio::test]
async fn a_create_is_sent_once_whatever_the_answer() {
    for (status, code, expected) in [
        (200, "", Ok(Created::Yes)),
        (412, "PreconditionFailed", Ok(Created::Exists)),
        (304, "", Ok(Created::Exists)),
        (409, "ConditionalRequestConflict", Ok(Created::Exists)),
        (500, "InternalError", Err(ErrorKind::Unavailable)),
        (503, "SlowDown", Err(ErrorKind::Unavailable)),
        (429, "TooManyRequests", Err(ErrorKind::Unavailable)),
        (408, "RequestTimeout", Err(ErrorKind::Unavailable)),
        (403, "AccessDenied", Err(ErrorKind::Denied)),
        (401, "Unauthorized", Err(ErrorKind::Denied)),
        (400, "ExpiredToken", Err(ErrorKind::Denied)),
        (403, "QuotaExceeded", Err(ErrorKind::QuotaExceeded)),
        (507, "", Err(ErrorKind::QuotaExceeded)),
        (501, "NotImplemented", Err(ErrorKind::Unsupported)),
        (404, "NoSuchBucket", Err(ErrorKind::InvalidInput)),
        (404, "", Err(ErrorKind::InvalidInput)),
        (301, "PermanentRedirect", Err(ErrorKind::InvalidInput)),
        (400, "InvalidRequest", Err(ErrorKind::InvalidInput)),
    ] {
        let server = Server::start(&[(status, &error(code))]);
        let bytes = Bytes::from_static(b"record");
        let created = server.store().create("log/1", bytes).await;
        if let Err(e) = &created {
            let text = format!("{e} {e:?}");
            assert!(!text.contains("canary"), "{text}");
            assert_eq!(e.subject(), "log/1");
        }
        assert_eq!(created.map_err(|e| e.kind()), expected, "{status} {code}");
        let seen = server.seen();
        assert_eq!(seen.len(), 1, "{status} {code}");
        assert_eq!(seen[0].line, "PUT /bucket/some/prefix/log/1 HTTP/1.1");
        assert_eq!(seen[0].body, b"record");
        let has = |start: &str| seen[0].headers.iter().any(|h| h.starts_with(start));
        assert!(has("if-none-match: *"));
        assert!(has("x-amz-checksum-sha256: "));
    }
}

#[tokio::test]
async fn other_requests_are_repeated_a_little() {
    let unavailable = error("SlowDown");
    let server = Server::start(&[(503, &unavailable), (500, &unavailable), (200, "bytes")]);
    assert_eq!(server.store().get("packs/a").await.unwrap(), "bytes");
    assert_eq!(server.seen().len(), 3);

    let server = Server::start(&[(503, &unavailable)]);
    let store = server.store();
    let failed = store.put("packs/a", Bytes::new()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(failed.message().contains("503"), "{failed}");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_missing_object_and_a_missing_bucket_differ() {
    for (code, kind) in [
        ("NoSuchKey", ErrorKind::NotFound),
        ("NoSuchBucket", ErrorKind::InvalidInput),
    ] {
        let server = Server::start(&[(404, &error(code))]);
        let store = server.store();
        assert_eq!(store.get("format").await.unwrap_err().kind(), kind);
        let failed = store.get_range("format", 0..1).await.unwrap_err();
        assert_eq!(failed.kind(), kind);
    }
    let server = Server::start(&[(404, "")]);
    let store = server.store();
    assert_eq!(
        store.head("format").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    store.delete("packs/a").await.unwrap();
    let lines: Vec<String> = server.seen().into_iter().map(|s| s.line).collect();
    assert_eq!(
        lines,
        [
            "HEAD /bucket/some/prefix/format HTTP/1.1",
            "DELETE /bucket/some/prefix/packs/a HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn ranges_are_exact_or_damage() {
    let server = Server::start(&[(416, &error("InvalidRange"))]);
    let store = server.store();
    assert_eq!(
        store.get_range("packs/a", 9..12).await.unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    // A server that ignores the range and sends everything is not believed either.
    let server = Server::start(&[(200, "0123456789")]);
    assert!(server.store().get_range("packs/a", 2..4).await.is_err());
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_never_returned() {
    let server = Server::start(&[(200, "cut:0123456789")]);
    let store = server.store();
    for failed in [
        store.get("packs/a").await.unwrap_err(),
        store.list("packs/", None).await.unwrap_err(),
    ] {
        assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed:?}");
    }
}

#[tokio::test]
async fn listings_follow_every_page_or_fail() {
    let page = |keys: &[&str], next: &str| {
        let contents: String = keys
            .iter()
            .map(|key| {
                format!(
                    "<Contents><Key>some/prefix/{key}</Key><Size>3</Size>\
                     <LastModified>2026-11-22T10:00:00.000Z</LastModified></Contents>"
                )
            })
            .collect();
        let next = match next {
            "" => String::new(),
            token => format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        };
        format!("<ListBucketResult>{contents}{next}</ListBucketResult>")
    };
    let first = page(&["log/2", "log/3"], "token");
    let second = page(&["log/4"], "");
    let server = Server::start(&[(200, &first), (200, &second)]);
    let found = server.store().list("log/", Some("log/1")).await.unwrap();
    let keys: Vec<&str> = found.iter().map(|o| o.key.as_str()).collect();
    assert_eq!(keys, ["log/2", "log/3", "log/4"]);
    assert_eq!(found[0].modified_ms, 1_795_341_600_000);
    let lines: Vec<String> = server.seen().into_iter().map(|s| s.line).collect();
    assert!(lines[0].contains("start-after=some%2Fprefix%2Flog%2F1"));
    assert!(lines[0].contains("prefix=some%2Fprefix%2Flog%2F"));
    assert!(lines[1].contains("continuation-token=token"));

    let server = Server::start(&[(200, &first), (403, &error("AccessDenied"))]);
    let failed = server.store().list("log/", None).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Denied);
    let server = Server::start(&[(200, &error("InternalError"))]);
    let listed = server.store().list("log/", None).await;
    assert!(listed.is_err(), "an error body looks like an empty listing");
}
