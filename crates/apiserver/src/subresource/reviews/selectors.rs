//! The selectors of a SubjectAccessReview as text, the way a request carries them.

use kybern_api::error::Status;
use serde_json::Value;

/// `fieldSelector` of `resourceAttributes`. What a field selector cannot say (more than one value, mere
/// presence) narrows nothing: the answer is about the wider request.
pub(super) fn field(attributes: &Value) -> Result<String, Status> {
    text(attributes, "fieldSelector", |key, operator, values| match (operator, values) {
        ("In", [one]) => Some(format!("{key}={one}")),
        ("NotIn", [one]) => Some(format!("{key}!={one}")),
        _ => None,
    })
}

/// `labelSelector` of `resourceAttributes`.
pub(super) fn label(attributes: &Value) -> Result<String, Status> {
    text(attributes, "labelSelector", |key, operator, values| {
        Some(match operator {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        })
    })
}

fn text(
    attributes: &Value,
    field: &str,
    write: impl Fn(&str, &str, &[&str]) -> Option<String>,
) -> Result<String, Status> {
    let selector = &attributes[field];
    if selector.is_null() {
        return Ok(String::new());
    }
    let at = format!("spec.resourceAttributes.{field}");
    let bad = |what: &str| Status::bad_request(format!("{at}{what}"));
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let requirements = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (raw, requirements) {
        ("", []) => return Err(bad(": Required value: when specified, requirements or rawSelector is required")),
        ("", _) => {}
        (raw, []) => return Ok(raw.to_owned()),
        _ => return Err(bad(".rawSelector: Invalid value: may not specified at the same time as requirements")),
    }
    let mut terms = Vec::new();
    for (i, requirement) in requirements.iter().enumerate() {
        let word = |name: &str| requirement[name].as_str().unwrap_or_default();
        let values: Vec<&str> =
            requirement["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (key, operator) = (word("key"), word("operator"));
        if key.is_empty() {
            return Err(bad(&format!(".requirements[{i}].key: Required value: must be specified")));
        }
        match (operator, values.is_empty()) {
            ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
            ("In" | "NotIn", true) => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                return Err(bad(&format!(".requirements[{i}].values: Required value: {why}")));
            }
            ("Exists" | "DoesNotExist", false) => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                return Err(bad(&format!(".requirements[{i}].values: Forbidden: {why}")));
            }
            _ => {
                let why = format!("Invalid value: \"{operator}\": not a valid selector operator");
                return Err(bad(&format!(".requirements[{i}].operator: {why}")));
            }
        }
        terms.extend(write(key, operator, &values));
    }
    Ok(terms.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_written_as_requests_carry_them() {
        let of =
            |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        let with = |field: &str, selector: Value| json!({field: selector});
        let fields = |list: Value| field(&with("fieldSelector", json!({"requirements": list}))).map_err(|s| s.message);
        let labels = |list: Value| label(&with("labelSelector", json!({"requirements": list}))).map_err(|s| s.message);
        assert_eq!(field(&json!({})).unwrap(), "");
        assert_eq!(field(&with("fieldSelector", json!({"rawSelector": "a=b"}))).unwrap(), "a=b");
        assert_eq!(fields(json!([of("a", "In", &["b"]), of("c", "NotIn", &["d"])])), Ok("a=b,c!=d".into()));
        assert_eq!(fields(json!([of("a", "In", &["b", "c"]), of("d", "Exists", &[])])), Ok(String::new()));
        let all = json!([
            of("a", "In", &["b", "c"]),
            of("d", "NotIn", &["e"]),
            of("f", "Exists", &[]),
            of("g", "DoesNotExist", &[])
        ]);
        assert_eq!(labels(all), Ok("a in (b,c),d notin (e),f,!g".into()));
        for wrong in [
            json!({}),
            json!({"rawSelector": "a=b", "requirements": [of("a", "In", &["b"])]}),
            json!({"requirements": [of("", "In", &["b"])]}),
            json!({"requirements": [of("a", "In", &[])]}),
            json!({"requirements": [of("a", "Exists", &["b"])]}),
            json!({"requirements": [of("a", "Like", &["b"])]}),
        ] {
            assert_eq!(label(&with("labelSelector", wrong.clone())).map_err(|s| s.code), Err(400), "{wrong}");
        }
    }
}
