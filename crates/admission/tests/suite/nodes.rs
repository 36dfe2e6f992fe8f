//! NodeRestriction: what a node writes of itself and its pods.

use crate::plugins::request;
use crate::world::{Call, World};
use kybern_admission::Operation::{self, Create, Delete, Update};
use serde_json::{Value, json};

const NODE: &str = "system:node:n1,system:nodes";

fn world() -> World {
    let mut world = World::new();
    world.put("", "namespaces", "", "kube-node-lease", json!({}));
    world.put("", "nodes", "", "n1", json!({ "metadata": { "uid": "n1-uid" } }));
    let pod = |node: &str| {
        json!({
            "metadata": { "uid": "u" },
            "spec": { "nodeName": node, "serviceAccountName": "web", "volumes": [
                { "projected": { "sources": [{ "serviceAccountToken": { "audience": "vault" } }] } },
            ] },
        })
    };
    world.put("", "pods", "ns", "mine", pod("n1"));
    world.put("", "pods", "ns", "other", pod("n2"));
    world
}

/// The refusal's text, or nothing.
fn send(call: Call<'_>, object: Value) -> Result<(), String> {
    Call { user: NODE, ..call }.send(&world(), object).map(|_| ()).map_err(|status| {
        assert_eq!(status.code, 403, "{}", status.message);
        status.message
    })
}

fn node(operation: Operation, name: &'static str, new: Value, old: Value) -> Result<(), String> {
    let call = Call { resource: "nodes", namespace: "", name, operation, old: Some(old), ..Call::default() };
    send(call, new)
}

#[test]
fn a_node_writes_its_own_node() {
    let named = |name: &str| json!({ "metadata": { "name": name } });
    assert_eq!(node(Create, "n1", named("n1"), Value::Null), Ok(()));
    assert_eq!(node(Create, "", named("n1"), Value::Null), Ok(()));
    assert!(node(Create, "", named("n2"), Value::Null).is_err());
    assert!(node(Update, "n2", named("n2"), named("n2")).is_err());
    assert!(node(Delete, "n2", Value::Null, named("n2")).is_err());
}

#[test]
fn a_node_labels_itself_only_with_what_it_knows() {
    for (label, allowed) in [
        ("kubernetes.io/hostname", true),
        ("kubernetes.io/arch", true),
        ("topology.kubernetes.io/zone", true),
        ("node.kubernetes.io/anything", true),
        ("x.kubelet.kubernetes.io/anything", true),
        ("example.com/anything", true),
        ("plain", true),
        ("mykubernetes.io/x", true),
        ("node-restriction.kubernetes.io/trusted", false),
        ("x.node-restriction.kubernetes.io/trusted", false),
        ("node-role.kubernetes.io/control-plane", false),
        ("kubernetes.io/anything", false),
        ("k8s.io/anything", false),
        ("x.k8s.io/anything", false),
    ] {
        let bare = json!({ "metadata": { "name": "n1" } });
        let labelled = |value: &str| json!({ "metadata": { "name": "n1", "labels": { label: value } } });
        let (one, two) = (labelled("1"), labelled("2"));
        for (what, operation, new, old) in [
            ("create", Create, &one, &Value::Null),
            ("add", Update, &one, &bare),
            ("change", Update, &two, &one),
            ("remove", Update, &bare, &one),
        ] {
            assert_eq!(node(operation, "n1", new.clone(), old.clone()).is_ok(), allowed, "{what} {label}");
        }
        assert_eq!(node(Update, "n1", one.clone(), one), Ok(()), "keeping {label}");
    }
}

#[test]
fn a_node_does_not_shed_its_taints() {
    let tainted =
        json!({ "metadata": { "name": "n1" }, "spec": { "taints": [{ "key": "a", "effect": "NoSchedule" }] } });
    let bare = json!({ "metadata": { "name": "n1" }, "spec": { "taints": [] } });
    assert!(node(Update, "n1", bare.clone(), tainted.clone()).is_err());
    assert!(node(Update, "n1", tainted.clone(), bare.clone()).is_err());
    assert_eq!(node(Update, "n1", tainted.clone(), tainted.clone()), Ok(()));
    assert_eq!(node(Update, "n1", bare, json!({ "metadata": { "name": "n1" } })), Ok(()), "empty is none");
    assert_eq!(node(Create, "n1", tainted, Value::Null), Ok(()), "it may come with taints");
}

