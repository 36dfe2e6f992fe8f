//! The shape of every kind, as data: one table drives pruning, type checks, strategic merge,
//! server-side apply, managed fields and OpenAPI.
//!
//! Built-in definitions come from `schema/v1.36.schema` (made by `cargo xtask schema`) and are parsed
//! once, on first use. Names borrow from the program text, so the table costs little heap. A
//! CustomResourceDefinition builds the same [`Definition`]s at run time.

mod table;

use smol_str::SmolStr;
use std::sync::Arc;

/// What a value may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Anything; not looked into.
    Any,
    /// A string.
    String,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A number.
    Number,
    /// A boolean.
    Boolean,
    /// Base64.
    Bytes,
    /// A 32-bit integer or a string.
    IntOrString,
    /// A resource quantity; kept in canonical form.
    Quantity,
    /// RFC 3339 in whole seconds, UTC.
    Time,
    /// RFC 3339 with six fraction digits, UTC.
    MicroTime,
    /// An object with named fields.
    Object(Link),
    /// An object with free keys and equal values.
    Map(Box<Node>),
    /// A list.
    List(Box<Node>),
}

/// A reference to a definition.
#[derive(Debug, Clone)]
pub enum Link {
    /// Index into the built-in table.
    Builtin(u16),
    /// A definition made at run time.
    Own(Arc<Definition>),
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Builtin(a), Self::Builtin(b)) => a == b,
            (Self::Own(a), Self::Own(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}
impl Eq for Link {}

impl Link {
    /// The definition.
    pub fn get(&self) -> &Definition {
        match self {
            Self::Builtin(index) => &table::builtin().definitions[usize::from(*index)],
            Self::Own(definition) => definition,
        }
    }
}

/// How the items of a list are told apart by apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListKind {
    /// The list is one value.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Objects told apart by these fields.
    Map(Box<[SmolStr]>),
}

/// How strategic merge treats a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchRule {
    /// Lists are merged and not replaced; by [`Self::merge_key`], or as a set of scalars without one.
    pub merge: bool,
    /// Keys that the patch does not name are dropped (`retainKeys`).
    pub retain_keys: bool,
    /// The object is replaced and not merged.
    pub replace: bool,
    /// The field that tells the items of a merged list apart.
    pub merge_key: Option<SmolStr>,
}

/// What is known of a value besides its type. Most values have none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// For lists.
    pub list: ListKind,
    /// `list` was said explicitly (and is published in OpenAPI).
    pub list_said: bool,
    /// Apply treats the object as one value (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Strategic merge.
    pub patch: PatchRule,
    /// The value of a list key that is left out.
    pub default: Option<SmolStr>,
}

static NO_RULES: Rules = Rules {
    list: ListKind::Atomic,
    list_said: false,
    atomic: false,
    patch: PatchRule { merge: false, retain_keys: false, replace: false, merge_key: None },
    default: None,
};

/// A value's place in a schema: its type and the rules for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The type.
    pub ty: Type,
    rules: Option<Box<Rules>>,
}

impl Node {
    /// A node without rules.
    pub const fn plain(ty: Type) -> Self {
        Self { ty, rules: None }
    }
    /// A node with rules.
    pub fn new(ty: Type, rules: Rules) -> Self {
        Self { ty, rules: (rules != NO_RULES).then(|| Box::new(rules)) }
    }
    /// The rules.
    pub fn rules(&self) -> &Rules {
        self.rules.as_deref().unwrap_or(&NO_RULES)
    }
    /// The definition of an object.
    pub fn definition(&self) -> Option<&Definition> {
        match &self.ty {
            Type::Object(link) => Some(link.get()),
            _ => None,
        }
    }
    /// The node of a list's items or a map's values.
    pub fn element(&self) -> Option<&Node> {
        match &self.ty {
            Type::List(item) | Type::Map(item) => Some(item),
            _ => None,
        }
    }
    /// The node of the member `name` of an object or map; None where it is unknown or free-form.
    pub fn member(&self, name: &str) -> Option<&Node> {
        match &self.ty {
            Type::Object(link) => link.get().field(name).map(|f| &f.node),
            Type::Map(value) => Some(value),
            _ => None,
        }
    }
    /// Does apply treat the value as a whole? Scalars, free-form values, atomic lists and objects.
    pub fn is_atomic(&self) -> bool {
        match &self.ty {
            Type::Object(link) => self.rules().atomic || link.get().atomic || link.get().open,
            Type::Map(_) => self.rules().atomic,
            Type::List(_) => self.rules().list == ListKind::Atomic,
            _ => true,
        }
    }
}

