//! Rolling updates, checked after every single write against what they may do at most: in all orders
//! in which things can happen (as far as the seeds go), with changes of mind on the way.
//! `SIM_SEEDS=500` tries more of them.

mod sim;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kybern_client::memory::MemoryApi;
use kybern_client::typed;
use serde_json::{Value, json};
use sim::{BROKEN, Dice, Sim, image, is_available, stays, template};
use std::collections::BTreeMap;

/// The seeds tried for each kind.
fn seeds() -> std::ops::Range<u64> {
    let many = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok());
    0..many.unwrap_or(24)
}

fn pods(api: &MemoryApi) -> Vec<Value> {
    api.trees(&typed::resource::<Pod>())
}

fn available(api: &MemoryApi) -> i64 {
    i64::try_from(pods(api).iter().filter(|p| is_available(p)).count()).expect("few")
}

/// The new template on the way: sometimes one that cannot work comes first.
fn changes(dice: &mut Dice) -> Vec<&'static str> {
    match dice.below(3) {
        0 => vec!["web:2"],
        1 => vec![BROKEN, "web:2"],
        _ => vec!["web:3", "web:2"],
    }
}

fn new_template(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[tokio::test]
async fn deployments_keep_their_minimum_and_their_maximum() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, &["deployment-controller", "replicaset-controller"]);
        let replicas = i64::try_from(1 + sim.dice.below(6)).expect("few");
        let (surge, unavailable) = [(1, 0), (0, 1), (2, 1), (1, 3), (6, 0)][sim.dice.below(5)];
        let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:1"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}});
        sim.create::<Deployment>(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).await;
        sim.settle(&|_| {}).await;
        assert_eq!(available(&sim.api), replicas, "seed {seed}");

        let check = |api: &MemoryApi| {
            let sizes = api.trees(&typed::resource::<ReplicaSet>());
            let total: i64 = sizes.iter().filter_map(|s| s["spec"]["replicas"].as_i64()).sum();
            assert!(total <= replicas + surge, "seed {seed}: {total} of {replicas}+{surge}");
            let have = available(api);
            assert!(have >= replicas - unavailable, "seed {seed}: {have} of {replicas}-{unavailable}");
        };
        for image in changes(&mut sim.dice) {
            sim.patch::<Deployment>("web", new_template(image)).await;
            sim.happen(30, &check).await;
        }
        sim.settle(&check).await;
        let left = pods(&sim.api);
        assert!(left.iter().all(|p| image(p) == "web:2" && is_available(p)), "seed {seed}: {left:#?}");
        assert_eq!(available(&sim.api), replicas, "seed {seed}");
    }
}

#[tokio::test]
async fn recreated_deployments_never_mix_templates() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, &["deployment-controller", "replicaset-controller"]);
        let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template("web:1"),
            "strategy": {"type": "Recreate"}});
        sim.create::<Deployment>(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).await;
        sim.settle(&|_| {}).await;
        let check = |api: &MemoryApi| {
            let pods = pods(api);
            assert!(pods.iter().all(|p| image(p) == image(&pods[0])), "seed {seed}: {pods:#?}");
        };
        for image in changes(&mut sim.dice) {
            sim.patch::<Deployment>("web", new_template(image)).await;
            sim.happen(30, &check).await;
        }
        sim.settle(&check).await;
        let left = pods(&sim.api);
        assert!(left.len() == 3 && left.iter().all(|p| image(p) == "web:2"), "seed {seed}: {left:#?}");
    }
}

/// The pod of each ordinal.
fn by_ordinal(api: &MemoryApi) -> BTreeMap<i64, Value> {
    let ordinal = |p: &Value| p["metadata"]["name"].as_str()?.rsplit_once('-')?.1.parse().ok();
    pods(api).into_iter().map(|p| (ordinal(&p).expect("an ordinal"), p)).collect()
}

