//! Kinds of the authentication group.

mod self_subject_review;
mod token_review;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![self_subject_review::row(), token_review::row()]
}
