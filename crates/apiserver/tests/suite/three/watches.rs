//! Streams: `validation.md` §2 and §11.

use super::{MAPS, Three, none};
use serde_json::{Value, json};
use std::time::Duration;

fn told(event: &Value) -> String {
    let object = &event["object"];
    let what = object["metadata"]["name"].as_str().or(object["reason"].as_str()).unwrap_or("-");
    format!("{} {what}", event["type"].as_str().unwrap_or("?"))
}

#[tokio::test]
async fn a_watch_begins_where_its_resource_version_says() {
    let three = Three::start().await;
    let first = three.maps(&["a"]).await;
    three.maps(&["b"]).await;
    let latest = three.get(MAPS).await.revision();
    let begins = [
        ("".to_owned(), vec!["ADDED a", "ADDED b"]),
        ("&resourceVersion=0".to_owned(), vec!["ADDED a", "ADDED b"]),
        (format!("&resourceVersion={first}"), vec!["ADDED b"]),
        (format!("&resourceVersion={latest}"), vec![]),
    ];
    // The any-state watch may begin earlier; a consistent read of every server makes it this one.
    for _ in 0..3 {
        three.get(MAPS).await;
    }
    let mut streams = Vec::new();
    for (query, present) in &begins {
        streams.push((three.watch(&format!("{MAPS}?watch=1{query}")).await, present.clone()));
    }
    three.maps(&["c"]).await;
    for (mut lines, mut wanted) in streams {
        wanted.push("ADDED c");
        for want in wanted {
            assert_eq!(told(&lines.next().await.expect("an event")), want);
        }
    }
    let refused = three.get(&format!("{MAPS}?watch=1&resourceVersion=x")).await;
    assert_eq!(refused.verdict(), "422 Invalid", "a list says 400");
    three.end().await;
}

#[tokio::test]
async fn a_watch_from_the_future_holds_back_what_comes_before() {
    let three = Three::start().await;
    let now = three.maps(&["a"]).await;
    let mut lines = three.watch(&format!("{MAPS}?watch=1&resourceVersion={}", now + 5)).await;
    let mut first = None;
    for name in ["b", "c", "d", "e", "f", "g", "h"] {
        // The servers write as well: which of them is the first after it is not known before.
        let revision = three.maps(&[name]).await;
        first = first.or((revision > now + 5).then_some(name));
    }
    let first = first.expect("seven come after five");
    assert_eq!(told(&lines.next().await.expect("an event")), format!("ADDED {first}"));
    three.end().await;
}

#[tokio::test]
async fn every_write_through_one_server_reaches_the_others_in_order() {
    for three in Three::both().await {
        let from = three.get(MAPS).await.revision();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(three.watch(&format!("{MAPS}?watch=1&resourceVersion={from}")).await);
        }
        let mut wanted = Vec::new();
        for round in 0..20 {
            let name = format!("m{round}");
            wanted.push(("ADDED", three.maps(&[&name]).await));
            let changed = three.merge(&format!("{MAPS}/{name}"), &json!({"data": {"key": round.to_string()}})).await;
            wanted.push(("MODIFIED", changed.revision()));
            if round % 3 == 0 {
                three.delete(&format!("{MAPS}/{name}"), &none()).await;
                wanted.push(("DELETED", 0));
            }
        }
        for lines in &mut streams {
            let mut last = from;
            for (kind, revision) in &wanted {
                let event = lines.next().await.expect("an event");
                let at: u64 =
                    event["object"]["metadata"]["resourceVersion"].as_str().expect("text").parse().expect("a number");
                assert_eq!(event["type"], *kind);
                assert!(at > last && (*revision == 0 || at == *revision), "{event}");
                last = at;
            }
        }
        three.end().await;
    }
}

