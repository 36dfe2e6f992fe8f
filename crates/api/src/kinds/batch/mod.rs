//! Kinds of the batch group.

mod cron_job;
mod job;
mod job_policies;
mod job_spec;
mod job_status;
mod job_update;

use crate::kind::KindDef;
use crate::meta::names;
use crate::tree;
use serde_json::Value;

pub(super) fn rows() -> Vec<KindDef> {
    vec![cron_job::row(), job::row()]
}

/// A new job's name should be a label, since its pods and their hosts are named after it.
fn name_warning(obj: &Value, old: Option<&Value>) -> Option<String> {
    let problems = names::label(tree::text(obj, "metadata.name"));
    (old.is_none() && !problems.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        )
    })
}
