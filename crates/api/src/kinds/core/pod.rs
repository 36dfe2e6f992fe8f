//! Pod: containers that run together on a node.

use super::pod_cells;
use super::pod_selectors;
use super::qos;
use crate::kind::{Causes, Context, KindDef, Strategy, View};
use crate::kinds::pod_defaults;
use crate::kinds::row::Row;
use crate::object::Head;
use crate::quota;
use crate::tree;
use crate::validate::{self, Field};
use serde_json::{Value, json};

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
        .select_from("status.podIPs", "status.podIP")
        .select("status.nominatedNodeName")
        .columns(pod_cells::columns())
        .strategy(&Pod)
        .build()
}

struct Pod;

impl Strategy for Pod {
    fn default(&self, obj: &mut Value) {
        if let Some(spec) = obj.get_mut("spec") {
            pod_defaults::pod_spec(spec);
            pod_defaults::pod_only(spec);
        }
    }
    fn prepare(&self, _ctx: &Context<'_>, obj: &mut Value, old: Option<&Value>) {
        if old.is_none() {
            pod_selectors::merge_label_keys(obj);
            let status = json!({"phase": "Pending", "qosClass": qos::class(obj)});
            tree::remove(obj, "status");
            tree::set_if_absent(obj, "status", status);
            if !tree::list(obj, "spec.schedulingGates").is_empty() {
                obj["status"]["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }]);
            }
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        let Some(old) = old else { return validate_new(&spec, out) };
        let old = Field::root(old);
        let old = old.field("spec");
        match ctx.subresource {
            "status" | "binding" => {}
            "ephemeralcontainers" => validate::pod_ephemeral(&spec, &old, out),
            "resize" => {
                validate::pod_resize(&spec, &old, out);
                keeps_class(&spec, qos::class(obj), obj, out);
            }
            _ if spec.value == old.value => {}
            _ => {
                validate::pod_spec(&spec, out);
                validate::pod_update(&spec, &old, out);
            }
        }
    }
    /// Binding a pod to its node is no change of what is wanted.
    fn desired_changed(&self, new: &Value, old: &Value) -> bool {
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.field("spec"), old.field("spec"));
        let others = |spec: &Field<'_, '_>| spec.entries().filter(|(key, _)| *key != "nodeName").count();
        others(&new) != others(&old)
            || new.entries().any(|(key, field)| key != "nodeName" && *field.value != *old.field(key).value)
    }
    /// As asked for, else as the spec says; what runs nowhere, or no more, goes at once.
    fn grace(&self, obj: &Value, requested: Option<i64>) -> Option<i64> {
        let finished = matches!(tree::text(obj, "status.phase"), "Succeeded" | "Failed");
        if finished || tree::text(obj, "spec.nodeName").is_empty() {
            return Some(0);
        }
        let seconds = requested.or_else(|| tree::int(obj, "spec.terminationGracePeriodSeconds"));
        Some(seconds.map_or(DEFAULT_GRACE_SECONDS, |s| if s < 0 { 1 } else { s }))
    }
    fn answers_deletion_with_object(&self) -> bool {
        true
    }
    fn usage(&self, _def: &KindDef, obj: &Value) -> quota::Amounts {
        quota::pod::usage(obj)
    }
    fn usage_varies(&self) -> bool {
        true
    }
    fn in_scope(&self, obj: &Value, scope: &quota::Scope) -> bool {
        quota::pod::in_scope(obj, qos::class(obj), scope)
    }
    fn unsaid(&self, obj: &Value, quota: &quota::Quota) -> Option<String> {
        quota::pod::unsaid(obj, quota.hard.keys())
    }
    fn cells(&self, def: &KindDef, obj: &Value, head: &Head, now: jiff::Timestamp) -> Vec<Value> {
        pod_cells::cells(&def.columns, &View { obj, head, now })
    }
}

const DEFAULT_GRACE_SECONDS: i64 = 30;

/// A pod's cgroup lies where its class says: that stays.
fn keeps_class(spec: &Field<'_, '_>, class: &str, obj: &Value, out: &mut Causes) {
    let known = tree::text(obj, "status.qosClass");
    if !known.is_empty() && known != class {
        spec.invalid_value(&class.into(), "Pod QOS Class may not change as a result of resizing", out);
    }
}

fn validate_new(spec: &Field<'_, '_>, out: &mut Causes) {
    validate::pod_spec(spec, out);
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden("cannot be set on create", out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_what_was_asked_for_unless_nothing_runs() {
        let pod = |phase: &str, node: &str, seconds: i64| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": seconds}, "status": {"phase": phase}});
        let cases = [
            (pod("Running", "n", 30), None, 30),
            (pod("Running", "n", 30), Some(5), 5),
            (pod("Running", "n", -3), None, 1),
            (pod("Running", "n", 30), Some(0), 0),
            (pod("Pending", "", 30), None, 0),
            (pod("Succeeded", "n", 30), Some(9), 0),
        ];
        for (pod, requested, want) in cases {
            assert_eq!(Pod.grace(&pod, requested), Some(want), "{pod} {requested:?}");
        }
    }

    #[test]
    fn a_binding_is_no_new_generation() {
        let pod = |spec: Value| json!({ "spec": spec });
        let old = pod(json!({"hostname": "h"}));
        assert!(!Pod.desired_changed(&pod(json!({"hostname": "h", "nodeName": "n"})), &old));
        assert!(Pod.desired_changed(&pod(json!({"hostname": "i", "nodeName": "n"})), &old));
        assert!(Pod.desired_changed(&pod(json!({"nodeName": "n"})), &old));
    }
}
