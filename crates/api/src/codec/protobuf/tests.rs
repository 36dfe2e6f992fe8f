//! The table against the schema, every definition there and back, and bodies that kubectl sent.

use super::table::{self, Place};
use super::{Fault, body, object};
use crate::codec::{BodyType, Expected, FieldValidation, decode_definition, to_protobuf, watch_frame};
use crate::error::Status;
use crate::schema::{self, Definition, Node, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Bodies of kubectl 1.33 as hexadecimal digits, each followed by the same object in JSON.
const SENT: &str = include_str!("sent.txt");

fn sent() -> impl Iterator<Item = (Vec<u8>, Value)> {
    let lines: Vec<&str> = SENT.lines().filter(|l| !l.starts_with('#')).collect();
    let cases: Vec<_> = lines
        .chunks(2)
        .map(|case| (hex::decode(case[0]).expect("hexadecimal digits"), serde_json::from_str(case[1]).expect("JSON")))
        .collect();
    cases.into_iter()
}

fn definition(name: &str) -> &'static Definition {
    schema::find(name).unwrap_or_else(|| panic!("{name} is no definition"))
}

fn kind_of(tree: &Value) -> &'static Definition {
    let text = |key: &str| tree[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    schema::find_kind(group, version, text("kind")).expect("a kind")
}

/// Reads a body as the kind and version that `like` says.
fn read(bytes: &[u8], like: &Value) -> Result<Value, Status> {
    let expected = Expected {
        definition: &kind_of(like).name,
        api_version: like["apiVersion"].as_str(),
        kind: like["kind"].as_str().unwrap_or_default(),
    };
    decode_definition(BodyType::Protobuf, bytes, expected, FieldValidation::Strict).map(|d| d.tree)
}

fn without_type(tree: &Value) -> Value {
    let mut tree = tree.clone();
    let object = tree.as_object_mut().expect("an object");
    object.remove("kind");
    object.remove("apiVersion");
    tree
}

/// Names of a message's fields in JSON.
fn names(message: &table::Message) -> BTreeSet<&str> {
    let of_slot = |slot: &'static table::Slot| match &slot.place {
        Place::Field(named) => BTreeSet::from([named.name]),
        Place::Inline(inner) => names(table::find(inner).expect("an inner message")),
        Place::Value(node) => {
            assert!(node.ty != Type::Any || message.slots.len() == 1, "{}", message.name);
            BTreeSet::new()
        }
    };
    table::find(message.name).into_iter().flat_map(|m| &m.slots).flat_map(of_slot).collect()
}

#[test]
fn every_field_of_the_schema_has_a_number() {
    for definition in schema::all() {
        // Served at /version alone, which speaks JSON.
        if definition.fields.is_empty() || definition.short_name() == "Info" {
            continue;
        }
        let message = table::find(&definition.name).unwrap_or_else(|| panic!("no message {}", definition.name));
        let have = names(message);
        let missing: Vec<_> = definition.fields.iter().filter(|f| !have.contains(f.name.as_str())).collect();
        // The envelope says them.
        assert!(missing.iter().all(|f| matches!(f.name.as_str(), "kind" | "apiVersion")), "{}", definition.name);
    }
}

#[test]
fn the_table_is_sorted_and_every_line_is_read() {
    let text = include_str!("../../../schema/v1.36.protobuf");
    let lines = text.lines().filter(|l| l.starts_with(' ')).count();
    assert_eq!(table::all().iter().map(|m| m.slots.len()).sum::<usize>(), lines);
    assert!(table::all().is_sorted_by(|a, b| a.name < b.name));
    for message in table::all() {
        assert!(message.slots.is_sorted_by(|a, b| a.number < b.number), "{}", message.name);
        for slot in &message.slots {
            assert_eq!(message.slot(slot.number).map(|s| s.number), Some(slot.number));
        }
        assert!(message.slot(0).is_none() && message.slot(u32::MAX).is_none());
    }
}

