//! The store port against every kind of store that needs no server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use nbws_core::ErrorKind;
use nbws_engine::store::{Counting, Created, Store, StoreOptions, open};
use std::sync::Arc;

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
