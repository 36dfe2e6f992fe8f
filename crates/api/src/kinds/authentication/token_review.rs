//! TokenReview: whose token is this.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("authentication.k8s.io", "v1", "TokenReview", "tokenreviews").cluster().create_only().build()
}
