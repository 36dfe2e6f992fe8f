//! ClusterRoleBinding: grants a role to subjects everywhere.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
        .cluster()
        .create_on_update()
        .names(NameRule::Path)
        .columns(super::subjects::columns())
        .strategy(&ClusterRoleBinding)
        .build()
}

struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {
    fn default(&self, obj: &mut Value) {
        super::subjects::default(obj);
    }
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, old: Option<&Value>, out: &mut Causes) {
        super::subjects::validate(&Field::root(obj), old, false, out);
    }
}
