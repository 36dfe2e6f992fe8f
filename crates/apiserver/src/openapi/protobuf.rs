//! The v2 document as the message `openapi.v2.Document`, which older clients ask for.
//!
//! Each message is a table: JSON key, field number, and how the value is written. Keys that the tables
//! do not have and that begin with `x-` become vendor extensions, whose values are written as YAML (JSON
//! is YAML). Fields that our documents never use are left out.

use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::Value;

/// How a value is written.
#[derive(Clone, Copy)]
enum Write {
    /// A string.
    Text,
    /// A boolean.
    Flag,
    /// One message per item of a list of strings, or the strings themselves.
    Texts,
    /// A message of these fields.
    Message(&'static Message),
    /// A message per item of a list.
    Messages(&'static Message),
    /// A map, as one `{name = 1, value = 2}` message per entry in field 1 of a wrapper.
    Entries(&'static Message),
    /// The same in another field of the wrapper.
    EntriesIn(u32, &'static Message),
    /// A type name or list of them: `TypeItem`.
    Types,
    /// A schema in field 1 of a wrapper (items, answers, additional properties).
    Wrapped(&'static Message),
    /// The parameters of a path or operation.
    Parameters,
    /// One `{name = 1, value = 2}` message per entry, each a list of strings (security requirements).
    Requirements,
}

struct Message {
    fields: &'static [(&'static str, u32, Write)],
    /// Number of the vendor extensions; 0 where there are none.
    extensions: u32,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Write::Text),
        ("info", 2, Write::Message(&INFO)),
        ("paths", 8, Write::EntriesIn(2, &PATH)),
        ("definitions", 9, Write::Entries(&SCHEMA)),
        ("security", 12, Write::Requirements),
        ("securityDefinitions", 13, Write::Entries(&SECURITY)),
    ],
    extensions: 16,
};
static INFO: Message = Message { fields: &[("title", 1, Write::Text), ("version", 2, Write::Text)], extensions: 7 };
/// `SecurityDefinitionsItem`, of which an API key is variant 2.
static SECURITY: Message = Message { fields: &[("", 2, Write::Message(&API_KEY))], extensions: 0 };
static API_KEY: Message = Message {
    fields: &[
        ("type", 1, Write::Text),
        ("name", 2, Write::Text),
        ("in", 3, Write::Text),
        ("description", 4, Write::Text),
    ],
    extensions: 5,
};
static PATH: Message = Message {
    fields: &[
        ("get", 2, Write::Message(&OPERATION)),
        ("put", 3, Write::Message(&OPERATION)),
        ("post", 4, Write::Message(&OPERATION)),
        ("delete", 5, Write::Message(&OPERATION)),
        ("patch", 8, Write::Message(&OPERATION)),
        ("parameters", 9, Write::Parameters),
    ],
    extensions: 10,
};
static OPERATION: Message = Message {
    fields: &[
        ("operationId", 5, Write::Text),
        ("produces", 6, Write::Texts),
        ("consumes", 7, Write::Texts),
        ("parameters", 8, Write::Parameters),
        ("responses", 9, Write::Entries(&RESPONSE_VALUE)),
        ("schemes", 10, Write::Texts),
    ],
    extensions: 13,
};
/// `ResponseValue`, of which a response is variant 1.
static RESPONSE_VALUE: Message = Message { fields: &[("", 1, Write::Message(&RESPONSE))], extensions: 0 };
static RESPONSE: Message =
    Message { fields: &[("description", 1, Write::Text), ("schema", 2, Write::Wrapped(&SCHEMA))], extensions: 5 };
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Write::Text),
        ("format", 2, Write::Text),
        ("description", 4, Write::Text),
        ("required", 19, Write::Texts),
        ("additionalProperties", 21, Write::Wrapped(&SCHEMA)),
        ("type", 22, Write::Types),
        ("items", 23, Write::Wrapped(&SCHEMA)),
        ("allOf", 24, Write::Messages(&SCHEMA)),
        ("properties", 25, Write::Entries(&SCHEMA)),
    ],
    extensions: 31,
};
static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Write::Text),
        ("name", 2, Write::Text),
        ("in", 3, Write::Text),
        ("required", 4, Write::Flag),
        ("schema", 5, Write::Message(&SCHEMA)),
    ],
    extensions: 6,
};
static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Write::Flag),
        ("in", 2, Write::Text),
        ("description", 3, Write::Text),
        ("name", 4, Write::Text),
        ("type", 6, Write::Text),
        ("uniqueItems", 20, Write::Flag),
    ],
    extensions: 23,
};
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Write::Flag),
        ("in", 2, Write::Text),
        ("description", 3, Write::Text),
        ("name", 4, Write::Text),
        ("type", 5, Write::Text),
        ("uniqueItems", 19, Write::Flag),
    ],
    extensions: 22,
};

