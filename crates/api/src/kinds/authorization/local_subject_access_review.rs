//! LocalSubjectAccessReview: may somebody do this in a namespace.

use crate::kind::{Causes, Context, KindDef, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")
        .create_only()
        .strategy(&LocalSubjectAccessReview)
        .build()
}

struct LocalSubjectAccessReview;

impl Strategy for LocalSubjectAccessReview {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        let (spec, metadata) = (root.field("spec"), root.field("metadata"));
        super::one_question(&spec, out);
        super::somebody(&spec, out);
        super::no_metadata(&root, "namespace", "must be empty except for namespace", out);
        let (resource, path) = (spec.field("resourceAttributes"), spec.field("nonResourceAttributes"));
        let namespace = resource.field("namespace");
        if resource.present() && namespace.text() != metadata.field("namespace").text() {
            namespace.invalid_value(&namespace.text().into(), "must match metadata.namespace", out);
        }
        if path.present() {
            path.invalid("disallowed on this kind of request", out);
        }
    }
}
