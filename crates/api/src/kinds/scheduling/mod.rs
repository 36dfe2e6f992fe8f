//! Kinds of the scheduling group.

mod priority_class;

pub use priority_class::SYSTEM_PRIORITIES;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![priority_class::row()]
}
