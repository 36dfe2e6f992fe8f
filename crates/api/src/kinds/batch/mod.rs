//! Kinds of the batch group.

mod cron_job;
mod job;

use super::pod_defaults;
use crate::kind::KindDef;
use crate::tree;
use serde_json::Value;

pub(super) fn rows() -> Vec<KindDef> {
    vec![cron_job::row(), job::row()]
}

/// Defaults of a job's spec.
fn job_spec_defaults(spec: &mut Value) {
    if spec.get("parallelism").is_none() {
        tree::set_if_absent(spec, "completions", 1);
    }
    tree::set_if_absent(spec, "parallelism", 1);
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    tree::set_if_absent(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    tree::set_default(spec, "completionMode", "NonIndexed");
    tree::set_if_absent(spec, "suspend", false);
    tree::set_if_absent(spec, "manualSelector", false);
    let failure_policy = spec.get("podFailurePolicy").is_some();
    tree::set_default(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        tree::each(policy, "rules", |rule| {
            tree::each(rule, "onPodConditions", |condition| tree::set_default(condition, "status", "True"));
        });
    }
    if let Some(template) = spec.get_mut("template") {
        pod_defaults::template(template);
    }
}
