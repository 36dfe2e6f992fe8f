//! The table as Kubernetes has it, and which happenings wake a pod that one filter refused.

use super::*;
use crate::framework::Happening;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::testing;
use kybern_client::store::Name;
use serde_json::{Value, json};
use std::sync::Arc;

#[test]
fn the_table_is_the_default_profile_of_kubernetes() {
    let weights: Vec<(&str, i64)> = PLUGINS.iter().filter(|p| p.score.is_some()).map(|p| (p.name, p.weight)).collect();
    let expected = [
        ("TaintToleration", 3),
        ("NodeAffinity", 2),
        ("NodeResourcesFit", 1),
        ("PodTopologySpread", 2),
        ("InterPodAffinity", 2),
        ("NodeResourcesBalancedAllocation", 1),
        ("ImageLocality", 1),
    ];
    assert_eq!(weights, expected);
    for row in PLUGINS {
        let args = PluginArgs::default();
        let names = [row.filter.map(|f| f(&args).name()), row.score.map(|s| s(&args).name())];
        assert!(names.into_iter().flatten().all(|n| n == row.name), "{}", row.name);
    }
}

fn node(tree: Value) -> NodeInfo {
    let mut node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "2", "pods": "9"}}});
    for (field, value) in tree.as_object().expect("an object") {
        node[field] = value.clone();
    }
    testing::node(&node)
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    let labels = json!({"app": name});
    testing::pod(&json!({"metadata": {"name": name, "uid": name, "namespace": "d", "labels": labels}, "spec": spec}))
}

/// Does a happening wake a pod that this filter refused?
fn wakes(filter: &str, pod: &PodInfo, happening: &Happening<'_>) -> bool {
    let row = PLUGINS.iter().find(|p| p.name == filter).expect("a plugin");
    let filter = row.filter.expect("a filter")(&PluginArgs::default());
    filter.events().meets(happening.kind()) && filter.helps(pod, happening)
}

#[test]
fn nodes_wake_only_pods_that_they_may_take() {
    let bare = node(json!({}));
    let closed = node(json!({"spec": {"unschedulable": true}}));
    let tainted = node(json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let labelled = node(json!({"metadata": {"name": "n", "labels": {"disk": "ssd", "zone": "a"}}}));
    let plain = pod("p", json!({"containers": [{}]}));
    let picky = pod("p", json!({"containers": [{}], "nodeSelector": {"disk": "ssd"}}));
    let apart = pod(
        "p",
        json!({"containers": [{}], "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}]}}}),
    );
    let large = pod("p", json!({"containers": [{"resources": {"requests": {"cpu": "3"}}}]}));
    let changed = |old, new| Happening::NodeChanged(old, new);
    let cases = [
        ("NodeUnschedulable", &plain, changed(&closed, &bare), true),
        ("NodeUnschedulable", &plain, changed(&bare, &closed), false),
        ("NodeUnschedulable", &plain, changed(&bare, &labelled), false),
        ("TaintToleration", &plain, changed(&tainted, &bare), true),
        ("TaintToleration", &plain, changed(&bare, &tainted), false),
        ("TaintToleration", &plain, Happening::NodeAdded(&tainted), false),
        ("NodeAffinity", &picky, changed(&bare, &labelled), true),
        ("NodeAffinity", &picky, changed(&labelled, &labelled), false),
        ("NodeAffinity", &picky, Happening::NodeAdded(&bare), false),
        ("NodeResourcesFit", &large, Happening::NodeAdded(&bare), false),
        ("NodeResourcesFit", &plain, Happening::NodeAdded(&bare), true),
        ("InterPodAffinity", &apart, changed(&bare, &labelled), true),
        ("InterPodAffinity", &apart, changed(&bare, &closed), false),
        ("NodePorts", &plain, changed(&bare, &labelled), false),
    ];
    for (filter, pod, happening, expected) in cases {
        assert_eq!(wakes(filter, pod, &happening), expected, "{filter} by {happening:?}");
    }
}

#[test]
fn pods_wake_only_pods_that_they_stood_in_the_way_of_or_keep_company() {
    let port = |n: u16| json!({"containers": [{"ports": [{"hostPort": n, "protocol": "TCP"}]}]});
    let (p80, other80, p81) = (pod("p", port(80)), pod("x", port(80)), pod("x", port(81)));
    let about = |kind: &str, app: &str| {
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}});
        pod(
            "p",
            json!({"containers": [{}], "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
        )
    };
    let (wants_web, avoids_web) = (about("podAffinity", "web"), about("podAntiAffinity", "web"));
    let (web, db) = (pod("web", json!({"containers": [{}]})), pod("db", json!({"containers": [{}]})));
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    let spread = pod("p", json!({"containers": [{}], "topologySpreadConstraints": [constraint]}));
    let gpu = pod("p", json!({"containers": [{"resources": {"requests": {"example.com/gpu": "1"}}}]}));
    let cases = [
        ("NodePorts", &p80, Happening::PodGone(&other80), true),
        ("NodePorts", &p80, Happening::PodGone(&p81), false),
        ("InterPodAffinity", &wants_web, Happening::PodPlaced(&web), true),
        ("InterPodAffinity", &wants_web, Happening::PodPlaced(&db), false),
        ("InterPodAffinity", &wants_web, Happening::PodGone(&web), false),
        ("InterPodAffinity", &avoids_web, Happening::PodGone(&web), true),
        ("InterPodAffinity", &avoids_web, Happening::PodGone(&db), false),
        ("InterPodAffinity", &web, Happening::PodGone(&avoids_web), true),
        ("PodTopologySpread", &spread, Happening::PodPlaced(&web), true),
        ("PodTopologySpread", &spread, Happening::PodGone(&db), false),
        ("NodeResourcesFit", &gpu, Happening::PodGone(&gpu), true),
        ("NodeResourcesFit", &gpu, Happening::PodPlaced(&gpu), false),
    ];
    for (filter, pod, happening, expected) in cases {
        assert_eq!(wakes(filter, pod, &happening), expected, "{filter} by {happening:?}");
    }
}

#[test]
fn claims_wake_only_their_pods() {
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "mine"}});
    let user = pod("p", json!({"containers": [{}], "volumes": [volume]}));
    for filter in ["VolumeBinding", "VolumeZone", "VolumeRestrictions", "NodeVolumeLimits"] {
        assert!(wakes(filter, &user, &Happening::Claim(&Name::new("d", "mine"))), "{filter}");
        assert!(!wakes(filter, &user, &Happening::Claim(&Name::new("d", "other"))), "{filter}");
        assert!(!wakes(filter, &user, &Happening::Claim(&Name::new("e", "mine"))), "{filter}");
    }
}
