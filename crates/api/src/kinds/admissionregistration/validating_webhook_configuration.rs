//! ValidatingWebhookConfiguration: webhooks that are asked about writes.

use crate::kind::KindDef;
use crate::kinds::cells;
use crate::kinds::row::{Row, age, computed, name};

pub(super) fn row() -> KindDef {
    Row::new("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
        .cluster()
        .category("api-extensions")
        .needs_revision()
        .columns([
            name(),
            computed("Webhooks", "Number of webhooks.", |v| cells::length(v, "webhooks")).typed("integer"),
            age(),
        ])
        .withheld()
        .build()
}
