//! Role: a set of permissions in a namespace.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "Role", "roles").create_on_update().names(NameRule::Path).build()
}
