//! LimitRange: bounds and defaults for resources in a namespace.

use crate::kind::KindDef;
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("", "v1", "LimitRange", "limitranges").short(&["limits"]).create_on_update().inert().build()
}
