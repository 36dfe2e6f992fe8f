//! SelfSubjectRulesReview: what may I do in a namespace.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")
        .cluster()
        .create_only()
        .build()
}
