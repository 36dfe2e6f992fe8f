//! Random clusters and pods, as JSON.

use super::{HOST, ZONE};
use crate::driver::draw;
use serde_json::{Value, json};

/// Random clusters and pods.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        draw(&mut self.0, n)
    }
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    pub(super) fn node(&mut self, i: usize) -> Value {
        let mut labels = json!({HOST: format!("n{i}"), ZONE: self.pick(&["z1", "z2", "z3"])});
        if !self.once_in(4) {
            labels["rack"] = json!(self.pick(&["r1", "r2", "r3", "r4"]));
        }
        if self.once_in(2) {
            labels["disk"] = json!(self.pick(&["ssd", "hdd"]));
        }
        let mut taints = Vec::new();
        if self.once_in(5) {
            taints.push(
                json!({"key": "k", "value": self.pick(&["a", "b"]), "effect": self.pick(&["NoSchedule", "NoExecute"])}),
            );
        }
        if self.once_in(4) {
            taints.push(json!({"key": "soft", "effect": "PreferNoSchedule"}));
        }
        let mut allocatable = json!({"cpu": (4 + self.below(12)).to_string(), "memory": ((4 + self.below(8)) << 30).to_string(),
            "pods": (4 + self.below(12)).to_string()});
        if self.once_in(3) {
            allocatable["example.com/gpu"] = json!("2");
        }
        let mut images = Vec::new();
        for image in ["web:1", "db:1"] {
            if self.once_in(3) {
                images.push(json!({"names": [image], "sizeBytes": (50 + self.below(1500)) << 20}));
            }
        }
        json!({"metadata": {"name": format!("n{i}"), "labels": labels},
            "spec": {"taints": taints, "unschedulable": self.once_in(12)},
            "status": {"allocatable": allocatable, "images": images}})
    }
    fn selector(&mut self) -> Value {
        match self.below(6) {
            0 => json!({}),
            1 => json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
            2 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [self.pick(&["a", "b"])]}]}),
            3 => json!({"matchLabels": {"app": self.pick(&["a", "b", "c"]), "tier": self.pick(&["x", "y"])}}),
            _ => json!({"matchLabels": {"app": self.pick(&["a", "b", "c"])}}),
        }
    }
    fn key(&mut self) -> &'static str {
        self.pick(&[HOST, ZONE, "rack"])
    }
    fn term(&mut self) -> Value {
        let mut term = json!({"topologyKey": self.key(), "labelSelector": self.selector()});
        match self.below(5) {
            0 => term["namespaces"] = json!([self.pick(&["one", "two"])]),
            1 => term["namespaceSelector"] = json!({"matchLabels": {"team": self.pick(&["red", "blue"])}}),
            2 if self.once_in(2) => term["namespaceSelector"] = json!({}),
            _ => {}
        }
        term
    }
    fn affinity(&mut self) -> Value {
        let mut affinity = json!({});
        for kind in ["podAffinity", "podAntiAffinity"] {
            if self.once_in(4) {
                let terms: Vec<Value> = (0..=self.below(2)).map(|_| self.term()).collect();
                affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
            }
            if self.once_in(4) {
                let terms: Vec<Value> = (0..=self.below(2))
                    .map(|_| json!({"weight": 1 + self.below(100), "podAffinityTerm": self.term()}))
                    .collect();
                affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = json!(terms);
            }
        }
        let about_nodes = |dice: &mut Self| match dice.below(3) {
            0 => json!({"key": "disk", "operator": "In", "values": [dice.pick(&["ssd", "hdd"])]}),
            1 => json!({"key": "rack", "operator": "Exists"}),
            _ => json!({"key": ZONE, "operator": "NotIn", "values": [dice.pick(&["z1", "z2"])]}),
        };
        if self.once_in(5) {
            let terms: Vec<Value> =
                (0..=self.below(2)).map(|_| json!({"matchExpressions": [about_nodes(self)]})).collect();
            affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!({"nodeSelectorTerms": terms});
        }
        if self.once_in(4) {
            let preferred = json!([{"weight": 1 + self.below(100), "preference": {"matchExpressions": [about_nodes(self)]}},
                {"weight": 1 + self.below(100), "preference": {"matchExpressions": [about_nodes(self)]}}]);
            affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = preferred;
        }
        affinity
    }
    fn spread(&mut self) -> Value {
        let mut c = json!({"maxSkew": 1 + self.below(3), "topologyKey": self.key(), "labelSelector": self.selector(),
            "whenUnsatisfiable": self.pick(&["DoNotSchedule", "ScheduleAnyway"])});
        if self.once_in(4) {
            c["nodeAffinityPolicy"] = json!("Ignore");
        }
        if self.once_in(3) {
            c["nodeTaintsPolicy"] = json!("Honor");
        }
        if c["whenUnsatisfiable"] == "DoNotSchedule" && self.once_in(4) {
            c["minDomains"] = json!(1 + self.below(4));
        }
        c
    }
    pub(super) fn pod(&mut self, name: &str) -> Value {
        let mut labels = json!({"app": self.pick(&["a", "b", "c"])});
        if self.once_in(2) {
            labels["tier"] = json!(self.pick(&["x", "y"]));
        }
        let mut containers = Vec::new();
        for _ in 0..=self.below(2) {
            let mut requests = json!({});
            if !self.once_in(3) {
                requests["cpu"] = json!((1 + self.below(3)).to_string());
            }
            if !self.once_in(3) {
                requests["memory"] = json!(((1 + self.below(8)) << 28).to_string());
            }
            if self.once_in(10) {
                requests["example.com/gpu"] = json!("1");
            }
            let mut container =
                json!({"image": self.pick(&["web:1", "db:1", "none:1"]), "resources": {"requests": requests}});
            if self.once_in(10) {
                container["ports"] = json!([{"hostPort": 80 + self.below(3), "protocol": "TCP"}]);
            }
            containers.push(container);
        }
        let mut spec = json!({"containers": containers, "affinity": self.affinity()});
        let constraints = if self.once_in(2) { self.below(3) } else { 0 };
        spec["topologySpreadConstraints"] = json!((0..constraints).map(|_| self.spread()).collect::<Vec<_>>());
        if self.once_in(3) {
            spec["tolerations"] = json!([{"key": "k", "operator": "Equal", "value": self.pick(&["a", "b"])}]);
        } else if self.once_in(8) {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
        }
        if self.once_in(8) {
            spec["nodeSelector"] = json!({"disk": self.pick(&["ssd", "hdd"])});
        }
        let mut metadata =
            json!({"name": name, "uid": name, "namespace": self.pick(&["one", "two"]), "labels": labels});
        if self.once_in(12) {
            metadata["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
        }
        json!({"metadata": metadata, "spec": spec})
    }
}