/// A value with everything in it, `depth` objects deep.
fn rich(node: &Node, depth: usize) -> Option<Value> {
    Some(match &node.ty {
        Type::Any => json!({"a": [1, "b"]}),
        Type::String => "text with ü".into(),
        Type::Int32 => i32::MIN.into(),
        Type::Int64 => i64::MAX.into(),
        Type::Number => 0.25.into(),
        Type::Boolean => true.into(),
        Type::Bytes => "AP8=".into(),
        Type::IntOrString => {
            if depth.is_multiple_of(2) {
                json!(8080)
            } else {
                json!("50%")
            }
        }
        Type::Quantity => "1500m".into(),
        Type::Time => "2026-01-02T03:04:05Z".into(),
        Type::MicroTime => "1969-12-31T23:59:58.000001Z".into(),
        Type::List(item) => Value::Array(vec![rich(item, depth)?, rich(item, depth)?]),
        Type::Map(value) => json!({"": rich(value, depth)?, "key": rich(value, depth)?}),
        Type::Object(link) => return rich_object(link.get(), depth.checked_sub(1)?),
    })
}

fn rich_object(definition: &Definition, depth: usize) -> Option<Value> {
    if definition.open {
        return Some(json!({"type": "x"}));
    }
    let known = table::find(&definition.name).map(names).unwrap_or_default();
    let fields = definition.fields.iter().filter(|f| known.contains(f.name.as_str()));
    let members = fields.filter_map(|f| Some((f.name.to_string(), rich(&f.node, depth)?)));
    Some(Value::Object(members.collect::<Map<_, _>>()))
}

#[test]
fn every_definition_comes_back_as_it_went() {
    for definition in schema::all().iter().filter(|d| table::find(&d.name).is_some()) {
        for tree in (0..3).filter_map(|depth| rich_object(definition, depth)) {
            let bytes = body(definition, "v1", "K", &tree).expect("a body");
            let envelope = super::Envelope::open(&bytes).expect("an envelope");
            assert_eq!((envelope.api_version, envelope.kind), ("v1", "K"));
            assert_eq!(object(envelope.message, definition), Ok(tree), "{}", definition.name);
        }
    }
}

#[test]
fn what_kubectl_sent_is_what_json_says() {
    assert!(sent().count() > 8);
    for (bytes, tree) in sent() {
        assert_eq!(read(&bytes, &tree), Ok(without_type(&tree)));
        // What we write says the same in fewer bytes: Go also writes what is empty.
        let written = to_protobuf(&tree).expect("it fits").expect("a message");
        assert!(written.len() <= bytes.len());
        assert_eq!(read(&written, &tree), Ok(without_type(&tree)));
    }
}

#[test]
fn what_is_cut_off_or_changed_never_harms() {
    for (bytes, tree) in sent() {
        for end in 0..bytes.len() {
            let cut = read(&bytes[..end], &tree);
            assert!(cut.is_ok() || cut.is_err_and(|s| s.code == 400), "{end}");
            for byte in [0, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[end] = byte;
                assert!(read(&changed, &tree).map_or_else(|s| s.code == 400, |t| t.is_object()));
            }
        }
    }
}

#[test]
fn absent_and_empty_are_told_apart_as_in_go() {
    let claim = definition("io.k8s.api.core.v1.PersistentVolumeClaimSpec");
    // storageClassName (5) is a pointer, volumeName (3) is not.
    assert_eq!(object(&[0x2a, 0, 0x1a, 0], claim), Ok(json!({"storageClassName": ""})));
    let deployment = definition("io.k8s.api.apps.v1.DeploymentSpec");
    // replicas (1) is a pointer, minReadySeconds (5) is not; strategy (4) is there, empty.
    assert_eq!(object(&[8, 0, 0x28, 0, 0x22, 0], deployment), Ok(json!({"replicas": 0, "strategy": {}})));
    // The name (1) of a container is always said, its image (2) is not.
    let container = definition("io.k8s.api.core.v1.Container");
    assert_eq!(object(&[0x0a, 0, 0x12, 0], container), Ok(json!({"name": ""})));
}

