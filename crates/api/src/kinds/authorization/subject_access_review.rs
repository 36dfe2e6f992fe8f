//! SubjectAccessReview: may somebody do this.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews")
        .cluster()
        .create_only()
        .strategy(&SubjectAccessReview)
        .build()
}

struct SubjectAccessReview;

impl Strategy for SubjectAccessReview {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let spec = root.field("spec");
        super::one_question(&spec, out);
        super::somebody(&spec, out);
        super::no_metadata(&root, "", "must be empty", out);
    }
}
