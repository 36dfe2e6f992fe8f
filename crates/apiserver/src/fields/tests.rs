//! Data-driven: `cases/managed.yaml`.

use super::*;
use kybern_api::schema;
use serde::Deserialize;
use std::collections::BTreeMap;

pub(crate) const NOW: &str = "2026-02-03T04:05:06Z";

#[derive(Deserialize)]
struct Case {
    name: String,
    old: Option<Value>,
    new: Value,
    writer: String,
    #[serde(default)]
    subresource: String,
    entries: BTreeMap<String, String>,
}

pub(crate) fn deployment() -> (&'static KindDef, Node) {
    let def = kybern_api::kinds::table().iter().find(|d| d.kind == "Deployment").unwrap();
    (def, schema::node("io.k8s.api.apps.v1.Deployment").unwrap())
}

/// `manager operation subresource` to FieldsV1 JSON.
pub(crate) fn summary(tree: &Value) -> BTreeMap<String, String> {
    read_entries(tree)
        .into_iter()
        .map(|e| {
            let key = format!("{} {:?} {}", e.manager, e.operation, e.subresource);
            (key, e.fields.into_value().to_string())
        })
        .collect()
}

#[test]
fn writes_give_and_take_fields() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../cases/managed.yaml")).unwrap();
    let (def, node) = deployment();
    for mut case in cases {
        let writer = Writer {
            manager: &case.writer,
            subresource: &case.subresource,
            api_version: "apps/v1",
            now: NOW.parse().unwrap(),
        };
        update_managers(def, &node, case.old.as_ref(), &mut case.new, &writer);
        assert_eq!(summary(&case.new), case.entries, "{}", case.name);
    }
}

#[test]
fn old_update_entries_are_merged_and_times_say_who_wrote_last() {
    let (def, node) = deployment();
    let mut tree = serde_json::json!({"metadata": {"name": "a"}, "spec": {"replicas": 0}});
    for round in 0..14u32 {
        let old = (round > 0).then(|| tree.clone());
        tree["metadata"]["annotations"][format!("a{round}")] = "x".into();
        let now = jiff::Timestamp::from_second(i64::from(round)).unwrap();
        let manager = format!("m{round}");
        let writer = Writer { manager: &manager, subresource: "", api_version: "apps/v1", now };
        update_managers(def, &node, old.as_ref(), &mut tree, &writer);
    }
    let entries = read_entries(&tree);
    assert_eq!(entries.len(), MAX_UPDATE_ENTRIES);
    let ancient = entries.iter().find(|e| e.manager == ANCIENT).unwrap();
    assert!(ancient.fields.clone().into_value().to_string().contains("f:a4"));
    assert_eq!(entries.last().map(|e| e.time.as_str()), Some("1970-01-01T00:00:13Z"));
}

#[test]
fn nothing_changed_means_nothing_written() {
    let (def, node) = deployment();
    let writer = |second| Writer {
        manager: "m",
        subresource: "",
        api_version: "apps/v1",
        now: jiff::Timestamp::from_second(second).unwrap(),
    };
    let mut first = serde_json::json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}});
    update_managers(def, &node, None, &mut first, &writer(1));
    let mut second = serde_json::json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}});
    update_managers(def, &node, Some(&first), &mut second, &writer(2));
    assert_eq!(first, second);
}
