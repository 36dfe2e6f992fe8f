//! Kinds of the node group.

mod runtime_class;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![runtime_class::row()]
}
