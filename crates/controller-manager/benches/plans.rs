//! How long plans take on large worlds: a table, one line for each case.
//!
//! `cargo bench --package kybern-controller-manager --bench plans`

use kybern_api::seam::SystemClock;
use kybern_client::store::{Item, Store};
use kybern_client::{typed, wire};
use kybern_controller_manager::{definitions, informer_rows};
use kybern_reconcile::def::{ControllerDef, Key};
use kybern_reconcile::steady::Steady;
use kybern_reconcile::view::{Source, View, World};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};

/// Pods of the set that is planned.
const PODS: usize = 10_000;
/// Nodes they are on.
const NODES: usize = 1_000;
/// How often each plan is made.
const ROUNDS: usize = 50;

fn store<K: k8s_openapi::Resource>(objects: impl Iterator<Item = Value>) -> Source {
    let rows = informer_rows(&Steady::new(Arc::new(SystemClock::default())));
    let resource = typed::resource::<K>();
    let row = rows.get(&resource);
    let item = |tree: Value| {
        let object = wire::object(tree.to_string().as_bytes()).expect("an object");
        let row = row.map(|make| make(&object));
        Item { object, row }
    };
    let store: Store = objects.map(item).collect();
    Source::Fixed(resource, store)
}

fn containers(image: &str) -> Value {
    let variables: Vec<Value> =
        (0..8).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "some value"})).collect();
    json!([{"name": "main", "image": image, "env": variables, "resources": {"requests": {"cpu": "10m"}}}])
}

/// A running pod, about as long as real ones are.
fn pod(i: usize, name: String, labels: &Value, owner: &Value) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2030-01-01T00:00:00Z"});
    let kinds = ["PodScheduled", "Initialized", "ContainersReady", "Ready", "PodReadyToStartContainers"];
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{i:08}-4b1f-9c2d"), "labels": labels,
            "resourceVersion": "5", "creationTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": [owner]},
        "spec": {"nodeName": format!("node-{}", i % NODES), "containers": containers("web:1")},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.1"}], "conditions": kinds.map(condition)},
    })
}

fn owner(kind: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "owner", "controller": true})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers("web:1")}})
}

fn set(kind: &str, more: &Value, status: &Value) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "uid": "owner", "generation": 1, "resourceVersion": "4"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()},
        "status": status,
    });
    let (spec, more) = (set["spec"].as_object_mut().expect("a spec"), more.as_object().expect("an object"));
    spec.extend(more.clone());
    set
}

fn replica_set(replicas: usize) -> Vec<Source> {
    let status = json!({"replicas": PODS, "readyReplicas": PODS, "availableReplicas": PODS, "fullyLabeledReplicas": PODS,
        "terminatingReplicas": 0, "observedGeneration": 1});
    let labels = json!({"app": "web", "pod-template-hash": "7966b64447"});
    let pods = (0..PODS).map(move |i| pod(i, format!("web-7966b64447-{i:05}"), &labels, &owner("ReplicaSet")));
    let set = set("ReplicaSet", &json!({"replicas": replicas}), &status);
    vec![store::<ReplicaSet>([set].into_iter()), store::<Pod>(pods)]
}

fn revision(kind: &str, label: &str) -> Source {
    let mut template = template();
    template["$patch"] = json!("replace");
    store::<ControllerRevision>(
        [json!({
            "metadata": {"name": "web-one", "namespace": "shop", "uid": "r", "labels": {"app": "web", label: "one"},
                "ownerReferences": [owner(kind)]},
            "revision": 1, "data": {"spec": {"template": template}},
        })]
        .into_iter(),
    )
}

fn stateful_set() -> Vec<Source> {
    let pods = (0..PODS).map(|i| {
        let name = format!("web-{i}");
        let labels = json!({"app": "web", "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": i.to_string(), "controller-revision-hash": "web-one"});
        pod(i, name, &labels, &owner("StatefulSet"))
    });
    let status = json!({"replicas": PODS, "readyReplicas": PODS, "availableReplicas": PODS, "currentReplicas": PODS,
        "updatedReplicas": PODS, "currentRevision": "web-one", "updateRevision": "web-one", "collisionCount": 0,
        "observedGeneration": 1});
    let set = set("StatefulSet", &json!({"replicas": PODS, "serviceName": "web"}), &status);
    vec![
        store::<StatefulSet>([set].into_iter()),
        store::<Pod>(pods),
        revision("StatefulSet", "controller.kubernetes.io/hash"),
    ]
}

fn daemon_set() -> Vec<Source> {
    let labels = json!({"app": "web", "controller-revision-hash": "one"});
    let pods = (0..NODES).map(move |i| pod(i, format!("web-{i:05}"), &labels, &owner("DaemonSet")));
    let nodes = (0..NODES).map(|i| {
        json!({"metadata": {"name": format!("node-{i}"), "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]}})
    });
    let status = json!({"desiredNumberScheduled": NODES, "currentNumberScheduled": NODES, "numberReady": NODES,
        "numberAvailable": NODES, "updatedNumberScheduled": NODES, "numberMisscheduled": 0, "observedGeneration": 1});
    vec![
        store::<DaemonSet>([set("DaemonSet", &json!({}), &status)].into_iter()),
        store::<Pod>(pods),
        store::<Node>(nodes),
        revision("DaemonSet", "controller-revision-hash"),
    ]
}

/// The times of a plan and how many steps it has.
fn measure(def: &ControllerDef, sources: Vec<Source>) -> (Vec<Duration>, usize) {
    let sources: Arc<[Source]> = sources.into();
    let now = "2030-02-01T00:00:00Z".parse().expect("a time");
    let (mut times, mut steps) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let view = View::new(Arc::clone(&sources));
        let world = World { view: &view, now, steady: now, failure: None };
        let begun = Instant::now();
        let plan = (def.plan)(&world, &Key::new("shop", "web")).expect("a plan");
        times.push(begun.elapsed());
        steps = plan.steps.len();
    }
    times.sort_unstable();
    (times, steps)
}

fn main() {
    let defs = definitions();
    let cases: [(&str, &str, Vec<Source>); 5] = [
        ("ReplicaSet, 10,000 pods, nothing to do", "replicaset-controller", replica_set(PODS)),
        ("ReplicaSet, 10,000 pods, 2,000 missing", "replicaset-controller", replica_set(PODS + 2_000)),
        ("ReplicaSet, 10,000 pods, 2,000 too many", "replicaset-controller", replica_set(PODS - 2_000)),
        ("StatefulSet, 10,000 pods, nothing to do", "statefulset-controller", stateful_set()),
        ("DaemonSet, 1,000 nodes, nothing to do", "daemon-set-controller", daemon_set()),
    ];
    println!("{:<44} {:>6} {:>10} {:>10}", "plan", "steps", "p50 ms", "max ms");
    for (name, controller, sources) in cases {
        let def = defs.iter().find(|d| d.name == controller).expect("a controller");
        let (times, steps) = measure(def, sources);
        let milliseconds = |d: Duration| d.as_secs_f64() * 1000.0;
        let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{name:<44} {steps:>6} {:>10.2} {:>10.2}", milliseconds(middle), milliseconds(last));
    }
}
