//! The numbers of fields: `schema/v1.36.protobuf`, parsed once, on first use. Its format is described in
//! `xtask/src/protobuf.rs`.

use crate::schema::{self, Node};
use std::sync::LazyLock;

static TEXT: &str = include_str!("../../../schema/v1.36.protobuf");

static MESSAGES: LazyLock<Vec<Message>> = LazyLock::new(|| parse(TEXT));

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    /// Sorted by number.
    pub(super) slots: Vec<Slot>,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) place: Place,
}

/// What a field of a message is in JSON.
#[derive(Debug)]
pub(super) enum Place {
    /// A field of the object.
    Field(Named),
    /// A message whose fields belong to the same object; its name.
    Inline(&'static str),
    /// One way to say the whole value. Anything: it is JSON text.
    Value(Node),
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Named {
    /// The name in JSON.
    pub(super) name: &'static str,
    /// A zero value is the same as none.
    pub(super) zero_is_none: bool,
    /// The list travels inside a message.
    pub(super) wrapped: bool,
}

impl Message {
    /// The field of this number.
    pub(super) fn slot(&self, number: u32) -> Option<&Slot> {
        // Most messages number their fields without gaps.
        let guess = usize::try_from(number).ok()?.checked_sub(1)?;
        self.slots
            .get(guess)
            .filter(|s| s.number == number)
            .or_else(|| self.slots.binary_search_by_key(&number, |s| s.number).ok().map(|index| &self.slots[index]))
    }
}

/// The message of a definition. Definitions without fields have none.
pub(super) fn find(name: &str) -> Option<&'static Message> {
    MESSAGES.binary_search_by(|m| m.name.cmp(name)).ok().map(|index| &MESSAGES[index])
}

/// All messages, sorted by name.
#[cfg(test)]
pub(super) fn all() -> &'static [Message] {
    &MESSAGES
}

/// The text is part of the program; the tests check that it has no line which is left out here.
fn parse(text: &'static str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('=') {
            messages.push(Message { name, slots: Vec::new() });
        } else if let (Some(slot), Some(last)) = (line.strip_prefix(' ').and_then(slot), messages.last_mut()) {
            last.slots.push(slot);
        }
    }
    messages
}

fn slot(line: &'static str) -> Option<Slot> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let what = words.next()?;
    let place = match what.split_at_checked(1) {
        Some((">", message)) => Place::Inline(message),
        Some(("=", ty)) => Place::Value(Node::plain(schema::type_of(ty))),
        _ => {
            let mut named = Named { name: what, zero_is_none: false, wrapped: false };
            for word in words {
                named.zero_is_none |= word == "z";
                named.wrapped |= word == "w";
            }
            Place::Field(named)
        }
    };
    Some(Slot { number, place })
}
