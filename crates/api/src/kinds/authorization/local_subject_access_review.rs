//! LocalSubjectAccessReview: may somebody do this in a namespace.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")
        .create_only()
        .build()
}
