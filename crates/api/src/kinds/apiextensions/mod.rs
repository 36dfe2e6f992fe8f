//! Kinds of the apiextensions group.

mod custom_resource_definition;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![custom_resource_definition::row()]
}
