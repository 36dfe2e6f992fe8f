//! A slow, obvious scheduler on plain JSON, and a comparison with the real one on random clusters.
//! Nothing here is shared with the real one but the random numbers.

mod dice;

use crate::cycle::{feasible, totals};
use crate::pod::PodInfo;
use crate::profile::{Profile, ProfileSettings};
use crate::snapshot::Snapshot;
use crate::testing;
use dice::Dice;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// A cluster as JSON.
#[derive(Default)]
struct Plain {
    nodes: Vec<Value>,
    /// With the index of their node.
    pods: Vec<(Value, usize)>,
    namespaces: BTreeMap<String, Value>,
    services: Vec<Value>,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}
fn number(value: &Value) -> i64 {
    value.as_str().and_then(|s| s.parse().ok()).or(value.as_i64()).unwrap_or(0)
}

/// A LabelSelector; an absent one selects nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let exact = selector["matchLabels"].as_object().is_none_or(|m| m.iter().all(|(k, v)| labels.get(k) == Some(v)));
    exact && list(&selector["matchExpressions"]).iter().all(|e| expression(e, labels.get(text(&e["key"]))))
}
fn expression(e: &Value, value: Option<&Value>) -> bool {
    let listed = value.is_some_and(|v| list(&e["values"]).contains(v));
    match text(&e["operator"]) {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        other => panic!("operator {other}"),
    }
}

fn tolerated(pod: &Value, taint: &Value) -> bool {
    list(&pod["spec"]["tolerations"]).iter().any(|t| {
        let effect = text(&t["effect"]).is_empty() || t["effect"] == taint["effect"];
        let key = text(&t["key"]).is_empty() || t["key"] == taint["key"];
        let value = text(&t["operator"]) == "Exists" || text(&t["value"]) == text(&taint["value"]);
        effect && key && value
    })
}
fn strict(taint: &Value) -> bool {
    matches!(text(&taint["effect"]), "NoSchedule" | "NoExecute")
}
fn opened(pod: &Value, node: &Value) -> bool {
    list(&node["spec"]["taints"]).iter().all(|t| !strict(t) || tolerated(pod, t))
}

fn term_fits(term: &Value, node: &Value) -> bool {
    let all = list(&term["matchExpressions"]);
    !all.is_empty() && all.iter().all(|e| expression(e, node["metadata"]["labels"].get(text(&e["key"]))))
}
fn node_wanted(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"].as_object();
    let selected = selector.is_none_or(|m| m.iter().all(|(k, v)| label(node, k) == v.as_str()));
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selected && (required.is_null() || list(&required["nodeSelectorTerms"]).iter().any(|t| term_fits(t, node)))
}

/// What a pod asks for: (cpu in millis, memory, gpus). With `assume`, what is not asked for counts a little.
fn asks(pod: &Value, assume: bool) -> [i64; 3] {
    let mut sum = [0; 3];
    for container in list(&pod["spec"]["containers"]) {
        let requests = &container["resources"]["requests"];
        let or = |name: &str, assumed: i64, unit: i64| match requests.get(name) {
            Some(v) => number(v) * unit,
            None if assume => assumed,
            None => 0,
        };
        sum[0] += or("cpu", 100, 1000);
        sum[1] += or("memory", 200 << 20, 1);
        sum[2] += or("example.com/gpu", 0, 1);
    }
    sum
}
fn offers(node: &Value) -> [i64; 3] {
    let a = &node["status"]["allocatable"];
    [number(&a["cpu"]) * 1000, number(&a["memory"]), number(&a["example.com/gpu"])]
}
fn ports(pod: &Value) -> Vec<i64> {
    let all = list(&pod["spec"]["containers"]).iter().flat_map(|c| list(&c["ports"]));
    all.map(|p| number(&p["hostPort"])).collect()
}

