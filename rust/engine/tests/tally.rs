//! A look over a whole container: what it says of each repository, and how many requests it takes.
#![allow(clippy::unwrap_used)]

use nbws_engine::options::OpenOptions;
use nbws_engine::store::{StoreOptions, open};
use nbws_engine::{State, Tallied, Workspace, tally};

const CONTAINER: &str = "memory:///tally/container";

async fn made(id: &str, comments: u64) -> Workspace {
    let options = OpenOptions {
        create: true,
        probe: false,
        ..OpenOptions::default()
    };
    let workspace = Workspace::open(&format!("{CONTAINER}/{id}"), options)
        .await
        .unwrap();
    for number in 0..comments {
        let comment = Some(format!("comment {number}"));
        workspace
            .change_state(None, State::Stopped, comment, None)
            .await
            .unwrap();
    }
    workspace
}

async fn looked(ids: &[&str], whole: bool) -> Vec<Tallied> {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    tally(CONTAINER, &StoreOptions::new(), ids, whole, 3)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_log_at_rest_takes_four_requests() {
    made("empty", 0).await;
    made("short", 3).await;
    made("long", 300).await;
    let store = open(CONTAINER, &StoreOptions::new()).unwrap();
    let ids = ["long", "short", "nothing", "empty"];
    for hint in [Some("{\"seq\":256}"), Some("{\"seq\":9}"), Some("?"), None] {
        match hint {
            Some(text) => store.put("long/hint", text.into()).await.unwrap(),
            None => store.delete("long/hint").await.unwrap(),
        }
        let found = looked(&ids, false).await;
        let seen: Vec<&str> = found.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(seen, ids, "in the order asked for");
        for tallied in &found {
            let sent = tallied.requests;
            assert!(sent.get + sent.list <= 4, "{tallied:?}");
            assert_eq!((sent.put, sent.head, sent.delete), (0, 0, 0));
        }
        let newest: Vec<_> = found[..2].iter().map(|t| t.events[0].seq).collect();
        assert_eq!(newest, [300, 3]);
        assert_eq!(found[0].events[0].comment.as_deref(), Some("comment 299"));
        assert_eq!(found[2].kind.as_deref(), Some("NotFound"));
        assert!(found[3].events.is_empty() && found[3].kind.is_none());
    }
    // A hint that leads nowhere is not believed; it costs a second search.
    store
        .put("long/hint", "{\"seq\":9000}".into())
        .await
        .unwrap();
    assert_eq!(looked(&["long"], false).await[0].events[0].seq, 300);
}

#[tokio::test]
async fn whole_logs_are_read_and_damage_stays_where_it_is() {
    made("whole", 20).await;
    made("damaged", 20).await;
    made("moved", 20).await;
    let store = open(CONTAINER, &StoreOptions::new()).unwrap();
    let slot = nbws_core::key::log(10);
    store
        .put(&format!("damaged/{slot}"), "{}".into())
        .await
        .unwrap();
    let newest = nbws_core::key::log(20);
    let foreign = store.get(&format!("whole/{slot}")).await.unwrap();
    store
        .put(&format!("moved/{newest}"), foreign)
        .await
        .unwrap();
    let found = looked(&["whole", "damaged", "moved"], true).await;
    assert_eq!(found[0].events.len(), 20);
    assert_eq!(found[0].snapshots, Some(0));
    for (tallied, key) in found[1..].iter().zip([&slot, &newest]) {
        assert_eq!(tallied.kind.as_deref(), Some("Corrupt"), "{tallied:?}");
        assert!(tallied.problem.as_ref().unwrap().contains(key.as_str()));
    }
    let newest_only = looked(&["whole", "damaged", "moved"], false).await;
    let kinds: Vec<_> = newest_only.iter().map(|t| t.kind.as_deref()).collect();
    assert_eq!(kinds, [None, None, Some("Corrupt")]);
}
