//! Pod: containers that run together on a node.

use super::pod_cells;
use crate::kind::{KindDef, Strategy, View};
use crate::kinds::row::Row;
use crate::object::Head;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "Pod", "pods")
        .short(&["po"])
        .category("all")
        .sub("attach", "PodAttachOptions", &["create", "get"])
        .sub("binding", "Binding", &["create"])
        .sub("ephemeralcontainers", "Pod", &["get", "patch", "update"])
        .sub_of("eviction", "policy", "v1", "Eviction", &["create"])
        .sub("exec", "PodExecOptions", &["create", "get"])
        .sub("log", "Pod", &["get"])
        .sub("portforward", "PodPortForwardOptions", &["create", "get"])
        .sub("proxy", "PodProxyOptions", &["create", "delete", "get", "patch", "update"])
        .sub("resize", "Pod", &["get", "patch", "update"])
        .status()
        .select("spec.nodeName")
        .alias("spec.host")
        .select("spec.restartPolicy")
        .select("spec.schedulerName")
        .select("spec.serviceAccountName")
        .select_or("spec.hostNetwork", "false")
        .select("status.phase")
        .select("status.podIP")
        .select("status.podIPs")
        .select("status.nominatedNodeName")
        .columns(pod_cells::columns())
        .strategy(&Pod)
        .build()
}

struct Pod;

impl Strategy for Pod {
    fn cells(&self, def: &KindDef, obj: &Value, head: &Head, now: jiff::Timestamp) -> Vec<Value> {
        pod_cells::cells(&def.columns, &View { obj, head, now })
    }
}
