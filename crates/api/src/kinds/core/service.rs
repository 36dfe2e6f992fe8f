//! Service: a stable address for a set of pods.

use super::service_rules;
use crate::kind::{KindDef, NameRule};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text};
use crate::tree;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Service", "services")
        .short(&["svc"])
        .category("all")
        .sub("proxy", "ServiceProxyOptions", &["create", "delete", "get", "patch", "update"])
        .status()
        .create_on_update()
        .names(NameRule::Label)
        .select("spec.clusterIP")
        .select("spec.type")
        .columns([
            name(),
            text("Type", "spec.type"),
            computed("Cluster-IP", "Address inside the cluster.", |v| cluster_ip(v.obj)),
            computed("External-IP", "Addresses outside the cluster.", |v| external_ip(v.obj)),
            computed("Port(s)", "Ports and protocols.", |v| ports(v.obj)),
            age(),
            computed("Selector", "Which pods the service leads to.", |v| {
                cells::pairs(tree::at(v.obj, "spec.selector"))
            })
            .wide(),
        ])
        .strategy(&service_rules::Service)
        .build()
}

fn cluster_ip(obj: &Value) -> Value {
    let first = tree::list(obj, "spec.clusterIPs").first().and_then(Value::as_str);
    let ip = first.unwrap_or_else(|| tree::text(obj, "spec.clusterIP"));
    if ip.is_empty() { cells::NONE.into() } else { ip.into() }
}

fn external_ip(obj: &Value) -> Value {
    let listed = tree::list(obj, "spec.externalIPs").iter().filter_map(Value::as_str);
    match tree::text(obj, "spec.type") {
        "ClusterIP" | "NodePort" => cells::joined(listed, ",", cells::NONE),
        "LoadBalancer" => cells::joined(cells::ingress_addresses(obj).into_iter().chain(listed), ",", "<pending>"),
        "ExternalName" => tree::text(obj, "spec.externalName").into(),
        _ => cells::UNKNOWN.into(),
    }
}

fn ports(obj: &Value) -> Value {
    let text = |port: &Value| {
        let (number, protocol) = (tree::int(port, "port").unwrap_or_default(), tree::text(port, "protocol"));
        match tree::int(port, "nodePort").unwrap_or_default() {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    let all: Vec<String> = tree::list(obj, "spec.ports").iter().map(text).collect();
    cells::joined(all.iter().map(String::as_str), ",", cells::NONE)
}