#[tokio::test]
async fn stateful_sets_start_in_order_and_update_from_the_top() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, &["statefulset-controller"]);
        let replicas = i64::try_from(2 + sim.dice.below(4)).expect("few");
        let start = i64::try_from(sim.dice.below(3)).expect("few");
        let partition = i64::try_from(sim.dice.below(3)).expect("few").min(replicas);
        let down = [1, 1, 2][sim.dice.below(3)];
        let parallel = sim.dice.below(2) == 0;
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let spec = json!({"replicas": replicas, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": template("web:1"), "podManagementPolicy": policy, "ordinals": {"start": start},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition, "maxUnavailable": down}}});
        sim.create::<StatefulSet>(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).await;
        let ordered = |api: &MemoryApi| {
            let pods = by_ordinal(api);
            assert!(pods.keys().all(|o| (start..start + replicas).contains(o)), "seed {seed}: {:?}", pods.keys());
            let first_unready = (start..start + replicas).find(|o| !pods.get(o).is_some_and(is_available));
            let after = pods.keys().filter(|o| first_unready.is_some_and(|f| **o > f)).count();
            assert!(parallel || after == 0, "seed {seed}: a pod did not wait for the one before");
        };
        sim.settle(&ordered).await;
        assert_eq!(available(&sim.api), replicas, "seed {seed}");

        let check = |api: &MemoryApi| {
            let have = available(api);
            assert!(have >= replicas - down, "seed {seed}: {have} of {replicas}-{down}");
            let below = by_ordinal(api).into_iter().filter(|(o, _)| *o < start + partition);
            assert!(below.into_iter().all(|(_, p)| image(&p) == "web:1"), "seed {seed}: below the partition");
        };
        sim.patch::<StatefulSet>("web", new_template("web:2")).await;
        sim.settle(&check).await;
        for (ordinal, pod) in by_ordinal(&sim.api) {
            let wanted = if ordinal < start + partition { "web:1" } else { "web:2" };
            assert_eq!(image(&pod), wanted, "seed {seed}: {ordinal}");
        }
        assert_eq!(sim.api.trees(&typed::resource::<ControllerRevision>()).len(), 2, "seed {seed}");

        // Back again, and fewer: the highest ordinals go.
        sim.patch::<StatefulSet>("web", new_template("web:1")).await;
        sim.patch::<StatefulSet>("web", json!({"spec": {"replicas": replicas - 1}})).await;
        sim.settle(&|_| {}).await;
        let left = by_ordinal(&sim.api);
        assert!(left.keys().copied().eq(start..start + replicas - 1), "seed {seed}: {:?}", left.keys());
        assert!(left.values().all(|p| image(p) == "web:1"), "seed {seed}");
        let revisions = sim.api.trees(&typed::resource::<ControllerRevision>());
        let mut numbers: Vec<i64> = revisions.iter().filter_map(|r| r["revision"].as_i64()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [2, 3], "seed {seed}: the first revision is used again");
    }
}

#[tokio::test]
async fn daemon_sets_update_node_by_node() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, &["daemon-set-controller"]);
        let nodes = 2 + sim.dice.below(4);
        for i in 0..nodes {
            sim.create::<Node>(json!({"metadata": {"name": format!("n{i}")}, "spec": {}})).await;
        }
        let (surge, unavailable) = [(0, 1), (0, 2), (1, 0), (2, 0)][sim.dice.below(4)];
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template("web:1"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}});
        sim.create::<DaemonSet>(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).await;
        sim.settle(&|_| {}).await;

        let check = |api: &MemoryApi| {
            let mut on_node: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for pod in pods(api).into_iter().filter(stays) {
                on_node.entry(node_of(&pod)).or_default().push(pod);
            }
            let up = on_node.values().filter(|pods| pods.iter().any(is_available)).count();
            assert!(up + unavailable >= nodes, "seed {seed}: {up} of {nodes}-{unavailable}");
            let doubled = on_node.values().filter(|pods| pods.len() > 1).count();
            assert!(doubled <= surge && on_node.values().all(|pods| pods.len() <= 2), "seed {seed}: {doubled} doubled");
        };
        for image in changes(&mut sim.dice) {
            sim.patch::<DaemonSet>("web", new_template(image)).await;
            sim.happen(30, &check).await;
        }
        sim.settle(&check).await;
        let left = pods(&sim.api);
        assert_eq!(left.len(), nodes, "seed {seed}");
        assert!(left.iter().all(|p| image(p) == "web:2" && is_available(p)), "seed {seed}: {left:#?}");
    }
}

/// The node a pod is on or made for.
fn node_of(pod: &Value) -> String {
    let wished = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
    let node = pod["spec"]["nodeName"].as_str().or_else(|| pod.pointer(wished)?.as_str());
    node.expect("a node").to_owned()
}
