use crate::samples::*;
use nbws_core::error::ErrorKind;
use nbws_core::record::*;
use nbws_core::state::State;
use proptest::prelude::*;

fn example() -> Record {
    let body = Body::State(StateBody {
        comment: Some("x".to_owned()),
        info: None,
    });
    following(None, 1, 1, State::Stopped, body)
}

fn text(record: &Record) -> String {
    String::from_utf8(record.encode().unwrap()).unwrap()
}

proptest! {
    #[test]
    fn records_round_trip_and_have_one_spelling(record in record(), bad in proptest::collection::vec(damage(), 32)) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(&Record::decode(&bytes).unwrap(), &record);
        for bad in &bad {
            let bytes = damaged(&bytes, bad);
            prop_assert!(one_spelling(&bytes, Record::decode, |record| record.encode().unwrap()));
        }
    }
}

#[test]
fn a_record_has_exactly_the_keys_of_the_specification() {
    let expected = concat!(
        r#"{"body":{"comment":"x","info":null},"commit":"00000000000000000000000000000101","epoch":1,"#,
        r#""head":null,"index":null,"kind":"state","mac":null,"parent":null,"#,
        r#""repository":"09090909090909090909090909090909","seq":1,"settings":null,"state":"stopped","#,
        r#""time":1000,"usage":{"bytes":0,"files":0,"objects":0,"stored_bytes":0},"version":0,"#,
        r#""writer":"01010101010101010101010101010101"}"#
    );
    assert_eq!(text(&example()), expected);
}

#[test]
fn body_keys_are_those_of_the_specification() {
    let keys = |body: Body| {
        let mut record = following(Some(&example()), 1, 1, State::None, body.clone());
        record.head = match &body {
            Body::Snapshot(body) => Some(Head {
                root: body.root,
                snapshot: body.snapshot,
            }),
            _ => None,
        };
        let json: serde_json::Value = serde_json::from_slice(&record.encode().unwrap()).unwrap();
        let mut keys: Vec<String> = json["body"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        (json["kind"].as_str().unwrap().to_owned(), keys.join(" "))
    };
    let snapshot = numbered_snapshot(1, false);
    let rescue = rescue_of(snapshot.clone(), String::new());
    let cases = [
        (
            Body::Claim(ClaimBody {
                resident: true,
                take_over: false,
            }),
            "claim",
            "resident take_over",
        ),
        (
            Body::State(StateBody {
                comment: None,
                info: None,
            }),
            "state",
            "comment info",
        ),
        (
            Body::Snapshot(snapshot),
            "snapshot",
            "base bytes comment files framework one_shot origin partial pin_base_until python root snapshot tree_root",
        ),
        (
            Body::Rescue(rescue),
            "rescue",
            "base bytes comment files framework origin partial python reason root snapshot tree_root",
        ),
        (
            Body::Dismiss(DismissBody {
                rescue: nbws_core::id::SnapshotId([1; 16]),
            }),
            "dismiss",
            "rescue",
        ),
        (
            Body::Settings(SettingsBody {
                attachment: place(1),
            }),
            "settings",
            "attachment",
        ),
        (
            Body::Repack(RepackBody {
                count: 1,
                packs: place(1),
            }),
            "repack",
            "count packs",
        ),
        (
            Body::Mark(MarkBody {
                attachment: place(1),
                bytes: 1,
                packs: 1,
                snapshots: 1,
            }),
            "mark",
            "attachment bytes packs snapshots",
        ),
        (Body::Cancel(CancelBody { mark: 1 }), "cancel", "mark"),
        (Body::Sweep(SweepBody { marks: vec![1] }), "sweep", "marks"),
        (
            Body::Swept(SweptBody {
                freed_bytes: 1,
                marks: vec![1],
            }),
            "swept",
            "freed_bytes marks",
        ),
        (
            Body::Tombstone(TombstoneBody { purge: false }),
            "tombstone",
            "purge",
        ),
    ];
    assert_eq!(cases.len(), Kind::ALL.len());
    for (body, kind, expected) in cases {
        assert_eq!(keys(body), (kind.to_owned(), expected.to_owned()));
        assert_eq!(Kind::parse(kind).unwrap().name(), kind);
    }
}

#[test]
fn everything_else_is_refused() {
    let good = text(&example());
    let cases = [
        ("\"mac\":null", "\"mac\":\"00\"", ErrorKind::Corrupt),
        ("\"mac\":null,", "", ErrorKind::Corrupt),
        (
            "\"info\":null",
            "\"info\":null,\"more\":1",
            ErrorKind::Corrupt,
        ),
        (",\"info\":null", "", ErrorKind::Corrupt),
        ("\"index\":null,", "", ErrorKind::Corrupt),
        ("\"seq\":1", "\"seq\":0", ErrorKind::Corrupt),
        ("\"seq\":1", "\"seq\":2", ErrorKind::Corrupt),
        ("\"epoch\":1", "\"epoch\":0", ErrorKind::Corrupt),
        (
            "\"epoch\":1",
            "\"epoch\":9007199254740992",
            ErrorKind::Corrupt,
        ),
        ("\"epoch\":1", "\"epoch\":-1", ErrorKind::Corrupt),
        ("\"stopped\"", "\"paused\"", ErrorKind::Corrupt),
        ("\"writer\":\"01", "\"writer\":\"0A", ErrorKind::Corrupt),
        ("\"body\"", " \"body\"", ErrorKind::Corrupt),
        ("\"version\":0", "\"version\":1", ErrorKind::Unsupported),
        (
            "\"kind\":\"state\"",
            "\"kind\":\"promise\"",
            ErrorKind::Unsupported,
        ),
        (
            "\"kind\":\"state\"",
            "\"kind\":\"claim\"",
            ErrorKind::Corrupt,
        ),
    ];
    for (from, to, kind) in cases {
        assert!(good.contains(from), "{from}");
        let error = Record::decode(good.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), kind, "{to}: {error}");
    }
}

