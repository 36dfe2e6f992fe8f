//! Kinds of the discovery group.

mod endpoint_slice;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![endpoint_slice::row()]
}
