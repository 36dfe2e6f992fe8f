//! The codec on a kind of its own: a Deployment with a default.

use super::*;
use crate::kind::{KindDef, NameRule, Scope, Selectable, Served, Strategy, Support};
use crate::object::Object;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug)]
struct OneReplica;
impl Strategy for OneReplica {
    fn default(&self, tree: &mut Value) {
        if let Some(spec) = tree.get_mut("spec").and_then(Value::as_object_mut) {
            spec.entry("replicas").or_insert_with(|| 1.into());
        }
    }
}
static ONE_REPLICA: OneReplica = OneReplica;

fn deployment() -> KindDef {
    KindDef {
        group: "apps".into(),
        kind: "Deployment".into(),
        list_kind: "DeploymentList".into(),
        plural: "deployments".into(),
        singular: "deployment".into(),
        short_names: vec![],
        categories: vec![],
        scope: Scope::Namespaced,
        verbs: vec![],
        pod_template: None,
        subresources: vec![],
        served: vec![Served {
            version: "v1".into(),
            schema: "io.k8s.api.apps.v1.Deployment".into(),
            from_stored: None,
            to_stored: None,
            prefix: Arc::from(r#"{"kind":"Deployment","apiVersion":"apps/v1","#),
        }],
        stored: 0,
        storage: None,
        selectable: vec![Selectable {
            path: "spec.paused".into(),
            alias: None,
            source: "spec.paused".into(),
            missing: "".into(),
        }],
        columns: vec![],
        names: NameRule::Subdomain,
        support: Support::Full,
        ttl: None,
        sealed: false,
        create_on_update: false,
        needs_revision: false,
        strategy: &ONE_REPLICA,
    }
}

fn body(validation: FieldValidation, text: &str) -> Result<Decoded, String> {
    let def = deployment();
    decode_body(BodyType::Json, text.as_bytes(), &def, &def.served[0], validation).map_err(|s| s.message)
}

#[test]
fn prunes_defaults_and_makes_canonical() {
    let decoded = body(
        FieldValidation::Warn,
        r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","labels":{},"creationTimestamp":null},
            "spec":{"bogus":1,"paused":null,"template":{"spec":{"volumes":[],"containers":[
              {"name":"c","nme":"x","resources":{"limits":{"cpu":"1000m","memory":1024}},"env":[{"name":"A","value":null}],
               "readinessProbe":{"httpGet":{"port":"http"}}},null]}},"template":{"spec":{"containers":[]}}}}"#,
    )
    .unwrap();
    assert_eq!(
        decoded.warnings,
        [
            r#"unknown field "spec.bogus""#,
            r#"unknown field "spec.template.spec.containers[0].nme""#,
            r#"duplicate field "spec.template""#
        ]
    );
    assert_eq!(
        decoded.tree,
        json!({"metadata": {"name": "a"}, "spec": {"replicas": 1, "template": {"spec": {"containers": []}}}})
    );
    let decoded = body(
        FieldValidation::Ignore,
        r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1000m","memory":1024}}},null]}}}}"#,
    )
    .unwrap();
    let containers = &decoded.tree["spec"]["template"]["spec"]["containers"];
    assert_eq!(*containers, json!([{"resources": {"limits": {"cpu": "1", "memory": "1024"}}}, {}]));
}

#[test]
fn says_what_is_wrong_as_kubernetes_does() {
    let prefix = r#"Deployment in version "v1" cannot be handled as a Deployment: "#;
    let cases = [
        (
            r#"{"spec":{"replicas":"three"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string",
        ),
        (
            r#"{"spec":{"x":1,"template":{"spec":{"containers":[{"name":"a","name":"b"}]}}}}"#,
            r#"strict decoding error: unknown field "spec.x", duplicate field "spec.template.spec.containers[0].name""#,
        ),
    ];
    for (text, why) in cases {
        assert_eq!(body(FieldValidation::Strict, text).unwrap_err(), format!("{prefix}{why}"));
    }
    assert_eq!(
        body(FieldValidation::Warn, r#"{"kind":"Pod","apiVersion":"v1"}"#).unwrap_err(),
        r#"Pod in version "v1" cannot be handled as a Deployment"#
    );
    assert_eq!(
        body(FieldValidation::Warn, r#"{"kind":"Deployment","apiVersion":"apps/v1beta1"}"#).unwrap_err(),
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    );
    assert!(body(FieldValidation::Warn, "{").unwrap_err().contains("json parse error"));
    assert!(body(FieldValidation::Warn, &"[".repeat(100_000)).is_err());
}

#[test]
fn reads_yaml_with_the_habits_of_manifests() {
    let def = deployment();
    let read = |text: &str, v| decode_body(BodyType::Yaml, text.as_bytes(), &def, &def.served[0], v);
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: 2\n  template:\n    spec:\n      volumes:\n      - name: v\n        configMap: {defaultMode: 0644}\n";
    let tree = read(text, FieldValidation::Strict).unwrap().tree;
    assert_eq!(tree["spec"]["template"]["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
    let twice = "spec:\n  replicas: 2\n  replicas: 3\n";
    assert!(read(twice, FieldValidation::Strict).unwrap_err().message.contains("duplicate field \"spec.replicas\""));
    let warned = read(twice, FieldValidation::Warn).unwrap();
    assert_eq!((warned.tree["spec"]["replicas"].as_i64(), warned.warnings.len()), (Some(3), 1));
}

#[test]
fn a_patched_tree_is_refused_on_field_patch() {
    let def = deployment();
    let bad = json!({"metadata": {"name": "a"}, "spec": {"replicas": "x"}});
    let status = decode_tree(bad, None, &def, &def.served[0], FieldValidation::Warn).unwrap_err();
    assert_eq!(status.code, 422);
    assert_eq!(status.details.unwrap().causes[0].field, "patch");
    let good = json!({"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"x": 1}});
    let decoded = decode_tree(good, None, &def, &def.served[0], FieldValidation::Warn).unwrap();
    assert_eq!(decoded.tree, json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}}));
}

#[test]
fn what_a_patch_left_alone_is_not_read_again_and_the_rest_as_ever() {
    let def = deployment();
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]}});
    let before =
        json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"replicas": 2, "template": template}});
    let at = |pointer: &str, value: Value| {
        let mut tree = before.clone();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        tree.pointer_mut(parent).unwrap()[last] = value;
        tree
    };
    let container = |extra: Value| at("/spec/template/spec/containers", json!([extra]));
    let cases = [
        before.clone(),
        at("/kind", "Deployment".into()),
        at("/kind", "Pod".into()),
        at("/metadata/labels", json!({"x": "2", "y": null})),
        at("/metadata/labels", json!({})),
        at("/metadata", "no object".into()),
        at("/spec", Value::Null),
        at("/spec/replicas", "x".into()),
        at("/spec/replicas", Value::Null),
        at("/spec/unheard-of", json!({"a": 1})),
        at("/spec/template/spec/what", 1.into()),
        container(json!({"name": "c", "image": 5})),
        container(json!({"name": "c", "resources": {"limits": {"cpu": "1000m"}}, "who": 1})),
        json!([]),
    ];
    for tree in cases {
        for validation in [FieldValidation::Warn, FieldValidation::Strict] {
            let read = |before| {
                let decoded = decode_tree(tree.clone(), before, &def, &def.served[0], validation);
                decoded.map(|d| (d.tree, d.warnings)).map_err(|s| s.message)
            };
            assert_eq!(read(Some(&before)), read(None), "{tree}");
        }
    }
}

