//! MutatingAdmissionPolicy: rules in CEL.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies")
        .cluster()
        .category("api-extensions")
        .needs_revision()
        .columns([
            name(),
            computed("Mutations", "Number of mutations.", |v| cells::length(v, "spec.mutations")).typed("integer"),
            super::param_kind(),
            age(),
        ])
        .withheld()
        .build()
}
