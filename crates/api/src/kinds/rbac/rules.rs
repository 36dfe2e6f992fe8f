//! The rules of a role.

use crate::kind::Causes;
use crate::validate::Field;

/// Checks `rules`; in a namespace they cannot be about paths.
pub(super) fn validate(rules: &Field<'_, '_>, namespaced: bool, out: &mut Causes) {
    for rule in rules.items() {
        if rule.field("verbs").is_empty() {
            rule.field("verbs").required("verbs must contain at least one value", out);
        }
        let paths = rule.field("nonResourceURLs");
        let (groups, resources) = (rule.field("apiGroups"), rule.field("resources"));
        if !paths.is_empty() {
            if namespaced {
                paths.invalid("namespaced rules cannot apply to non-resource URLs", out);
            }
            if [&groups, &resources, &rule.field("resourceNames")].iter().any(|f| !f.is_empty()) {
                paths.invalid("rules cannot apply to both regular resources and non-resource URLs", out);
            }
            continue;
        }
        if groups.is_empty() {
            groups.required("resource rules must supply at least one api group", out);
        }
        if resources.is_empty() {
            resources.required("resource rules must supply at least one resource", out);
        }
    }
}
