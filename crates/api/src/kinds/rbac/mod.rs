//! Kinds of the rbac group.

mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod rules;
mod subjects;

use crate::kind::KindDef;

pub(super) fn rows() -> Vec<KindDef> {
    vec![cluster_role_binding::row(), cluster_role::row(), role_binding::row(), role::row()]
}
