//! Storage, ingress and runtime classes, and image pulls.

use crate::world::{Call, World};
use kybern_admission::{Operation, Switches};
use serde_json::{Value, json};

const STORAGE: &str = "storageclass.kubernetes.io/is-default-class";
const INGRESS: &str = "ingressclass.kubernetes.io/is-default-class";

fn world() -> World {
    let mut world = World::new();
    let marked = |annotation: &str, value: &str| json!({ "metadata": { "annotations": { annotation: value } } });
    for (name, value) in [("slow", "false"), ("fast", "true"), ("faster", "true")] {
        world.put("storage.k8s.io", "storageclasses", "", name, marked(STORAGE, value));
    }
    world.put("networking.k8s.io", "ingressclasses", "", "web", marked(INGRESS, "true"));
    world.put("node.k8s.io", "runtimeclasses", "", "plain", json!({ "handler": "runc" }));
    let vm = json!({
        "handler": "vm", "overhead": { "podFixed": { "memory": "64Mi" } },
        "scheduling": { "nodeSelector": { "vm": "yes" }, "tolerations": [{ "key": "vm", "operator": "Exists" }] },
    });
    world.put("node.k8s.io", "runtimeclasses", "", "vm", vm);
    world
}

fn enabled(plugin: &str) -> Switches {
    Switches { enable: vec![plugin.to_owned()], ..Switches::default() }
}

#[test]
fn a_claim_without_a_class_gets_the_default() {
    let class = |claim: Value| {
        let call = Call { resource: "persistentvolumeclaims", ..Call::default() };
        call.send(&world(), claim).expect("admitted")["spec"]["storageClassName"].clone()
    };
    assert_eq!(class(json!({ "spec": {} })), json!("fast"), "of equally old defaults the first by name");
    assert_eq!(class(json!({ "spec": { "storageClassName": "slow" } })), json!("slow"));
    assert_eq!(class(json!({ "spec": { "storageClassName": "" } })), json!(""), "none, on purpose");
    let annotated =
        json!({ "metadata": { "annotations": { "volume.beta.kubernetes.io/storage-class": "old" } }, "spec": {} });
    assert_eq!(class(annotated), Value::Null);
}

#[test]
fn an_ingress_without_a_class_gets_the_default() {
    let call = || Call { group: "networking.k8s.io", resource: "ingresses", ..Call::default() };
    let class = |ingress: Value| call().send(&world(), ingress).expect("admitted")["spec"]["ingressClassName"].clone();
    assert_eq!(class(json!({ "spec": {} })), json!("web"));
    assert_eq!(class(json!({ "spec": { "ingressClassName": "own" } })), json!("own"));
    let annotated = json!({ "metadata": { "annotations": { "kubernetes.io/ingress.class": "old" } }, "spec": {} });
    assert_eq!(class(annotated), Value::Null);
    assert_eq!(call().send(&World::new(), json!({ "spec": {} })).expect("admitted"), json!({ "spec": {} }));
}

#[test]
fn storage_in_use_is_protected() {
    for (resource, namespace, finalizer) in [
        ("persistentvolumeclaims", "ns", "kubernetes.io/pvc-protection"),
        ("persistentvolumes", "", "kubernetes.io/pv-protection"),
    ] {
        let call = Call { resource, namespace, ..Call::default() };
        let stored = call.send(&World::new(), json!({ "metadata": { "finalizers": ["own"] } })).expect("admitted");
        assert_eq!(stored["metadata"]["finalizers"], json!(["own", finalizer]));
        let update = Call { operation: Operation::Update, old: Some(json!({})), ..call };
        let stored = update.send(&World::new(), json!({ "metadata": {} })).expect("admitted");
        assert!(stored["metadata"]["finalizers"].is_null(), "an update may remove it");
    }
}

#[test]
fn a_claim_grows_where_its_class_can() {
    let mut world = World::new();
    for (name, grows) in [("elastic", true), ("stiff", false)] {
        world.put("storage.k8s.io", "storageclasses", "", name, json!({ "allowVolumeExpansion": grows }));
    }
    let claim = |class: &str, size: &str, phase: &str| {
        let spec = json!({ "storageClassName": class, "resources": { "requests": { "storage": size } } });
        json!({ "spec": spec, "status": { "phase": phase } })
    };
    let resize = |class: &str, phase: &str, size: &str| {
        let old = Some(claim(class, "2Gi", phase));
        let call = Call { resource: "persistentvolumeclaims", operation: Operation::Update, old, ..Call::default() };
        call.send(&world, claim(class, size, phase)).map(drop).map_err(|status| status.message)
    };
    assert_eq!(resize("elastic", "Bound", "3Gi"), Ok(()));
    assert_eq!(resize("stiff", "Bound", "2048Mi"), Ok(()), "the same size");
    let refused = resize("stiff", "Bound", "3Gi").expect_err("refused");
    assert!(refused.contains("only dynamically provisioned pvc can be resized"), "{refused}");
    let refused = resize("elastic", "Pending", "3Gi").expect_err("refused");
    assert!(refused.contains("Only bound persistent volume claims can be expanded"), "{refused}");
}

#[test]
fn a_pod_carries_what_its_runtime_class_says() {
    let send = |spec: Value| Call::default().send(&world(), json!({ "spec": spec })).map(|pod| pod["spec"].clone());
    let vm = send(json!({ "runtimeClassName": "vm", "nodeSelector": { "a": "b" } })).expect("admitted");
    assert_eq!(vm["overhead"], json!({ "memory": "64Mi" }));
    assert_eq!(vm["nodeSelector"], json!({ "a": "b", "vm": "yes" }));
    assert!(vm["tolerations"].as_array().expect("a list").contains(&json!({ "key": "vm", "operator": "Exists" })));
    assert!(send(json!({ "runtimeClassName": "vm", "overhead": { "memory": "64Mi" } })).is_ok());
    let plain = send(json!({ "runtimeClassName": "plain" })).expect("admitted");
    assert!(plain["overhead"].is_null() && plain["nodeSelector"].is_null());
    for (spec, text) in [
        (json!({ "runtimeClassName": "ghost" }), "RuntimeClass \"ghost\" not found"),
        (json!({ "runtimeClassName": "vm", "overhead": { "memory": "1" } }), "doesn't match"),
        (json!({ "runtimeClassName": "plain", "overhead": { "memory": "1" } }), "without corresponding"),
        (json!({ "overhead": { "memory": "1" } }), "without corresponding"),
        (json!({ "runtimeClassName": "vm", "nodeSelector": { "vm": "no" } }), "conflict"),
    ] {
        let refused = send(spec).expect_err(text);
        assert!(refused.code == 403 && refused.message.contains(text), "{}", refused.message);
    }
}

#[test]
fn images_are_always_pulled_where_that_is_switched_on() {
    let pod = json!({ "spec": {
        "initContainers": [{ "name": "i", "imagePullPolicy": "Never" }], "containers": [{ "name": "c" }],
    } });
    let stored = Call::default().send_through(&enabled("AlwaysPullImages"), &World::new(), pod).expect("admitted");
    for kind in ["initContainers", "containers"] {
        assert_eq!(stored["spec"][kind][0]["imagePullPolicy"], "Always");
    }
}