#[test]
fn stored_bytes_take_a_revision_and_a_prefix() {
    let def = deployment();
    let tree = json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 2, "labels": {"b": "2", "a": "1"},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "x", "controller": true}]},
        "spec": {"paused": true}
    });
    let encoded = encode(&def, &tree);
    assert_eq!(encoded.head, HeadReader::new(Arc::new(def.clone())).read(&encoded.bytes).unwrap());
    assert_eq!(encoded.head.fields, ["true"]);
    assert_eq!(encoded.head.label("b"), Some("2"));
    assert_eq!(encoded.head.controller().map(|o| o.name.as_str()), Some("o"));
    let bytes = stamp(&encoded, 17);
    assert!(bytes.starts_with(br#"{"metadata":{"resourceVersion":"17",""#));
    let object = Object { head: Arc::new(encoded.head), revision: 17, bytes };
    let answer = render(&def, &def.served[0], &object).unwrap();
    let seen: Value = serde_json::from_slice(&answer).unwrap();
    let mut whole = tree;
    whole["kind"] = "Deployment".into();
    whole["apiVersion"] = "apps/v1".into();
    whole["metadata"]["resourceVersion"] = "17".into();
    assert_eq!(seen, whole);
    assert_eq!(decode_stored(&object.bytes, &def).unwrap()["spec"]["replicas"], 1);
}

#[test]
fn a_head_without_selectable_fields_reads_metadata_alone() {
    let def = KindDef { selectable: vec![], ..deployment() };
    let head = HeadReader::new(Arc::new(def.clone()))
        .read(br#"{"metadata":{"name":"a","finalizers":["f"],"managedFields":[{}]},"data":{}}"#)
        .unwrap();
    assert_eq!((head.name.as_str(), head.finalizers.len()), ("a", 1));
}

#[test]
fn a_configuration_is_canonical_and_says_what_it_is() {
    let def = deployment();
    let read = |text: &str| decode_config(text.as_bytes(), &def, &def.served[0], FieldValidation::Warn);
    let spec = "{template: {spec: {containers: [{name: c, resources: {limits: {cpu: 1000m}}}]}}}";
    let decoded = read(&format!("{{apiVersion: apps/v1, kind: Deployment, spec: {spec}}}")).unwrap();
    assert_eq!(decoded.tree["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
    assert_eq!(decoded.tree["spec"].get("replicas"), None);
    assert_eq!(read(r#"{"spec":{}}"#).unwrap_err().code, 400);
}

#[test]
fn options_of_any_group_are_read() {
    let expected = Expected {
        definition: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        api_version: None,
        kind: "DeleteOptions",
    };
    let text =
        br#"{"kind":"DeleteOptions","apiVersion":"policy/v1","gracePeriodSeconds":0,"preconditions":{"uid":"x"}}"#;
    let options = decode_definition(BodyType::Json, text, expected, FieldValidation::Warn).unwrap();
    assert_eq!(options.tree, json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "x"}}));
}

#[test]
fn free_form_values_of_built_in_kinds_may_be_anything() {
    let expected = Expected {
        definition: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        api_version: None,
        kind: "JSONSchemaProps",
    };
    let text = r#"{"additionalProperties":true,"default":5,"enum":["a",1],"items":[{"type":"string"}]}"#;
    let read = decode_definition(BodyType::Json, text.as_bytes(), expected, FieldValidation::Strict).unwrap();
    assert_eq!(read.tree.to_string(), text);
}