#[test]
fn free_form_values_take_every_shape() {
    let schema = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let trees = [
        json!({"additionalProperties": true, "items": [{"type": "string"}], "default": 5}),
        json!({"additionalProperties": false, "items": {"type": "string"}, "default": [null, "a"]}),
        json!({"additionalProperties": {"type": "object"}, "enum": ["a", 1, {"b": false}], "dependencies": {"a": ["b"]}}),
    ];
    for tree in trees {
        let bytes = body(schema, "v1", "K", &tree).expect("a body");
        let envelope = super::Envelope::open(&bytes).expect("an envelope");
        assert_eq!(object(envelope.message, schema), Ok(tree));
    }
    // Go writes `allows` also where a schema says more.
    let both = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool");
    assert_eq!(object(&[8, 0, 0x12, 3, 0x2a, 1, b'x'], both), Ok(json!({"type": "x"})));
}

#[test]
fn unknown_fields_are_skipped_and_packed_numbers_read() {
    let container = definition("io.k8s.api.core.v1.Container");
    let bytes = [0xf8, 0x3f, 1, 0xf9, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0x3f, 0, 0, 0, 0, 0x0a, 1, b'a'];
    assert_eq!(object(&bytes, container), Ok(json!({"name": "a"})));
    let security = definition("io.k8s.api.core.v1.PodSecurityContext");
    // supplementalGroups (4): two packed, one by itself.
    assert_eq!(object(&[0x22, 3, 1, 0x80, 1, 0x20, 7], security), Ok(json!({"supplementalGroups": [1, 128, 7]})));
}

#[test]
fn faults_are_named() {
    let container = definition("io.k8s.api.core.v1.Container");
    let cases: [(&[u8], Fault); 6] = [
        (&[0x0a, 2, b'a'], Fault::Truncated),
        (&[0x08, 1], Fault::Form("name".into())),
        (&[0x0a, 1, 0xff], Fault::Utf8),
        (&[0x03], Fault::Tag),
        (&[0xff; 11], Fault::Overflow),
        (&[0x00, 0x01], Fault::Tag),
    ];
    for (bytes, fault) in cases {
        assert_eq!(object(bytes, container), Err(fault));
    }
    let status = read(b"{}", &json!({"kind": "Pod", "apiVersion": "v1"})).expect_err("no prefix");
    assert!(status.message.contains("expected prefix [107 56 115 0]"), "{}", status.message);
}

#[test]
fn nesting_is_bounded() {
    let schema = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    // not (28) within not.
    let nest = |depth: usize| {
        (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut out = super::wire::Writer::default();
            out.bytes(28, &inner);
            out.0
        })
    };
    assert!(object(&nest(100), schema).is_ok());
    assert_eq!(object(&nest(5000), schema), Err(Fault::Depth));
}

#[test]
fn another_kind_or_version_is_refused_by_name() {
    let (bytes, _) = sent().next().expect("a body");
    let status = read(&bytes, &json!({"kind": "Pod", "apiVersion": "v1"})).expect_err("another kind");
    assert_eq!(
        (status.code, status.message.as_str()),
        (400, r#"Deployment in version "v1" cannot be handled as a Pod"#)
    );
}

#[test]
fn events_are_framed_with_their_length() {
    let frame = watch_frame("ADDED", b"k8s\0");
    assert_eq!(frame, b"\0\0\0\x0f\x0a\x05ADDED\x12\x06\x0a\x04k8s\0");
}

#[test]
fn kinds_without_messages_have_no_body() {
    for tree in
        [json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1"}), json!({"kind": "Own", "apiVersion": "a.b/v1"})]
    {
        assert_eq!(to_protobuf(&tree), Ok(None));
    }
    let info = Expected { definition: "io.k8s.apimachinery.pkg.version.Info", api_version: None, kind: "Info" };
    let refused = decode_definition(BodyType::Protobuf, b"k8s\0", info, FieldValidation::Warn).expect_err("no message");
    assert_eq!(refused.code, 415);
}
