//! SelfSubjectAccessReview: may I do this.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
        .cluster()
        .create_only()
        .build()
}