impl Plain {
    fn on(&self, node: usize) -> impl Iterator<Item = &Value> {
        self.pods.iter().filter(move |(_, n)| *n == node).map(|(p, _)| p)
    }
    fn used(&self, node: usize, assume: bool) -> [i64; 3] {
        let mut sum = [0; 3];
        for pod in self.on(node) {
            sum.iter_mut().zip(asks(pod, assume)).for_each(|(s, n)| *s += n);
        }
        sum
    }
    /// Does `owner`'s affinity term speak of `other`?
    fn speaks(&self, term: &Value, owner: &Value, other: &Value) -> bool {
        let space = text(&other["metadata"]["namespace"]);
        let named = list(&term["namespaces"]);
        let chosen = &term["namespaceSelector"];
        let inside = named.iter().any(|n| n == space)
            || selects(chosen, &self.namespaces[space])
            || (named.is_empty() && chosen.is_null() && text(&owner["metadata"]["namespace"]) == space);
        inside && selects(&term["labelSelector"], &other["metadata"]["labels"])
    }
    /// Do two nodes share a value of the term's topology?
    fn near(&self, term: &Value, a: usize, b: usize) -> bool {
        let key = text(&term["topologyKey"]);
        label(&self.nodes[a], key).is_some() && label(&self.nodes[a], key) == label(&self.nodes[b], key)
    }

    fn fits(&self, pod: &Value, n: usize) -> bool {
        let node = &self.nodes[n];
        let closed = node["spec"]["unschedulable"] == json!(true);
        let (asked, used, offered) = (asks(pod, false), self.used(n, false), offers(node));
        let room = (0..3).all(|i| asked[i] == 0 || used[i] + asked[i] <= offered[i])
            && i64::try_from(self.on(n).count()).expect("few") < number(&node["status"]["allocatable"]["pods"]);
        let free = ports(pod).iter().all(|p| !self.on(n).any(|o| ports(o).contains(p)));
        let mark = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        (!closed || tolerated(pod, &mark))
            && opened(pod, node)
            && node_wanted(pod, node)
            && free
            && room
            && self.spread_fits(pod, n)
            && self.affinity_fits(pod, n)
    }

    /// Nodes whose pods count for a constraint of the pod.
    fn counted(&self, c: &Value, pod: &Value, keys: &[&str]) -> Vec<usize> {
        let fits = |node: &Value| {
            (text(&c["nodeAffinityPolicy"]) == "Ignore" || node_wanted(pod, node))
                && (text(&c["nodeTaintsPolicy"]) != "Honor" || opened(pod, node))
                && keys.iter().all(|k| label(node, k).is_some())
        };
        (0..self.nodes.len()).filter(|n| fits(&self.nodes[*n])).collect()
    }
    fn matching(&self, c: &Value, pod: &Value, n: usize) -> i64 {
        let space = &pod["metadata"]["namespace"];
        let counts = |p: &&Value| {
            p["metadata"]["namespace"] == *space
                && p["metadata"]["deletionTimestamp"].is_null()
                && selects(&c["labelSelector"], &p["metadata"]["labels"])
        };
        i64::try_from(self.on(n).filter(counts).count()).expect("few")
    }
    fn spread_fits(&self, pod: &Value, n: usize) -> bool {
        let all = list(&pod["spec"]["topologySpreadConstraints"]);
        let all: Vec<&Value> = all.iter().filter(|c| c["whenUnsatisfiable"] == "DoNotSchedule").collect();
        let keys: Vec<&str> = all.iter().map(|c| text(&c["topologyKey"])).collect();
        all.iter().all(|c| {
            let key = text(&c["topologyKey"]);
            let Some(here) = label(&self.nodes[n], key) else { return false };
            let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
            for other in self.counted(c, pod, &keys) {
                let value = label(&self.nodes[other], key).expect("has all keys");
                *domains.entry(value).or_insert(0) += self.matching(c, pod, other);
            }
            let few = i64::try_from(domains.len()).expect("few") < c["minDomains"].as_i64().unwrap_or(1);
            let lowest = if few { 0 } else { domains.values().copied().min().unwrap_or(0) };
            let own = i64::from(selects(&c["labelSelector"], &pod["metadata"]["labels"]));
            domains.get(here).copied().unwrap_or(0) + own - lowest <= number(&c["maxSkew"])
        })
    }