#[test]
fn texts_are_bounded() {
    let with = |comment: String| {
        let info = None;
        let body = Body::State(StateBody {
            comment: Some(comment),
            info,
        });
        following(None, 1, 1, State::Stopped, body).encode()
    };
    assert!(with("x".repeat(1_024)).is_ok());
    let error = with("x".repeat(1_025)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("1,024"), "{error}");
    // Six bytes each when escaped: within its own limit, but the record is not.
    let error = with("\u{1}".repeat(1_024)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("4096"), "{error}");

    let mut snapshot = numbered_snapshot(1, true);
    snapshot.comment = Some("x".repeat(1_024));
    snapshot.pin_base_until_ms = Some((1 << 53) - 1);
    let record = following(None, 1, 1, State::None, Body::Snapshot(snapshot));
    assert!(record.encode().unwrap().len() < 3_000);
}

#[test]
fn contradictions_are_refused() {
    let snapshot = || Body::Snapshot(numbered_snapshot(1, true));
    let base = following(None, 1, 1, State::None, snapshot());
    let changes: [fn(&mut Record); 9] = [
        |r| r.head = None,
        |r| r.seq = 2,
        |r| r.parent = Some(r.commit),
        |r| {
            r.index = Some(Place {
                offset: 63,
                ..place(1)
            })
        },
        |r| {
            r.index = Some(Place {
                length: 24,
                ..place(1)
            })
        },
        |r| {
            r.index = Some(Place {
                length: u32::MAX,
                ..place(1)
            })
        },
        |r| {
            r.settings = Some(Place {
                plain: u32::MAX,
                ..place(1)
            })
        },
        |r| {
            r.settings = Some(Place {
                offset: 1 << 30,
                ..place(1)
            })
        },
        |r| r.epoch = 0,
    ];
    for change in changes {
        let mut record = base.clone();
        change(&mut record);
        assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::Internal);
    }
    for marks in [vec![], vec![2, 1], vec![1, 1], vec![0], vec![2]] {
        let body = Body::Sweep(SweepBody { marks });
        assert!(
            following(Some(&base), 1, 1, State::None, body)
                .encode()
                .is_err()
        );
    }
    let body = Body::Cancel(CancelBody { mark: 2 });
    assert!(
        following(Some(&base), 1, 1, State::None, body)
            .encode()
            .is_err()
    );
}
