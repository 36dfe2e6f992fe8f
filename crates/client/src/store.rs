//! What an informer knows: a persistent (copy-on-write) map of objects. A snapshot is a pointer copy.

use imbl::{OrdMap, OrdSet};
use kybern_api::object::Object;
use smol_str::SmolStr;
use std::any::Any;
use std::sync::Arc;

/// Namespace (empty for cluster scope) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name {
    /// Namespace or empty.
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
}

impl Name {
    /// From its parts.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
    /// The name of an object.
    pub fn of(object: &Object) -> Self {
        Self { namespace: object.head.namespace.clone(), name: object.head.name.clone() }
    }
}

/// A small fixed-size extract of an object, made once per event.
pub type Row = Arc<dyn Any + Send + Sync>;

/// Makes the row of an object.
pub type RowFn = Arc<dyn Fn(&Object) -> Row + Send + Sync>;

/// An object and its row.
#[derive(Clone)]
pub struct Item {
    /// Head and bytes.
    pub object: Object,
    /// The row, where the informer makes one.
    pub row: Option<Row>,
}

impl Item {
    /// The row, if it is a `T`.
    pub fn row<T: 'static>(&self) -> Option<&T> {
        self.row.as_ref().and_then(|r| r.downcast_ref())
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.object.head.key(), self.object.revision)
    }
}

/// One change of a store.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Before; None: it is new.
    pub old: Option<Item>,
    /// After; None: it is gone.
    pub new: Option<Item>,
}

impl Delta {
    /// The latest state there is.
    pub fn latest(&self) -> Option<&Item> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// Objects of one resource at one revision, with an index by owner.
#[derive(Clone, Default)]
pub struct Store {
    items: OrdMap<Name, Item>,
    /// `(uid of an owner, or empty for objects without a managing controller, name)`.
    owners: OrdSet<(SmolStr, Name)>,
    revision: u64,
}

impl Store {
    /// The revision up to which this store is complete.
    pub fn revision(&self) -> u64 {
        self.revision
    }
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// Is it empty?
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// One object.
    pub fn get(&self, name: &Name) -> Option<&Item> {
        self.items.get(name)
    }
    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }
    /// The objects of one namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Item> {
        let from = Name::new(namespace, "");
        self.items.range(from..).take_while(move |(n, _)| n.namespace == namespace).map(|(_, i)| i)
    }
    /// The objects that name this uid among their owners, by namespace and name.
    pub fn owned<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Item> {
        let from = (SmolStr::new(uid), Name::default());
        self.owners.range(from..).take_while(move |(u, _)| u == uid).filter_map(|(_, n)| self.items.get(n))
    }
    /// The objects of a namespace that no controller manages.
    pub fn orphans<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Item> {
        let from = (SmolStr::default(), Name::new(namespace, ""));
        self.owners
            .range(from..)
            .take_while(move |(u, n)| u.is_empty() && n.namespace == namespace)
            .filter_map(|(_, n)| self.items.get(n))
    }

    /// Puts an object in; returns what it replaced.
    pub fn insert(&mut self, item: Item) -> Option<Item> {
        let name = Name::of(&item.object);
        self.revision = self.revision.max(item.object.revision);
        for uid in index_uids(&item.object) {
            self.owners.insert((uid, name.clone()));
        }
        let old = self.items.insert(name.clone(), item);
        if let Some(old) = &old {
            self.forget_owners(&name, old);
        }
        old
    }
    /// Takes an object out.
    pub fn remove(&mut self, name: &Name) -> Option<Item> {
        let old = self.items.remove(name)?;
        self.forget_owners(name, &old);
        Some(old)
    }
    /// All changes up to `revision` are in.
    pub fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Drops index entries of `old` that the object now stored under `name` does not have.
    fn forget_owners(&mut self, name: &Name, old: &Item) {
        let kept = self.items.get(name).map(|i| index_uids(&i.object)).unwrap_or_default();
        for uid in index_uids(&old.object) {
            if !kept.contains(&uid) {
                self.owners.remove(&(uid, name.clone()));
            }
        }
    }
}

impl FromIterator<Item> for Store {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut store = Self::default();
        for item in items {
            store.insert(item);
        }
        store
    }
}

fn index_uids(object: &Object) -> Vec<SmolStr> {
    let mut uids: Vec<SmolStr> = object.head.owners.iter().map(|o| o.uid.clone()).collect();
    if object.head.controller().is_none() {
        uids.push(SmolStr::default());
    }
    uids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(ns: &str, name: &str, revision: u64, owner: Option<&str>) -> Item {
        let owners = owner.map_or(String::new(), |uid| {
            format!(
                r#","ownerReferences":[{{"apiVersion":"v1","kind":"X","name":"o","uid":"{uid}","controller":true}}]"#
            )
        });
        let json =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"{ns}","resourceVersion":"{revision}"{owners}}}}}"#);
        Item { object: crate::wire::object(json.as_bytes()).expect("object"), row: None }
    }
    fn names<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<String> {
        items.map(|i| i.object.head.key()).collect()
    }

    #[test]
    fn the_owner_index_follows_changes() {
        let mut s: Store = [item("a", "p", 1, None), item("a", "q", 2, Some("u1")), item("b", "p", 3, Some("u1"))]
            .into_iter()
            .collect();
        assert_eq!(names(s.orphans("a")), ["a/p"]);
        assert_eq!(names(s.owned("u1")), ["a/q", "b/p"]);
        s.insert(item("a", "p", 4, Some("u1")));
        s.insert(item("a", "q", 5, None));
        s.remove(&Name::new("b", "p"));
        assert_eq!(names(s.owned("u1")), ["a/p"]);
        assert_eq!(names(s.orphans("a")), ["a/q"]);
        assert_eq!(s.revision(), 5);
    }

    #[test]
    fn a_snapshot_does_not_move_and_namespaces_do_not_bleed() {
        let mut s: Store = [item("a", "p", 1, None), item("ab", "p", 2, None)].into_iter().collect();
        let snapshot = s.clone();
        s.remove(&Name::new("a", "p"));
        assert_eq!(names(snapshot.in_namespace("a")), ["a/p"]);
        assert_eq!(names(s.in_namespace("a")), Vec::<String>::new());
    }
}
