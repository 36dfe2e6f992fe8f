//! How many decisions the scheduler makes in a second on 5,000 nodes, and how long a search for victims
//! takes with 20,000 pods running. Prints a table; fails where a figure is missed.

use kybern_api::object::Object;
use kybern_scheduler::trial::{Trial, TrialPod, Verdict};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const NODES: usize = 5_000;
const ZONES: usize = 10;
const RUNNING: usize = 20_000;
const DECISIONS: usize = 20_000;
const SEARCHES: usize = 200;

fn object(tree: &Value) -> Object {
    kybern_client::wire::object(tree.to_string().as_bytes()).expect("an object")
}

fn pod(tree: &Value) -> TrialPod {
    TrialPod::read(&object(tree)).expect("a pod")
}

/// A pod of a workload, with more in its spec.
fn member(name: &str, app: usize, more: &Value) -> TrialPod {
    let mut spec = json!({"schedulerName": "default-scheduler",
        "containers": [{"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let labels = json!({"app": format!("app-{app}")});
    pod(&json!({"metadata": {"name": name, "uid": name, "namespace": "default", "labels": labels}, "spec": spec}))
}

fn cluster(cpu: &str) -> Trial {
    let mut trial = Trial::new(7);
    for i in 0..NODES {
        let name = format!("node-{i}");
        let labels = json!({"kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", i % ZONES), "kubernetes.io/arch": "amd64"});
        let room = json!({"cpu": cpu, "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": room}});
        trial.add_node(&object(&node)).expect("a node");
    }
    trial
}

/// Decides and places every pod; decisions per second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn rate(trial: &mut Trial, pods: &[TrialPod]) -> f64 {
    let begin = Instant::now();
    for pod in pods {
        let Verdict::Place(node) = trial.decide(pod) else { panic!("no node for a pod: {:?}", trial.decide(pod)) };
        trial.place(pod, &node);
    }
    pods.len() as f64 / begin.elapsed().as_secs_f64()
}

fn plain() -> f64 {
    let pods: Vec<TrialPod> = (0..DECISIONS).map(|i| member(&format!("p{i}"), i % 50, &Value::Null)).collect();
    rate(&mut cluster("32"), &pods)
}

/// `workloads` share the pods between them.
fn constrained(workloads: usize, more: impl Fn(usize) -> Value) -> f64 {
    let pods: Vec<TrialPod> =
        (0..DECISIONS).map(|i| member(&format!("p{i}"), i % workloads, &more(i % workloads))).collect();
    rate(&mut cluster("32"), &pods)
}

fn of(app: usize) -> Value {
    json!({"matchLabels": {"app": format!("app-{app}")}})
}

fn spread(key: &str, workloads: usize) -> f64 {
    constrained(workloads, |app| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": of(app)}]})
    })
}

fn apart(workloads: usize) -> f64 {
    constrained(workloads, |app| {
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": of(app)});
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    })
}

/// The mean time of a search for victims in a full cluster.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn search(more: &Value) -> Duration {
    let mut trial = cluster("4");
    for i in 0..RUNNING {
        let requests = json!([{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]);
        let spec = json!({"containers": requests, "priority": i % 7});
        let running = member(&format!("r{i}"), i % 50, &spec);
        trial.place(&running, &format!("node-{}", i % NODES));
    }
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}],
        "priority": 1000});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let important = member("important", 1, &spec);
    // The first search makes the counts that the others use.
    assert!(matches!(trial.decide(&important), Verdict::Preempt(_, 2)), "{:?}", trial.decide(&important));
    let begin = Instant::now();
    for _ in 0..SEARCHES {
        std::hint::black_box(trial.decide(&important));
    }
    begin.elapsed() / u32::try_from(SEARCHES).expect("few")
}

fn main() -> ExitCode {
    let mut missed = false;
    println!("{:<58}{:>16}{:>16}", "scheduler, 5,000 nodes", "measured", "wanted");
    let mut decisions = |what: &str, measured: f64, wanted: f64| {
        missed |= measured < wanted;
        println!("{what:<58}{measured:>14.0}/s{wanted:>14.0}/s");
    };
    decisions("plain pods", plain(), 20_000.0);
    decisions("topology spread by zone, 100 workloads", spread("topology.kubernetes.io/zone", 100), 5_000.0);
    decisions("topology spread by host name, 10 workloads", spread("kubernetes.io/hostname", 10), 5_000.0);
    decisions("required anti-affinity by host name, 100 workloads", apart(100), 5_000.0);
    decisions("required anti-affinity by host name, 5 workloads", apart(5), 5_000.0);
    let mut searches = |what: &str, measured: Duration, wanted: Duration| {
        missed |= measured > wanted;
        println!("{what:<58}{measured:>16.2?}{wanted:>16.2?}");
    };
    let limit = Duration::from_millis(2);
    searches("preemption, 20,000 pods running", search(&Value::Null), limit);
    let skew = json!({"topologySpreadConstraints": [{"maxSkew": 5000, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": of(1)}]});
    searches("preemption with topology spread, 20,000 pods running", search(&skew), limit);
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