    fn affinity_fits(&self, pod: &Value, n: usize) -> bool {
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let wanted = list(&pod["spec"]["affinity"]["podAffinity"][required]);
        let all_speak = |p: &Value| wanted.iter().all(|t| self.speaks(t, pod, p));
        let keyed = wanted.iter().all(|t| label(&self.nodes[n], text(&t["topologyKey"])).is_some());
        let met = |t: &Value| self.pods.iter().any(|(p, at)| self.near(t, n, *at) && all_speak(p));
        let anywhere = |t: &Value| {
            self.pods.iter().any(|(p, at)| label(&self.nodes[*at], text(&t["topologyKey"])).is_some() && all_speak(p))
        };
        let first = !wanted.iter().any(anywhere) && all_speak(pod);
        let has_company = wanted.is_empty() || keyed && (wanted.iter().all(met) || first);
        let avoided = list(&pod["spec"]["affinity"]["podAntiAffinity"][required]);
        let meets = |t: &Value| self.pods.iter().any(|(p, at)| self.near(t, n, *at) && self.speaks(t, pod, p));
        let refused = self.pods.iter().any(|(p, at)| {
            let terms = list(&p["spec"]["affinity"]["podAntiAffinity"][required]);
            terms.iter().any(|t| self.near(t, n, *at) && self.speaks(t, p, pod))
        });
        has_company && !avoided.iter().any(meets) && !refused
    }

