//! What a node's certificate opens: its own, and nothing of another's.

use crate::world::{World, ask, user};
use kybern_rbac::{Authorizer, Decision, Standard};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = node.into();
    json!({ "metadata": { "name": name, "namespace": "ns", "uid": format!("{name}-uid") }, "spec": spec })
}

/// Two nodes; n1's pod references everything that can be referenced, each under a name of its own.
fn world() -> World {
    let world = World::default();
    let spec = json!({
        "serviceAccountName": "web",
        "imagePullSecrets": [{ "name": "s-pull" }],
        "volumes": [
            { "name": "a", "secret": { "secretName": "s-volume" } },
            { "name": "b", "configMap": { "name": "c-volume" } },
            { "name": "c", "projected": { "sources": [
                { "secret": { "name": "s-projected" } }, { "configMap": { "name": "c-projected" } },
                { "serviceAccountToken": { "path": "token" } }, { "downwardAPI": {} },
            ] } },
            { "name": "d", "persistentVolumeClaim": { "claimName": "claim" } },
            { "name": "e", "ephemeral": {} },
            { "name": "f", "csi": { "nodePublishSecretRef": { "name": "s-csi" } } },
            { "name": "g", "emptyDir": {} },
        ],
        "initContainers": [{ "name": "i", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s-env", "key": "k" } } }] }],
        "containers": [{ "name": "c", "envFrom": [
            { "secretRef": { "name": "s-from" } }, { "configMapRef": { "name": "c-from" } },
        ], "env": [{ "name": "Y", "value": "s-plain" },
                   { "name": "Z", "valueFrom": { "configMapKeyRef": { "name": "c-env", "key": "k" } } }] }],
        "ephemeralContainers": [{ "name": "d", "envFrom": [{ "secretRef": { "name": "s-debug" } }] }],
        "nodeSelector": { "secretName": "s-selector" },
    });
    world.put("", "pods", "ns", "one", pod("one", "n1", spec));
    world.put(
        "",
        "pods",
        "ns",
        "two",
        pod("two", "n2", json!({ "imagePullSecrets": [{ "name": "s-two" }], "serviceAccountName": "other" })),
    );
    world.put("", "pods", "ns", "loose", pod("loose", "", json!({ "imagePullSecrets": [{ "name": "s-loose" }] })));
    let mut mirror = pod("mirror", "n1", json!({ "imagePullSecrets": [{ "name": "s-mirror" }] }));
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "hash" });
    world.put("", "pods", "ns", "mirror", mirror);
    let volume = |claim: &str| json!({ "spec": { "claimRef": { "namespace": "ns", "name": claim } } });
    world.put("", "persistentvolumes", "", "pv", volume("claim"));
    world.put("", "persistentvolumes", "", "pv-two", volume("claim-two"));
    world.put("storage.k8s.io", "volumeattachments", "", "att", json!({ "spec": { "nodeName": "n1" } }));
    world.put("storage.k8s.io", "volumeattachments", "", "att-two", json!({ "spec": { "nodeName": "n2" } }));
    world
}

