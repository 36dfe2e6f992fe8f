//! ResourceClaimTemplate: a template of claims.

use crate::kind::KindDef;
use crate::kinds::row::{Row, age, name};

pub(super) fn row() -> KindDef {
    Row::new("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates")
        .columns([name(), age()])
        .withheld()
        .build()
}
