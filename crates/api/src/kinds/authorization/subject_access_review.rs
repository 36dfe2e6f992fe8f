//! SubjectAccessReview: may somebody do this.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews")
        .cluster()
        .create_only()
        .build()
}
