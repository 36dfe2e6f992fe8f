//! Trees to messages.

use super::table::{self, Message, Named, Place};
use super::wire::Writer;
use super::{Fault, MAGIC, number};
use crate::error::Status;
use crate::meta::time;
use crate::schema::{self, Definition, Node, Type};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::convert::Infallible;

/// Can objects of this definition be written as protobuf?
pub fn has_protobuf(definition: &str) -> bool {
    table::find(definition).is_some()
}

/// A complete object (with kind and apiVersion) as a body. None when its kind has no message, as custom
/// resources and tables have none.
///
/// # Errors
/// 500 when the tree does not fit its schema, a defect of whoever made it.
pub fn to_protobuf(tree: &Value) -> Result<Option<Vec<u8>>, Status> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(definition) = schema::find_kind(group, version, kind).filter(|d| has_protobuf(&d.name)) else {
        return Ok(None);
    };
    body(definition, api_version, kind, tree)
        .map(Some)
        .map_err(|e| Status::internal(format!("{kind} as protobuf: {e}")))
}

/// The body of an object of a definition.
pub(super) fn body(definition: &Definition, api_version: &str, kind: &str, tree: &Value) -> Result<Vec<u8>, Fault> {
    let mut out = Writer(MAGIC.to_vec());
    never(out.message(number::TYPE_META, |meta| {
        meta.bytes(number::API_VERSION, api_version.as_bytes());
        meta.bytes(number::KIND, kind.as_bytes());
        Ok(())
    }));
    out.message(number::RAW, |message| object(message, definition, tree))?;
    out.bytes(number::CONTENT_ENCODING, b"");
    out.bytes(number::CONTENT_TYPE, b"");
    Ok(out.0)
}

/// An event of a watch stream: a length in four bytes, and an event whose object is the given body.
pub fn watch_frame(event: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(number::EVENT_TYPE, event.as_bytes());
    never(out.message(number::EVENT_OBJECT, |object| {
        object.bytes(number::ONLY, body);
        Ok(())
    }));
    let length = u32::try_from(out.0.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &out.0].concat()
}

fn never(written: Result<(), Infallible>) {
    match written {
        Ok(()) => {}
        Err(e) => match e {},
    }
}

fn object(out: &mut Writer, definition: &Definition, tree: &Value) -> Result<(), Fault> {
    match table::find(&definition.name) {
        Some(message) if definition.open => free_form(out, message, tree),
        Some(message) => {
            let object = tree.as_object().ok_or_else(|| Fault::Unfit(definition.name.to_string()))?;
            fields(out, message, definition, object)
        }
        None => Ok(()),
    }
}

fn fields(
    out: &mut Writer,
    message: &Message,
    definition: &Definition,
    tree: &Map<String, Value>,
) -> Result<(), Fault> {
    for slot in &message.slots {
        match &slot.place {
            Place::Inline(name) => {
                if let Some(inner) = table::find(name) {
                    out.message(slot.number, |out| fields(out, inner, definition, tree))?;
                }
            }
            Place::Field(named) => {
                if let (Some(value), Some(field)) = (tree.get(named.name), definition.field(named.name)) {
                    self::field(out, slot.number, named, &field.node, value)?;
                }
            }
            Place::Value(_) => {}
        }
    }
    Ok(())
}

fn field(out: &mut Writer, at: u32, named: &Named, node: &Node, tree: &Value) -> Result<(), Fault> {
    let unfit = || Fault::Unfit(named.name.to_owned());
    match (&node.ty, tree) {
        (_, Value::Null) => Ok(()),
        (Type::List(item), Value::Array(list)) if !named.wrapped => {
            list.iter().try_for_each(|v| value(out, at, item, v).ok_or_else(unfit)?)
        }
        (Type::Map(item), Value::Object(map)) => map.iter().try_for_each(|(key, v)| {
            out.message(at, |entry| {
                entry.bytes(number::KEY, key.as_bytes());
                value(entry, number::VALUE, item, v).ok_or_else(unfit)?
            })
        }),
        _ => value(out, at, node, tree).ok_or_else(unfit)?,
    }
}

/// None when the value is not of its type.
fn value(out: &mut Writer, at: u32, node: &Node, tree: &Value) -> Option<Result<(), Fault>> {
    match &node.ty {
        Type::String => out.bytes(at, tree.as_str()?.as_bytes()),
        Type::Int32 | Type::Int64 => out.integer(at, tree.as_i64()?),
        Type::Boolean => out.varint(at, tree.as_bool()?.into()),
        Type::Number => out.double(at, tree.as_f64()?),
        Type::Bytes => out.bytes(at, &base64::engine::general_purpose::STANDARD.decode(tree.as_str()?).ok()?),
        Type::Quantity => {
            let text = tree.as_str()?.as_bytes();
            never(out.message(at, |q| {
                q.bytes(number::ONLY, text);
                Ok(())
            }));
        }
        Type::IntOrString => int_or_string(out, at, tree)?,
        Type::Time | Type::MicroTime => point_in_time(out, at, tree)?,
        Type::Object(link) => return Some(out.message(at, |out| object(out, link.get(), tree))),
        Type::List(item) => {
            let list = tree.as_array()?;
            return Some(out.message(at, |out| {
                let unfit = || Fault::Unfit("item".to_owned());
                list.iter().try_for_each(|v| value(out, number::ONLY, item, v).ok_or_else(unfit)?)
            }));
        }
        Type::Any => out.bytes(at, tree.to_string().as_bytes()),
        Type::Map(_) => return None,
    }
    Some(Ok(()))
}

fn int_or_string(out: &mut Writer, at: u32, tree: &Value) -> Option<()> {
    let (which, integer, string) = match tree.as_str() {
        Some(text) => (1, 0, text),
        None => (0, tree.as_i64()?, ""),
    };
    never(out.message(at, |out| {
        out.varint(number::WHICH, which);
        out.integer(number::INTEGER, integer);
        out.bytes(number::STRING, string.as_bytes());
        Ok(())
    }));
    Some(())
}

fn point_in_time(out: &mut Writer, at: u32, tree: &Value) -> Option<()> {
    if tree.is_null() {
        out.bytes(at, b"");
        return Some(());
    }
    let time = time::parse(tree.as_str()?)?;
    never(out.message(at, |out| {
        out.integer(number::SECONDS, time.as_second());
        out.integer(number::NANOS, time.subsec_nanosecond().into());
        Ok(())
    }));
    Some(())
}

/// The first way to say the value that fits it.
fn free_form(out: &mut Writer, message: &Message, tree: &Value) -> Result<(), Fault> {
    let fits = |node: &Node| match &node.ty {
        Type::Any => true,
        Type::Boolean => tree.is_boolean(),
        Type::List(_) => tree.is_array(),
        _ => tree.is_object(),
    };
    for slot in &message.slots {
        if let Place::Value(node) = &slot.place
            && fits(node)
        {
            let named = Named { name: message.name, zero_is_none: false, wrapped: false };
            return field(out, slot.number, &named, node, tree);
        }
    }
    Err(Fault::Unfit(message.name.to_owned()))
}
