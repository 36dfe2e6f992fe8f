//! Request bodies, patched trees and stored bytes to trees.

use super::check::{FieldValidation, Findings, Mismatch, Problem, Seed, read_changed};
use super::protobuf;
use crate::error::{Cause, Reason, Status};
use crate::kind::{KindDef, Served};
use crate::schema::{self, Node};
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Levels of lists and objects in one object. Stored bytes are parsed with a limit of 128, and field
/// ownership repeats an object's levels a few deeper: what is let in must be readable for good.
pub const MAX_DEPTH: usize = 100;

/// The number of levels of lists and objects in a value.
pub fn depth(value: &Value) -> usize {
    // Leaves, most of a tree, are not entered: every body is measured.
    let below = |deepest: usize, inner: &Value| match inner {
        Value::Array(_) | Value::Object(_) => deepest.max(depth(inner)),
        _ => deepest,
    };
    match value {
        Value::Array(items) => 1 + items.iter().fold(0, below),
        Value::Object(map) => 1 + map.values().fold(0, below),
        _ => 0,
    }
}

/// The format of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyType {
    /// `application/json`, and no content type at all.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The tree, without `kind` and `apiVersion`.
    pub tree: Value,
    /// Texts for the Warning header.
    pub warnings: Vec<String>,
    /// The body said both its kind and its version.
    pub says_kind: bool,
}

/// What a body should be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Full name of the OpenAPI definition.
    pub definition: &'a str,
    /// `v1`, `apps/v1`; None when any will do (options that every group version has).
    pub api_version: Option<&'a str>,
    /// Kind.
    pub kind: &'a str,
}

/// Decodes the body of a create or update: parse, check against the schema, convert to the stored
/// version, default.
///
/// # Errors
/// 400 for what cannot be read, is another kind, or (strict) has unknown or duplicate fields; 415 for
/// protobuf of a kind that has no message.
pub fn decode_body(
    media: BodyType,
    bytes: &[u8],
    def: &KindDef,
    served: &Served,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let api_version = def.api_version(served);
    let expected = Expected { definition: &served.schema, api_version: Some(&api_version), kind: &def.kind };
    let mut decoded = decode_definition(media, bytes, expected, validation)?;
    to_stored(def, served, &mut decoded.tree);
    Ok(decoded)
}

/// Decodes a body that is no object of the table: options, statuses, reviews, scales, bindings. It is
/// checked like any other, and not defaulted.
///
/// # Errors
/// As [`decode_body`].
pub fn decode_definition(
    media: BodyType,
    bytes: &[u8],
    expected: Expected<'_>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let node = node_of(expected.definition)?;
    if media == BodyType::Protobuf && !protobuf::has_protobuf(expected.definition) {
        let text = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml";
        return Err(Status::new(Reason::UnsupportedMediaType, text));
    }
    let mut findings = Findings::default();
    let read = match media {
        BodyType::Json => read_json(bytes, &node, &mut findings),
        BodyType::Yaml => read_yaml(bytes, &node, &mut findings),
        BodyType::Protobuf => read_protobuf(bytes, expected, &node, &mut findings),
    };
    let cannot = |why: String| cannot_be_handled(expected, &why);
    let tree = read.map_err(|syntax| match &findings.mismatch {
        Some(mismatch) => cannot(mismatch_text(mismatch)),
        None if media == BodyType::Protobuf => cannot(syntax),
        None => Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {syntax}",
            expected.kind
        )),
    })?;
    finish(tree, findings.problems, expected, validation, cannot)
}

/// Checks the configuration of a server-side apply against the served version: canonical and pruned,
/// neither converted nor defaulted. It is YAML or JSON and has to say its kind and version.
///
/// # Errors
/// 400 for what cannot be read, is another kind, or (strict) has unknown or duplicate fields.
pub fn decode_config(
    bytes: &[u8],
    def: &KindDef,
    served: &Served,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let api_version = def.api_version(served);
    let expected = Expected { definition: &served.schema, api_version: Some(&api_version), kind: &def.kind };
    // The media type says YAML; JSON, which most clients send, is read as what it is.
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    let media = if is_json { BodyType::Json } else { BodyType::Yaml };
    // What is too much in it is told in a way of its own.
    let (strict, lenient) = match validation {
        FieldValidation::Strict => (true, FieldValidation::Warn),
        other => (false, other),
    };
    let decoded = decode_definition(media, bytes, expected, lenient)?;
    if !decoded.says_kind {
        return Err(Status::bad_request("error decoding YAML: the configuration has to say its kind and apiVersion"));
    }
    if strict && !decoded.warnings.is_empty() {
        return Err(Status::bad_request(format!("error strict decoding patch: {}", decoded.warnings.join(", "))));
    }
    Ok(decoded)
}

/// Checks, converts and defaults a tree that a patch made of an object in the served version. `before`:
/// that object, where it has the stored form; what the patch left alone is not looked at again.
///
/// # Errors
/// 422 on field `patch`, as patches answer.
pub fn decode_tree(
    tree: Value,
    before: Option<&Value>,
    def: &KindDef,
    served: &Served,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let api_version = def.api_version(served);
    let expected = Expected { definition: &served.schema, api_version: Some(&api_version), kind: &def.kind };
    let name = tree.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let node = node_of(&served.schema)?;
    let mut findings = Findings::default();
    let refused = |why: String| patch_refused(def, &name, &why);
    let read = match before {
        Some(before) => read_changed(&node, before, tree, &mut findings),
        None => Seed { node: &node, findings: &mut findings }.deserialize(tree),
    };
    let tree = read.map_err(|e| refused(findings.mismatch.as_ref().map_or_else(|| e.to_string(), mismatch_text)))?;
    let mut decoded = finish(tree, findings.problems, expected, validation, refused)?;
    to_stored(def, served, &mut decoded.tree);
    Ok(decoded)
}

