//! Kinds of the autoscaling group.

mod horizontal_pod_autoscaler;
mod rules;
mod v1;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![horizontal_pod_autoscaler::row()]
}
