//! Cases in `cases/*.yaml`: nodes, placed pods and one pod in; the nodes it may go to, or the
//! refusal, out.

use super::*;
use crate::node::NodeInfo;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct Case {
    name: String,
    nodes: Vec<Value>,
    #[serde(default)]
    pods: Vec<Value>,
    pod: Value,
    #[serde(default)]
    chosen: BTreeSet<String>,
    #[serde(default)]
    refused: Option<String>,
}

fn object(tree: &Value) -> kybern_api::object::Object {
    kybern_client::wire::object(tree.to_string().as_bytes()).expect("object")
}

/// Decides with every possible draw; what comes out are the nodes that tie for the best.
fn check(case: &Case) {
    let mut snapshot = Snapshot::default();
    for node in &case.nodes {
        snapshot.set_node(NodeInfo::read(&object(node)).expect("node"));
    }
    for (i, pod) in case.pods.iter().enumerate() {
        let pod = PodInfo::read(&object(pod)).expect("pod");
        snapshot.place(&format!("placed-{i}").into(), &pod.node, &pod.footprint, false);
    }
    let pod = PodInfo::read(&object(&case.pod)).expect("pod");
    let mut chosen = BTreeSet::new();
    for n in 0..case.nodes.len() {
        match decide(&pod, &snapshot, &mut |below| n % below) {
            Decision::Place(node) => _ = chosen.insert(node.to_string()),
            Decision::Refuse { message, helped_by } => {
                assert_eq!(Some(&message), case.refused.as_ref(), "{}", case.name);
                assert!(!helped_by.is_empty(), "{}: nothing would wake it", case.name);
                return;
            }
        }
    }
    assert_eq!(chosen, case.chosen, "{}", case.name);
    assert_eq!(case.refused, None, "{}", case.name);
}

#[test]
fn cases() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("cases") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("case file");
        let cases: Vec<Case> = serde_saphyr::from_str(&text).expect("cases parse");
        cases.iter().for_each(check);
        count += cases.len();
    }
    assert!(count >= 12, "only {count} cases were found");
}

#[test]
fn an_empty_cluster_says_so() {
    let pod = PodInfo::read(&object(&serde_json::json!({"metadata": {"name": "p"}, "spec": {}}))).expect("pod");
    let Decision::Refuse { message, .. } = decide(&pod, &Snapshot::default(), &mut |_| 0) else {
        panic!("placed nowhere")
    };
    assert_eq!(message, "no nodes available to schedule pods");
}
