//! Messages to trees.

use super::table::{self, Message, Named, Place};
use super::wire::{Raw, Reader};
use super::{Fault, MAGIC, MAX_DEPTH, MEDIA_TYPE, number};
use crate::meta::time;
use crate::schema::{Definition, Node, Type};
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// A body before its message is read.
#[derive(Debug, Default)]
pub(in crate::codec) struct Envelope<'a> {
    /// `apps/v1`; empty when it does not say.
    pub(in crate::codec) api_version: &'a str,
    /// Kind; empty when it does not say.
    pub(in crate::codec) kind: &'a str,
    /// The message.
    pub(in crate::codec) message: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Opens a body.
    pub(in crate::codec) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut envelope = Self::default();
        for field in Reader(bytes.strip_prefix(MAGIC).ok_or(Fault::NoPrefix)?) {
            let (number, raw) = field?;
            let content = raw.bytes().unwrap_or_default();
            match number {
                number::TYPE_META => envelope.type_meta(content)?,
                number::RAW => envelope.message = content,
                number::CONTENT_ENCODING if !content.is_empty() => return Err(Fault::Content),
                number::CONTENT_TYPE if !content.is_empty() && content != MEDIA_TYPE.as_bytes() => {
                    return Err(Fault::Content);
                }
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        for field in Reader(bytes) {
            let (number, raw) = field?;
            let text = std::str::from_utf8(raw.bytes().unwrap_or_default()).map_err(|_| Fault::Utf8)?;
            match number {
                number::API_VERSION => self.api_version = text,
                number::KIND => self.kind = text,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the message of a definition. Fields it does not know are skipped.
pub(in crate::codec) fn object(bytes: &[u8], definition: &Definition) -> Result<Value, Fault> {
    Level(MAX_DEPTH).object(bytes, definition)
}

/// How many levels of messages may follow.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper(self) -> Result<Self, Fault> {
        self.0.checked_sub(1).map(Self).ok_or(Fault::Depth)
    }

    fn object(self, bytes: &[u8], definition: &Definition) -> Result<Value, Fault> {
        let mut object = Map::new();
        match table::find(&definition.name) {
            Some(message) if definition.open => return self.free_form(bytes, message),
            Some(message) => self.deeper()?.fields(bytes, message, definition, &mut object)?,
            None => {}
        }
        Ok(Value::Object(object))
    }

    fn fields(
        self,
        bytes: &[u8],
        message: &Message,
        definition: &Definition,
        object: &mut Map<String, Value>,
    ) -> Result<(), Fault> {
        for field in Reader(bytes) {
            let (number, raw) = field?;
            match message.slot(number).map(|s| &s.place) {
                Some(Place::Inline(name)) => {
                    if let (Some(inner), Some(bytes)) = (table::find(name), raw.bytes()) {
                        self.deeper()?.fields(bytes, inner, definition, object)?;
                    }
                }
                Some(Place::Field(named)) => {
                    if let Some(field) = definition.field(named.name) {
                        self.field(raw, named, &field.node, object)?;
                    }
                }
                Some(Place::Value(_)) | None => {}
            }
        }
        Ok(())
    }

    fn field(self, raw: Raw<'_>, named: &Named, node: &Node, object: &mut Map<String, Value>) -> Result<(), Fault> {
        let wrong = || Fault::Form(named.name.to_owned());
        match &node.ty {
            Type::List(item) if !named.wrapped => {
                let slot = object.entry(named.name).or_insert_with(|| Value::Array(Vec::new()));
                self.item(raw, item, slot.as_array_mut().ok_or_else(wrong)?).map_err(|e| e.of(named))
            }
            Type::Map(value) => {
                let slot = object.entry(named.name).or_insert_with(|| Value::Object(Map::new()));
                let (key, value) = self.entry(raw, value).map_err(|e| e.of(named))?;
                slot.as_object_mut().ok_or_else(wrong)?.insert(key, value);
                Ok(())
            }
            _ => {
                let value = self.value(raw, node).map_err(|e| e.of(named))?;
                if value.is_null() || (named.zero_is_none && is_zero(&value)) {
                    object.remove(named.name);
                } else {
                    object.insert(named.name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    /// One item of a list, or all of them where numbers are packed.
    fn item(self, raw: Raw<'_>, node: &Node, list: &mut Vec<Value>) -> Result<(), Fault> {
        match (&node.ty, raw) {
            (Type::Int32 | Type::Int64 | Type::Boolean, Raw::Bytes(packed)) => {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    list.push(self.value(Raw::Varint(reader.varint()?), node)?);
                }
            }
            _ => list.push(self.value(raw, node)?),
        }
        Ok(())
    }

    /// An entry of a map. A key or value that is left out is zero.
    fn entry(self, raw: Raw<'_>, node: &Node) -> Result<(String, Value), Fault> {
        let (mut key, mut value) = (String::new(), Raw::Bytes(&[]));
        for field in Reader(raw.bytes().ok_or(Fault::Tag)?) {
            match field? {
                (number::KEY, raw) => key = text(raw)?,
                (number::VALUE, raw) => value = raw,
                _ => {}
            }
        }
        Ok((key, self.value(value, node)?))
    }

    fn value(self, raw: Raw<'_>, node: &Node) -> Result<Value, Fault> {
        let varint = || raw.varint().ok_or(Fault::Tag);
        Ok(match &node.ty {
            Type::String => text(raw)?.into(),
            Type::Int32 => int32(varint()?).into(),
            Type::Int64 => int64(varint()?).into(),
            Type::Boolean => (varint()? != 0).into(),
            // A number that JSON cannot say is none.
            Type::Number => raw.fixed().map(f64::from_bits).ok_or(Fault::Tag)?.into(),
            Type::Bytes => base64::engine::general_purpose::STANDARD.encode(bytes(raw)?).into(),
            Type::Quantity => quantity(bytes(raw)?)?,
            Type::IntOrString => int_or_string(bytes(raw)?)?,
            Type::Time | Type::MicroTime => point_in_time(bytes(raw)?, &node.ty)?,
            Type::Object(link) => self.object(bytes(raw)?, link.get())?,
            Type::List(item) => self.wrapped(bytes(raw)?, item)?,
            Type::Any => serde_json::from_slice(bytes(raw)?).map_err(|_| Fault::Json)?,
            Type::Map(_) => return Err(Fault::Tag),
        })
    }

    /// A list inside a message.
    fn wrapped(self, bytes: &[u8], item: &Node) -> Result<Value, Fault> {
        let (level, mut list) = (self.deeper()?, Vec::new());
        for field in Reader(bytes) {
            if let (number::ONLY, raw) = field? {
                level.item(raw, item, &mut list)?;
            }
        }
        Ok(Value::Array(list))
    }

    /// A value that is said in one of several ways. Zero booleans are always there and say nothing where
    /// another way is there too.
    fn free_form(self, bytes: &[u8], message: &Message) -> Result<Value, Fault> {
        let (level, mut found) = (self.deeper()?, Value::Null);
        for field in Reader(bytes) {
            let (number, raw) = field?;
            let Some(Place::Value(node)) = message.slot(number).map(|s| &s.place) else {
                continue;
            };
            match (&node.ty, &mut found) {
                (Type::List(item), Value::Array(list)) => level.item(raw, item, list)?,
                (Type::List(item), _) => {
                    let mut list = Vec::new();
                    level.item(raw, item, &mut list)?;
                    found = Value::Array(list);
                }
                (Type::Any, _) if raw == Raw::Bytes(&[]) => {}
                (Type::Boolean, Value::Null) | (Type::Any | Type::Object(_), _) => found = level.value(raw, node)?,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Fault {
    /// Names the field that has a wrong form, where that is not yet known.
    fn of(self, named: &Named) -> Self {
        if self == Self::Tag { Self::Form(named.name.to_owned()) } else { self }
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(set) => !set,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn bytes(raw: Raw<'_>) -> Result<&[u8], Fault> {
    raw.bytes().ok_or(Fault::Tag)
}

fn text(raw: Raw<'_>) -> Result<String, Fault> {
    std::str::from_utf8(bytes(raw)?).map(str::to_owned).map_err(|_| Fault::Utf8)
}

fn int64(value: u64) -> i64 {
    i64::from_le_bytes(value.to_le_bytes())
}

/// The low 32 bits, as every reader of protobuf takes them.
fn int32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn quantity(bytes: &[u8]) -> Result<Value, Fault> {
    let mut found = String::new();
    for field in Reader(bytes) {
        if let (number::ONLY, raw) = field? {
            found = text(raw)?;
        }
    }
    Ok(if found.is_empty() { "0".into() } else { found.into() })
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Fault> {
    let (mut is_string, mut integer, mut string) = (false, 0, String::new());
    for field in Reader(bytes) {
        match field? {
            (number::WHICH, raw) => is_string = raw.varint().ok_or(Fault::Tag)? == 1,
            (number::INTEGER, raw) => integer = int32(raw.varint().ok_or(Fault::Tag)?),
            (number::STRING, raw) => string = text(raw)?,
            _ => {}
        }
    }
    Ok(if is_string { string.into() } else { integer.into() })
}

/// A time; null where the message is empty, which is how no time is written.
fn point_in_time(bytes: &[u8], ty: &Type) -> Result<Value, Fault> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Reader(bytes) {
        match field? {
            (number::SECONDS, raw) => seconds = int64(raw.varint().ok_or(Fault::Tag)?),
            (number::NANOS, raw) => nanos = int32(raw.varint().ok_or(Fault::Tag)?),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|_| Fault::Time)?;
    Ok(if *ty == Type::Time { time::time(at) } else { time::micro(at) }.into())
}
