//! CustomResourceDefinition: declares further kinds.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
        .cluster()
        .short(&["crd", "crds"])
        .category("api-extensions")
        .status()
        .needs_revision()
        .withheld()
        .build()
}
