//! Kinds of the authorization group.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use crate::kind::{Causes, KindDef};
use crate::validate::Field;

pub(super) fn rows() -> Vec<KindDef> {
    vec![
        local_subject_access_review::row(),
        self_subject_access_review::row(),
        self_subject_rules_review::row(),
        subject_access_review::row(),
    ]
}

/// Demands one question, about a resource or about a path.
fn one_question(spec: &Field<'_, '_>, out: &mut Causes) {
    let (resource, path) = (spec.field("resourceAttributes"), spec.field("nonResourceAttributes"));
    match (resource.present(), path.present()) {
        (true, true) => path.invalid("cannot be specified in combination with resourceAttributes", out),
        (false, false) => {
            let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            resource.invalid(text, out);
        }
        _ => {}
    }
}

/// Demands somebody of whom the question is.
fn somebody(spec: &Field<'_, '_>, out: &mut Causes) {
    let user = spec.field("user");
    if !user.set() && spec.field("groups").is_empty() {
        user.invalid_value(&"".into(), "at least one of user or group must be specified", out);
    }
}

/// A question is no object: it has no metadata, or none but what `allowed` names.
fn no_metadata(review: &Field<'_, '_>, allowed: &str, text: &str, out: &mut Causes) {
    let metadata = review.field("metadata");
    if metadata.entries().any(|(key, value)| value.set() && key != "managedFields" && key != allowed) {
        metadata.invalid(text, out);
    }
}
