//! MutatingAdmissionPolicyBinding: where a policy holds.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name, text};

pub(super) fn row() -> KindDef {
    Row::new("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
        .cluster()
        .category("api-extensions")
        .needs_revision()
        .columns([name(), text("PolicyName", "spec.policyName"), super::param_ref(), age()])
        .withheld()
        .build()
}
