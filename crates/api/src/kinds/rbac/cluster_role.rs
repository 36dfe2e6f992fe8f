//! ClusterRole: a set of permissions everywhere.

use crate::kind::{KindDef, NameRule};
use crate::kinds::row::Row;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles")
        .cluster()
        .create_on_update()
        .names(NameRule::Path)
        .build()
}
