//! Cases in `cases/network-policy.yaml`: objects in, what the node `n1` is told out; then changes, and
//! what each of them makes of it. A client that applies the updates must end with the same view.

use super::view::View;
use super::world::World;
use kybern_api::object::{Head, Object};
use kybern_wire::node::{PolicyRule, PolicyUpdate};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

#[derive(Deserialize)]
struct File {
    world: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    world: Vec<Value>,
    want: Value,
    #[serde(default)]
    then: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    set: Vec<Value>,
    #[serde(default)]
    delete: Vec<Value>,
    /// Nodes that are told.
    told: Vec<String>,
    want: Value,
}

fn object(tree: &Value, revision: u64) -> Object {
    let text = |key: &str| tree["metadata"][key].as_str().unwrap_or_default().into();
    let labels = tree["metadata"]["labels"].as_object().into_iter().flatten();
    let head = Head {
        name: text("name"),
        namespace: text("namespace"),
        labels: labels.map(|(k, v)| (k.into(), v.as_str().expect("text").into())).collect(),
        ..Head::default()
    };
    Object { head: Arc::new(head), revision, bytes: tree.to_string().into() }
}

fn take(world: &mut World, tree: &Value, gone: bool, revision: u64) -> Vec<String> {
    let object = object(tree, revision);
    let nodes = match tree["kind"].as_str() {
        Some("Pod") => world.pod(&object, gone).0,
        Some("Namespace") => world.namespace(&object, gone),
        Some("NetworkPolicy") => world.policy(&object, gone).0,
        other => panic!("a case has a {other:?}"),
    };
    nodes.into_iter().map(String::from).collect()
}

/// What a node knows, made of updates alone, in words.
#[derive(Default)]
struct Told {
    pods: BTreeMap<String, Vec<String>>,
    policies: BTreeMap<String, kybern_wire::node::PolicyRules>,
    sets: BTreeMap<String, std::collections::BTreeSet<(u32, u32)>>,
}

impl Told {
    fn take(&mut self, update: PolicyUpdate) {
        update.gone_pods.iter().for_each(|n| drop(self.pods.remove(n).expect("a known pod")));
        update.gone_policies.iter().for_each(|n| drop(self.policies.remove(n).expect("a known policy")));
        update.gone_sets.iter().for_each(|n| drop(self.sets.remove(n).expect("a known set")));
        self.pods.extend(update.pods.into_iter().map(|p| (p.name, p.policies)));
        self.policies.extend(update.policies.into_iter().map(|p| (p.name.clone(), p)));
        for set in update.sets {
            assert_eq!(set.fresh, !self.sets.contains_key(&set.id));
            let members = self.sets.entry(set.id).or_default();
            set.remove.iter().for_each(|m| assert!(members.remove(&(m.address, m.port))));
            set.add.iter().for_each(|m| assert!(members.insert((m.address, m.port))));
        }
    }

    fn members(&self, id: &str) -> String {
        let shown = |(address, port): &(u32, u32)| match port {
            0 => Ipv4Addr::from(*address).to_string(),
            port => format!("{}:{port}", Ipv4Addr::from(*address)),
        };
        let all: Vec<String> = self.sets[id].iter().map(shown).collect();
        format!("[{}]", all.join(" "))
    }

    fn rule(&self, rule: &PolicyRule) -> String {
        let mut words: Vec<String> = rule.sets.iter().map(|id| self.members(id)).collect();
        words.extend(rule.blocks.iter().map(|b| match b.except.is_empty() {
            true => b.cidr.clone(),
            false => format!("{} but {}", b.cidr, b.except.join(" ")),
        }));
        if rule.anybody {
            words.push("anybody".into());
        }
        let ports: Vec<String> = rule
            .ports
            .iter()
            .map(|p| match (p.targets.as_str(), p.first, p.last) {
                ("", 0, _) => p.protocol.clone(),
                ("", first, last) if first == last => format!("{}/{first}", p.protocol),
                ("", first, last) => format!("{}/{first}-{last}", p.protocol),
                (id, ..) => format!("{} {}", p.protocol, self.members(id)),
            })
            .collect();
        let ports = if rule.any_port { "all".to_owned() } else { ports.join(", ") };
        format!("{}: {ports}", words.join(", "))
    }

    fn shown(&self) -> Value {
        let rules = |on: bool, rules: &[PolicyRule]| match on {
            true => Value::from(rules.iter().map(|r| self.rule(r)).collect::<Vec<_>>()),
            false => Value::Null,
        };
        let mut out = serde_json::Map::new();
        for (pod, policies) in &self.pods {
            out.insert(pod.clone(), policies.clone().into());
        }
        for p in self.policies.values() {
            let shown = serde_json::json!({ "in": rules(p.ingress, &p.from), "out": rules(p.egress, &p.to) });
            out.insert(format!("policy {}", p.name), shown);
        }
        out.into()
    }
}

#[test]
fn cases() {
    let text = include_str!("../../../cases/network-policy.yaml");
    let file: File = serde_saphyr::from_str(text).expect("cases");
    for case in file.cases {
        let (mut world, mut revision) = (World::default(), 0);
        for tree in file.world.iter().chain(&case.world) {
            revision += 1;
            take(&mut world, tree, false, revision);
        }
        let mut told = Told::default();
        let mut view = world.view("n1");
        told.take(view.since(&View::default()).unwrap_or_default());
        assert_eq!(told.shown(), case.want, "{}", case.name);
        for (n, step) in case.then.iter().enumerate() {
            let mut nodes = Vec::new();
            for (trees, gone) in [(&step.set, false), (&step.delete, true)] {
                for tree in trees {
                    revision += 1;
                    nodes.append(&mut take(&mut world, tree, gone, revision));
                }
            }
            let next = world.view("n1");
            let update = next.since(&view);
            assert!(update.is_none() || nodes.iter().any(|n| n == "n1"), "{}, step {n}: not told", case.name);
            told.take(update.unwrap_or_default());
            assert_eq!((told.shown(), nodes), (step.want.clone(), step.told.clone()), "{}, step {n}", case.name);
            view = next;
        }
    }
}

#[test]
fn an_older_state_of_a_policy_is_left_out() {
    let policy = |types: &str| {
        serde_json::json!({ "kind": "NetworkPolicy", "metadata": { "name": "p", "namespace": "a" },
        "spec": { "podSelector": {}, "policyTypes": [types] } })
    };
    let pod = serde_json::json!({ "kind": "Pod", "metadata": { "name": "x", "namespace": "a" },
        "spec": { "nodeName": "n1" } });
    let mut world = World::default();
    take(&mut world, &pod, false, 1);
    take(&mut world, &policy("Egress"), false, 9);
    let view = world.view("n1");
    take(&mut world, &policy("Ingress"), false, 5);
    take(&mut world, &policy("Ingress"), true, 5);
    assert!(world.view("n1").since(&view).is_none());
}
