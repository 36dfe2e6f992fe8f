//! Which other pods a pod speaks of: affinity terms and spread constraints, with texts that identify
//! them, so that counts can be kept per term instead of per pod.

use super::PodInfo;
use super::spec::{SpreadPart, TermPart, WeightedPart};
use kybern_api::meta::selector::{Labels, Operator, Requirement, Selector};
use serde_json::Value;
use smol_str::SmolStr;
use std::sync::Arc;

/// Labels of an object, sorted by key.
pub(crate) type LabelList = Vec<(SmolStr, SmolStr)>;

/// Pods of some namespaces with some labels.
#[derive(Debug, Clone)]
struct Part {
    namespaces: Vec<SmolStr>,
    namespace_selector: Option<Selector>,
    selector: Selector,
}

impl Part {
    fn covers(&self, pod: &PodInfo, namespace: Option<&LabelList>) -> bool {
        let labels = || namespace.map_or(&[][..], Vec::as_slice);
        let inside = self.namespaces.contains(&pod.name.namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| s.matches(labels()));
        inside && self.selector.matches(pod.labels.as_slice())
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |s: &Selector| if *s == Selector::Nothing { "-".to_owned() } else { format!("({s})") };
        let spaces = self.namespace_selector.as_ref().map_or_else(String::new, of);
        write!(f, "{}/{spaces}/{}", self.namespaces.join(","), of(&self.selector))
    }
}

/// Pods that all parts speak of.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// Identifies it.
    pub(crate) key: Arc<str>,
    parts: Vec<Part>,
    /// Pods that are being deleted do not count.
    alive: bool,
}

impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Who {
    fn new(parts: Vec<Part>, alive: bool) -> Self {
        let texts: Vec<String> = parts.iter().map(Part::to_string).collect();
        Self { key: format!("{alive} {}", texts.join(" & ")).into(), parts, alive }
    }
    /// The living pods of one namespace that a selector selects.
    pub(crate) fn living(namespace: &SmolStr, selector: Selector) -> Self {
        let part = Part { namespaces: vec![namespace.clone()], namespace_selector: None, selector };
        Self::new(vec![part], true)
    }
    /// Those that all of `terms` speak of; of none if there are no terms.
    pub(crate) fn all_of(terms: &[Term]) -> Self {
        Self::new(terms.iter().flat_map(|t| t.who.parts.iter().cloned()).collect(), false)
    }
    /// Does it speak of this pod, whose namespace has these labels?
    pub(crate) fn covers(&self, pod: &PodInfo, namespace: Option<&LabelList>) -> bool {
        let ruled_out = self.parts.is_empty() || self.alive && pod.deleting;
        !ruled_out && self.parts.iter().all(|p| p.covers(pod, namespace))
    }
    /// Might it speak of this pod, whatever labels namespaces have?
    pub(crate) fn may_cover(&self, pod: &PodInfo) -> bool {
        let inside = |p: &Part| p.namespaces.contains(&pod.name.namespace) || p.namespace_selector.is_some();
        !self.parts.is_empty() && self.parts.iter().all(|p| inside(p) && p.selector.matches(pod.labels.as_slice()))
    }
    /// A label that every pod it speaks of must carry, to find it by.
    pub(crate) fn handle(&self) -> Option<(SmolStr, SmolStr)> {
        let exact = |r: &Requirement| match (r.operator, r.values.as_slice()) {
            (Operator::In, [value]) => Some((r.key.clone(), value.clone())),
            _ => None,
        };
        self.parts.iter().find_map(|p| match &p.selector {
            Selector::All(all) => all.iter().find_map(exact),
            Selector::Nothing => None,
        })
    }
}

/// An affinity term.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    /// Identifies it, topology included.
    pub(crate) key: Arc<str>,
    pub(crate) who: Who,
    pub(crate) topology: SmolStr,
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// What the pod wants of other pods around it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Company {
    pub(crate) required: Vec<Term>,
    pub(crate) avoided: Vec<Term>,
    pub(crate) preferred: Vec<(i64, Term)>,
    pub(crate) disliked: Vec<(i64, Term)>,
}

impl Company {
    /// Does it want nothing?
    pub(crate) fn is_empty(&self) -> bool {
        self.required.is_empty() && self.avoided.is_empty() && self.preferred.is_empty() && self.disliked.is_empty()
    }
}

fn selector(value: Option<&Value>) -> Selector {
    // Validation has let only known operators through.
    Selector::from_object(value).unwrap_or(Selector::Nothing)
}

pub(super) fn term(part: TermPart, namespace: &SmolStr) -> Term {
    let spaces = part.namespace_selector.as_ref().filter(|v| !v.is_null()).map(|v| selector(Some(v)));
    let mut namespaces = part.namespaces;
    if namespaces.is_empty() && spaces.is_none() {
        namespaces.push(namespace.clone());
    }
    namespaces.sort();
    let part_of = Part { namespaces, namespace_selector: spaces, selector: selector(part.label_selector.as_ref()) };
    let who = Who::new(vec![part_of], false);
    Term { key: format!("{}@{}", who.key, part.topology_key).into(), who, topology: part.topology_key }
}

pub(super) fn weighted(parts: Vec<WeightedPart>, namespace: &SmolStr) -> Vec<(i64, Term)> {
    parts.into_iter().map(|w| (w.weight, term(w.pod_affinity_term, namespace))).collect()
}

/// A spread constraint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread {
    pub(crate) who: Who,
    pub(crate) topology: SmolStr,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: i64,
    /// DoNotSchedule.
    pub(crate) strict: bool,
    pub(crate) honor_affinity: bool,
    pub(crate) honor_taints: bool,
}

/// Reads a constraint; `matchLabelKeys` take their values from the pod's labels.
pub(crate) fn spread(part: &SpreadPart, namespace: &SmolStr, labels: &LabelList) -> Spread {
    let mut chosen = selector(part.label_selector.as_ref());
    if let Selector::All(all) = &mut chosen {
        for key in &part.match_label_keys {
            let Some(value) = labels.as_slice().value(key) else { continue };
            let wanted = Requirement { key: key.clone(), operator: Operator::In, values: vec![value.into()] };
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
    }
    from_part(part, Who::living(namespace, chosen))
}

/// A constraint about given pods.
pub(crate) fn from_part(part: &SpreadPart, who: Who) -> Spread {
    Spread {
        who,
        topology: part.topology_key.clone(),
        max_skew: part.max_skew,
        min_domains: part.min_domains.unwrap_or(1),
        strict: part.when_unsatisfiable == "DoNotSchedule",
        honor_affinity: part.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: part.node_taints_policy.as_deref() == Some("Honor"),
    }
}
