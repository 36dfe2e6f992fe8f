//! SelfSubjectReview: who am I.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews").cluster().create_only().build()
}
