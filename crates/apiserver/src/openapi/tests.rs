use super::*;

fn openapi() -> OpenApi {
    OpenApi::new(kybern_api::kinds::table().iter().cloned().map(Arc::new).collect())
}

fn json_of(document: &Document) -> Value {
    serde_json::from_slice(&document.plain()).unwrap()
}

/// Every `$ref` of a document points to something.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            map.values().for_each(|v| check_references(document, v));
        }
        Value::Array(items) => items.iter().for_each(|v| check_references(document, v)),
        _ => {}
    }
}

#[test]
fn v3_documents_are_whole_and_describe_patches() {
    let openapi = openapi();
    let index = openapi.v3_index();
    for path in index["paths"].as_object().unwrap().keys() {
        let document = json_of(&openapi.v3(path).unwrap());
        check_references(&document, &document);
    }
    assert!(openapi.v3("apis/nonsense/v1").is_none());
    let apps = json_of(&openapi.v3("apis/apps/v1").unwrap());
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let schemas = &apps["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert!(containers["description"].as_str().unwrap().len() > 20, "descriptions were collected");
    assert!(schemas["io.k8s.api.apps.v1.DeploymentList"].is_object());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.ends_with(&openapi.hash("apis/apps/v1")));
}

#[test]
fn v2_has_every_served_path_and_operation_once() {
    let document = json_of(&openapi().v2(false));
    check_references(&document, &document);
    let mut ids: Vec<&str> = Vec::new();
    for path in document["paths"].as_object().unwrap().values() {
        ids.extend(path.as_object().unwrap().values().filter_map(|o| o["operationId"].as_str()));
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    assert!(document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"].is_object());
    let options = &document["definitions"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"];
    assert!(options["x-kubernetes-group-version-kind"].as_array().unwrap().len() > 10);
}

/// Reads a message without knowing it: numbers and payloads.
fn fields(mut message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    let mut found = Vec::new();
    while !message.is_empty() {
        let (number, wire) = decode_key(&mut message).unwrap();
        let length = decode_varint(&mut message).unwrap() as usize;
        match wire {
            WireType::LengthDelimited => {
                found.push((number, message[..length].to_vec()));
                message = &message[length..];
            }
            _ => found.push((number, vec![length as u8])),
        }
    }
    found
}

fn child(message: &[u8], number: u32) -> Vec<u8> {
    fields(message).into_iter().find(|(n, _)| *n == number).unwrap().1
}

/// The value of an entry of a list of `{name, value}` messages.
fn entry(message: &[u8], number: u32, name: &str) -> Vec<u8> {
    let is = |m: &&(u32, Vec<u8>)| m.0 == number && child(&m.1, 1) == name.as_bytes();
    child(&fields(message).iter().find(is).unwrap().1, 2)
}

#[test]
fn the_protobuf_document_has_the_patch_parameters_and_merge_keys() {
    let document = openapi().v2(true);
    assert_eq!(document.content_type, V2_PROTOBUF);
    assert!(wants_protobuf("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"));
    assert!(!wants_protobuf("application/json"));
    let document = document.plain();
    assert_eq!(child(&document, 1), b"2.0");
    let item = entry(&child(&document, 8), 2, "/api/v1/namespaces/{namespace}/pods/{name}");
    let patch = child(&item, 8);
    let gvk = entry(&patch, 13, "x-kubernetes-group-version-kind");
    assert_eq!(child(&gvk, 2), br#"{"group":"","kind":"Pod","version":"v1"}"#);
    // ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema.name
    let first = child(&child(&child(&child(&child(&patch, 8), 1), 2), 3), 4);
    assert_eq!(first, b"dryRun");
    let spec = entry(&child(&document, 9), 1, "io.k8s.api.core.v1.PodSpec");
    let containers = entry(&child(&spec, 25), 1, "containers");
    assert_eq!(child(&entry(&containers, 31, "x-kubernetes-patch-merge-key"), 2), br#""name""#);
    assert_eq!(child(&child(&containers, 22), 1), b"array");
}