/// What n1 asks, and whether it may.
const MATRIX: &[(&str, bool)] = &[
    ("get ns - secrets s-pull", true),
    ("get ns - secrets s-volume", true),
    ("get ns - secrets s-projected", true),
    ("get ns - secrets s-csi", true),
    ("get ns - secrets s-env", true),
    ("get ns - secrets s-from", true),
    ("get ns - secrets s-debug", true),
    ("list ns - secrets ?metadata.name=s-pull", true),
    ("watch ns - secrets ?metadata.name=s-pull", true),
    ("get ns - secrets s-plain", false),
    ("get ns - secrets s-selector", false),
    ("get ns - secrets s-two", false),
    ("get ns - secrets s-loose", false),
    ("get ns - secrets s-mirror", false),
    ("get other - secrets s-pull", false),
    ("list ns - secrets", false),
    ("list - - secrets", false),
    ("list ns - secrets ?metadata.name=s-two", false),
    ("list ns - secrets ?type=Opaque", false),
    ("update ns - secrets s-pull", false),
    ("delete ns - secrets s-pull", false),
    ("create ns - secrets", false),
    ("get ns - configmaps c-volume", true),
    ("get ns - configmaps c-projected", true),
    ("get ns - configmaps c-from", true),
    ("get ns - configmaps c-env", true),
    ("get ns - configmaps s-pull", false),
    ("get ns - configmaps other", false),
    ("get kube-system - configmaps coredns-custom", true),
    ("get ns - configmaps coredns-custom", false),
    ("list ns - configmaps", false),
    ("get ns - persistentvolumeclaims claim", true),
    ("get ns - persistentvolumeclaims one-e", true),
    ("get ns - persistentvolumeclaims one-x", false),
    ("get - - persistentvolumes pv", true),
    ("get - - persistentvolumes pv-two", false),
    ("get - storage.k8s.io volumeattachments att", true),
    ("get - storage.k8s.io volumeattachments att-two", false),
    ("create ns - serviceaccounts/token web", true),
    ("create ns - serviceaccounts/token other", false),
    ("create ns - serviceaccounts/token default", false),
    ("get ns - serviceaccounts web", true),
    ("get ns - serviceaccounts other", false),
    ("get ns - pods one", true),
    ("get ns - pods two", false),
    ("get ns - pods loose", false),
    ("list - - pods ?spec.nodeName=n1", true),
    ("watch - - pods ?spec.nodeName=n1,status.phase!=Failed", true),
    ("list - - pods ?spec.nodeName=n2", false),
    ("list - - pods ?spec.nodeName!=n1", false),
    ("list - - pods", false),
    ("list ns - pods", false),
    ("create ns - pods", true),
    ("delete ns - pods one", true),
    ("delete ns - pods two", false),
    ("update ns - pods one", false),
    ("patch ns - pods/status one", true),
    ("patch ns - pods/status two", false),
    ("create ns - pods/eviction one", true),
    ("create ns - pods/eviction two", false),
    ("create ns - pods/binding one", false),
    ("create ns - pods/exec one", false),
    ("get - - nodes n1", true),
    ("get - - nodes n2", true),
    ("list - - nodes", true),
    ("create - - nodes", true),
    ("create - - nodes n1", true),
    ("update - - nodes n1", true),
    ("update - - nodes n2", false),
    ("patch - - nodes/status n1", true),
    ("patch - - nodes/status n2", false),
    ("delete - - nodes n1", false),
    ("create - - nodes/proxy n1", false),
    ("create kube-node-lease coordination.k8s.io leases", true),
    ("update kube-node-lease coordination.k8s.io leases n1", true),
    ("update kube-node-lease coordination.k8s.io leases n2", false),
    ("update kube-system coordination.k8s.io leases n1", false),
    ("list kube-node-lease coordination.k8s.io leases", false),
    ("create - storage.k8s.io csinodes", true),
    ("update - storage.k8s.io csinodes n1", true),
    ("update - storage.k8s.io csinodes n2", false),
    ("list - - services", true),
    ("watch - discovery.k8s.io endpointslices", true),
    ("update ns discovery.k8s.io endpointslices x", false),
    ("create ns - events", true),
    ("create - certificates.k8s.io certificatesigningrequests", true),
    ("update - certificates.k8s.io certificatesigningrequests/approval x", false),
    ("create - authorization.k8s.io subjectaccessreviews", true),
    ("get - rbac.authorization.k8s.io clusterroles admin", false),
    ("impersonate - - users admin", false),
    ("get /metrics", false),
];

#[test]
fn a_node_reaches_its_own_and_no_more() {
    let (standard, world, node) = (Standard::new(), world(), user("system:node:n1,system:nodes"));
    for round in ["cold", "warm"] {
        for (what, expected) in MATRIX {
            let decision = standard.authorize(&ask(&node, what), &world);
            assert_eq!(matches!(decision, Decision::Allow(_)), *expected, "{round}: {what}: {decision:?}");
        }
    }
}

/// One line of `cases/node.txt`.
struct Line {
    namespace: &'static str,
    /// Own, foreign, none: a name, and the verbs that are allowed on it.
    names: [(&'static str, &'static str); 3],
}

fn node_lines() -> BTreeMap<(&'static str, &'static str), Line> {
    let text = include_str!("../../cases/node.txt");
    let line = |line: &'static str| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let words: Vec<&str> = columns[0].split(' ').collect();
        let group = if words[0] == "core" { "" } else { words[0] };
        let names = [(words[3], columns[1]), (words[4], columns[2]), ("", columns[3])];
        ((group, words[1]), Line { namespace: if words[2] == "-" { "" } else { words[2] }, names })
    };
    text.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

