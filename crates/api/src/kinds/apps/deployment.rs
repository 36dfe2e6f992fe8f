//! Deployment: replicas of a pod template, rolled out step by step.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::pod_defaults;
use crate::kinds::row::{Row, age, field, name};
use crate::kinds::workload;
use crate::tree;
use crate::validate;
use crate::validate::{Field, Holder};
use serde_json::Value;

pub(super) fn row() -> KindDef {
    let [containers, images] = workload::containers();
    Row::new("apps", "v1", "Deployment", "deployments")
        .pods_from("/spec/template")
        .short(&["deploy"])
        .category("all")
        .scale()
        .status()
        .columns([
            name(),
            workload::ready(),
            field("Up-to-date", "string", "status.updatedReplicas", 0),
            field("Available", "string", "status.availableReplicas", 0),
            age(),
            containers,
            images,
            workload::selector(),
        ])
        .strategy(&Deployment)
        .build()
}

struct Deployment;

impl Strategy for Deployment {
    fn default(&self, obj: &mut Value) {
        let Some(spec) = obj.get_mut("spec") else { return };
        tree::set_if_absent(spec, "replicas", 1);
        tree::set_if_absent(spec, "revisionHistoryLimit", 10);
        tree::set_if_absent(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = tree::object(spec, "strategy") {
            tree::set_default(strategy, "type", "RollingUpdate");
            if tree::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = tree::object(strategy, "rollingUpdate")
            {
                tree::set_if_absent(rolling, "maxUnavailable", "25%");
                tree::set_if_absent(rolling, "maxSurge", "25%");
            }
        }
        if let Some(template) = spec.get_mut("template") {
            pod_defaults::template(template);
        }
    }
    fn validate(&self, ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        if ctx.subresource == "status" {
            return status(&root.field("status"), old, out);
        }
        let spec = root.field("spec");
        validate::workload(&spec, "deployment", old, out);
        validate::template(&spec.field("template"), Holder::Forever("ReplicaSet"), out);
        for key in ["revisionHistoryLimit", "progressDeadlineSeconds"] {
            spec.field(key).not_negative(out);
        }
        let (deadline, ready) = (spec.field("progressDeadlineSeconds"), spec.field("minReadySeconds"));
        if deadline.int().is_some_and(|d| d <= ready.int().unwrap_or_default()) {
            deadline.invalid("must be greater than minReadySeconds", out);
        }
        rollout(&spec.field("strategy"), out);
    }
}

fn status(status: &Field<'_, '_>, old: Option<&Value>, out: &mut Causes) {
    validate::counts(status, &["observedGeneration", "replicas", "updatedReplicas", "readyReplicas"], out);
    validate::counts(status, &["availableReplicas", "unavailableReplicas", "terminatingReplicas"], out);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    validate::parts(status, &parts, "replicas", "status.replicas", out);
    validate::parts(status, &["availableReplicas"], "readyReplicas", "readyReplicas", out);
    validate::collisions(status, old, out);
}

fn rollout(strategy: &Field<'_, '_>, out: &mut Causes) {
    let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
    kind.one_of(&["Recreate", "RollingUpdate"], out);
    if kind.text() == "Recreate" && rolling.present() {
        rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", out);
    }
    if kind.text() == "RollingUpdate" && rolling.present() {
        let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
        validate::share(&unavailable, out);
        validate::any_share(&surge, out);
        if validate::is_zero_share(&unavailable) && validate::is_zero_share(&surge) {
            unavailable.invalid("may not be 0 when `maxSurge` is 0", out);
        }
    }
}