/// Writes a whole document.
pub(super) fn document(tree: &Value) -> Vec<u8> {
    message(&DOCUMENT, tree)
}

fn message(shape: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, number, write) in shape.fields {
        // A variant wrapper holds the value itself.
        let found = if key.is_empty() { Some(value) } else { value.get(key) };
        if let Some(found) = found {
            field(&mut out, *number, *write, found);
        }
    }
    if shape.extensions > 0 {
        for (key, value) in value.as_object().into_iter().flatten().filter(|(k, _)| k.starts_with("x-")) {
            let mut any = Vec::new();
            bytes(&mut any, 2, value.to_string().as_bytes());
            bytes(&mut out, shape.extensions, &named(key, &any));
        }
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, write: Write, value: &Value) {
    let items = || value.as_array().into_iter().flatten();
    match write {
        Write::Text => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Write::Flag => {
            encode_key(number, WireType::Varint, out);
            encode_varint(u64::from(value.as_bool().unwrap_or_default()), out);
        }
        Write::Texts => items().filter_map(Value::as_str).for_each(|text| bytes(out, number, text.as_bytes())),
        Write::Message(shape) => bytes(out, number, &message(shape, value)),
        Write::Messages(shape) => items().for_each(|item| bytes(out, number, &message(shape, item))),
        Write::Entries(shape) => bytes(out, number, &entries(1, shape, value)),
        Write::EntriesIn(inner, shape) => bytes(out, number, &entries(inner, shape, value)),
        Write::Types => {
            let mut types = Vec::new();
            bytes(&mut types, 1, value.as_str().unwrap_or_default().as_bytes());
            bytes(out, number, &types);
        }
        Write::Wrapped(shape) => {
            let mut wrapper = Vec::new();
            bytes(&mut wrapper, 1, &message(shape, value));
            bytes(out, number, &wrapper);
        }
        Write::Parameters => items().for_each(|item| bytes(out, number, &parameter(item))),
        Write::Requirements => items().for_each(|item| {
            let mut requirement = Vec::new();
            for key in item.as_object().into_iter().flatten().map(|(key, _)| key) {
                bytes(&mut requirement, 1, &named(key, &[]));
            }
            bytes(out, number, &requirement);
        }),
    }
}

/// `ParametersItem{parameter = 1}` of `Parameter{body = 1, other = 2}` of the variant by place.
fn parameter(value: &Value) -> Vec<u8> {
    let wrap = |number: u32, inner: Vec<u8>| {
        let mut out = Vec::new();
        bytes(&mut out, number, &inner);
        out
    };
    let variant = match value["in"].as_str() {
        Some("body") => wrap(1, message(&BODY_PARAMETER, value)),
        Some("path") => wrap(2, wrap(4, message(&PATH_PARAMETER, value))),
        _ => wrap(2, wrap(3, message(&QUERY_PARAMETER, value))),
    };
    wrap(1, variant)
}

fn entries(number: u32, shape: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        bytes(&mut out, number, &named(key, &message(shape, value)));
    }
    out
}

fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, value);
    out
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}
