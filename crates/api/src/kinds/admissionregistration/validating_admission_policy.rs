//! ValidatingAdmissionPolicy: rules in CEL.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
        .cluster()
        .category("api-extensions")
        .status()
        .needs_revision()
        .columns([
            name(),
            computed("Validations", "Number of validations.", |v| cells::length(v, "spec.validations"))
                .typed("integer"),
            super::param_kind(),
            age(),
        ])
        .withheld()
        .build()
}
