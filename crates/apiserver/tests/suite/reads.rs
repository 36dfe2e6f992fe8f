//! Lists and renditions.

use crate::cases::{MAPS, maps, names, none, verdict};
use bytes::Bytes;
use kybern_testkit::{Answer, World};
use serde_json::json;

async fn accept(world: &World, path: &str, accept: &str) -> Answer {
    let request = http::Request::get(path).header("authorization", "Bearer admin").header("accept", accept);
    world.http(request.body(Bytes::new()).expect("a request")).await
}

#[tokio::test]
async fn pages_share_one_revision() {
    let world = World::start().await;
    maps(&world, &["a", "b", "c", "d", "e"]).await;
    let first = world.call("GET", &format!("{MAPS}?limit=2"), &none()).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens between pages does not show in them.
    world.call("DELETE", &format!("{MAPS}/d"), &none()).await;
    maps(&world, &["bb"]).await;
    let go_on = first["metadata"]["continue"].as_str().expect("more to come");
    let rest = world.call("GET", &format!("{MAPS}?limit=9&continue={go_on}"), &none()).await.json();
    assert_eq!(names(&rest), ["c", "d", "e"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(rest["metadata"].get("continue").is_none());
    let now = world.call("GET", MAPS, &none()).await.json();
    assert_eq!(names(&now), ["a", "b", "bb", "c", "e"]);
}

#[tokio::test]
async fn selectors_choose() {
    let world = World::start().await;
    maps(&world, &["a", "b", "c"]).await;
    world.call("PATCH", &format!("{MAPS}/b"), &json!({"metadata": {"labels": {"app": "web"}}})).await;
    for (query, want) in [
        ("labelSelector=app%3Dweb", vec!["b"]),
        ("labelSelector=!app", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        ("fieldSelector=metadata.name!%3Dc,metadata.namespace%3Ddefault", vec!["a", "b"]),
        ("limit=1&labelSelector=app", vec!["b"]),
    ] {
        let list = world.call("GET", &format!("{MAPS}?{query}"), &none()).await;
        assert_eq!(names(&list.json()), want, "{query}: {}", list.text());
    }
    assert_eq!(
        verdict(&world.call("GET", &format!("{MAPS}?fieldSelector=data.x%3D1"), &none()).await),
        "400 BadRequest"
    );
}

#[tokio::test]
async fn lists_at_a_revision() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let old = world.call("GET", MAPS, &none()).await.json()["metadata"]["resourceVersion"].clone();
    let old = old.as_str().expect("a revision");
    maps(&world, &["b"]).await;
    let exact = format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact");
    assert_eq!(names(&world.call("GET", &exact, &none()).await.json()), ["a"]);
    let now = world.call("GET", &format!("{MAPS}/b"), &none()).await.json()["metadata"]["resourceVersion"].clone();
    let fresh = format!("{MAPS}?resourceVersion={}", now.as_str().expect("a revision"));
    assert_eq!(names(&world.call("GET", &fresh, &none()).await.json()), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_does_not_come_times_out() {
    let world = World::start().await;
    let answer = world.call("GET", &format!("{MAPS}?resourceVersion=999999"), &none()).await;
    assert_eq!(verdict(&answer), "504 Timeout");
    let body = answer.json();
    assert_eq!(body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn items_carry_no_kind_and_single_objects_do() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let list = world.call("GET", MAPS, &none()).await.json();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(list["items"][0].get("kind").is_none());
    let empty = world.call("GET", "/api/v1/namespaces/none/configmaps", &none()).await.json();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn renditions() {
    let world = World::start().await;
    maps(&world, &["a"]).await;
    let table = accept(&world, MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await.json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let bare = accept(&world, &format!("{MAPS}?includeObject=None"), "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await
        .json();
    assert!(bare["rows"][0].get("object").is_none());

    let partial = accept(&world, MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");
    assert!(partial["items"][0].get("data").is_none());

    let yaml = accept(&world, &format!("{MAPS}/a"), "application/yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text().starts_with("apiVersion: v1\n"), "{}", yaml.text());
}

#[tokio::test]
async fn large_answers_are_compressed_where_that_is_welcome() {
    use std::io::Read;
    let world = World::start().await;
    let big = kybern_testkit::objects::config_map("big", &"x".repeat(200_000));
    world.call("POST", MAPS, &big).await;
    let request = http::Request::get(MAPS).header("authorization", "Bearer admin").header("accept-encoding", "gzip");
    let answer = world.http(request.body(Bytes::new()).expect("a request")).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.bytes.as_ref()).read_to_string(&mut text).expect("gzip");
    assert!(text.contains("xxxxxxxx") && answer.bytes.len() < 20_000);
}

#[tokio::test]
async fn secrets_are_sealed_in_the_store_and_open_to_readers() {
    #[derive(Debug)]
    struct Flip;
    impl kybern_apiserver::Sealer for Flip {
        fn seal(&self, _key: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
            Ok(plain.iter().map(|b| !b).collect())
        }
        fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
            self.seal(key, sealed)
        }
    }
    let world = kybern_testkit::Builder::default().sealer(std::sync::Arc::new(Flip)).start().await;
    let all = "/api/v1/namespaces/default/secrets";
    let created = world.call("POST", all, &kybern_testkit::objects::secret("s", "aGVsbG8=")).await;
    assert_eq!(created.json()["data"]["key"], "aGVsbG8=", "{}", created.text());
    let stored = world.store.get(b"/registry/core/secrets/default/s").expect("it is stored");
    assert!(!stored.value.windows(8).any(|w| w == b"aGVsbG8="), "no plain text in the store");
    let list = world.call("GET", all, &none()).await.json();
    assert_eq!(list["items"][0]["data"]["key"], "aGVsbG8=");
    assert_eq!(list["items"][0]["metadata"]["resourceVersion"], stored.mod_revision.to_string());
}