#[test]
fn cve_2025_5187_a_node_does_not_have_itself_collected() {
    let owned = json!({ "metadata": { "name": "n1", "ownerReferences": [{ "kind": "ConfigMap", "name": "x" }] } });
    let bare = json!({ "metadata": { "name": "n1" } });
    assert!(node(Update, "n1", owned.clone(), bare.clone()).is_err());
    assert!(node(Update, "n1", bare, owned).is_err());
}

fn mirror(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "m", "annotations": { "kubernetes.io/config.mirror": "hash" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1-uid", "controller": true }],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "c", "env": [{ "name": "A", "value": "b" }] }],
            "volumes": [{ "name": "h", "hostPath": { "path": "/" } }],
        },
    });
    change(&mut pod);
    pod
}

#[test]
fn a_node_makes_mirror_pods_that_open_nothing() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, bool)] = &[
        ("as it should be", |_| {}, true),
        ("no mirror", |p| p["metadata"]["annotations"] = json!({}), false),
        ("another node", |p| p["spec"]["nodeName"] = "n2".into(), false),
        ("no node", |p| p["spec"]["nodeName"] = "".into(), false),
        ("no owner", |p| p["metadata"]["ownerReferences"] = json!([]), false),
        ("another owner", |p| p["metadata"]["ownerReferences"][0]["name"] = "n2".into(), false),
        ("another owner's uid", |p| p["metadata"]["ownerReferences"][0]["uid"] = "x".into(), false),
        ("an owner of another kind", |p| p["metadata"]["ownerReferences"][0]["kind"] = "Pod".into(), false),
        ("an owner that blocks", |p| p["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = true.into(), false),
        ("a service account", |p| p["spec"]["serviceAccountName"] = "web".into(), false),
        ("a pull secret", |p| p["spec"]["imagePullSecrets"] = json!([{ "name": "s" }]), false),
        (
            "a secret volume",
            |p| p["spec"]["volumes"] = json!([{ "name": "s", "secret": { "secretName": "s" } }]),
            false,
        ),
        (
            "a config map volume",
            |p| p["spec"]["volumes"] = json!([{ "name": "s", "configMap": { "name": "s" } }]),
            false,
        ),
        ("a projected volume", |p| p["spec"]["volumes"] = json!([{ "name": "s", "projected": {} }]), false),
        (
            "a claim",
            |p| p["spec"]["volumes"] = json!([{ "name": "s", "persistentVolumeClaim": { "claimName": "c" } }]),
            false,
        ),
        ("a volume of a kind to come", |p| p["spec"]["volumes"] = json!([{ "name": "s", "future": {} }]), false),
        ("a resource claim", |p| p["spec"]["resourceClaims"] = json!([{ "name": "r" }]), false),
        (
            "a variable from a secret",
            |p| {
                p["spec"]["containers"][0]["env"][0] =
                    json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } });
            },
            false,
        ),
        (
            "variables from a config map, in an init container",
            |p| {
                p["spec"]["initContainers"] =
                    json!([{ "name": "i", "envFrom": [{ "configMapRef": { "name": "c" } }] }]);
            },
            false,
        ),
        (
            "a variable from its own fields",
            |p| {
                p["spec"]["containers"][0]["env"][0] =
                    json!({ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
            },
            true,
        ),
    ];
    for (what, change, passes) in cases {
        assert_eq!(send(Call { name: "m", ..Call::default() }, mirror(change)).is_ok(), *passes, "{what}");
    }
}

#[test]
fn a_node_touches_only_pods_bound_to_it() {
    let stored =
        |node: &str| json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "nodeName": node }, "status": {} });
    for (subresource, operation, mine, other) in [
        ("", Delete, true, false),
        ("status", Update, true, false),
        ("eviction", Create, true, false),
        ("", Update, false, false),
        ("binding", Create, false, false),
        ("ephemeralcontainers", Update, false, false),
        ("exec", Create, false, false),
    ] {
        let cases = [
            ("mine", Some(stored("n1")), mine),
            ("other", Some(stored("n2")), other),
            // A status without what was stored is compared with nothing.
            ("mine", None, mine && subresource != "status"),
            ("other", None, other),
            ("ghost", None, false),
            // What the request was read from counts, not what is known of the name.
            ("mine", Some(stored("n2")), false),
        ];
        for (name, old, allowed) in cases {
            let call = Call { subresource, operation, name, old: old.clone(), ..Call::default() };
            let why = format!("{subresource} {operation:?} {name} {old:?}");
            assert_eq!(send(call, stored("n1")).is_ok(), allowed, "{why}");
        }
    }
}

