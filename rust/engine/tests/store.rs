//! The store port against every kind of store that needs no server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use nbws_core::ErrorKind;
use nbws_engine::cancel::CancelToken;
use nbws_engine::clock::Deadline;
use nbws_engine::store::testkit::{Fault, Faulty, Slow, Verb};
use nbws_engine::store::{Counting, Created, Retrying, Store, StoreOptions, open};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn none() -> StoreOptions {
    StoreOptions::new()
}

fn file_url(directory: &std::path::Path) -> String {
    format!("file://{}", directory.display())
}

async fn conforms(store: &dyn Store) {
    let kind = |e: nbws_core::Error| e.kind();
    assert_eq!(
        store.get("format").await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        store.get_range("format", 0..4).await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(
        store.head("format").await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    assert_eq!(store.list("log/", None).await.unwrap(), vec![]);
    assert_eq!(store.list("", None).await.unwrap(), vec![]);
    store.delete("packs/none").await.unwrap();

    let first = Bytes::from_static(b"first");
    assert_eq!(
        store.create("log/1", first.clone()).await.unwrap(),
        Created::Yes
    );
    let other = Bytes::from_static(b"other");
    assert_eq!(
        store.create("log/1", other.clone()).await.unwrap(),
        Created::Exists
    );
    assert_eq!(store.get("log/1").await.unwrap(), first);
    store.put("hint", first.clone()).await.unwrap();
    store.put("hint", other.clone()).await.unwrap();
    assert_eq!(store.get("hint").await.unwrap(), other);

    assert_eq!(store.get_range("hint", 1..3).await.unwrap(), "th");
    assert_eq!(store.get_range("hint", 2..2).await.unwrap(), "");
    for range in [3..6, 5..6, 9..12] {
        assert_eq!(
            store.get_range("hint", range.clone()).await.map_err(kind),
            Err(ErrorKind::Corrupt),
            "{range:?}"
        );
    }
    let head = store.head("hint").await.unwrap();
    assert_eq!((head.key.as_str(), head.size), ("hint", 5));
    assert!(head.modified_ms > 1_500_000_000_000);

    for key in ["log/3", "log/20", "logs/1", "log/2"] {
        store.put(key, first.clone()).await.unwrap();
    }
    let names = |found: Vec<nbws_engine::store::ObjectInfo>| -> Vec<String> {
        found.into_iter().map(|o| o.key).collect()
    };
    assert_eq!(
        names(store.list("log/", None).await.unwrap()),
        ["log/1", "log/2", "log/20", "log/3"]
    );
    assert_eq!(
        names(store.list("log/", Some("log/2")).await.unwrap()),
        ["log/20", "log/3"]
    );
    assert_eq!(
        names(store.list("log/2", Some("log/11")).await.unwrap()),
        ["log/2", "log/20"]
    );
    assert_eq!(names(store.list("", None).await.unwrap()).len(), 6);

    store.delete("log/3").await.unwrap();
    store.delete("log/3").await.unwrap();
    assert_eq!(
        store.get("log/3").await.map_err(kind),
        Err(ErrorKind::NotFound)
    );
    for bad in ["", "/a", "a//b", "a/", "../a", "a/./b", "a b", "a#1"] {
        assert_eq!(
            store.put(bad, first.clone()).await.map_err(kind),
            Err(ErrorKind::Internal),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn memory_conforms_and_is_shared_by_name() {
    let store = open("memory:///conforms", &none()).unwrap();
    conforms(&*store).await;
    let same = open("memory:///conforms", &none()).unwrap();
    assert_eq!(same.get("log/1").await.unwrap(), "first");
    let other = open("memory:///other", &none()).unwrap();
    assert_eq!(
        other.get("log/1").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn a_directory_conforms_and_is_made_by_the_first_write_only() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("a b/ü%41#/store");
    let url = url::Url::from_file_path(&root).unwrap();
    let store = open(url.as_str(), &none()).unwrap();
    assert_eq!(
        store.get("format").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(store.list("log/", None).await.unwrap().is_empty());
    store.delete("format").await.unwrap();
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    conforms(&*store).await;
    assert!(root.join("log/1").is_file());
    assert_eq!(
        open(url.as_str(), &none())
            .unwrap()
            .get("log/1")
            .await
            .unwrap(),
        "first"
    );
}

#[tokio::test]
async fn sixteen_creates_have_one_winner() {
    let directory = tempfile::tempdir().unwrap();
    for url in [
        file_url(directory.path()),
        "memory:///sixteen_creates".to_owned(),
    ] {
        for round in 0..8 {
            let key = format!("log/{round}");
            let creates = (0..16u8).map(|n| {
                let store = open(&url, &none()).unwrap();
                let key = key.clone();
                tokio::spawn(async move { store.create(&key, Bytes::from(vec![n; 100])).await })
            });
            let mut winners = Vec::new();
            for (n, create) in creates.enumerate().collect::<Vec<_>>() {
                if create.await.unwrap().unwrap() == Created::Yes {
                    winners.push(n);
                }
            }
            assert_eq!(winners.len(), 1, "{url} round {round}");
            let store = open(&url, &none()).unwrap();
            let bytes = store.get(&key).await.unwrap();
            assert_eq!(bytes, vec![u8::try_from(winners[0]).unwrap(); 100]);
        }
    }
}

#[tokio::test]
async fn bad_urls_are_named_without_their_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    for (url, says) in [
        ("gopher://host/x", "known are file:///"),
        ("just/a/path", "known are file:///"),
        ("s3://key:canary-secret@bucket/x", "credentials"),
        ("s3://bucket/x?secret=canary-secret", "query"),
        ("file://host/x", "absolute path"),
        ("file:///", "root of the file system"),
        ("memory://name", "three slashes"),
        (&file_url(&file), "is a file"),
        (&file_url(&file.join("below")), "path can't be used"),
    ] {
        let error = open(url, &none()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(says), "{url}: {text}");
        assert!(!text.contains("canary"), "{text}");
    }
    let options = StoreOptions::from_iter([("secret_acess_key", "canary-secret")]);
    for url in ["s3://bucket/x", "memory:///x"] {
        let error = open(url, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = format!("{error} {error:?} {options:?}");
        assert!(text.contains("secret_acess_key") && !text.contains("canary"));
    }
}

fn s3(endpoint: &str) -> StoreOptions {
    StoreOptions::from_iter([
        ("endpoint", endpoint),
        ("access_key_id", "canary-key-id"),
        ("secret_access_key", "canary-secret-key"),
        ("session_token", "canary-token"),
        ("region", "eu-west-1"),
        ("client_options.allow_http", "true"),
        ("virtual_hosted_style_request", "false"),
    ])
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_and_secrets_stay_out() {
    // Nothing listens on the discard port of the loopback address.
    let options = s3("http://user:canary-password@127.0.0.1:9");
    let store = open("s3://bucket/some/prefix", &options).unwrap();
    assert_eq!(store.describe(), "s3://bucket/some/prefix");
    let errors = [
        store.get("format").await.unwrap_err(),
        store.create("log/1", Bytes::new()).await.unwrap_err(),
        store.list("log/", None).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let text = format!("{error} {error:?} {store:?}");
        assert!(text.contains("can't reach the store"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn half_a_pair_of_credentials_names_the_variables() {
    let options = StoreOptions::from_iter([("access_key_id", "canary-key-id")]);
    let error = open("s3://bucket", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.message().contains("AWS_SECRET_ACCESS_KEY"));
}

#[tokio::test]
async fn bad_s3_options_are_refused_before_anything_is_sent() {
    for (name, value, says) in [
        ("endpoint", "not a url", "no URL"),
        ("endpoint", "ftp://host", "no URL"),
        ("endpoint", "http://127.0.0.1:9", "allow_http"),
        ("virtual_hosted_style_request", "maybe", "maybe"),
        ("client_options.connect_timeout", "soon", "soon"),
    ] {
        let options = StoreOptions::from_iter([
            ("access_key_id", "key-id"),
            ("secret_access_key", "secret-key"),
            (name, value),
        ]);
        let error = open("s3://bucket/x", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(error.message().contains(says), "{error:?}");
        assert!(!error.message().contains("reach"), "{error:?}");
    }
    for url in ["s3:///x", "s3://buc%20ket/x", "s3://bucket/a//b"] {
        let error = open(url, &s3("https://127.0.0.1:9")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
    }
}

#[tokio::test]
async fn totals_count_requests_and_bytes() {
    let store = Counting::new(open("memory:///counting", &none()).unwrap());
    store
        .put("packs/a", Bytes::from_static(b"1234"))
        .await
        .unwrap();
    let before = store.totals();
    store
        .create("log/1", Bytes::from_static(b"12"))
        .await
        .unwrap();
    store.get("packs/a").await.unwrap();
    store.get_range("packs/a", 1..2).await.unwrap();
    store.get("packs/b").await.unwrap_err();
    store.head("packs/a").await.unwrap();
    store.list("", None).await.unwrap();
    store.delete("packs/a").await.unwrap();
    let span = store.totals() - before;
    assert_eq!((span.put, span.get, span.head), (1, 3, 1));
    assert_eq!((span.list, span.delete, span.requests()), (1, 1, 7));
    assert_eq!((span.bytes_up, span.bytes_down), (2, 5));
    let _shared: Arc<dyn Store> = Arc::new(store);
}

fn retrying(inner: &Arc<Faulty>, deadline: Deadline) -> Retrying {
    Retrying::new(inner.clone(), deadline, CancelToken::new())
}

#[tokio::test]
async fn idempotent_requests_are_repeated_and_creates_are_not() {
    let inner = Arc::new(Faulty::new(open("memory:///retrying", &none()).unwrap()));
    let store = retrying(&inner, Deadline::NEVER);
    let bytes = Bytes::from_static(b"bytes");
    for verb in [Verb::Put, Verb::Get, Verb::GetRange, Verb::Head] {
        inner.when(Some(verb), "packs/", 0, 1, Fault::LandWithoutReply);
    }
    inner.when(Some(Verb::List), "packs/", 0, 2, Fault::FailBefore);
    inner.when(Some(Verb::Delete), "packs/", 0, 1, Fault::LandWithoutReply);
    store.put("packs/a", bytes.clone()).await.unwrap();
    assert_eq!(store.get("packs/a").await.unwrap(), bytes);
    assert_eq!(store.get_range("packs/a", 1..3).await.unwrap(), "yt");
    assert_eq!(store.head("packs/a").await.unwrap().size, 5);
    assert_eq!(store.list("packs/", None).await.unwrap().len(), 1);
    store.delete("packs/a").await.unwrap();
    assert_eq!(inner.operations(), 2 + 2 + 2 + 2 + 3 + 2);

    let before = inner.operations();
    inner.when(Some(Verb::Create), "", 0, 1, Fault::LandWithoutReply);
    let error = store.create("log/1", bytes.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        store.get("packs/a").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    inner.when(Some(Verb::Put), "", 0, 1, Fault::Deny);
    let error = store.put("packs/b", bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(inner.operations() - before, 3);
}

#[tokio::test]
async fn waiting_ends_at_the_deadline_and_on_cancellation() {
    for fault in [Fault::FailBefore, Fault::Hang] {
        let inner = Arc::new(Faulty::new(open("memory:///waiting", &none()).unwrap()));
        inner.when(None, "", 0, u64::MAX, fault);
        let store = retrying(&inner, Deadline::after(Duration::from_millis(200)));
        let started = Instant::now();
        let error = store.get("format").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(2));

        let cancel = CancelToken::new();
        let store = Retrying::new(inner.clone(), Deadline::NEVER, cancel.clone());
        let waiting = tokio::spawn(async move { store.create("log/1", Bytes::new()).await });
        if fault == Fault::Hang {
            inner.wait_hanging().await;
        }
        cancel.cancel();
        let kind = waiting.await.unwrap().unwrap_err().kind();
        assert!(matches!(
            kind,
            ErrorKind::Cancelled | ErrorKind::Unavailable
        ));
        if fault == Fault::Hang {
            assert_eq!(kind, ErrorKind::Cancelled);
        }
    }
}

#[tokio::test]
async fn planned_faults_do_what_they_say() {
    let inner = open("memory:///planned", &none()).unwrap();
    let faulty = Arc::new(Faulty::new(inner.clone()));
    let bytes = Bytes::from_static(b"0123456789");
    faulty.at(0, Fault::LandThenDie);
    faulty.put("packs/a", bytes.clone()).await.unwrap_err();
    let error = faulty.get("packs/a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    faulty.revive();
    assert_eq!(faulty.get("packs/a").await.unwrap(), bytes);
    assert_eq!(faulty.operations(), 3);

    faulty.at(3, Fault::Short);
    faulty.at(4, Fault::FlipBit);
    faulty.at(5, Fault::Short);
    assert_eq!(faulty.get("packs/a").await.unwrap(), bytes.slice(..5));
    let flipped = faulty.get("packs/a").await.unwrap();
    let changed: u32 = flipped
        .iter()
        .zip(&bytes)
        .map(|(a, b)| (a ^ b).count_ones())
        .sum();
    assert_eq!(changed, 1);
    let error = faulty.get_range("packs/a", 0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);

    // A killed task leaves exactly what was done before, or with, the request it died in.
    for (fault, landed) in [(Fault::Hang, false), (Fault::LandThenHang, true)] {
        let key = format!("packs/{landed}");
        faulty.when(Some(Verb::Put), "packs/", 0, 1, fault);
        let task = tokio::spawn({
            let (faulty, key, bytes) = (faulty.clone(), key.clone(), bytes.clone());
            async move { faulty.put(&key, bytes).await }
        });
        faulty.wait_hanging().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        faulty.release().await;
        assert_eq!(inner.get(&key).await.is_ok(), landed);
    }
    // Seeds replay.
    let outcomes = |seed| {
        let faulty = Faulty::new(inner.clone());
        faulty.roll(seed, 500, &[Fault::FailBefore, Fault::Deny]);
        async move {
            let mut kinds = Vec::new();
            for _ in 0..64 {
                kinds.push(faulty.get("packs/a").await.err().map(|e| e.kind()));
            }
            kinds
        }
    };
    assert_eq!(outcomes(1).await, outcomes(1).await);
    assert_ne!(outcomes(1).await, outcomes(2).await);
}

#[tokio::test]
async fn a_slow_store_takes_its_time() {
    let inner = open("memory:///slow", &none()).unwrap();
    let slow = Slow::new(inner, Duration::from_millis(20), 1_000_000);
    let started = Instant::now();
    slow.put("packs/a", Bytes::from(vec![0; 50_000]))
        .await
        .unwrap();
    assert_eq!(slow.get("packs/a").await.unwrap().len(), 50_000);
    assert!(started.elapsed() >= Duration::from_millis(2 * (20 + 50)));
}
