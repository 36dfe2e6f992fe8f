//! Kinds of the apiregistration group.

mod api_service;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![api_service::row()]
}
