//! The levels and schemas that every cluster begins with (names and numbers as Kubernetes documents them).

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use serde_json::{Value, json};

/// Name, shares, lendable percent, queues and hand size (0: requests are refused, not queued).
const LIMITED: [(&str, u32, u32, u32, u32); 7] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
    ("catch-all", 5, 0, 0, 0),
];
const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];
const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Those hold even where they are deleted.
pub(super) fn is_mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

/// All of them, to be created where they are missing.
pub fn objects() -> Vec<Value> {
    levels().into_iter().chain(schemas()).collect()
}

/// The same, read.
pub(super) fn built_in() -> (Vec<PriorityLevelConfiguration>, Vec<FlowSchema>) {
    let read = "the default objects are of their kinds";
    let (levels, schemas) = (Value::Array(levels()), Value::Array(schemas()));
    (serde_json::from_value(levels).expect(read), serde_json::from_value(schemas).expect(read))
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}});
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
}

fn levels() -> Vec<Value> {
    let level = |name: &str, spec: Value| object("PriorityLevelConfiguration", name, spec);
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LIMITED.into_iter().map(|(name, shares, lendable, queues, hand)| {
        let response = if queues == 0 {
            json!({"type": "Reject"})
        } else {
            json!({"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}})
        };
        let limited =
            json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        level(name, json!({"type": "Limited", "limited": limited}))
    });
    [level("exempt", exempt)].into_iter().chain(limited).collect()
}

fn groups(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"kind": "Group", "group": {"name": n}})).collect()
}

fn users(names: &[&str]) -> Value {
    names.iter().map(|n| json!({"kind": "User", "user": {"name": n}})).collect()
}

fn accounts(names: &[&str]) -> Value {
    let account =
        |n: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": n}});
    names.iter().map(account).collect()
}

fn resources(verbs: &[&str], group: &str, names: &[&str], namespaces: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": names});
    if !namespaces.is_empty() {
        rule["namespaces"] = json!(namespaces);
    }
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// Whatever there is.
fn everything(subjects: Value) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [resources(&["*"], "*", &["*"], &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn schemas() -> Vec<Value> {
    const ELECT: [&str; 3] = ["get", "create", "update"];
    const COORDINATION: &str = "coordination.k8s.io";
    let leases = |subjects: Value, namespaces: &[&str]| {
        let rule = resources(&ELECT, COORDINATION, &["leases"], namespaces, false);
        json!({"subjects": subjects, "resourceRules": [rule]})
    };
    let probes = json!({
        "subjects": groups(&EVERYBODY),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    });
    let endpoints = json!({
        "subjects": accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
        "resourceRules": [resources(&ELECT, "", &["endpoints"], &["*"], false)],
    });
    let heartbeats = json!({
        "subjects": groups(&["system:nodes"]),
        "resourceRules": [
            resources(&["*"], "", &["nodes", "nodes/status"], &[], true),
            resources(&["*"], COORDINATION, &["leases"], &["*"], false),
        ],
    });
    let components = ["system:kube-controller-manager", "system:kube-scheduler"];
    let in_system = groups(&["system:serviceaccounts:kube-system"]);
    [
        ("exempt", 1, "exempt", "", everything(groups(&["system:masters"]))),
        ("probes", 2, "exempt", "", probes),
        ("system-leader-election", 100, "leader-election", "ByUser", leases(users(&components), &["kube-system"])),
        ("endpoint-controller", 150, "workload-high", "ByUser", endpoints),
        ("workload-leader-election", 200, "leader-election", "ByUser", leases(in_system.clone(), &["*"])),
        ("system-node-high", 400, "node-high", "ByUser", heartbeats),
        ("system-nodes", 500, "system", "ByUser", everything(groups(&["system:nodes"]))),
        ("kube-controller-manager", 800, "workload-high", "ByNamespace", everything(users(&components[..1]))),
        ("kube-scheduler", 800, "workload-high", "ByNamespace", everything(users(&components[1..]))),
        ("kube-system-service-accounts", 900, "workload-high", "ByNamespace", everything(in_system)),
        ("service-accounts", 9000, "workload-low", "ByUser", everything(groups(&["system:serviceaccounts"]))),
        ("global-default", 9900, "global-default", "ByUser", everything(groups(&EVERYBODY))),
        ("catch-all", 10000, "catch-all", "ByUser", everything(groups(&EVERYBODY))),
    ]
    .map(|(name, precedence, level, by, rules)| {
        let mut spec = json!({
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": level},
            "rules": [rules],
        });
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        object("FlowSchema", name, spec)
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fairness::level::levels;
    use crate::fairness::schema::Schema;
    use kybern_api::attributes::{Attributes, UserInfo};

    #[test]
    fn requests_are_put_where_kubernetes_puts_them() {
        let (configurations, schemas) = built_in();
        assert!(levels(configurations, 600).iter().all(|l| l.exempt || l.nominal > 0));
        let mut schemas: Vec<Schema> = schemas.into_iter().filter_map(Schema::of).collect();
        schemas.sort_by(|a, b| a.place.cmp(&b.place));
        let put = |user: &str, groups: &[&str], verb: &str, resource: &str, namespace: &str| {
            let request = Attributes {
                verb: verb.into(),
                group: if resource == "leases" { "coordination.k8s.io".into() } else { String::new() },
                resource: resource.into(),
                namespace: namespace.into(),
                path: if resource.is_empty() { "/version".into() } else { String::new() },
                ..Attributes::default()
            };
            let groups = groups.iter().map(|g| (*g).into()).chain(["system:authenticated".into()]).collect();
            let user = UserInfo { name: user.into(), groups, ..UserInfo::default() };
            schemas.iter().find(|s| s.matches(&user, &request)).map(|s| s.place.name.clone()).expect("a schema")
        };
        assert_eq!(put("admin", &["system:masters"], "list", "pods", ""), "exempt");
        assert_eq!(put("system:node:n1", &["system:nodes"], "update", "leases", "kube-node-lease"), "system-node-high");
        assert_eq!(put("system:node:n1", &["system:nodes"], "list", "pods", ""), "system-nodes");
        assert_eq!(put("system:kube-scheduler", &[], "update", "leases", "kube-system"), "system-leader-election");
        assert_eq!(put("system:kube-scheduler", &[], "list", "pods", ""), "kube-scheduler");
        let accounts = ["system:serviceaccounts", "system:serviceaccounts:shop"];
        assert_eq!(put("system:serviceaccount:shop:x", &accounts, "list", "pods", "shop"), "service-accounts");
        assert_eq!(put("jane", &[], "get", "pods", "shop"), "global-default");
        assert_eq!(put("jane", &[], "get", "", ""), "global-default");
    }
}
