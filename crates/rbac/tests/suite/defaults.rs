//! The default roles and bindings, as a cluster has them from its first second.

use crate::world::{World, ask, user};
use kybern_api::object::Head;
use kybern_rbac::bootstrap::{ControllerRole, objects};
use kybern_rbac::{Authorizer, Decision, Rule, Standard, aggregate, rules_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn controller() -> ControllerRole {
    let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let rule = Rule {
        verbs: list(&["update"]),
        api_groups: list(&["apps"]),
        resources: list(&["deployments/status"]),
        ..Rule::default()
    };
    ControllerRole { name: "deployment-controller".into(), rules: vec![rule] }
}

fn cluster() -> World {
    let world = World::default();
    objects(&[controller()]).iter().for_each(|object| world.apply(object));
    world.apply(&crate::world::binding("blue", "viewer", "ClusterRole/view", "User:vera"));
    world.apply(&crate::world::binding("blue", "editor", "ClusterRole/edit", "User:ed"));
    world.apply(&crate::world::binding("blue", "admin", "ClusterRole/admin", "User:ada"));
    world
}

/// Who, what, and whether it is allowed.
const MATRIX: &[(&str, &str, bool)] = &[
    ("vera", "list blue - pods", true),
    ("vera", "get blue - pods/log web", true),
    ("vera", "get blue apps deployments/scale web", true),
    ("vera", "list red - pods", false),
    ("vera", "get blue - secrets s", false),
    ("vera", "create blue - pods", false),
    ("vera", "create blue - pods/exec web", false),
    ("vera", "get blue rbac.authorization.k8s.io roles r", false),
    ("ed", "create blue apps deployments", true),
    ("ed", "list blue - pods", true),
    ("ed", "get blue - secrets s", true),
    ("ed", "create blue - pods/exec web", true),
    ("ed", "create blue - serviceaccounts/token web", true),
    ("ed", "impersonate blue - serviceaccounts web", true),
    ("ed", "create blue rbac.authorization.k8s.io roles", false),
    ("ed", "update blue - resourcequotas q", false),
    ("ed", "update blue - namespaces blue", false),
    // who writes endpoints redirects other people's traffic (CVE-2021-25740)
    ("ed", "update blue - endpoints e", false),
    ("ed", "create blue discovery.k8s.io endpointslices", false),
    ("ada", "update blue - endpoints e", false),
    ("ada", "create blue discovery.k8s.io endpointslices", false),
    ("ada", "create blue rbac.authorization.k8s.io rolebindings", true),
    ("ada", "create blue apps deployments", true),
    ("ada", "list blue - pods", true),
    ("ada", "create blue authorization.k8s.io localsubjectaccessreviews", true),
    ("ada", "update blue - resourcequotas q", false),
    ("ada", "create - - namespaces", false),
    ("ada", "get - - nodes n", false),
    ("any,system:authenticated", "create - authorization.k8s.io selfsubjectaccessreviews", true),
    ("any,system:authenticated", "create - authorization.k8s.io selfsubjectrulesreviews", true),
    ("any,system:authenticated", "create - authentication.k8s.io selfsubjectreviews", true),
    ("any,system:authenticated", "create - authorization.k8s.io subjectaccessreviews", false),
    ("any,system:authenticated", "get /api/v1", true),
    ("any,system:authenticated", "get /openapi/v3", true),
    ("any,system:authenticated", "get /version", true),
    ("any,system:authenticated", "get /metrics", false),
    ("any,system:authenticated", "list blue - pods", false),
    ("system:anonymous,system:unauthenticated", "get /healthz", true),
    ("system:anonymous,system:unauthenticated", "get /api", false),
    ("x,system:monitoring", "get /metrics", true),
    ("system:kube-scheduler", "create blue - pods/binding web", true),
    ("system:kube-scheduler", "patch blue - pods/status web", true),
    ("system:kube-scheduler", "list - storage.k8s.io storageclasses", true),
    ("system:kube-scheduler", "get - - secrets s", false),
    ("system:kube-controller-manager", "list - example.com things", true),
    ("system:serviceaccount:kube-system:deployment-controller", "update blue apps deployments/status web", true),
    ("system:serviceaccount:kube-system:deployment-controller", "update blue apps deployments web", false),
    ("system:serviceaccount:blue:deployment-controller", "update blue apps deployments/status web", false),
    ("system:serviceaccount:a:b,system:serviceaccounts", "get /openid/v1/jwks", true),
    ("b,system:bootstrappers:kybern:agents", "create - certificates.k8s.io certificatesigningrequests", true),
    (
        "b,system:bootstrappers:kybern:agents",
        "create - certificates.k8s.io certificatesigningrequests/nodeclient",
        true,
    ),
    (
        "b,system:bootstrappers:kybern:agents",
        "create - certificates.k8s.io certificatesigningrequests/selfnodeclient",
        false,
    ),
    (
        "b,system:bootstrappers:kybern:agents",
        "update - certificates.k8s.io certificatesigningrequests/approval x",
        false,
    ),
    ("system:node:n1,kybern:expired-nodes", "create - certificates.k8s.io certificatesigningrequests", true),
    (
        "system:node:n1,kybern:expired-nodes",
        "create - certificates.k8s.io certificatesigningrequests/selfnodeclient",
        true,
    ),
    (
        "system:node:n1,kybern:expired-nodes",
        "create - certificates.k8s.io certificatesigningrequests/nodeclient",
        false,
    ),
    ("system:node:n1,kybern:expired-nodes", "get - - nodes n1", false),
    ("system:node:n1,kybern:expired-nodes", "get kube-system - configmaps kybern-certificates", false),
    ("system:node:n1,system:nodes", "get kube-system - configmaps kybern-certificates", true),
    ("system:node:n1,system:nodes", "get kube-system - configmaps other", false),
    ("system:node:n1,system:nodes", "list kube-system - configmaps", false),
    // an agent's token does not fetch a server's keys
    ("b,system:bootstrappers:kybern:agents", "post /kybern/v1/server-bundle", false),
    ("b,system:bootstrappers:kybern:servers", "post /kybern/v1/server-bundle", true),
    ("b,system:bootstrappers", "create - certificates.k8s.io certificatesigningrequests", false),
    ("system:node:n,system:nodes", "create - certificates.k8s.io certificatesigningrequests/selfnodeclient", true),
    ("system:node:n,system:nodes", "create - certificates.k8s.io certificatesigningrequests/nodeclient", false),
    ("a,system:masters", "delete - - nodes n", true),
];

#[test]
fn default_roles_open_what_kubernetes_opens() {
    let (standard, world) = (Standard::new(), cluster());
    for (who, what, expected) in MATRIX {
        let decision = standard.authorize(&ask(&user(who), what), &world);
        assert_eq!(matches!(decision, Decision::Allow(_)), *expected, "{who}: {what}: {decision:?}");
    }
}

#[test]
fn every_default_object_is_whole_and_unique() {
    let all = objects(&[controller()]);
    let mut seen = BTreeSet::new();
    let text =
        |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    for object in &all {
        let key = (text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        assert!(!key.0.is_empty() && !key.2.is_empty() && seen.insert(key.clone()), "{key:?}");
        assert_eq!(text(object, "/metadata/labels/kubernetes.io~1bootstrapping"), "rbac-defaults", "{key:?}");
        assert_eq!(object.get("rules").is_some(), rules_of(object) != Vec::new(), "{key:?} has readable rules");
    }
    for object in all.iter().filter(|o| o.get("roleRef").is_some()) {
        let namespace = text(object, "/metadata/namespace");
        let kind = text(object, "/roleRef/kind");
        let scope = if kind == "Role" { namespace } else { String::new() };
        assert!(seen.contains(&(kind, scope, text(object, "/roleRef/name"))), "{object} binds a role that exists");
    }
}

#[test]
fn every_resource_named_in_a_default_role_exists() {
    // groups that are gone but still named for old clients, and words that are no stored resources
    let words = ["extensions", "signers", "users", kybern_api::kinds::metrics::GROUP];
    for object in objects(&[]) {
        for rule in rules_of(&object) {
            for group in rule.api_groups.iter().filter(|g| *g != "*" && !words.contains(&g.as_str())) {
                let known = kybern_api::kinds::table().iter().any(|def| def.group == group.as_str());
                assert!(known, "{group} in {}", object["metadata"]["name"]);
            }
            for resource in rule.resources.iter().filter(|r| *r != "*" && !words.contains(&r.as_str())) {
                let plural = resource.split('/').next().unwrap_or_default();
                let in_group = |g: &String| {
                    g == "*" || words.contains(&g.as_str()) || kybern_api::kinds::find(g, plural).is_some()
                };
                assert!(rule.api_groups.iter().any(in_group), "{resource} in {}", object["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn aggregated_roles_are_complete_from_the_start() {
    let all = objects(&[]);
    let roles: Vec<(Head, Value)> = all
        .iter()
        .filter(|o| o["kind"] == "ClusterRole")
        .map(|o| {
            let labels = o["metadata"]["labels"].as_object().expect("labels");
            let labels =
                labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into())).collect();
            let name = o["metadata"]["name"].as_str().unwrap_or_default().into();
            (Head { name, labels, ..Head::default() }, o.clone())
        })
        .collect();
    let others: Vec<(&Head, Value)> = roles.iter().map(|(head, tree)| (head, tree.clone())).collect();
    for name in ["view", "edit", "admin"] {
        let (_, role) = roles.iter().find(|(head, _)| head.name == name).expect("a role");
        let mut computed = aggregate(role, name, &others).expect("it aggregates");
        let mut stored = rules_of(role);
        computed.sort();
        stored.sort();
        assert_eq!(computed, stored, "{name}");
    }
}

#[test]
fn aggregation_selects_by_labels() {
    let labels = |pairs: &[(&str, &str)]| Head {
        name: pairs[0].1.into(),
        labels: pairs[1..].iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..Head::default()
    };
    let role = |resource: &str| json!({ "rules": [{ "verbs": ["get"], "apiGroups": [""], "resources": [resource] }] });
    let heads =
        [labels(&[("", "a"), ("x", "1")]), labels(&[("", "b"), ("x", "2")]), labels(&[("", "self"), ("x", "1")])];
    let others: Vec<(&Head, Value)> =
        heads.iter().zip(["pods", "nodes", "secrets"]).map(|(h, r)| (h, role(r))).collect();
    let select = |selector: Value| {
        let own = json!({ "aggregationRule": { "clusterRoleSelectors": [selector] } });
        let rules = aggregate(&own, "self", &others)?;
        Some(rules.iter().map(|r| r.resources[0].clone()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(select(json!({ "matchLabels": { "x": "1" } })).as_deref(), Some("pods"));
    let expression = |operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": "x", "operator": operator, "values": values }] });
    assert_eq!(select(expression("In", &["1", "2"])).as_deref(), Some("pods nodes"));
    assert_eq!(select(expression("NotIn", &["1"])).as_deref(), Some("nodes"));
    assert_eq!(select(expression("Exists", &[])).as_deref(), Some("pods nodes"));
    assert_eq!(select(expression("DoesNotExist", &[])).as_deref(), Some(""));
    assert_eq!(aggregate(&json!({}), "self", &others), None);
}