/// Reads stored bytes and adds defaults that were introduced since they were written.
///
/// # Errors
/// 500 when the bytes are no JSON, a defect of the store.
pub fn decode_stored(bytes: &[u8], def: &KindDef) -> Result<Value, Status> {
    let mut tree = serde_json::from_slice(bytes).map_err(|e| Status::internal(format!("stored {}: {e}", def.kind)))?;
    def.strategy.default(&mut tree);
    Ok(tree)
}

fn node_of(definition: &str) -> Result<Node, Status> {
    schema::node(definition).ok_or_else(|| Status::internal(format!("no schema {definition}")))
}

fn to_stored(def: &KindDef, served: &Served, tree: &mut Value) {
    if let Some(convert) = served.to_stored {
        convert(tree);
    }
    def.strategy.default(tree);
}

fn read_json(bytes: &[u8], node: &Node, findings: &mut Findings) -> Result<Value, String> {
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let tree = Seed { node, findings }.deserialize(&mut parser).map_err(|e| e.to_string())?;
    parser.end().map_err(|e| e.to_string())?;
    Ok(tree)
}

/// Duplicate keys reach the check like those of JSON: the last one counts.
fn read_yaml(bytes: &[u8], node: &Node, findings: &mut Findings) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins, legacy_octal_numbers: true, with_snippet: false
    };
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |parser| {
        Seed { node, findings }.deserialize(parser)
    })
    .map_err(|e| e.to_string())
}

/// Protobuf knows no unknown or duplicate fields; values are checked and become canonical like those of
/// JSON. What says that it is something else is not read: it would be misread.
fn read_protobuf(bytes: &[u8], expected: Expected<'_>, node: &Node, findings: &mut Findings) -> Result<Value, String> {
    let envelope = protobuf::Envelope::open(bytes).map_err(|e| e.to_string())?;
    let fits = |said: &str, wanted: &str| said.is_empty() || said == wanted;
    let is_expected = fits(envelope.kind, expected.kind)
        && expected.api_version.is_none_or(|wanted| fits(envelope.api_version, wanted));
    let mut tree = Value::Object(Map::new());
    if let Some(definition) = node.definition().filter(|_| is_expected) {
        let read = protobuf::object(envelope.message, definition).map_err(|e| e.to_string())?;
        tree = Seed { node, findings }.deserialize(read).map_err(|e| e.to_string())?;
    }
    tree["kind"] = envelope.kind.into();
    tree["apiVersion"] = envelope.api_version.into();
    Ok(tree)
}

/// Checks kind and version, takes them off, and turns problems into warnings or a refusal.
fn finish(
    mut tree: Value,
    problems: Vec<Problem>,
    expected: Expected<'_>,
    validation: FieldValidation,
    refuse: impl FnOnce(String) -> Status,
) -> Result<Decoded, Status> {
    if depth(&tree) > MAX_DEPTH {
        return Err(refuse(format!("it has more than {MAX_DEPTH} levels")));
    }
    let Some(object) = tree.as_object_mut() else {
        return Err(cannot_be_handled(expected, "it is no object"));
    };
    let mut take = |key: &str| object.remove(key).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let (kind, api_version) = (take("kind"), take("apiVersion"));
    if !kind.is_empty() && kind != expected.kind {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let text = format!("{kind} in version \"{version}\" cannot be handled as a {}", expected.kind);
        return Err(Status::bad_request(text));
    }
    if let Some(want) = expected.api_version.filter(|want| !api_version.is_empty() && api_version != **want) {
        let text =
            format!("the API version in the data ({api_version}) does not match the expected API version ({want})");
        return Err(Status::bad_request(text));
    }
    let warnings: Vec<String> = match validation {
        FieldValidation::Ignore => Vec::new(),
        _ => problems.iter().map(ToString::to_string).collect(),
    };
    if validation == FieldValidation::Strict && !warnings.is_empty() {
        return Err(refuse(format!("strict decoding error: {}", warnings.join(", "))));
    }
    let says_kind = !kind.is_empty() && !api_version.is_empty();
    Ok(Decoded { tree, warnings, says_kind })
}

fn cannot_be_handled(expected: Expected<'_>, why: &str) -> Status {
    let version = expected.api_version.unwrap_or("v1").rsplit('/').next().unwrap_or_default();
    let kind = expected.kind;
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

fn mismatch_text(mismatch: &Mismatch) -> String {
    match &mismatch.text {
        Some(text) if mismatch.path.is_empty() => text.clone(),
        Some(text) => format!("{}: {text}", mismatch.path),
        None => format!(
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            mismatch.found, mismatch.owner, mismatch.path, mismatch.wanted
        ),
    }
}

/// 422 on field `patch`.
fn patch_refused(def: &KindDef, name: &str, why: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: \"\": {why}"),
        field: "patch".into(),
    };
    Status::invalid(&def.group, &def.kind, name, vec![cause])
}
