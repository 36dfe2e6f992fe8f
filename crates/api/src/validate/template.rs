//! Templates of pods inside workloads.

use super::field::Field;
use super::pod_spec::pod_spec;
use crate::kind::Causes;
use crate::meta;

/// What the workload that holds a template demands of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Its pods run forever: restartPolicy Always, no deadline. With the kind that texts name.
    Forever(&'static str),
    /// Its pods run to completion: restartPolicy OnFailure or Never.
    ToCompletion,
    /// It only keeps the template.
    Any,
}

/// Checks a pod template.
pub fn template(template: &Field<'_, '_>, holder: Holder, out: &mut Causes) {
    let metadata = template.field("metadata");
    meta::labels(&metadata.field("labels"), out);
    meta::annotations(&metadata.field("annotations"), out);
    let spec = template.field("spec");
    pod_spec(&spec, out);
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden("ephemeral containers not allowed in pod template", out);
    }
    let policy = spec.field("restartPolicy");
    match holder {
        Holder::Forever(kind) => {
            if matches!(policy.text(), "Never" | "OnFailure") {
                policy.unsupported(&["Always"], out);
            }
            let deadline = spec.field("activeDeadlineSeconds");
            if deadline.present() {
                deadline.forbidden(&format!("activeDeadlineSeconds in {kind} is not Supported"), out);
            }
        }
        // Always is also what a template without a policy is given.
        Holder::ToCompletion if policy.text() == "Always" => {
            policy.required("valid values: \"OnFailure\", \"Never\"", out);
        }
        Holder::ToCompletion | Holder::Any => {}
    }
}
