//! Which nodes a pod may be on: taints and tolerations, node selectors and required node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Keeps new pods away and drives those out that are there.
pub const NO_EXECUTE: &str = "NoExecute";

/// Does a toleration cover a taint?
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().filter(|e| !e.is_empty()).is_none_or(|e| e == taint.effect);
    let key = toleration.key.as_deref().filter(|k| !k.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value =
        || exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key.map_or(exists, |k| k == taint.key && value())
}

/// The first taint of one of these effects that no toleration covers.
pub fn untolerated<'t>(taints: &'t [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'t Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// Does a node of this name and these labels satisfy the pod's nodeSelector and required affinity?
pub fn attracts<'n>(spec: &PodSpec, name: &'n str, label: impl Fn(&str) -> Option<&'n str>) -> bool {
    let selected = spec.node_selector.iter().flatten().all(|(k, v)| label(k) == Some(v.as_str()));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_matches(t, name, &label)))
}

/// Does a node of this name and these labels fulfil a term? An empty term fits no node.
pub fn term_matches<'n>(term: &NodeSelectorTerm, name: &'n str, label: impl Fn(&str) -> Option<&'n str>) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(name);
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| fulfils(r, label(&r.key)))
        && fields.iter().all(|r| fulfils(r, field(&r.key)))
}

fn fulfils(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let compare = |test: fn(i64, i64) -> bool| {
        let want = values.first().and_then(|w| w.parse().ok());
        matches!((value.and_then(|v| v.parse().ok()), want), (Some(have), Some(want)) if test(have, want))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, want| have > want),
        "Lt" => compare(|have, want| have < want),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(spec: serde_json::Value) -> PodSpec {
        serde_json::from_value(spec).expect("a pod spec")
    }

    #[test]
    fn tolerations_cover_by_key_value_and_effect() {
        let taint = |effect: &str| Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: effect.into(),
            ..Taint::default()
        };
        let taints = [taint(NO_SCHEDULE), taint(NO_EXECUTE)];
        let left = |tolerations: serde_json::Value| {
            let spec = spec(json!({"containers": [], "tolerations": tolerations}));
            let found =
                untolerated(&taints, spec.tolerations.as_deref().unwrap_or_default(), &[NO_SCHEDULE, NO_EXECUTE]);
            found.map(|t| t.effect.clone())
        };
        assert_eq!(left(json!([])).as_deref(), Some(NO_SCHEDULE));
        assert_eq!(left(json!([{"operator": "Exists"}])), None);
        assert_eq!(left(json!([{"key": "k", "value": "v"}])), None);
        assert_eq!(
            left(json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}])).as_deref(),
            Some(NO_EXECUTE)
        );
        assert_eq!(left(json!([{"key": "k", "value": "w"}])).as_deref(), Some(NO_SCHEDULE));
        assert_eq!(untolerated(&taints, &[], &["PreferNoSchedule"]), None);
    }

    #[test]
    fn selectors_and_terms_match_labels_and_names() {
        let label = |key: &str| (key == "zone").then_some("a");
        let fits = |s: serde_json::Value| attracts(&spec(s), "n1", label);
        let affinity = |terms: serde_json::Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        assert!(fits(json!({"containers": []})));
        assert!(fits(json!({"containers": [], "nodeSelector": {"zone": "a"}})));
        assert!(!fits(json!({"containers": [], "nodeSelector": {"zone": "a", "disk": "ssd"}})));
        let named = |n: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]});
        assert!(fits(affinity(json!([named("n2"), named("n1")]))));
        assert!(!fits(affinity(json!([named("n2"), {}]))));
        assert!(!fits(affinity(json!([]))));
        assert!(fits(affinity(json!([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b"]}]}]))));
    }
}
