//! Kinds of the policy group.

mod pod_disruption_budget;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![pod_disruption_budget::row()]
}
