//! Node: a machine that runs pods.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name, text, text_or};
use crate::meta::time;
use crate::tree;
use crate::validate;
use crate::validate::Field;
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
        .strategy(&Node)
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

/// How long pods tolerate a taint counts from when it was added: a taint that drives pods out gets that
/// time here, whoever sets it.
fn date_taints(ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
    let before = old.map_or(&[] as &[Value], |o| tree::list(o, "spec.taints"));
    let same = |a: &Value, b: &Value| ["key", "value", "effect"].iter().all(|k| tree::text(a, k) == tree::text(b, k));
    tree::each(obj, "spec.taints", |taint| {
        if tree::text(taint, "effect") == "NoExecute" && tree::text(taint, "timeAdded").is_empty() {
            let since = before.iter().find(|b| same(b, taint)).and_then(|b| b.get("timeAdded")).cloned();
            taint["timeAdded"] = since.unwrap_or_else(|| time::seconds(ctx.now.as_second()).into());
        }
    });
}

struct Node;

impl Strategy for Node {
    fn default(&self, obj: &mut Value) {
        if let Some(status) = obj.get_mut("status")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            tree::set_if_absent(status, "allocatable", capacity);
        }
        if let Some(spec) = obj.get_mut("spec") {
            let first = tree::list(spec, "podCIDRs").first().cloned();
            match (tree::text(spec, "podCIDR").to_owned(), first) {
                (own, None) if !own.is_empty() => tree::set_default(spec, "podCIDRs", vec![own]),
                (own, Some(first)) if own.is_empty() => tree::set_default(spec, "podCIDR", first),
                _ => {}
            }
        }
    }
    fn prepare(&self, ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        date_taints(ctx, obj, old);
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        validate::taints(&spec.field("taints"), out);
        spec.field("podCIDRs").items().for_each(|range| validate::cidr(&range, out));
        let Some(old) = old else { return };
        let old = Field::root(old);
        let old = old.field("spec");
        for (field, name) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
            let (new, old) = (spec.field(field), old.field(field));
            if old.present() && new.value != old.value {
                new.forbidden(&format!("node updates may not change {name} except from \"\" to valid"), out);
            }
        }
    }
    fn keeps_status_on_create(&self) -> bool {
        true
    }
    fn counts_generation(&self, _def: &KindDef) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn taints_that_drive_pods_out_are_dated_once() {
        let def = crate::kinds::find("", "nodes").expect("a row");
        let at = |second| Context { def, subresource: "", now: jiff::Timestamp::from_second(second).expect("a time") };
        let taint = |effect: &str| json!({"key": "k", "value": "v", "effect": effect});
        let mut node = json!({"spec": {"taints": [taint("NoExecute"), taint("NoSchedule")]}});
        Node.prepare(&at(60), &mut node, None);
        assert_eq!(node["spec"]["taints"][0]["timeAdded"], "1970-01-01T00:01:00Z");
        assert_eq!(node["spec"]["taints"][1], taint("NoSchedule"));
        let mut again = json!({"spec": {"taints": [taint("NoExecute")]}});
        Node.prepare(&at(90), &mut again, Some(&node));
        assert_eq!(again["spec"]["taints"][0]["timeAdded"], "1970-01-01T00:01:00Z", "it is the same taint");
    }
}
