//! `cargo xtask schema`: turns an OpenAPI v2 document into the compact schema table of `kybern-api`.
//!
//! The table keeps structure only: field names, types, formats, list and map kinds, patch rules and the
//! defaults of list keys. It keeps the definitions that generally available versions reach.
//!
//! One definition is a line `=NAME [atomic] [open] [gvk:GROUP/VERSION/KIND]` followed by one line per
//! field: ` NAME TYPE [!] [la|ls|lm:KEY,KEY] [ma] [ps:STRATEGY,..] [pk:KEY] [d:DEFAULT]`.
//! TYPE is `s` string, `i` int32, `l` int64, `n` number, `b` boolean, `y` bytes, `q` quantity, `t` time,
//! `u` micro time, `x` int or string, `*` anything, `@NAME` a definition, `[T` a list, `{T` a map.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Definitions that are scalars (or free-form values) of our own.
const SCALARS: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "q"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "t"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "u"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "x"),
];

/// Defaults of fields that are keys of list maps: an item without the field has this value as its key.
const KEY_DEFAULTS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.LocalObjectReference", "name", ""),
];

/// Writes the table for the OpenAPI document at `openapi` (plain JSON or gzip) to `out`.
pub(crate) fn generate(openapi: &Path, out: &Path) -> Result<()> {
    let raw = std::fs::read(openapi).with_context(|| format!("reading {}", openapi.display()))?;
    let document: Value = if raw.starts_with(&[0x1f, 0x8b]) {
        serde_json::from_reader(flate2::read::GzDecoder::new(raw.as_slice()))?
    } else {
        serde_json::from_slice(&raw)?
    };
    let definitions = document["definitions"].as_object().context("no definitions")?;
    let mut text = String::from("# Kubernetes v1.36 schema table; made by `cargo xtask schema`, do not edit.\n");
    for name in reachable(definitions) {
        if SCALARS.iter().all(|(n, _)| *n != name) {
            definition(&mut text, &name, &definitions[&name])?;
        }
    }
    std::fs::write(out, text).with_context(|| format!("writing {}", out.display()))
}

/// Everything that a generally available definition refers to, itself included.
fn reachable(definitions: &Map<String, Value>) -> BTreeSet<String> {
    let stable = |name: &str| {
        let version = name.rsplit('.').nth(1).unwrap_or_default();
        !version.contains("alpha") && !version.contains("beta")
    };
    let mut seen = BTreeSet::new();
    let mut todo: Vec<String> = definitions.keys().filter(|n| stable(n)).cloned().collect();
    while let Some(name) = todo.pop() {
        if let Some(schema) = definitions.get(&name).filter(|_| !seen.contains(&name)) {
            refs(schema, &mut todo);
            seen.insert(name);
        }
    }
    seen
}

fn refs(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found.push(target.trim_start_matches("#/definitions/").to_owned());
            }
            map.values().for_each(|v| refs(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| refs(v, found)),
        _ => {}
    }
}

fn definition(text: &mut String, name: &str, schema: &Value) -> Result<()> {
    write!(text, "={name}")?;
    if schema["x-kubernetes-map-type"] == "atomic" {
        text.push_str(" atomic");
    }
    let no_fields = Map::new();
    let fields = schema["properties"].as_object().unwrap_or(&no_fields);
    // Most definitions without fields are truly empty objects (`allNamespaces: {}`); a few are free-form.
    if fields.is_empty() && is_free_form(name) {
        text.push_str(" open");
    }
    if let Some([only]) = schema["x-kubernetes-group-version-kind"].as_array().map(Vec::as_slice) {
        let part = |k: &str| only[k].as_str().unwrap_or_default();
        write!(text, " gvk:{}/{}/{}", part("group"), part("version"), part("kind"))?;
    }
    text.push('\n');
    let required: BTreeSet<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let sorted: BTreeMap<_, _> = fields.iter().collect();
    for (field, schema) in sorted {
        write!(text, " {field} {}", type_of(schema))?;
        if required.contains(field.as_str()) {
            text.push_str(" !");
        }
        rules(text, schema)?;
        if let Some((.., default)) = KEY_DEFAULTS.iter().find(|(d, f, _)| *d == name && f == field) {
            write!(text, " d:{default}")?;
        }
        text.push('\n');
    }
    Ok(())
}

fn is_free_form(name: &str) -> bool {
    const FREE: &[&str] = &[
        "FieldsV1",
        "RawExtension",
        "JSON",
        "JSONSchemaPropsOrArray",
        "JSONSchemaPropsOrBool",
        "JSONSchemaPropsOrStringArray",
        "Patch",
    ];
    name.rsplit('.').next().is_some_and(|last| FREE.contains(&last))
}

fn type_of(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let target = target.trim_start_matches("#/definitions/");
        return match SCALARS.iter().find(|(n, _)| *n == target) {
            Some((_, letter)) => (*letter).to_owned(),
            None => format!("@{target}"),
        };
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("byte")) => "y".into(),
        (Some("string"), Some("date-time")) => "t".into(),
        (Some("string"), Some("int-or-string")) => "x".into(),
        (Some("string"), _) => "s".into(),
        (Some("integer"), Some("int32")) => "i".into(),
        (Some("integer"), _) => "l".into(),
        (Some("number"), _) => "n".into(),
        (Some("boolean"), _) => "b".into(),
        (Some("array"), _) => format!("[{}", type_of(&schema["items"])),
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            format!("{{{}", type_of(&schema["additionalProperties"]))
        }
        _ => "*".into(),
    }
}

fn rules(text: &mut String, schema: &Value) -> Result<()> {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("atomic") => text.push_str(" la"),
        Some("set") => text.push_str(" ls"),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
            write!(text, " lm:{}", keys.collect::<Vec<_>>().join(","))?;
        }
        _ => {}
    }
    if schema["x-kubernetes-map-type"] == "atomic" {
        text.push_str(" ma");
    }
    if let Some(strategy) = schema["x-kubernetes-patch-strategy"].as_str() {
        write!(text, " ps:{strategy}")?;
    }
    if let Some(key) = schema["x-kubernetes-patch-merge-key"].as_str() {
        write!(text, " pk:{key}")?;
    }
    Ok(())
}
