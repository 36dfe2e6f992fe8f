//! Kinds of the coordination group.

mod lease;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![lease::row()]
}
