//! Default objects that somebody changed, or that an older release wrote. Pure.

use crate::escalation::uncovered;
use crate::rules::rules_of;
use serde_json::{Value, json};

/// Default objects are brought up to date at every start unless this annotation says `false`.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What to store in place of `stored`, which should be at least `wanted`. None: leave it as it is.
///
/// As in Kubernetes, what was added is kept: rules, subjects and labels are only completed. A binding to
/// another role than wanted cannot be changed: it has to be deleted and made anew, which shows here by a
/// result whose `roleRef` differs from the stored one.
pub fn reconciled(stored: &Value, wanted: &Value) -> Option<Value> {
    let annotation = format!("/metadata/annotations/{}", AUTOUPDATE.replace('/', "~1"));
    if stored.pointer(&annotation).and_then(Value::as_str) == Some("false") {
        return None;
    }
    if wanted.get("roleRef").is_some() && wanted.get("roleRef") != stored.get("roleRef") {
        return Some(wanted.clone());
    }
    let mut result = stored.clone();
    for part in ["labels", "annotations"] {
        complete_map(&mut result, wanted, part);
    }
    if wanted.get("aggregationRule").is_some() {
        // its rules are the aggregation controller's
        result["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if wanted.get("rules").is_some() {
        let missing = uncovered(&rules_of(wanted), &rules_of(stored));
        complete_list(&mut result, "rules", missing.iter().map(|rule| json!(rule)));
    }
    if let Some(subjects) = wanted.get("subjects").and_then(Value::as_array) {
        complete_list(&mut result, "subjects", subjects.iter().cloned());
    }
    (result != *stored).then_some(result)
}

fn complete_map(result: &mut Value, wanted: &Value, part: &str) {
    let Some(wanted) = wanted.pointer(&format!("/metadata/{part}")).and_then(Value::as_object) else { return };
    let Some(metadata) = result.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let slot = metadata.entry(part).or_insert_with(|| json!({}));
    if let Some(map) = slot.as_object_mut() {
        map.extend(wanted.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn complete_list(result: &mut Value, part: &str, wanted: impl Iterator<Item = Value>) {
    let Some(object) = result.as_object_mut() else { return };
    let mut list = object.get(part).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list.len();
    for item in wanted {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    if list.len() > before {
        object.insert(part.to_owned(), list.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::objects;

    fn find(kind: &str, name: &str) -> Value {
        objects(&[]).into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).expect("a default")
    }

    #[test]
    fn every_default_is_content_with_itself() {
        for object in objects(&[]) {
            assert_eq!(reconciled(&object, &object), None, "{}", object["metadata"]["name"]);
        }
    }

    #[test]
    fn what_is_missing_is_added_and_what_was_added_stays() {
        let wanted = find("ClusterRole", "system:basic-user");
        let mut stored = wanted.clone();
        stored["rules"] = json!([{ "verbs": ["get"], "apiGroups": ["x"], "resources": ["y"] }]);
        stored["metadata"]["labels"] = json!({ "own": "label" });
        let result = reconciled(&stored, &wanted).expect("a change");
        assert_eq!(result["metadata"]["labels"]["own"], "label");
        assert_eq!(result["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
        let rules = rules_of(&result);
        assert!(uncovered(&rules_of(&wanted), &rules).is_empty() && rules.contains(&rules_of(&stored)[0]));
        assert_eq!(reconciled(&result, &wanted), None);
    }

    #[test]
    fn subjects_come_back_unless_updates_are_switched_off() {
        let wanted = find("ClusterRoleBinding", "system:basic-user");
        let mut stored = wanted.clone();
        stored["subjects"] = json!([{ "kind": "User", "name": "jane" }]);
        let result = reconciled(&stored, &wanted).expect("a change");
        assert_eq!(result["subjects"].as_array().map(Vec::len), Some(2));
        stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(reconciled(&stored, &wanted), None);
    }

    #[test]
    fn a_binding_to_another_role_is_replaced() {
        let wanted = find("ClusterRoleBinding", "cluster-admin");
        let mut stored = wanted.clone();
        stored["roleRef"]["name"] = "view".into();
        assert_eq!(reconciled(&stored, &wanted), Some(wanted));
    }

    #[test]
    fn collected_rules_of_aggregated_roles_are_left_alone() {
        let wanted = find("ClusterRole", "view");
        let mut stored = wanted.clone();
        stored["rules"] = json!([]);
        assert_eq!(reconciled(&stored, &wanted), None);
        stored["aggregationRule"] = json!({});
        assert_eq!(reconciled(&stored, &wanted).expect("a change")["aggregationRule"], wanted["aggregationRule"]);
    }
}
