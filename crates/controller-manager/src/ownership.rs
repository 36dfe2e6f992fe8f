//! How a controller takes objects that match its selector and lets go of those that no longer do.

use crate::rows::SelectorRow;
use k8s_openapi::Resource as Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kybern_api::meta::selector::Selector;
use kybern_api::object::{Object, Owner};
use kybern_client::store::{Delta, Item};
use kybern_client::transport::MERGE_PATCH;
use kybern_reconcile::def::{Key, Watch};
use kybern_reconcile::plan::{Action, Guard, Plan, Ref, controller_reference};
use kybern_reconcile::view::View;
use serde_json::json;

/// The objects of the kind `K` that `owner` (of the kind `O`) manages, and what to do about those
/// that should be taken or released.
pub(crate) fn claim<'a, K: Kind, O: Kind>(
    view: &'a View,
    owner: &'a Object,
    selector: &Selector,
) -> (Vec<&'a Item>, Plan) {
    claim_where::<K, O>(view, owner, |object| selector.matches(&*object.head))
}

/// Like [`claim`], with any rule for what belongs to the owner.
pub(crate) fn claim_where<'a, K: Kind, O: Kind>(
    view: &'a View,
    owner: &'a Object,
    belongs: impl Fn(&Object) -> bool,
) -> (Vec<&'a Item>, Plan) {
    let store = view.of::<K>();
    let mut plan = Plan::none();
    let mut owned = Vec::new();
    for item in store.owned(&owner.head.uid) {
        if item.object.head.controller().is_none_or(|c| c.uid != owner.head.uid) {
            continue;
        }
        if belongs(&item.object) {
            owned.push(item);
        } else if item.object.head.deleting.is_none() && owner.head.deleting.is_none() {
            let rest = item.object.head.owners.iter().filter(|o| o.uid != owner.head.uid).map(reference).collect();
            plan.act(set_owners::<K>(&item.object, rest));
        }
    }
    let adopted = adopt::<K, O>(view, owner, belongs);
    if !adopted.is_empty() {
        plan.require(Guard::Alive {
            object: Ref::typed::<O>(owner.head.namespace.clone(), owner.head.name.clone()),
            uid: owner.head.uid.clone(),
        });
        adopted.into_iter().for_each(|action| plan.act(action));
    }
    (owned, plan)
}

fn adopt<K: Kind, O: Kind>(view: &View, owner: &Object, belongs: impl Fn(&Object) -> bool) -> Vec<Action> {
    if owner.head.deleting.is_some() {
        return Vec::new();
    }
    let orphans = view.of::<K>().orphans(&owner.head.namespace);
    orphans
        .filter(|item| item.object.head.deleting.is_none() && belongs(&item.object))
        .map(|item| {
            let mut owners: Vec<OwnerReference> = item.object.head.owners.iter().map(reference).collect();
            owners.push(controller_reference::<O>(owner));
            set_owners::<K>(&item.object, owners)
        })
        .collect()
}

/// Gives an object these owners, unless it changed meanwhile.
pub(crate) fn set_owners<K: Kind>(object: &Object, owners: Vec<OwnerReference>) -> Action {
    let meta = json!({"ownerReferences": owners, "resourceVersion": object.revision.to_string()});
    Action::Patch {
        to: Ref::typed::<K>(object.head.namespace.clone(), object.head.name.clone()),
        subresource: "",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": meta}),
    }
}

/// An owner as it is written.
pub(crate) fn reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: owner.api_version.to_string(),
        kind: owner.kind.to_string(),
        name: owner.name.to_string(),
        uid: owner.uid.to_string(),
        controller: owner.controller.then_some(true),
        block_owner_deletion: owner.block_owner_deletion.then_some(true),
    }
}

/// Watches `K`: a change concerns its owner of the kind `O` and, while nothing manages the object,
/// every `O` whose selector matches it.
pub(crate) fn watch_claimed<K: Kind, O: Kind>() -> Watch {
    let owned = Watch::owned::<K, O>();
    Watch::mapped::<K>(move |delta: &Delta, view: &View| {
        let mut keys = (owned.keys)(delta, view);
        if let Some(orphan) = delta.new.as_ref().filter(|i| i.object.head.controller().is_none()) {
            keys.extend(selecting::<O>(view, &orphan.object));
        }
        keys
    })
}

/// The `O`s of the object's namespace whose selector (their row) matches its labels.
pub(crate) fn selecting<O: Kind>(view: &View, object: &Object) -> Vec<Key> {
    let candidates = view.of::<O>().in_namespace(&object.head.namespace);
    candidates.filter(|i| i.row::<SelectorRow>().is_some_and(|r| r.0.matches(&*object.head))).map(Key::of).collect()
}
