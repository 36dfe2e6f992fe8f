//! Which revision is read: `validation.md` §2 and §3.

use super::{MAPS, Three, names};
use std::ops::RangeInclusive;
use std::time::Duration;

/// More than the caches' memory.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_get_is_as_fresh_as_its_resource_version_asks() {
    for three in Three::both().await {
        for round in 0..6 {
            let name = format!("m{round}");
            let written = three.maps(&[&name]).await;
            let path = format!("{MAPS}/{name}");
            let read = three.get(&path).await;
            assert_eq!((read.code, read.revision()), (200, written), "unset means latest");
            assert_eq!(three.get(&format!("{path}?resourceVersion={written}")).await.revision(), written);
            let any = three.get(&format!("{path}?resourceVersion=0")).await;
            assert!(any.code == 200 || any.code == 404, "{}", any.json);
            assert_eq!(three.get(&format!("{path}?resourceVersion=")).await.code, 200, "empty is unset");
        }
        assert_eq!(three.get(&format!("{MAPS}/m0?resourceVersion=x")).await.verdict(), "400 BadRequest");
        three.end().await;
    }
}

#[tokio::test]
async fn a_revision_that_is_too_large_is_told_with_its_cause() {
    let three = Three::start().await;
    let newest = three.maps(&["a"]).await;
    let wanted = newest + 1_000;
    // Three seconds each, on three servers at once.
    let (get, list) = (format!("{MAPS}/a?resourceVersion={wanted}"), format!("{MAPS}?resourceVersion={wanted}"));
    let exact = format!("{list}&resourceVersionMatch=Exact");
    let replies = tokio::join!(three.get(&get), three.get(&list), three.get(&exact));
    for reply in [replies.0, replies.1, replies.2] {
        assert_eq!(reply.verdict(), "504 Timeout", "{}", reply.json);
        let text = format!("Timeout: Too large resource version: {wanted}, current: ");
        let current = reply.message().strip_prefix(&text).and_then(|n| n.parse::<u64>().ok());
        assert!(current.is_some_and(|n| (newest..wanted).contains(&n)), "{}", reply.message());
        assert_eq!(reply.json["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(reply.json["details"]["retryAfterSeconds"], 1);
        assert_eq!(reply.headers["retry-after"], "1");
    }
    three.end().await;
}

#[tokio::test]
async fn a_revision_that_comes_meanwhile_is_waited_for() {
    for three in Three::both().await {
        let mut newest = three.maps(&["a"]).await;
        let path = format!("{MAPS}?resourceVersion={}", newest + 20);
        let (list, ()) = tokio::join!(three.get(&path), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for round in 0..20 {
                newest = three.maps(&[&format!("b{round}")]).await;
            }
        });
        assert_eq!(list.code, 200, "{}", list.json);
        assert!((newest - 20..=newest).contains(&list.revision()) && names(&list.json).len() > 1);
        three.end().await;
    }
}

#[tokio::test]
async fn lists_follow_the_table_of_versions_and_matches() {
    for three in Three::both().await {
        let old = three.maps(&["a"]).await;
        let new = three.maps(&["b", "c"]).await;
        let page = three.get(&format!("{MAPS}?limit=1")).await;
        let next = page.json["metadata"]["continue"].as_str().expect("a token").to_owned();
        // The servers write as well: the newest revision is at least that of the last map.
        let latest = new..=new + 100;
        let pages = page.revision()..=page.revision();
        let ok = |names: &str, at: &RangeInclusive<u64>| (200, names.to_owned(), at.clone());
        let no = |code: u16| (code, String::new(), 0..=0);
        let first = old..=old;
        // The query, the code, the names, and the revision.
        let table = [
            (String::new(), ok("a b c", &latest)),
            (format!("resourceVersion={new}"), ok("a b c", &latest)),
            ("limit=2".into(), ok("a b", &latest)),
            (format!("limit=2&resourceVersion={old}"), ok("a", &first)),
            (format!("limit=2&continue={next}"), ok("b c", &pages)),
            (format!("limit=2&continue={next}&resourceVersion=0"), ok("b c", &pages)),
            (format!("limit=2&continue={next}&resourceVersion={old}"), no(400)),
            (format!("limit=2&continue={next}&resourceVersionMatch=Exact"), no(422)),
            (format!("resourceVersionMatch=Exact&resourceVersion={old}"), ok("a", &first)),
            (format!("resourceVersionMatch=Exact&resourceVersion={old}&limit=5"), ok("a", &first)),
            ("resourceVersionMatch=Exact".into(), no(422)),
            ("resourceVersionMatch=Exact&resourceVersion=0".into(), no(422)),
            (format!("resourceVersionMatch=NotOlderThan&resourceVersion={new}"), ok("a b c", &latest)),
            (format!("resourceVersionMatch=NotOlderThan&resourceVersion={new}&limit=9"), ok("a b c", &latest)),
            ("resourceVersionMatch=NotOlderThan".into(), no(422)),
            (format!("resourceVersionMatch=Newest&resourceVersion={old}"), no(422)),
            ("resourceVersion=x".into(), no(400)),
            ("resourceVersion=-1".into(), no(400)),
            ("sendInitialEvents=true".into(), no(422)),
            ("continue=x".into(), no(400)),
            ("limit=x".into(), no(400)),
        ];
        for (query, (code, want, at)) in table {
            let reply = three.get(&format!("{MAPS}?{query}")).await;
            assert_eq!(reply.code, code, "{query}: {}", reply.json);
            if code == 200 {
                assert_eq!(names(&reply.json).join(" "), want, "{query}");
                assert!(at.contains(&reply.revision()), "{query}: {} and not {at:?}", reply.revision());
            } else if code == 422 {
                assert_eq!(reply.json["details"]["kind"], "ListOptions", "{query}");
                assert_eq!(reply.json["details"]["group"], "meta.k8s.io", "{query}");
            }
        }
        // Any cached state may lag, and is a state that was.
        let any = three.get(&format!("{MAPS}?resourceVersion=0")).await;
        assert!(["", "a", "a b", "a b c"].contains(&names(&any.json).join(" ").as_str()), "{}", any.json);
        three.end().await;
    }
}

#[tokio::test]
async fn pages_come_from_any_server_at_one_revision() {
    for three in Three::both().await {
        let all = ["a", "b", "c", "d", "e", "f", "g"];
        three.maps(&all).await;
        let mut revision = None;
        let (mut query, mut seen, mut left) = ("limit=2".to_owned(), Vec::new(), all.len());
        loop {
            let page = three.get(&format!("{MAPS}?{query}")).await;
            assert_eq!(page.code, 200, "{}", page.json);
            assert_eq!(*revision.get_or_insert(page.revision()), page.revision());
            let found = names(&page.json);
            left -= found.len();
            seen.extend(found);
            let remaining = &page.json["metadata"]["remainingItemCount"];
            let Some(next) = page.json["metadata"]["continue"].as_str() else {
                assert!(remaining.is_null());
                break;
            };
            assert_eq!(remaining.as_u64(), Some(left as u64));
            query = format!("limit=2&continue={next}");
            // What happens between pages shows in none of them.
            three.delete(&format!("{MAPS}/{}", all[all.len() - 1 - left % 2]), &super::none()).await;
            three.maps(&[&format!("aa{left}")]).await;
        }
        assert_eq!(seen, all);
        let selected = three.get(&format!("{MAPS}?limit=1&labelSelector=!none")).await;
        assert!(selected.json["metadata"]["continue"].is_string());
        assert!(selected.json["metadata"]["remainingItemCount"].is_null(), "nobody counts what is selected");
        let empty = three.get(&format!("{MAPS}?labelSelector=none")).await;
        assert_eq!(empty.json["items"], serde_json::json!([]), "never null");
        three.end().await;
    }
}

#[tokio::test]
async fn a_forgotten_revision_is_expired_and_pages_go_on_at_the_newest() {
    let three = Three::start().await;
    let old = three.maps(&["a", "b", "c"]).await;
    let page = three.get(&format!("{MAPS}?limit=1")).await;
    let token = page.json["metadata"]["continue"].as_str().expect("a token").to_owned();
    for name in ["d", "e", "f"] {
        three.later(LONG).await;
        three.maps(&[name]).await;
    }
    three.later(LONG).await;
    let exact = three.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.verdict(), "410 Expired");
    assert_eq!(exact.message(), "The resourceVersion for the provided list is too old.");
    let expired = three.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(expired.verdict(), "410 Expired");
    let fresh = expired.json["metadata"]["continue"].as_str().expect("a way to go on").to_owned();
    let second = three.get(&format!("{MAPS}?limit=2&continue={fresh}")).await;
    assert_eq!(names(&second.json), ["b", "c"]);
    let next = second.json["metadata"]["continue"].as_str().expect("more");
    let third = three.get(&format!("{MAPS}?limit=9&continue={next}")).await;
    assert_eq!(names(&third.json), ["d", "e", "f"]);
    assert_eq!(third.revision(), second.revision(), "the pages after it share the newer revision");
    three.end().await;
}
