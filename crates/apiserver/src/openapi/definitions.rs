//! Schema definitions as OpenAPI objects, with the descriptions collected at build time.

use super::Style;
use flate2::read::GzDecoder;
use kybern_api::schema::{self, Definition, ListKind, Node, Type};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
/// Options that every group version has as a kind of its own.
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Descriptions by definition and field. They are unpacked for one document and dropped with it.
struct Descriptions {
    text: String,
}

impl Descriptions {
    fn unpack() -> Self {
        static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.gz"));
        let mut text = String::new();
        if let Err(e) = GzDecoder::new(PACKED).read_to_string(&mut text) {
            tracing::warn!(error = %e, "descriptions cannot be unpacked");
        }
        Self { text }
    }

    /// Of each definition, the texts of its fields; its own is under the empty name.
    fn by_definition(&self) -> BTreeMap<&str, BTreeMap<&str, String>> {
        let mut all: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
        let mut current = "";
        for line in self.text.lines() {
            let Some((name, text)) = line.get(1..).and_then(|l| l.split_once('\t')) else { continue };
            let field = if line.starts_with('=') {
                current = name;
                ""
            } else {
                name
            };
            all.entry(current).or_default().insert(field, text.replace('\u{1}', "\n"));
        }
        all
    }
}

/// The definitions of `roots` and of everything they refer to.
pub(super) fn closure(roots: Vec<String>, style: Style, versions: &[(&str, &str)]) -> Map<String, Value> {
    let descriptions = Descriptions::unpack();
    let descriptions = descriptions.by_definition();
    let none = BTreeMap::new();
    let mut todo = roots;
    let mut seen = BTreeSet::new();
    let mut out = Map::new();
    while let Some(name) = todo.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let texts = descriptions.get(name.as_str()).unwrap_or(&none);
        let mut body = match schema::find(&name) {
            Some(definition) => object(definition, style, texts, versions, &mut todo),
            None => scalar(&name, style),
        };
        describe(&mut body, texts.get("").map(String::as_str));
        out.insert(name, body);
    }
    out
}

fn describe(body: &mut Value, text: Option<&str>) {
    if let Some(text) = text.filter(|t| !t.is_empty()) {
        body["description"] = text.into();
    }
}

/// Definitions that the schema table has as types of their own.
fn scalar(name: &str, style: Style) -> Value {
    match (name, style) {
        (QUANTITY, Style::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (INT_OR_STRING, Style::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (INT_OR_STRING, Style::V2) => json!({"type": "string", "format": "int-or-string"}),
        // Kinds that are served beside the table have no schema.
        (name, _) if name.starts_with("io.k8s.api.metrics.") => json!({"type": "object"}),
        (TIME | MICRO_TIME, _) => json!({"type": "string", "format": "date-time"}),
        _ => json!({"type": "string"}),
    }
}

fn object(
    definition: &Definition,
    style: Style,
    texts: &BTreeMap<&str, String>,
    versions: &[(&str, &str)],
    todo: &mut Vec<String>,
) -> Value {
    let mut body = if definition.open && definition.fields.is_empty() && !definition.name.ends_with("V1") {
        json!({})
    } else {
        json!({"type": "object"})
    };
    let properties: Map<String, Value> = definition
        .fields
        .iter()
        .map(|field| {
            let mut property = property(&field.node, style, todo);
            describe(&mut property, texts.get(field.name.as_str()).map(String::as_str));
            (field.name.to_string(), property)
        })
        .collect();
    if !properties.is_empty() {
        body["properties"] = Value::Object(properties);
    }
    let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
    if !required.is_empty() {
        body["required"] = json!(required);
    }
    if definition.atomic {
        body["x-kubernetes-map-type"] = "atomic".into();
    }
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    if let Some(gvk) = &definition.gvk {
        body["x-kubernetes-group-version-kind"] = json!([kind(&gvk.group, &gvk.version, &gvk.kind)]);
    } else if definition.name == DELETE_OPTIONS {
        body["x-kubernetes-group-version-kind"] = versions.iter().map(|(g, v)| kind(g, v, "DeleteOptions")).collect();
    }
    body
}

/// A field's value: type, then what apply and patches need to know.
fn property(node: &Node, style: Style, todo: &mut Vec<String>) -> Value {
    let mut body = value(node, style, todo);
    let rules = node.rules();
    if rules.list_said {
        body["x-kubernetes-list-type"] = match &rules.list {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map(_) => "map",
        }
        .into();
    }
    if let ListKind::Map(keys) = &rules.list {
        body["x-kubernetes-list-map-keys"] = json!(keys);
    }
    if rules.atomic {
        body["x-kubernetes-map-type"] = "atomic".into();
    }
    let patch = &rules.patch;
    let words = [(patch.merge, "merge"), (patch.retain_keys, "retainKeys"), (patch.replace, "replace")];
    let strategy: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
    if !strategy.is_empty() {
        body["x-kubernetes-patch-strategy"] = strategy.join(",").into();
    }
    if let Some(key) = &patch.merge_key {
        body["x-kubernetes-patch-merge-key"] = key.as_str().into();
    }
    if let (Style::V3, Some(default)) = (style, &rules.default) {
        body["default"] = default.as_str().into();
    }
    body
}

fn value(node: &Node, style: Style, todo: &mut Vec<String>) -> Value {
    let mut refer = |name: &str| {
        todo.push(name.to_owned());
        let reference = style.reference(name);
        // In v3 nothing may stand beside a $ref.
        if style == Style::V3 { json!({"allOf": [reference]}) } else { reference }
    };
    match &node.ty {
        Type::Any => json!({}),
        Type::String => json!({"type": "string"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Number => json!({"type": "number", "format": "double"}),
        Type::Boolean => json!({"type": "boolean"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::IntOrString => refer(INT_OR_STRING),
        Type::Quantity => refer(QUANTITY),
        Type::Time => refer(TIME),
        Type::MicroTime => refer(MICRO_TIME),
        Type::Object(link) => refer(&link.get().name),
        Type::Map(inner) => json!({"type": "object", "additionalProperties": value(inner, style, todo)}),
        Type::List(inner) => json!({"type": "array", "items": value(inner, style, todo)}),
    }
}
