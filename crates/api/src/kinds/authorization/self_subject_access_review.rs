//! SelfSubjectAccessReview: may I do this.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
        .cluster()
        .create_only()
        .strategy(&SelfSubjectAccessReview)
        .build()
}

struct SelfSubjectAccessReview;

impl Strategy for SelfSubjectAccessReview {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        super::one_question(&root.field("spec"), out);
        super::no_metadata(&root, "", "must be empty", out);
    }
}