/// Every resource that is served x every verb x own, foreign and unnamed.
#[test]
fn a_node_may_do_what_its_lines_say_and_nothing_else() {
    let (standard, world, node) = (Standard::new(), world(), user("system:node:n1,system:nodes"));
    let (lines, mut asked, mut wrong) = (node_lines(), 0, Vec::new());
    let nothing = Line { namespace: "ns", names: [("n1", "-"), ("n2", "-"), ("", "-")] };
    let served = crate::matrix::resources();
    for what in lines.keys() {
        let known = served.iter().any(|w| (w.group.as_str(), w.resource.as_str()) == *what);
        assert!(known, "{what:?} is served");
    }
    for what in served {
        let line = lines.get(&(what.group.as_str(), what.resource.as_str())).unwrap_or(&nothing);
        for verb in crate::matrix::verbs() {
            for (name, allowed) in line.names {
                let mut request = crate::matrix::asked(&node, &what, verb);
                (request.name, request.namespace) = (name.into(), line.namespace.into());
                let decision = standard.authorize(&request, &world);
                let (may, should) = (matches!(decision, Decision::Allow(_)), allowed.split(' ').any(|v| v == verb));
                asked += 1;
                if may != should {
                    wrong.push(format!("{verb} {} {} {name:?}: {decision:?}", what.group, what.resource));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 5_000, "only {asked} questions were asked");
}

/// Nodes that serve Ingress and one that does not; Ingresses of our classes and of another.
fn with_ingress() -> World {
    let world = World::default();
    for (node, labels) in [
        ("edge", json!({ "role": "edge" })),
        ("plain", json!({})),
        ("off", json!({ "role": "edge", "kybern.io/ingress": "false" })),
    ] {
        world.put("", "nodes", "", node, json!({ "metadata": { "name": node, "labels": labels } }));
    }
    let class = |name: &str, controller: &str, annotations: Value| {
        let body =
            json!({ "metadata": { "name": name, "annotations": annotations }, "spec": { "controller": controller } });
        world.put("networking.k8s.io", "ingressclasses", "", name, body);
    };
    class("kybern", "kybern.io/ingress", Value::Null);
    class("edge", "kybern.io/ingress", json!({ "kybern.io/node-selector": "role=edge" }));
    class("broken", "kybern.io/ingress", json!({ "kybern.io/node-selector": "=" }));
    class("nginx", "k8s.io/ingress-nginx", Value::Null);
    for name in ["kybern", "edge", "broken", "nginx", "gone"] {
        let spec = json!({ "ingressClassName": name, "tls": [{ "secretName": format!("c-{name}") }] });
        let body = json!({ "metadata": { "name": name, "namespace": "ns" }, "spec": spec });
        world.put("networking.k8s.io", "ingresses", "ns", name, body);
    }
    world
}

/// A node, what it asks, and whether it may.
const INGRESS: &[(&str, &str, bool)] = &[
    ("plain", "get ns - secrets c-kybern", true),
    ("plain", "watch ns - secrets ?metadata.name=c-kybern", true),
    ("plain", "get ns - secrets c-edge", false),
    ("edge", "get ns - secrets c-edge", true),
    ("edge", "get ns - secrets c-kybern", true),
    ("edge", "get ns - secrets c-nginx", false),
    ("edge", "get ns - secrets c-broken", false),
    ("edge", "get ns - secrets c-gone", false),
    ("edge", "get other - secrets c-edge", false),
    ("edge", "list ns - secrets", false),
    ("edge", "update ns - secrets c-edge", false),
    ("off", "get ns - secrets c-kybern", false),
    ("off", "get ns - secrets c-edge", false),
    ("unknown", "get ns - secrets c-kybern", false),
    ("plain", "create kube-system - serviceaccounts/token ingress", true),
    ("off", "create kube-system - serviceaccounts/token ingress", false),
    ("unknown", "create kube-system - serviceaccounts/token ingress", false),
    ("plain", "create ns - serviceaccounts/token ingress", false),
    ("plain", "create kube-system - serviceaccounts/token other", false),
    // the proxy's account reads these, the node does not
    ("plain", "list - networking.k8s.io ingresses", false),
];

#[test]
fn a_node_reads_the_certificates_of_the_ingresses_it_serves() {
    let (standard, world) = (Standard::new(), with_ingress());
    for (node, what, expected) in INGRESS {
        let node = user(&format!("system:node:{node},system:nodes"));
        let decision = standard.authorize(&ask(&node, what), &world);
        assert_eq!(matches!(decision, Decision::Allow(_)), *expected, "{}: {what}: {decision:?}", node.name);
    }
}

#[test]
fn only_the_group_makes_a_node() {
    let (standard, world) = (Standard::new(), world());
    for who in ["system:node:n1", "n1,system:nodes", "system:nodes:n1,system:nodes", "system:node:,system:nodes"] {
        let decision = standard.authorize(&ask(&user(who), "get ns - secrets s-pull"), &world);
        assert!(!matches!(decision, Decision::Allow(_)), "{who}");
    }
}

#[test]
fn a_secret_closes_with_the_last_pod_that_references_it() {
    let (standard, world, node) = (Standard::new(), world(), user("system:node:n1,system:nodes"));
    let open = || matches!(standard.authorize(&ask(&node, "get ns - secrets s-pull"), &world), Decision::Allow(_));
    assert!(open());
    let again = || pod("again", "n1", json!({ "imagePullSecrets": [{ "name": "s-pull" }] }));
    world.put("", "pods", "ns", "again", again());
    world.remove("", "pods", "ns", "one");
    assert!(open(), "another pod references it");
    world.remove("", "pods", "ns", "again");
    assert!(!open());
    // a pod of the same name that came back on another node is no witness
    world.put("", "pods", "ns", "again", again());
    assert!(open());
    let mut moved = pod("again", "n2", json!({ "imagePullSecrets": [{ "name": "s-pull" }] }));
    moved["metadata"]["uid"] = "new".into();
    world.put("", "pods", "ns", "again", moved);
    assert!(!open());
}
