//! Role: a set of permissions in a namespace.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "Role", "roles")
        .create_on_update()
        .names(NameRule::Path)
        .strategy(&Role)
        .build()
}

struct Role;

impl Strategy for Role {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        super::rules::validate(&root.field("rules"), true, out);
    }
}