#[tokio::test]
async fn selectors_turn_changes_into_comings_and_goings() {
    for three in Three::both().await {
        let from = three.maps(&["a"]).await;
        let mut lines = three.watch(&format!("{MAPS}?watch=1&resourceVersion={from}&labelSelector=app%3Dweb")).await;
        let label = |value: &str| json!({"metadata": {"labels": {"app": value}}});
        let path = format!("{MAPS}/a");
        three.merge(&path, &label("web")).await;
        three.merge(&path, &json!({"data": {"key": "2"}})).await;
        let left = three.merge(&path, &label("db")).await.revision();
        three.merge(&path, &json!({"data": {"key": "3"}})).await;
        three.merge(&path, &label("web")).await;
        three.delete(&path, &none()).await;
        let mut events = Vec::new();
        for _ in 0..5 {
            events.push(lines.next().await.expect("an event"));
        }
        let kinds: Vec<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
        assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]);
        assert_eq!(events[2]["object"]["metadata"]["labels"]["app"], "web", "as it was while it matched");
        assert_eq!(events[2]["object"]["metadata"]["resourceVersion"], left.to_string());
        three.end().await;
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    for three in Three::both().await {
        let newest = three.maps(&["a", "b"]).await;
        let base = format!("{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        for rv in [String::new(), "&resourceVersion=".into(), format!("&resourceVersion={newest}")] {
            let mut lines = three.watch(&format!("{base}&allowWatchBookmarks=true{rv}")).await;
            assert_eq!(told(&lines.next().await.expect("an object")), "ADDED a", "{rv}");
            assert_eq!(told(&lines.next().await.expect("an object")), "ADDED b", "{rv}");
            let mark = lines.next().await.expect("the end of them");
            assert_eq!((&mark["type"], &mark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
            let metadata = &mark["object"]["metadata"];
            assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
            let at: u64 = metadata["resourceVersion"].as_str().expect("text").parse().expect("a number");
            assert!(at >= newest);
        }
        // Only what is new.
        let mut lines =
            three.watch(&format!("{MAPS}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")).await;
        three.maps(&["c"]).await;
        assert_eq!(told(&lines.next().await.expect("an event")), "ADDED c");
        for wrong in [
            "sendInitialEvents=true",
            "sendInitialEvents=true&resourceVersionMatch=Exact",
            "sendInitialEvents=false",
            "resourceVersionMatch=NotOlderThan&resourceVersion=1",
        ] {
            let refused = three.get(&format!("{MAPS}?watch=1&{wrong}")).await;
            assert_eq!(refused.verdict(), "422 Invalid", "{wrong}");
        }
        three.end().await;
    }
}

#[tokio::test]
async fn a_stream_ends_in_time_and_says_how_far_it_came() {
    let three = Three::start().await;
    let newest = three.maps(&["a"]).await;
    let query = format!("watch=1&resourceVersion={newest}&allowWatchBookmarks=true&timeoutSeconds=3");
    let began = tokio::time::Instant::now();
    let (mut with, mut without) = (
        three.watch(&format!("{MAPS}?{query}")).await,
        three.watch(&format!("{MAPS}?watch=1&resourceVersion={newest}&timeoutSeconds=3")).await,
    );
    // A write elsewhere: the bookmark is newer than anything this stream carries.
    let moved = three.post("/api/v1/namespaces", &kybern_testkit::objects::namespace("n")).await.revision();
    let mark = with.next().await.expect("a bookmark");
    assert_eq!(mark["type"], "BOOKMARK");
    let metadata = mark["object"]["metadata"].as_object().expect("metadata");
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["resourceVersion"], "and nothing else");
    let at: u64 = metadata["resourceVersion"].as_str().expect("text").parse().expect("a number");
    assert!(at >= moved, "{at}");
    assert!(with.next().await.is_none() && without.next().await.is_none(), "a clean end");
    let lasted = began.elapsed();
    assert!(lasted > Duration::from_millis(2_500) && lasted < Duration::from_secs(10), "{lasted:?}");
    three.end().await;
}

#[tokio::test]
async fn a_watch_that_comes_too_late_is_told_within_the_stream() {
    let three = Three::start().await;
    let old = three.maps(&["a"]).await;
    for name in ["b", "c", "d"] {
        three.later(Duration::from_secs(600)).await;
        three.maps(&[name]).await;
    }
    three.later(Duration::from_secs(600)).await;
    for _ in 0..3 {
        let mut lines = three.watch(&format!("{MAPS}?watch=1&resourceVersion={old}")).await;
        let error = lines.next().await.expect("the reason");
        let status = &error["object"];
        assert_eq!((&error["type"], &status["kind"]), (&json!("ERROR"), &json!("Status")));
        assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
        let text = status["message"].as_str().expect("a text");
        assert!(text.starts_with(&format!("too old resource version: {old} (")), "{text}");
        assert!(lines.next().await.is_none());
    }
    three.end().await;
}

#[tokio::test]
async fn one_object_is_watched_by_its_name() {
    let three = Three::start().await;
    let from = three.maps(&["a", "b"]).await;
    let one = format!("watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Db");
    let mut lines = three.watch(&format!("{MAPS}?{one}")).await;
    three.merge(&format!("{MAPS}/a"), &json!({"data": {"key": "2"}})).await;
    three.merge(&format!("{MAPS}/b"), &json!({"data": {"key": "2"}})).await;
    assert_eq!(told(&lines.next().await.expect("an event")), "MODIFIED b");
    let mut everywhere = three.watch("/api/v1/watch/namespaces/default/configmaps").await;
    assert_eq!(told(&everywhere.next().await.expect("an event")), "ADDED a", "the older path");
    three.end().await;
}