/// A node for values nothing is known of.
pub static ANY: Node = Node::plain(Type::Any);

/// A named field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name in JSON.
    pub name: SmolStr,
    /// Its value.
    pub node: Node,
    /// Must it be there? (Checked by validation; the codec only keeps such fields when empty.)
    pub required: bool,
}

/// A group, version and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupVersionKind {
    /// Group; empty for core.
    pub group: SmolStr,
    /// Version.
    pub version: SmolStr,
    /// Kind.
    pub kind: SmolStr,
}

/// An object type with named fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Full name, `io.k8s.api.core.v1.Container`.
    pub name: SmolStr,
    /// Sorted by name.
    pub fields: Box<[Field]>,
    /// Apply treats it as one value.
    pub atomic: bool,
    /// Free-form: fields besides the named ones are kept.
    pub open: bool,
    /// Empty optional lists and maps are left out, as Go's types do. False for custom resources.
    pub omit_empty: bool,
    /// The kind that this definition is, where it is exactly one.
    pub gvk: Option<GroupVersionKind>,
}

impl Definition {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok().map(|i| &self.fields[i])
    }
    /// Is it raw JSON in Kubernetes' own types, and so no object of necessity? (`default: 5` in a
    /// CustomResourceDefinition.)
    pub fn is_any_value(&self) -> bool {
        self.open && self.omit_empty && self.fields.is_empty()
    }
    /// The last part of the name: `Container`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

/// The built-in definition of this name.
pub fn find(name: &str) -> Option<&'static Definition> {
    link(name).map(|index| &table::builtin().definitions[usize::from(index)])
}

/// A node for the built-in definition of this name, to navigate from.
pub fn node(name: &str) -> Option<Node> {
    link(name).map(|index| Node::plain(Type::Object(Link::Builtin(index))))
}

/// All built-in definitions, sorted by name.
pub fn all() -> &'static [Definition] {
    &table::builtin().definitions
}

/// The built-in definition of this kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Definition> {
    let is = |gvk: &GroupVersionKind| gvk.kind == kind && gvk.version == version && gvk.group == group;
    all().iter().find(|d| d.gvk.as_ref().is_some_and(is))
}

/// The type that a word in the notation of the built-in table means.
pub(crate) fn type_of(word: &str) -> Type {
    table::type_of(word, &|name| link(name))
}

fn link(name: &str) -> Option<u16> {
    let index = table::builtin().definitions.binary_search_by(|d| d.name.as_str().cmp(name)).ok()?;
    u16::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn navigates_from_a_deployment_to_a_container_port() {
        let deployment = node("io.k8s.api.apps.v1.Deployment").unwrap();
        let containers = ["spec", "template", "spec", "containers"]
            .iter()
            .fold(&deployment, |node, name| node.member(name).unwrap_or(&ANY));
        assert_eq!(containers.rules().list, ListKind::Map(Box::new(["name".into()])));
        assert_eq!(containers.rules().patch.merge_key.as_deref(), Some("name"));
        let ports = containers.element().and_then(|c| c.member("ports")).unwrap();
        assert_eq!(ports.rules().list, ListKind::Map(Box::new(["containerPort".into(), "protocol".into()])));
        let protocol = ports.element().and_then(|p| p.member("protocol")).unwrap();
        assert_eq!(protocol.rules().default.as_deref(), Some("TCP"));
    }

    #[test]
    fn every_definition_is_sorted_and_every_reference_resolves() {
        for definition in all() {
            assert!(definition.fields.is_sorted_by(|a, b| a.name < b.name), "{}", definition.name);
            assert_eq!(find(&definition.name).map(|d| &d.name), Some(&definition.name));
        }
        assert!(all().len() > 500);
    }

    #[test]
    fn atomic_values_are_known() {
        let selector = node("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap();
        assert!(selector.is_atomic());
        let meta = node("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
        assert!(!meta.member("labels").unwrap().is_atomic());
        assert!(!meta.member("finalizers").unwrap().is_atomic());
        assert!(meta.member("name").unwrap().is_atomic());
        let claims = node("io.k8s.api.core.v1.PodSpec").unwrap();
        assert!(claims.member("volumes").unwrap().rules().patch.retain_keys);
    }
}
