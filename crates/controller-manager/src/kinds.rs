//! The collections that generic controllers (garbage collection, namespace emptying) work on, read
//! from the table of kinds.

use kybern_api::kind::{KindDef, Support};
use kybern_client::transport::Resource;

/// One collection of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) resource: Resource,
    pub(crate) namespaced: bool,
}

/// Every collection whose objects are stored, can be listed, watched and deleted, and do not expire
/// by themselves.
pub(crate) fn collections() -> Vec<Collection> {
    kybern_api::kinds::table()
        .iter()
        .filter(|def| def.support != Support::Withheld && def.ttl.is_none() && def.storage.is_none())
        .filter(|def| ["list", "watch", "delete"].iter().all(|v| def.verbs.iter().any(|have| have == v)))
        .filter_map(|def| Some(Collection { resource: resource(def)?, namespaced: def.namespaced() }))
        .collect()
}

/// The collection of an owner reference's kind; None for a kind that is not served here.
pub(crate) fn by_owner(api_version: &str, kind: &str) -> Option<Collection> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let def = kybern_api::kinds::by_kind(group, kind)?;
    Some(Collection { resource: resource(def)?, namespaced: def.namespaced() })
}

/// Every kind whose number of replicas can be set.
pub(crate) fn scalable() -> Vec<Resource> {
    let defs = kybern_api::kinds::table().iter().filter(|def| is_scalable(def) && def.support != Support::Withheld);
    defs.filter_map(resource).collect()
}

/// Has the kind of this collection a number of replicas that can be set?
pub(crate) fn has_scale(resource: &Resource) -> bool {
    kybern_api::kinds::find(&resource.group, &resource.plural).is_some_and(is_scalable)
}

fn is_scalable(def: &KindDef) -> bool {
    def.subresource("scale").is_some()
}

fn resource(def: &KindDef) -> Option<Resource> {
    def.served.first().map(|served| Resource::new(&def.group, &served.version, &def.plural))
}
