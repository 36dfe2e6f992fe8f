//! Reads the built-in schema table. Its format is described in `xtask/src/schema.rs`.

use super::{Definition, Field, GroupVersionKind, Link, ListKind, Node, Rules, Type};
use smol_str::SmolStr;
use std::sync::LazyLock;

static TEXT: &str = include_str!("../../schema/v1.36.schema");

/// The parsed table.
pub(super) struct Builtin {
    /// Sorted by name.
    pub(super) definitions: Vec<Definition>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| parse(TEXT));

pub(super) fn builtin() -> &'static Builtin {
    &BUILTIN
}

/// The text is part of the program, so a defect in it is a defect of the build: unknown words are
/// read as free-form values, and the tests of [`super`] check the table.
fn parse(text: &'static str) -> Builtin {
    let names: Vec<&'static str> =
        text.lines().filter_map(|l| l.strip_prefix('=')).filter_map(|l| l.split(' ').next()).collect();
    let mut definitions: Vec<Definition> = Vec::with_capacity(names.len());
    let mut fields: Vec<Field> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix('=') {
            close(&mut definitions, &mut fields);
            definitions.push(definition(head));
        } else if let Some(body) = line.strip_prefix(' ') {
            fields.push(field(body, &names));
        }
    }
    close(&mut definitions, &mut fields);
    Builtin { definitions }
}

fn close(definitions: &mut [Definition], fields: &mut Vec<Field>) {
    if let Some(last) = definitions.last_mut() {
        last.fields = std::mem::take(fields).into_boxed_slice();
    }
}

fn definition(head: &'static str) -> Definition {
    let mut words = head.split(' ');
    let mut d = Definition {
        name: SmolStr::new_static(words.next().unwrap_or_default()),
        fields: Box::default(),
        atomic: false,
        open: false,
        omit_empty: true,
        gvk: None,
    };
    for word in words {
        match word.split_once(':') {
            None => {
                d.atomic |= word == "atomic";
                d.open |= word == "open";
            }
            Some((_, gvk)) => {
                let mut parts = gvk.split('/').map(SmolStr::new_static);
                let mut part = || parts.next().unwrap_or_default();
                d.gvk = Some(GroupVersionKind { group: part(), version: part(), kind: part() });
            }
        }
    }
    d
}

fn field(body: &'static str, names: &[&str]) -> Field {
    let mut words = body.split(' ');
    let name = SmolStr::new_static(words.next().unwrap_or_default());
    let link = |name: &str| names.binary_search(&name).ok().and_then(|i| u16::try_from(i).ok());
    let ty = type_of(words.next().unwrap_or_default(), &link);
    let mut rules = Rules::default();
    let mut required = false;
    for word in words {
        match word.split_once(':').unwrap_or((word, "")) {
            ("!", _) => required = true,
            ("la", _) => rules.list_said = true,
            ("ls", _) => (rules.list, rules.list_said) = (ListKind::Set, true),
            ("lm", keys) => {
                rules.list = ListKind::Map(keys.split(',').map(SmolStr::new_static).collect());
                rules.list_said = true;
            }
            ("ma", _) => rules.atomic = true,
            ("ps", strategies) => {
                for s in strategies.split(',') {
                    rules.patch.merge |= s == "merge";
                    rules.patch.retain_keys |= s == "retainKeys";
                    rules.patch.replace |= s == "replace";
                }
            }
            ("pk", key) => rules.patch.merge_key = Some(SmolStr::new_static(key)),
            ("d", value) => rules.default = Some(SmolStr::new_static(value)),
            _ => {}
        }
    }
    Field { name, node: Node::new(ty, rules), required }
}

/// The type that a word means; `link` finds definitions.
pub(super) fn type_of(word: &str, link: &dyn Fn(&str) -> Option<u16>) -> Type {
    let element = |rest: &str| Box::new(Node::plain(type_of(rest, link)));
    match word.split_at_checked(1) {
        Some(("s", _)) => Type::String,
        Some(("i", _)) => Type::Int32,
        Some(("l", _)) => Type::Int64,
        Some(("n", _)) => Type::Number,
        Some(("b", _)) => Type::Boolean,
        Some(("y", _)) => Type::Bytes,
        Some(("x", _)) => Type::IntOrString,
        Some(("q", _)) => Type::Quantity,
        Some(("t", _)) => Type::Time,
        Some(("u", _)) => Type::MicroTime,
        Some(("[", rest)) => Type::List(element(rest)),
        Some(("{", rest)) => Type::Map(element(rest)),
        Some(("@", name)) => link(name).map_or(Type::Any, |index| Type::Object(Link::Builtin(index))),
        _ => Type::Any,
    }
}
