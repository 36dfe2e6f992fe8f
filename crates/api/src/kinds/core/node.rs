//! Node: a machine that runs pods.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::tree;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Node", "nodes")
        .cluster()
        .short(&["no"])
        .sub("proxy", "NodeProxyOptions", &["create", "delete", "get", "patch", "update"])
        .status()
        .select_or("spec.unschedulable", "false")
        .columns([
            name(),
            computed("Status", "Whether the node is ready and takes pods.", |v| status(v.obj)),
            computed("Roles", "Roles of the node, from its labels.", |v| roles(v.obj)),
            age(),
            text("Version", "status.nodeInfo.kubeletVersion"),
            computed("Internal-IP", "Address inside the cluster.", |v| address(v.obj, "InternalIP")).wide(),
            computed("External-IP", "Address outside the cluster.", |v| address(v.obj, "ExternalIP")).wide(),
            text_or("OS-Image", "status.nodeInfo.osImage", cells::UNKNOWN).wide(),
            text_or("Kernel-Version", "status.nodeInfo.kernelVersion", cells::UNKNOWN).wide(),
            text_or("Container-Runtime", "status.nodeInfo.containerRuntimeVersion", cells::UNKNOWN).wide(),
        ])
        .build()
}

fn status(obj: &Value) -> Value {
    let ready = match cells::condition(obj, "Ready") {
        None => "Unknown",
        Some(c) if tree::text(c, "status") == "True" => "Ready",
        Some(_) => "NotReady",
    };
    let suffix = if tree::flag(obj, "spec.unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{ready}{suffix}").into()
}

fn roles(obj: &Value) -> Value {
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let roles: BTreeSet<String> =
        tree::entries(obj, "metadata.labels").filter_map(role).filter(|r| !r.is_empty()).collect();
    cells::joined(roles.iter().map(String::as_str), ",", cells::NONE)
}

fn address(obj: &Value, kind: &str) -> Value {
    let found = tree::list(obj, "status.addresses").iter().find(|a| tree::text(a, "type") == kind);
    found.map_or(cells::NONE, |a| tree::text(a, "address")).into()
}
