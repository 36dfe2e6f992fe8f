//! The quality-of-service class of a pod, from its resources.

use crate::tree;
use serde_json::Value;

/// The resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// Guaranteed: every container limits both resources and requests as much; BestEffort: nothing is said
/// anywhere; else Burstable.
pub(super) fn class(pod: &Value) -> &'static str {
    let pod_level = tree::at(pod, "spec.resources");
    let containers = ["spec.containers", "spec.initContainers"].into_iter().flat_map(|path| tree::list(pod, path));
    let resources: Vec<Option<&Value>> = match pod_level {
        Some(own) => vec![Some(own)],
        None => containers.map(|c| c.get("resources")).collect(),
    };
    if resources.iter().all(|r| amounts(*r, "requests").chain(amounts(*r, "limits")).all(|a| a.is_none())) {
        return "BestEffort";
    }
    let guaranteed = |r: &Option<&Value>| {
        amounts(*r, "limits").zip(amounts(*r, "requests")).all(|(limit, request)| limit.is_some() && limit == request)
    };
    if resources.iter().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

/// The counted amounts of a list; zero is as good as nothing.
fn amounts<'a>(resources: Option<&'a Value>, list: &str) -> impl Iterator<Item = Option<&'a Value>> {
    let list = resources.and_then(|r| r.get(list));
    COUNTED.into_iter().map(move |name| list?.get(name).filter(|a| *a != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let guaranteed = json!({"name": "a", "resources": {"limits": both, "requests": both}});
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        let cases = [
            (json!([{"name": "a"}]), "BestEffort"),
            (json!([guaranteed]), "Guaranteed"),
            (json!([guaranteed, {"name": "b"}]), "Burstable"),
            (json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable"),
            (json!([{"resources": {"requests": {"example.com/gpu": "1"}}}]), "BestEffort"),
            (
                json!([{"resources": {"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "2"}}}]),
                "Burstable",
            ),
        ];
        for (containers, want) in cases {
            assert_eq!(class(&pod(containers.clone())), want, "{containers}");
        }
    }
}