#[test]
fn pod_status_changes_status_only() {
    let old = json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "nodeName": "n1" }, "status": {} });
    let with = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).expect("a place") = value;
        send(
            Call { subresource: "status", operation: Update, name: "mine", old: Some(old.clone()), ..Call::default() },
            new,
        )
    };
    assert_eq!(with("/status", json!({ "phase": "Running" })), Ok(()));
    assert!(with("/metadata/labels", json!({ "a": "c" })).is_err());
    assert!(with("/metadata", json!({})).is_err(), "labels removed");
    // CVE-2025-4563: a claim named in the status would open the claim
    assert!(with("/status", json!({ "resourceClaimStatuses": [{ "name": "r" }] })).is_err());
}

#[test]
fn a_node_gets_tokens_for_its_pods() {
    let spec = |kind: &str, name: &str, uid: &str, audiences: Value| json!({ "spec": { "boundObjectRef": { "kind": kind, "apiVersion": "v1", "name": name, "uid": uid }, "audiences": audiences } });
    for (what, account, object, passes) in [
        ("its pod", "web", spec("Pod", "mine", "u", json!(["vault"])), true),
        ("the API's audience, not used by the pod", "web", spec("Pod", "mine", "u", json!(["api"])), false),
        ("no audience asked", "web", spec("Pod", "mine", "u", json!([])), true),
        ("another node's pod", "web", spec("Pod", "other", "u", json!([])), false),
        ("a pod that is gone", "web", spec("Pod", "ghost", "u", json!([])), false),
        ("another uid", "web", spec("Pod", "mine", "v", json!([])), false),
        ("no uid", "web", spec("Pod", "mine", "", json!([])), false),
        ("another account", "admin", spec("Pod", "mine", "u", json!([])), false),
        ("bound to a secret", "web", spec("Secret", "mine", "u", json!([])), false),
        ("unbound", "web", json!({ "spec": {} }), false),
    ] {
        let call = Call { resource: "serviceaccounts", subresource: "token", name: account, ..Call::default() };
        assert_eq!(send(call, object).is_ok(), passes, "{what}");
    }
    for (namespace, account, object, passes) in [
        ("kube-system", "ingress", spec("Node", "n1", "", json!([])), true),
        ("kube-system", "ingress", spec("Node", "n2", "", json!([])), false),
        ("kube-system", "ingress", spec("Node", "n1", "", json!(["vault"])), false),
        ("kube-system", "ingress", json!({ "spec": {} }), false),
        ("kube-system", "other", spec("Node", "n1", "", json!([])), false),
        ("ns", "ingress", spec("Node", "n1", "", json!([])), false),
    ] {
        let call =
            Call { resource: "serviceaccounts", subresource: "token", namespace, name: account, ..Call::default() };
        assert_eq!(send(call, object.clone()).is_ok(), passes, "the proxy's: {namespace}/{account} {object}");
    }
}

#[test]
fn leases_and_certificate_requests_are_the_nodes_own() {
    let lease = |namespace: &'static str, name: &'static str| {
        let call = Call { group: "coordination.k8s.io", resource: "leases", namespace, name, ..Call::default() };
        send(call, json!({ "metadata": { "name": name } })).is_ok()
    };
    assert!(lease("kube-node-lease", "n1"));
    assert!(!lease("kube-node-lease", "n2") && !lease("kube-system", "n1"));
    let ask = |subject: &str, signer: &str| {
        let call = Call {
            group: "certificates.k8s.io",
            resource: "certificatesigningrequests",
            namespace: "",
            ..Call::default()
        };
        send(call, request(subject, signer)).is_ok()
    };
    assert!(ask("/O=system:nodes/CN=system:node:n1", "kube-apiserver-client-kubelet"));
    assert!(!ask("/O=system:nodes/CN=system:node:n2", "kube-apiserver-client-kubelet"));
    assert!(!ask("/O=system:nodes/CN=system:node:n2", "kubelet-serving"));
    assert!(!ask("/O=system:nodes/CN=system:node:n1/CN=system:node:n2", "kubelet-serving"));
}

#[test]
fn a_member_of_the_group_without_a_node_name_writes_nothing() {
    for user in ["jane,system:nodes", "system:node:,system:nodes"] {
        let call = Call { user, resource: "configmaps", ..Call::default() };
        assert_eq!(call.send(&world(), json!({})).expect_err(user).code, 403);
    }
}
