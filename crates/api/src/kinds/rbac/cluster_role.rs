//! ClusterRole: a set of permissions everywhere.

use crate::kind::{Causes, Context, KindDef, NameRule, Strategy};
use crate::kinds::row::Row;
use crate::validate::Field;
use crate::validate::selectors::label_selector;
use serde_json::Value;

pub(super) fn row() -> KindDef {
    Row::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles")
        .cluster()
        .create_on_update()
        .names(NameRule::Path)
        .strategy(&ClusterRole)
        .build()
}

struct ClusterRole;

impl Strategy for ClusterRole {
    fn validate(&self, _ctx: &Context<'_>, obj: &Value, _old: Option<&Value>, out: &mut Causes) {
        let root = Field::root(obj);
        super::rules::validate(&root.field("rules"), false, out);
        let aggregation = root.field("aggregationRule");
        let selectors = aggregation.field("clusterRoleSelectors");
        if aggregation.present() && selectors.is_empty() {
            selectors.required("at least one clusterRoleSelector required if aggregationRule is non-nil", out);
        }
        for selector in selectors.items() {
            label_selector(&selector, out);
        }
    }
}
