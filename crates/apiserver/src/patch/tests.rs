//! Data-driven: `cases/strategic.yaml` and `cases/apply.yaml`.

use super::*;
use crate::fields::tests::{NOW, deployment, summary};
use crate::fields::{Writer, put_entries};
use kybern_api::schema;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Strategic {
    name: String,
    schema: String,
    current: Value,
    patch: Value,
    result: Option<Value>,
    error: Option<String>,
}

#[test]
fn strategic_merge() {
    let cases: Vec<Strategic> = serde_saphyr::from_str(include_str!("../../cases/strategic.yaml")).unwrap();
    for case in cases {
        let node = schema::node(&case.schema).unwrap();
        let patch = case.patch.to_string();
        match (apply_patch(PatchType::Strategic, case.current, patch.as_bytes(), &node), case.error) {
            (Ok(result), None) => assert_eq!(Some(result), case.result, "{}", case.name),
            (Err(status), Some(error)) => assert!(status.message.contains(&error), "{}: {status}", case.name),
            (other, _) => panic!("{}: {other:?}", case.name),
        }
    }
}

#[derive(Deserialize)]
struct Apply {
    name: String,
    live: Option<Value>,
    config: Value,
    #[serde(default)]
    force: bool,
    result: Option<Value>,
    entries: Option<BTreeMap<String, String>>,
    error: Option<String>,
}

#[test]
fn server_side_apply() {
    let cases: Vec<Apply> = serde_saphyr::from_str(include_str!("../../cases/apply.yaml")).unwrap();
    let (def, node) = deployment();
    let writer = Writer { manager: "me", subresource: "", api_version: "apps/v1", now: NOW.parse().unwrap() };
    for case in cases {
        match (apply::apply(def, &node, case.live.as_ref(), case.config.clone(), &writer, case.force), case.error) {
            (Ok(mut tree), None) => {
                assert_eq!(Some(summary(&tree)), case.entries, "{}", case.name);
                let again = apply::apply(def, &node, Some(&tree), case.config, &writer, false).unwrap();
                assert_eq!(again, tree, "{}: applying again changes nothing", case.name);
                put_entries(&mut tree, Vec::new());
                assert_eq!(Some(tree), case.result, "{}", case.name);
            }
            (Err(status), Some(error)) => assert_eq!(status.message, error, "{}", case.name),
            (other, _) => panic!("{}: {other:?}", case.name),
        }
    }
}

#[test]
fn merge_patch_follows_the_rfc() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [1]}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
    ];
    for (current, patch, result) in cases {
        let merged = apply_patch(PatchType::Merge, current, patch.to_string().as_bytes(), &schema::ANY).unwrap();
        assert_eq!(merged, result, "{patch}");
    }
}

#[test]
fn json_patch_is_bounded_and_says_why_it_fails() {
    let run =
        |patch: Value| apply_patch(PatchType::Json, json!({"a": [1, 2]}), patch.to_string().as_bytes(), &schema::ANY);
    assert_eq!(run(json!([{"op": "add", "path": "/a/-", "value": 3}])).unwrap(), json!({"a": [1, 2, 3]}));
    assert_eq!(run(json!([{"op": "test", "path": "/a/0", "value": 3}])).unwrap_err().code, 422);
    assert_eq!(run(json!([{"op": "remove", "path": "/b"}])).unwrap_err().code, 422);
    assert_eq!(run(json!({"op": "remove"})).unwrap_err().code, 400);
    let many = vec![json!({"op": "test", "path": "/a/0", "value": 1}); 10_001];
    assert_eq!(run(Value::Array(many)).unwrap_err().code, 413);
    let doubling = vec![json!({"op": "copy", "from": "", "path": "/a/-"}); 64];
    assert_eq!(run(Value::Array(doubling)).unwrap_err().code, 422);
}

#[test]
fn content_types_are_listed_when_refused() {
    assert_eq!(PatchType::from_content_type("application/merge-patch+json; charset=utf-8", true), Ok(PatchType::Merge));
    assert_eq!(PatchType::from_content_type("application/json", true).unwrap_err().code, 415);
    let refused = PatchType::from_content_type("application/strategic-merge-patch+json", false).unwrap_err();
    assert!(!refused.message.contains("strategic"), "{refused}");
}
