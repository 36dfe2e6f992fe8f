//! Kinds of the scheduling group.

mod priority_class;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![priority_class::row()]
}
