use crate::samples::*;
use nbws_core::canonical;
use nbws_core::error::ErrorKind;
use nbws_core::format::Format;
use nbws_core::id::RepositoryId;
use proptest::prelude::*;
use serde_json::{Value, json};

const EXAMPLE: &str = r#"{"chunker":{"average":65536,"kind":"gear-threshold","maximum":262144,"minimum":32768,"whole":65536},"created":1795392000000,"encryption":"none","features":[],"frame":{"target":1048576},"hash":"blake3","numeric_ids":false,"probe":null,"repository":"5e0cb0a3f2a94f3e8f3bb2a7a1f6d9c4","version":0}"#;

fn example() -> Format {
    let repository = RepositoryId::parse("5e0cb0a3f2a94f3e8f3bb2a7a1f6d9c4").unwrap();
    Format::new(repository, 1_795_392_000_000, false)
}

#[test]
fn the_example_of_the_specification_is_what_a_new_repository_gets() {
    assert_eq!(
        String::from_utf8(example().encode().unwrap()).unwrap(),
        EXAMPLE
    );
    assert_eq!(Format::decode(EXAMPLE.as_bytes()).unwrap(), example());
}

#[test]
fn another_version_is_named_before_anything_else_is_looked_at() {
    for other in [
        r#"{"version":7}"#,
        "{\"what\": {\"ever\": [1.5]},\n \"version\" : 7, \"repository\": 3}",
    ] {
        let error = Format::decode(other.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("version 7"), "{error}");
        assert!(error.message().contains("version 0"), "{error}");
    }
    for bad in ["", "{}", "null", r#"{"version":"0"}"#, r#"{"version":0}"#] {
        let error = Format::decode(bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}");
    }
}

#[test]
fn unknown_features_are_kept_and_refuse_writing() {
    let mut format = example();
    format.features = vec!["deltas".to_owned(), "zones".to_owned()];
    let format = Format::decode(&format.encode().unwrap()).unwrap();
    assert_eq!(format.unknown_features(), ["deltas", "zones"]);
    let error = format.check_writable().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("deltas, zones"));
    assert!(example().check_writable().is_ok());

    let mut format = example();
    format.chunker.kind = "rabin".to_owned();
    let format = Format::decode(&format.encode().unwrap()).unwrap();
    assert!(format.check_writable().is_err());
}

#[test]
fn other_spellings_are_corrupt_and_other_algorithms_unsupported() {
    let cases = [
        ("\"features\":[]", "\"features\": []", ErrorKind::Corrupt),
        (
            "\"features\":[]",
            "\"features\":[\"b\",\"a\"]",
            ErrorKind::Corrupt,
        ),
        (
            "\"features\":[]",
            "\"features\":[\"a\",\"a\"]",
            ErrorKind::Corrupt,
        ),
        ("\"probe\":null,", "", ErrorKind::Corrupt),
        (
            "\"probe\":null",
            "\"probe\":{\"b\":1,\"a\":2}",
            ErrorKind::Corrupt,
        ),
        (
            "\"probe\":null",
            "\"probe\":{\"a\":1.5}",
            ErrorKind::Corrupt,
        ),
        (
            "\"version\":0",
            "\"version\":0,\"zebra\":1",
            ErrorKind::Corrupt,
        ),
        (
            "\"version\":0",
            "\"version\":0,\"version\":0",
            ErrorKind::Corrupt,
        ),
        ("\"blake3\"", "\"sha256\"", ErrorKind::Unsupported),
        (
            "\"encryption\":\"none\"",
            "\"encryption\":\"sealed\"",
            ErrorKind::Unsupported,
        ),
        ("gear-threshold", "gear-thresh\\u006fld", ErrorKind::Corrupt),
    ];
    for (from, to, kind) in cases {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = Format::decode(EXAMPLE.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{to}");
    }
    let with_probe = EXAMPLE.replace("\"probe\":null", "\"probe\":{\"a\":[1,\"x\"]}");
    let format = Format::decode(with_probe.as_bytes()).unwrap();
    assert_eq!(format.encode().unwrap(), with_probe.as_bytes());
}

#[test]
fn canonical_spelling_of_awkward_values() {
    let value = json!({"é": -5, "z": "\u{1}\u{1f}\u{7f}\"\\/\u{8}\u{c}\n\r\t", "": [true, null]});
    let text = String::from_utf8(canonical::encode(&value).unwrap()).unwrap();
    let expected =
        "{\"\":[true,null],\"z\":\"\\u0001\\u001f\u{7f}\\\"\\\\/\\b\\f\\n\\r\\t\",\"é\":-5}";
    assert_eq!(text, expected);
    for bad in [
        json!(1.0),
        json!(1u64 << 53),
        json!(-(1i64 << 53)),
        json!(1e30),
    ] {
        let error = canonical::encode(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(
        canonical::encode(&((1u64 << 53) - 1)).unwrap(),
        b"9007199254740991"
    );
    assert!(canonical::decode::<Value>(b"[1]", 2, "test").is_err());
}

proptest! {
    #[test]
    fn any_accepted_json_is_the_only_spelling(text in "[\\[\\]{}:,\"a\\\\n 0-9.eE+-]{0,12}") {
        if let Ok(value) = canonical::decode::<Value>(text.as_bytes(), 100, "test") {
            prop_assert_eq!(canonical::encode(&value).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_damaged_format_is_refused_or_has_the_same_spelling(bad in damage()) {
        let bytes = damaged(EXAMPLE.as_bytes(), &bad);
        prop_assert!(one_spelling(&bytes, Format::decode, |format| format.encode().unwrap()));
    }
}
