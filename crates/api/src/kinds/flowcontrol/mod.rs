//! Kinds of the flowcontrol group.

mod flow_schema;
mod priority_level_configuration;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![flow_schema::row(), priority_level_configuration::row()]
}
