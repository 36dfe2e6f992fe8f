//! Kinds of the authorization group.

mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_rules_review;
mod subject_access_review;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![
        local_subject_access_review::row(),
        self_subject_access_review::row(),
        self_subject_rules_review::row(),
        subject_access_review::row(),
    ]
}
