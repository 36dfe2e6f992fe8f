//! ClusterRole aggregation. Pure: the controller reads and writes.

use crate::rules::{Rule, rules_of};
use kybern_api::object::Head;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl Selector {
    fn matches(&self, head: &Head) -> bool {
        let labels = self.match_labels.iter().flatten().all(|(key, value)| head.label(key) == Some(value));
        labels && self.match_expressions.iter().flatten().all(|e| e.matches(head))
    }
}

impl Expression {
    fn matches(&self, head: &Head) -> bool {
        let found = head.label(&self.key);
        let listed = || found.is_some_and(|v| self.values.iter().flatten().any(|wanted| wanted == v));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    }
}

/// The rules that an aggregated ClusterRole shall have: those of every other ClusterRole that one of its
/// selectors matches, in the order of the names, each once. None: it does not aggregate.
pub fn aggregate(role: &Value, own_name: &str, others: &[(&Head, Value)]) -> Option<Vec<Rule>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?;
    let selectors = Vec::<Selector>::deserialize(selectors).ok()?;
    let mut matching: Vec<&(&Head, Value)> = others
        .iter()
        .filter(|(head, _)| head.name != own_name && selectors.iter().any(|selector| selector.matches(head)))
        .collect();
    matching.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut rules: Vec<Rule> = Vec::new();
    for rule in matching.into_iter().flat_map(|(_, role)| rules_of(role)) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Some(rules)
}
