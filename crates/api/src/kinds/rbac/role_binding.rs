//! RoleBinding: grants a role to subjects in a namespace.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
        .create_on_update()
        .names(NameRule::Path)
        .columns(super::subjects::columns())
        .build()
}