    /// Weighted scores of the candidates.
    fn scores(&self, pod: &Value, candidates: &[usize]) -> Vec<i64> {
        let parts: [(i64, Vec<i64>); 7] = [
            (3, self.taint_scores(pod, candidates)),
            (2, self.liking_scores(pod, candidates)),
            (1, candidates.iter().map(|n| self.least(pod, *n)).collect()),
            (1, candidates.iter().map(|n| self.balanced(pod, *n)).collect()),
            (2, self.spread_scores(pod, candidates)),
            (2, self.company_scores(pod, candidates)),
            (1, candidates.iter().map(|n| self.images(pod, *n)).collect()),
        ];
        let total = |i: usize| parts.iter().map(|(weight, scores)| weight * scores[i]).sum();
        (0..candidates.len()).map(total).collect()
    }
    fn taint_scores(&self, pod: &Value, candidates: &[usize]) -> Vec<i64> {
        let bad = |n: &usize| {
            let mild = list(&self.nodes[*n]["spec"]["taints"]).iter().filter(|t| !strict(t) && !tolerated(pod, t));
            i64::try_from(mild.count()).expect("few")
        };
        let raw: Vec<i64> = candidates.iter().map(bad).collect();
        let max = raw.iter().copied().max().unwrap_or(0);
        raw.iter().map(|s| if max == 0 { 100 } else { 100 - 100 * s / max }).collect()
    }
    fn liking_scores(&self, pod: &Value, candidates: &[usize]) -> Vec<i64> {
        let liked = &pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        let of = |n: &usize| {
            let fit = list(liked).iter().filter(|p| term_fits(&p["preference"], &self.nodes[*n]));
            fit.map(|p| number(&p["weight"])).sum()
        };
        let raw: Vec<i64> = candidates.iter().map(of).collect();
        let max = raw.iter().copied().max().unwrap_or(0);
        raw.iter().map(|s| if max == 0 { 0 } else { 100 * s / max }).collect()
    }
    fn least(&self, pod: &Value, n: usize) -> i64 {
        let (asked, used, offered) = (asks(pod, true), self.used(n, true), offers(&self.nodes[n]));
        let left = |i: usize| {
            let sum = asked[i] + used[i];
            if sum > offered[i] { 0 } else { (offered[i] - sum) * 100 / offered[i] }
        };
        (left(0) + left(1)) / 2
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as in Kubernetes")]
    fn balanced(&self, pod: &Value, n: usize) -> i64 {
        let (asked, used, offered) = (asks(pod, false), self.used(n, false), offers(&self.nodes[n]));
        if asked[0] == 0 && asked[1] == 0 {
            return 0;
        }
        let share = |i: usize| ((asked[i] + used[i]) as f64 / offered[i] as f64).min(1.0);
        ((1.0 - ((share(0) - share(1)) / 2.0).abs()) * 100.0) as i64
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as in Kubernetes")]
    fn spread_scores(&self, pod: &Value, candidates: &[usize]) -> Vec<i64> {
        let given = list(&pod["spec"]["topologySpreadConstraints"]);
        let own: Vec<Value> = if given.is_empty() {
            self.default_spread(pod)
        } else {
            given.iter().filter(|c| c["whenUnsatisfiable"] == "ScheduleAnyway").cloned().collect()
        };
        if own.is_empty() {
            return vec![0; candidates.len()];
        }
        let keys: Vec<&str> =
            if given.is_empty() { vec![] } else { own.iter().map(|c| text(&c["topologyKey"])).collect() };
        let rated: Vec<usize> =
            candidates.iter().copied().filter(|n| keys.iter().all(|k| label(&self.nodes[*n], k).is_some())).collect();
        let raw = |n: usize| -> i64 {
            let mut sum = 0.0;
            for c in &own {
                let key = text(&c["topologyKey"]);
                let Some(value) = label(&self.nodes[n], key) else { continue };
                let domains: BTreeSet<&str> = rated.iter().map(|n| label(&self.nodes[*n], key).unwrap_or("")).collect();
                let (size, count) = if key == HOST {
                    (rated.len(), self.matching(c, pod, n))
                } else {
                    let there = self.counted(c, pod, &keys).into_iter();
                    let there = there.filter(|o| label(&self.nodes[*o], key) == Some(value));
                    (domains.len(), there.map(|o| self.matching(c, pod, o)).sum())
                };
                sum += count as f64 * ((size + 2) as f64).ln() + (number(&c["maxSkew"]) - 1) as f64;
            }
            sum.round() as i64
        };
        let all: Vec<i64> = rated.iter().map(|n| raw(*n)).collect();
        let (max, min) = (all.iter().copied().max().unwrap_or(0), all.iter().copied().min().unwrap_or(0));
        let score = |n: &usize| match rated.contains(n) {
            false => 0,
            true if max == 0 => 100,
            true => 100 * (max + min - raw(*n)) / max,
        };
        candidates.iter().map(score).collect()
    }
    fn default_spread(&self, pod: &Value) -> Vec<Value> {
        let mut labels = serde_json::Map::new();
        let same = |s: &&Value| s["metadata"]["namespace"] == pod["metadata"]["namespace"];
        for service in self.services.iter().filter(same) {
            let selector = service["spec"]["selector"].as_object().expect("a selector");
            if selector.iter().all(|(k, v)| label(pod, k) == v.as_str()) {
                labels.extend(selector.clone());
            }
        }
        if labels.is_empty() {
            return Vec::new();
        }
        let of = |key: &str, skew: i64| json!({"topologyKey": key, "maxSkew": skew, "labelSelector": {"matchLabels": labels}});
        vec![of(HOST, 3), of(ZONE, 5)]
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as in Kubernetes")]
    fn company_scores(&self, pod: &Value, candidates: &[usize]) -> Vec<i64> {
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let raw = |n: &usize| {
            let mut sum = 0;
            for (other, at) in &self.pods {
                for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
                    for (owner, about) in [(pod, other), (other, pod)] {
                        for w in list(&owner["spec"]["affinity"][kind][preferred]) {
                            let term = &w["podAffinityTerm"];
                            if self.near(term, *n, *at) && self.speaks(term, owner, about) {
                                sum += sign * number(&w["weight"]);
                            }
                        }
                    }
                }
                for term in list(&other["spec"]["affinity"]["podAffinity"][required]) {
                    sum += i64::from(self.near(term, *n, *at) && self.speaks(term, other, pod));
                }
            }
            sum
        };
        let raw: Vec<i64> = candidates.iter().map(raw).collect();
        let (max, min) = (raw.iter().copied().max().unwrap_or(0), raw.iter().copied().min().unwrap_or(0));
        let stretch = |s: &i64| (100.0 * ((s - min) as f64 / (max - min) as f64)) as i64;
        raw.iter().map(|s| if max == min { 0 } else { stretch(s) }).collect()
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as in Kubernetes")]
    fn images(&self, pod: &Value, n: usize) -> i64 {
        let has = |node: &Value, image: &Value| {
            let all = list(&node["status"]["images"]).iter();
            all.filter(|i| list(&i["names"]).contains(image)).map(|i| number(&i["sizeBytes"])).next()
        };
        let containers = list(&pod["spec"]["containers"]);
        let mut sum = 0;
        for container in containers {
            let image = &container["image"];
            let nodes = self.nodes.iter().filter(|node| has(node, image).is_some()).count();
            if let Some(size) = has(&self.nodes[n], image) {
                sum += (size as f64 * (nodes as f64 / self.nodes.len() as f64)) as i64;
            }
        }
        let (least, most) = (23 << 20, (1000 << 20) * i64::try_from(containers.len()).expect("few"));
        100 * (sum.clamp(least, most) - least) / (most - least)
    }
}

/// Both schedulers, side by side.
struct Both {
    plain: Plain,
    real: Snapshot,
    profile: Profile,
    dice: Dice,
}

impl Both {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (mut plain, mut real) = (Plain::default(), Snapshot::default());
        for (name, labels) in [("one", json!({"team": "red"})), ("two", json!({"team": "blue"}))] {
            testing::add(&mut real, &json!({"kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
            plain.namespaces.insert(name.into(), labels);
        }
        for (i, app) in ["a", "b"].into_iter().enumerate() {
            let name = format!("s{i}");
            let service = json!({"kind": "Service", "metadata": {"name": name, "namespace": "one"}, "spec": {"selector": {"app": app}}});
            testing::add(&mut real, &service);
            plain.services.push(service);
        }
        for i in 0..3 + dice.below(8) {
            let node = dice.node(i);
            real.set_node(testing::node(&node));
            plain.nodes.push(node);
        }
        let profile = Profile::new(&ProfileSettings::usual("default-scheduler"));
        let mut both = Self { plain, real, profile, dice };
        for i in 0..both.dice.below(16) {
            let pod = both.dice.pod(&format!("placed{i}"));
            let node = both.dice.below(both.plain.nodes.len());
            both.put(pod, node);
        }
        both
    }
    fn put(&mut self, pod: Value, node: usize) {
        let name = testing::node(&self.plain.nodes[node]).name;
        self.real.place(testing::pod(&pod), &name, false);
        self.plain.pods.push((pod, node));
    }
    /// Compares one pod; returns where it may go.
    fn compare(&mut self, pod: &Value) -> Vec<usize> {
        let info: Arc<PodInfo> = testing::pod(pod);
        let mut found: Vec<usize> = feasible(&info, &self.profile, &mut self.real);
        found.sort_unstable();
        let expected: Vec<usize> = (0..self.plain.nodes.len()).filter(|n| self.plain.fits(pod, *n)).collect();
        assert_eq!(found, expected, "feasible nodes of {pod:#}");
        let level = |scores: Vec<i64>| -> Vec<i64> {
            let min = scores.iter().copied().min().unwrap_or(0);
            scores.iter().map(|s| s - min).collect()
        };
        // A score that treats all nodes alike may be left out, so what is compared is the distance.
        let real = level(totals(&info, &self.profile, &self.real, &found));
        assert_eq!(real, level(self.plain.scores(pod, &expected)), "scores of {pod:#}");
        expected
    }
    /// Something changes: a pod goes, or a node gets other labels.
    fn shake(&mut self) {
        if self.dice.once_in(3) && !self.plain.pods.is_empty() {
            let gone = self.dice.below(self.plain.pods.len());
            let (pod, _) = self.plain.pods.swap_remove(gone);
            self.real.displace(text(&pod["metadata"]["uid"]));
        }
        if self.dice.once_in(10) {
            let i = self.dice.below(self.plain.nodes.len());
            let node = self.dice.node(i);
            self.real.set_node(testing::node(&node));
            self.plain.nodes[i] = node;
        }
    }
}

#[test]
fn decisions_equal_those_of_the_obvious_scheduler() {
    let (clusters, pods) = (1200, 10);
    let (mut feasible_somewhere, mut refused) = (0, 0);
    for seed in 1..=clusters {
        let mut both = Both::new(seed);
        for i in 0..pods {
            let mut pod = both.dice.pod(&format!("new{i}"));
            // A pod that is being deleted is not decided about.
            pod["metadata"].as_object_mut().expect("metadata").remove("deletionTimestamp");
            let fits = both.compare(&pod);
            match fits.is_empty() {
                true => refused += 1,
                false => {
                    feasible_somewhere += 1;
                    let node = fits[both.dice.below(fits.len())];
                    both.put(pod, node);
                }
            }
            both.shake();
        }
    }
    assert!(
        feasible_somewhere > 4000 && refused > 500,
        "{feasible_somewhere} placed, {refused} refused: too one-sided"
    );
}
