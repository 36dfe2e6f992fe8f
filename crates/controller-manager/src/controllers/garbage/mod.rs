//! Garbage collection by owner, over every served kind.
//!
//! The graph is the informers' own index by owner uid; nothing is kept besides. A key names an
//! object of any kind. `graph` answers who owns whom, `plan` decides.

mod graph;
mod plan;

use crate::kinds::Collection;
use kybern_client::store::{Delta, Item};
use kybern_client::transport::Resource;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::view::View;
use std::sync::Arc;

/// Holds an object back until its blocking dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// Holds an object back until its dependents no longer name it.
const ORPHAN: &str = "orphan";

/// The definition. `kinds`: every collection objects can be in.
pub(crate) fn def(kinds: &[Collection]) -> ControllerDef {
    let watch = |k: &Collection| {
        let resource = k.resource.clone();
        Watch {
            resource: k.resource.clone(),
            keys: Arc::new(move |delta: &Delta, view: &View| concerned(&resource, delta, view)),
        }
    };
    ControllerDef {
        name: "generic-garbage-collector",
        watches: kinds.iter().map(watch).collect(),
        writes: vec![Access::everything(&["get", "list", "watch", "patch", "update", "delete"])],
        seeds: Vec::new(),
        workers: 8,
        plan: Arc::new(plan::plan),
    }
}

/// The key of an object of any kind.
fn key(resource: &Resource, item: &Item) -> Key {
    let kind = format!("{}/{}/{}", resource.group, resource.version, resource.plural);
    Key { kind: kind.into(), namespace: item.object.head.namespace.clone(), name: item.object.head.name.clone() }
}

/// Whom a change concerns: the object itself if it is owned or held back; its dependents when it
/// goes or begins to go; its owners when it goes, for they may wait for it.
fn concerned(resource: &Resource, delta: &Delta, view: &View) -> Vec<Key> {
    let mut keys = Vec::new();
    let was_deleting = delta.old.as_ref().is_some_and(|i| i.object.head.deleting.is_some());
    match (&delta.old, &delta.new) {
        (_, Some(new)) => {
            let head = &new.object.head;
            let owners_changed = delta.old.as_ref().is_none_or(|old| old.object.head.owners != head.owners);
            let begins_to_go = head.deleting.is_some() && !was_deleting;
            if (owners_changed && !head.owners.is_empty()) || graph::is_held_back(head) {
                keys.push(key(resource, new));
            }
            if begins_to_go || delta.old.as_ref().is_some_and(|old| old.object.head.owners != head.owners) {
                keys.extend(graph::dependents(view, &head.uid).map(|(r, i)| key(r, i)));
                keys.extend(delta.latest().into_iter().flat_map(|i| graph::owner_keys(view, i)));
                keys.extend(delta.old.iter().flat_map(|i| graph::owner_keys(view, i)));
            }
        }
        (Some(old), None) => {
            keys.extend(graph::dependents(view, &old.object.head.uid).map(|(r, i)| key(r, i)));
            keys.extend(graph::owner_keys(view, old));
        }
        (None, None) => {}
    }
    keys
}
