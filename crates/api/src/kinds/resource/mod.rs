//! Kinds of the resource group.

mod device_class;
mod resource_claim;
mod resource_claim_template;
mod resource_slice;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![device_class::row(), resource_claim::row(), resource_claim_template::row(), resource_slice::row()]
}
