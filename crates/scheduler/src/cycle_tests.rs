//! Cases in `cases/*.yaml`: nodes, placed pods, other objects and one pod in; the nodes it may go to,
//! the refusal, or the victims out.

use super::*;
use crate::profile::ProfileSettings;
use crate::settings::Settings;
use crate::testing;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Deserialize)]
struct Case {
    name: String,
    nodes: Vec<Value>,
    #[serde(default)]
    pods: Vec<Value>,
    #[serde(default)]
    objects: Vec<Value>,
    /// A profile of a KubeSchedulerConfiguration.
    #[serde(default)]
    profile: Value,
    pod: Value,
    #[serde(default)]
    chosen: BTreeSet<String>,
    #[serde(default)]
    refused: Option<String>,
    /// Node and victims.
    #[serde(default)]
    victims: Option<(String, Vec<String>)>,
}

fn profile(given: &Value) -> Profile {
    if given.is_null() {
        return Profile::new(&ProfileSettings::usual("default-scheduler"));
    }
    let config = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [given]});
    Profile::new(&Settings::read(&config).expect("a profile").profiles[0])
}

fn snapshot(case: &Case) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for object in &case.objects {
        testing::add(&mut snapshot, object);
    }
    for node in &case.nodes {
        snapshot.set_node(testing::node(node));
    }
    for (i, tree) in case.pods.iter().enumerate() {
        let mut pod = PodInfo::clone(&testing::pod(tree));
        pod.uid = format!("placed-{i}").into();
        let pod = Arc::new(pod);
        match pod.node.is_empty() {
            false => _ = snapshot.place(Arc::clone(&pod), &pod.node, false),
            true => snapshot.nominations.put(Arc::clone(&pod), pod.nominated.clone()),
        }
    }
    snapshot
}

/// Decides with every possible draw; what comes out are the nodes that tie for the best.
fn check(case: &Case) {
    let mut snapshot = snapshot(case);
    let (profile, pod) = (profile(&case.profile), testing::pod(&case.pod));
    let mut chosen = BTreeSet::new();
    for n in 0..case.nodes.len().max(1) {
        snapshot.rotation = 0;
        match decide(&pod, &profile, &mut snapshot, &mut |below| n % below) {
            Decision::Place(node) => _ = chosen.insert(node.to_string()),
            Decision::Refuse(refused) => return check_refusal(case, &refused),
        }
    }
    assert_eq!(chosen, case.chosen, "{}", case.name);
    assert_eq!((&case.refused, &case.victims), (&None, &None), "{}", case.name);
}

fn check_refusal(case: &Case, refused: &Refused) {
    assert_eq!(Some(&refused.message), case.refused.as_ref(), "{}", case.name);
    assert_ne!(refused.by, Refusers::default(), "{}: nothing would wake it", case.name);
    let victims = match &refused.nomination {
        Nomination::Node(node, victims) => {
            let mut names: Vec<String> = victims.iter().map(|v| v.name.name.to_string()).collect();
            names.sort();
            Some((node.to_string(), names))
        }
        Nomination::Keep | Nomination::Clear => None,
    };
    assert_eq!(victims, case.victims, "{}", case.name);
}

#[test]
fn cases() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("cases") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("case file");
        let cases: Vec<Case> =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{} does not parse: {e}", path.display()));
        cases.iter().for_each(check);
        count += cases.len();
    }
    assert!(count >= 40, "only {count} cases were found");
}

#[test]
fn an_empty_cluster_says_so() {
    let pod = testing::pod(&json!({"metadata": {"name": "p"}, "spec": {}}));
    let Decision::Refuse(refused) = decide(&pod, &profile(&Value::Null), &mut Snapshot::default(), &mut |_| 0) else {
        panic!("placed nowhere")
    };
    assert_eq!(refused.message, "no nodes available to schedule pods");
}

#[test]
fn a_large_cluster_is_sampled_round_robin() {
    let mut snapshot = Snapshot::default();
    for i in 0..1000 {
        let name = format!("n{i}");
        snapshot
            .set_node(testing::node(&json!({"metadata": {"name": name}, "status": {"allocatable": {"pods": "9"}}})));
    }
    let profile = profile(&Value::Null);
    // 50 % minus 1000/125.
    assert_eq!(profile.enough(1000), 420);
    let pod = testing::pod(&json!({"metadata": {"name": "p"}, "spec": {"containers": [{}]}}));
    assert_eq!(feasible(&pod, &profile, &mut snapshot).len(), 420);
    decide(&pod, &profile, &mut snapshot, &mut |_| 0);
    assert_eq!(snapshot.rotation, 420, "the next pass begins where this one ended");
}
