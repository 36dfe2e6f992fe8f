//! Who owns whom, read from the informers' indexes.

use super::{FOREGROUND, ORPHAN, key};
use crate::kinds::by_owner;
use kybern_api::object::{Head, Owner};
use kybern_client::store::{Item, Name};
use kybern_client::transport::Resource;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::Ref;
use kybern_reconcile::view::View;
use smol_str::SmolStr;

/// What stands behind one owner reference.
pub(super) enum State {
    /// The owner lives (or its kind is not known here, which must not cost anybody's life).
    Solid,
    /// The owner is being deleted in the foreground and waits for this dependent.
    Waiting,
    /// There is no such owner in the view; the server is asked before anything is deleted. Elsewhere:
    /// one of another namespace is meant, which owns nothing here.
    Absent { at: Ref, elsewhere: bool },
    /// An object without a namespace names an owner that must have one: nobody can tell whether it lives.
    Unresolvable,
}

/// Is it being deleted and held back by a finalizer of the garbage collector?
pub(super) fn is_held_back(head: &Head) -> bool {
    head.deleting.is_some() && head.finalizers.iter().any(|f| f == FOREGROUND || f == ORPHAN)
}

/// Is it being deleted, and waits for its dependents to go first?
pub(super) fn waits_for_dependents(head: &Head) -> bool {
    head.deleting.is_some() && head.finalizers.iter().any(|f| f == FOREGROUND)
}

/// Every object that names this uid among its owners.
pub(super) fn dependents<'a>(view: &'a View, uid: &'a str) -> impl Iterator<Item = (&'a Resource, &'a Item)> {
    view.all().flat_map(move |(resource, store)| store.owned(uid).map(move |item| (resource, item)))
}

/// Where an owner is, or would be: cluster-scoped owners have no namespace.
fn locate(owner: &Owner, namespace: &SmolStr) -> Option<Ref> {
    let collection = by_owner(&owner.api_version, &owner.kind)?;
    let namespace = if collection.namespaced { namespace.clone() } else { SmolStr::default() };
    Some(Ref { resource: collection.resource, namespace, name: owner.name.clone() })
}

fn is_namespaced(owner: &Owner) -> bool {
    by_owner(&owner.api_version, &owner.kind).is_some_and(|c| c.namespaced)
}

/// What stands behind a reference from an object in `namespace`.
pub(super) fn state(view: &View, owner: &Owner, namespace: &SmolStr) -> State {
    let Some(at) = locate(owner, namespace) else { return State::Solid };
    if at.namespace.is_empty() && is_namespaced(owner) {
        return State::Unresolvable;
    }
    let store = view.store(&at.resource.group, &at.resource.plural);
    let found = store.get(&Name::new(at.namespace.clone(), at.name.clone())).filter(|i| i.object.head.uid == owner.uid);
    match found {
        None => {
            let elsewhere = is_namespaced(owner) && store.iter().any(|i| i.object.head.uid == owner.uid);
            State::Absent { at, elsewhere }
        }
        Some(item) => {
            if waits_for_dependents(&item.object.head) {
                State::Waiting
            } else {
                State::Solid
            }
        }
    }
}

/// The keys of an object's owners that are in the view and held back.
pub(super) fn owner_keys(view: &View, item: &Item) -> Vec<Key> {
    let head = &item.object.head;
    let held = |owner: &Owner| {
        let at = locate(owner, &head.namespace)?;
        let found = view.store(&at.resource.group, &at.resource.plural).get(&Name::new(at.namespace, at.name))?;
        (found.object.head.uid == owner.uid && is_held_back(&found.object.head)).then(|| key(&at.resource, found))
    };
    head.owners.iter().filter_map(held).collect()
}
