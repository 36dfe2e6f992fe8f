//! Watches, through the in-process door.

use crate::cases::{MAPS, long_ago, maps, none};
use futures::StreamExt;
use futures::stream::BoxStream;
use kybern_api::error::{Reason, Status};
use kybern_api::object::EventType;
use kybern_client::transport::{Resource, Selection, WatchEvent};
use kybern_testkit::World;
use serde_json::json;

fn config_maps() -> Resource {
    Resource::new("", "v1", "configmaps")
}

async fn next(watch: &mut BoxStream<'static, Result<WatchEvent, Status>>) -> String {
    match watch.next().await {
        Some(Ok(WatchEvent::Object(kind, object))) => {
            let tree = object.tree().expect("JSON");
            let stamp = tree["metadata"]["resourceVersion"].as_str();
            assert_eq!(stamp, Some(object.revision.to_string().as_str()), "the bytes carry the revision of the event");
            format!("{} {}", kind.as_str(), object.head.name)
        }
        Some(Ok(WatchEvent::Bookmark(_))) => "BOOKMARK".into(),
        Some(Err(status)) => format!("{:?}", status.reason),
        None => "end".into(),
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let client = world.admin();
    let selection = Selection { namespace: "default".into(), ..Selection::default() };
    let list = client.list(&config_maps(), &selection).await.expect("a list");
    assert_eq!(list.items.len(), 1);
    maps(&world, &["b"]).await;
    let mut watch = client.watch(&config_maps(), &selection, list.revision).await.expect("a watch");
    assert_eq!(next(&mut watch).await, "ADDED b");
    world.call("PATCH", &format!("{MAPS}/a"), &json!({"data": {"key": "2"}})).await;
    world.call("DELETE", &format!("{MAPS}/b"), &none()).await;
    assert_eq!(next(&mut watch).await, "MODIFIED a");
    assert_eq!(next(&mut watch).await, "DELETED b");
}

#[tokio::test]
async fn selectors_see_the_old_and_the_new_object() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let client = world.admin();
    let selection = Selection { labels: "on=yes".into(), ..Selection::default() };
    let list = client.list(&config_maps(), &selection).await.expect("a list");
    let mut watch = client.watch(&config_maps(), &selection, list.revision).await.expect("a watch");
    let path = format!("{MAPS}/a");
    for labels in [json!({"on": "yes"}), json!({"more": "x"}), json!({"on": "no"}), json!({"on": "yes"})] {
        world.call("PATCH", &path, &json!({"metadata": {"labels": labels}})).await;
    }
    world.call("DELETE", &path, &none()).await;
    for want in ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"] {
        assert_eq!(next(&mut watch).await, want);
    }
}

#[tokio::test]
async fn a_forgotten_revision_is_expired() {
    let world = World::start().await;
    long_ago(&world, &["a", "b", "c"]).await;
    let client = world.admin();
    let list = client.list(&config_maps(), &Selection::default()).await.expect("a list");
    let mut watch = client.watch(&config_maps(), &Selection::default(), 1).await.expect("it opens");
    assert_eq!(next(&mut watch).await, format!("{:?}", Reason::Expired));
    assert_eq!(next(&mut watch).await, "end");
    let mut fresh = client.watch(&config_maps(), &Selection::default(), list.revision).await.expect("a watch");
    maps(&world, &["e"]).await;
    assert_eq!(next(&mut fresh).await, "ADDED e");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_tell_how_far_a_quiet_watch_has_come() {
    let world = World::start().await;
    let client = world.admin();
    let list = client.list(&config_maps(), &Selection::default()).await.expect("a list");
    let mut watch = client.watch(&config_maps(), &Selection::default(), list.revision).await.expect("a watch");
    // Another kind moves the revision on.
    let moved = world.call("POST", "/api/v1/namespaces", &kybern_testkit::objects::namespace("elsewhere")).await.json();
    let moved: u64 = moved["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).expect("a revision");
    match watch.next().await {
        Some(Ok(WatchEvent::Bookmark(revision))) => assert_eq!(revision, moved),
        other => panic!("a bookmark, not {other:?}"),
    }
}

#[tokio::test]
async fn every_event_comes_once_and_in_order() {
    let world = World::start().await;
    let client = world.admin();
    let list = client.list(&config_maps(), &Selection::default()).await.expect("a list");
    let mut watch = client.watch(&config_maps(), &Selection::default(), list.revision).await.expect("a watch");
    let writer = world.clone();
    let writes = tokio::spawn(async move {
        for i in 0..600 {
            maps(&writer, &[&format!("m{i:03}")]).await;
        }
    });
    let mut last = list.revision;
    for i in 0..600 {
        match watch.next().await {
            Some(Ok(WatchEvent::Object(EventType::Added, object))) => {
                assert_eq!(object.head.name, format!("m{i:03}"));
                assert!(object.revision > last);
                last = object.revision;
            }
            other => panic!("event {i} is {other:?}"),
        }
    }
    writes.await.expect("the writer ran");
}

#[tokio::test]
async fn a_second_server_sees_what_the_first_wrote() {
    let world = World::start().await;
    let second = kybern_testkit::Builder::default().store(world.store.clone()).empty().start().await;
    maps(&world, &["a"]).await;
    assert_eq!(second.call("GET", &format!("{MAPS}/a"), &none()).await.code, 200);
    let list = second.call("GET", MAPS, &none()).await.json();
    assert_eq!(crate::cases::names(&list), ["a"]);
}
