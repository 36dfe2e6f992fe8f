//! The bridge between the structs of `k8s-openapi` and resources, objects and JSON trees.

use crate::transport::Resource;
use serde::Serialize;
use serde_json::Value;

/// The resource of a typed kind. The struct's own constants are the only source of names.
pub fn resource<K: k8s_openapi::Resource>() -> Resource {
    Resource::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

/// A typed object as a JSON tree with kind and apiVersion.
///
/// # Errors
/// When a value does not fit JSON (a map key that is no string).
pub fn tree<K: Serialize>(object: &K) -> Result<Value, serde_json::Error> {
    serde_json::to_value(object)
}

/// The merge patch (RFC 7386) that turns `old` into `new`; None where they are equal.
///
/// Objects are compared member by member, everything else as a whole; a member that `new` lacks
/// becomes an explicit null.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return Some(new.clone()) };
    let mut patch = serde_json::Map::new();
    for (name, value) in after {
        match before.get(name) {
            Some(was) => patch.extend(merge_diff(was, value).map(|p| (name.clone(), p))),
            None => _ = patch.insert(name.clone(), value.clone()),
        }
    }
    patch.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null)));
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources_come_from_the_struct() {
        let r = resource::<k8s_openapi::api::apps::v1::Deployment>();
        assert_eq!(r.path("n"), "/apis/apps/v1/namespaces/n/deployments");
    }

    #[test]
    fn a_diff_names_only_what_changed() {
        let old = json!({"a": 1, "b": {"x": 1, "y": 2}, "l": [1], "gone": true});
        let new = json!({"a": 1, "b": {"x": 1, "y": 3}, "l": [1, 2]});
        assert_eq!(merge_diff(&old, &new), Some(json!({"b": {"y": 3}, "l": [1, 2], "gone": null})));
        assert_eq!(merge_diff(&new, &new), None);
    }
}
