//! Helpers of this suite.

use kybern_testkit::{Answer, World};
use serde_json::{Value, json};

/// The collection most cases use.
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Creates config maps with these names.
pub async fn maps(world: &World, names: &[&str]) {
    for name in names {
        let answer = world.call("POST", MAPS, &kybern_testkit::objects::config_map(name, "x")).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
}

/// The names in a list.
pub fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|i| i["metadata"]["name"].as_str().unwrap_or("?").to_owned())
        .collect()
}

/// `code reason` of an answer.
pub fn verdict(answer: &Answer) -> String {
    let body = answer.json();
    format!("{} {}", answer.code, body["reason"].as_str().unwrap_or_default()).trim_end().to_owned()
}

/// Nothing to send.
pub fn none() -> Value {
    json!(null)
}

/// Writes so long apart that the caches forget the changes before.
pub async fn long_ago(world: &World, rounds: &[&str]) {
    for name in rounds {
        maps(world, &[name]).await;
        // A consistent list: the caches hold the write before time moves on.
        assert_eq!(world.call("GET", MAPS, &none()).await.code, 200);
        world.clock.advance(std::time::Duration::from_secs(600));
    }
}
