//! ClusterRoleBinding: grants a role to subjects everywhere.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
        .cluster()
        .create_on_update()
        .names(NameRule::Path)
        .columns(super::subjects::columns())
        .build()
}
