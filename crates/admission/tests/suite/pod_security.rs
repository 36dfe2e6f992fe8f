//! PodSecurity: `cases/pod-security.yaml` through the chain, and what is around its rules.

use crate::world::{Call, World};
use kybern_admission::Operation;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Case {
    why: String,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    container: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    baseline: String,
    #[serde(default)]
    restricted: String,
    /// `level:version` to findings.
    #[serde(default)]
    at: BTreeMap<String, String>,
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        if !patch.is_null() {
            *into = patch.clone();
        }
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => _ = into.as_object_mut().expect("an object").remove(key),
            _ => merge(&mut into[key], value),
        }
    }
}

/// A pod that passes everything.
fn hardened() -> Value {
    json!({"metadata": {"name": "x"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "i", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }})
}

fn pod(case: &Case) -> Value {
    let mut pod = hardened();
    merge(&mut pod["metadata"], &case.metadata);
    merge(&mut pod["spec"], &case.spec);
    merge(&mut pod["spec"]["containers"][0], &case.container);
    pod
}

/// A world whose namespace `ns` has these labels.
fn labelled(labels: &Value) -> World {
    let mut world = World::new();
    let labels: serde_json::Map<String, Value> = labels
        .as_object()
        .expect("labels")
        .iter()
        .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
        .collect();
    world.put("", "namespaces", "", "ns", json!({"metadata": {"labels": labels}}));
    world
}

fn enforced(standard: &str) -> World {
    let (level, version) = standard.split_once(':').expect("level:version");
    labelled(&json!({"enforce": level, "enforce-version": version}))
}

#[test]
fn every_rule_at_every_level_and_version() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../cases/pod-security.yaml")).expect("cases");
    let mut judged = 0;
    for case in &cases {
        let newest =
            [("privileged:latest", ""), ("baseline:latest", &case.baseline), ("restricted:latest", &case.restricted)];
        let others = case.at.iter().map(|(standard, findings)| (standard.as_str(), findings.as_str()));
        for (standard, findings) in newest.into_iter().chain(others) {
            let outcome = Call::default().send(&enforced(standard), pod(case));
            let said = outcome.err().map(|refusal| refusal.message).unwrap_or_default();
            let expected = match findings {
                "" => String::new(),
                f => format!("pods \"x\" is forbidden: violates PodSecurity \"{standard}\": {f}"),
            };
            assert_eq!(said, expected, "{} at {standard}", case.why);
            judged += 1;
        }
    }
    assert!(judged >= 200, "{judged} judgements");
}

fn privileged() -> Value {
    let mut pod = hardened();
    merge(&mut pod["spec"]["containers"][0], &json!({"securityContext": {"privileged": true}}));
    pod
}

#[test]
fn warn_lets_a_pod_in_and_tells() {
    let call = Call::default();
    call.send(&labelled(&json!({"warn": "baseline"})), privileged()).expect("admitted");
    let said = call.warned.into_inner().expect("warnings");
    assert_eq!(
        said,
        [
            "would violate PodSecurity \"baseline:latest\": privileged (container \"a\" must not set securityContext.privileged=true)"
        ]
    );
}

#[test]
fn workloads_are_told_of_and_never_refused() {
    let kinds = [
        ("", "podtemplates", "/template"),
        ("", "replicationcontrollers", "/spec/template"),
        ("apps", "deployments", "/spec/template"),
        ("apps", "statefulsets", "/spec/template"),
        ("apps", "daemonsets", "/spec/template"),
        ("apps", "replicasets", "/spec/template"),
        ("batch", "jobs", "/spec/template"),
        ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ];
    for (group, resource, pointer) in kinds {
        let object = pointer.rsplit('/').filter(|p| !p.is_empty()).fold(privileged(), |inner, key| json!({key: inner}));
        let call = Call { group, resource, ..Call::default() };
        call.send(&labelled(&json!({"enforce": "baseline", "warn": "baseline"})), object).expect("admitted");
        assert_eq!(call.warned.into_inner().expect("warnings").len(), 1, "{resource}");
    }
}

#[test]
fn updates_are_judged_where_they_change_what_counts() {
    let world = enforced("baseline:latest");
    let update =
        |old: Value, subresource| Call { operation: Operation::Update, old: Some(old), subresource, ..Call::default() };
    let mut other_image = privileged();
    other_image["spec"]["containers"][0]["image"] = json!("j");
    other_image["metadata"]["labels"] = json!({"a": "b"});
    update(privileged(), "").send(&world, other_image.clone()).expect("the image and labels do not count");
    update(hardened(), "status").send(&world, privileged()).expect("nor does the status");
    update(hardened(), "").send(&world, privileged()).expect_err("what is privileged counts");
    update(hardened(), "ephemeralcontainers").send(&world, privileged()).expect_err("and ephemeral containers");
}

fn namespace(labels: &Value) -> Value {
    json!({"metadata": {"name": "ns", "labels": labels}})
}

#[test]
fn labels_must_be_levels_and_versions() {
    let create = || Call { resource: "namespaces", namespace: "", name: "ns", ..Call::default() };
    let key = |k: &str| format!("pod-security.kubernetes.io/{k}");
    let wrong = namespace(&json!({key("enforce"): "strict", key("warn-version"): "1.30", key("audit"): "baseline"}));
    let refusal = create().send(&World::new(), wrong.clone()).expect_err("refused");
    assert_eq!(refusal.code, 422);
    for part in [
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
        "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"",
    ] {
        assert!(refusal.message.contains(part), "{}", refusal.message);
    }
    let again = Call { operation: Operation::Update, old: Some(wrong.clone()), ..create() };
    again.send(&World::new(), wrong).expect("what was wrong may stay");
    for good in ["latest", "v1.0", "v1.36", "v1.99"] {
        let labels = json!({key("enforce"): "restricted", key("enforce-version"): good});
        create().send(&World::new(), namespace(&labels)).expect(good);
    }
    for bad in ["v1", "v1.01", "v2.0", "v1.x", "v1.", ""] {
        let labels = json!({key("enforce"): "restricted", key("enforce-version"): bad});
        create().send(&World::new(), namespace(&labels)).expect_err(bad);
    }
}

#[test]
fn an_unreadable_level_is_the_strictest() {
    let mut pod = hardened();
    pod["spec"]["securityContext"] = json!({});
    Call::default().send(&labelled(&json!({"enforce": "restrictde"})), pod).expect_err("refused");
}

#[test]
fn a_stricter_namespace_tells_of_the_pods_it_has() {
    let mut world = World::new();
    for (name, body) in [("b", privileged()), ("a", privileged()), ("c", hardened())] {
        world.put("", "pods", "ns", name, body);
    }
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let call = Call {
        resource: "namespaces",
        namespace: "",
        name: "ns",
        operation: Operation::Update,
        old: Some(namespace(&json!({}))),
        ..Call::default()
    };
    call.send(&world, namespace(&labels)).expect("admitted");
    assert_eq!(
        call.warned.into_inner().expect("warnings"),
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): privileged",
        ]
    );
}
