//! What becomes of one object: nothing, less owners, no finalizer, or an end.

use super::graph::{self, State};
use super::{FOREGROUND, ORPHAN};
use crate::ownership::reference;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kybern_api::object::{Head, Object, Owner};
use kybern_client::store::{Item, Name};
use kybern_client::transport::{MERGE_PATCH, Resource};
use kybern_client::write::{DeleteOptions, Propagation};
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Action, Guard, Note, Plan, Ref};
use kybern_reconcile::view::{View, World};
use serde_json::{Value, json};
use smol_str::SmolStr;

pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some((resource, item)) = find(world.view, key) else { return Ok(Plan::none()) };
    let head = &item.object.head;
    if head.deleting.is_some() {
        return Ok(release(world.view, &resource, item));
    }
    if head.owners.is_empty() {
        return Ok(Plan::none());
    }
    Ok(judge(world.view, &resource, item))
}

fn find<'a>(view: &'a View, key: &Key) -> Option<(Resource, &'a Item)> {
    let mut parts = key.kind.split('/');
    let resource = Resource::new(parts.next()?, parts.next()?, parts.next()?);
    let item =
        view.store(&resource.group, &resource.plural).get(&Name::new(key.namespace.clone(), key.name.clone()))?;
    Some((resource, item))
}

/// An object with owners: it lives while one of them does.
fn judge(view: &View, resource: &Resource, item: &Item) -> Plan {
    let head = &item.object.head;
    let mut plan = Plan::none();
    let (mut solid, mut waiting, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for owner in &head.owners {
        match graph::state(view, owner, &head.namespace) {
            State::Solid => solid.push(owner),
            State::Waiting => waiting.push(owner),
            State::Unresolvable => {
                solid.push(owner);
                plan.note(invalid_namespace(resource, item, owner));
            }
            State::Absent { at, elsewhere } => {
                if elsewhere {
                    plan.note(invalid_namespace(resource, item, owner));
                }
                absent.push((at, owner.uid.clone()));
            }
        }
    }
    if absent.is_empty() && waiting.is_empty() {
        return plan;
    }
    for (object, uid) in absent {
        plan.require(Guard::Absent { object, uid });
    }
    if !solid.is_empty() {
        let rest: Vec<Value> = solid.into_iter().map(|o| json!(reference(o))).collect();
        plan.act(patch(resource, &item.object, json!({"ownerReferences": rest})));
        return plan;
    }
    // A dependent with blocking dependents of its own goes in the foreground too, so that the owner
    // at the top is really the last.
    let dependents = || graph::dependents(view, &head.uid);
    let in_foreground = !waiting.is_empty() && dependents().next().is_some();
    let propagation = if in_foreground { Propagation::Foreground } else { own_policy(head) };
    // A dependent that waits itself closes a circle: nobody in it would ever be the first to go.
    let circle = in_foreground && dependents().any(|(_, i)| graph::waits_for_dependents(&i.object.head));
    if circle && head.owners.iter().any(|o| o.block_owner_deletion) {
        let free = |o: &Owner| OwnerReference { block_owner_deletion: Some(false), ..reference(o) };
        let freed: Vec<Value> = head.owners.iter().map(|o| json!(free(o))).collect();
        // The deletion follows once the view shows the change.
        plan.act(patch(resource, &item.object, json!({"ownerReferences": freed})));
        return plan;
    }
    let options = DeleteOptions {
        uid: Some(head.uid.to_string()),
        revision: Some(item.object.revision),
        propagation: Some(propagation),
        grace: None,
    };
    plan.act(Action::Delete { to: Ref::to(resource, &item.object), options, announce: None });
    plan
}

fn invalid_namespace(resource: &Resource, item: &Item, owner: &Owner) -> Note {
    let head = &item.object.head;
    let def = kybern_api::kinds::find(&resource.group, &resource.plural);
    let text = |s: &SmolStr| (!s.is_empty()).then(|| s.to_string());
    let about = ObjectReference {
        api_version: def.map(|d| d.api_version(d.stored_version())),
        kind: def.map(|d| d.kind.to_string()),
        namespace: text(&head.namespace),
        name: text(&head.name),
        uid: text(&head.uid),
        ..ObjectReference::default()
    };
    let message = format!(
        "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
        owner.api_version,
        owner.kind,
        head.namespace,
        owner.name,
        owner.uid,
        head.namespace.as_str()
    );
    Note { about, warning: true, reason: "OwnerRefInvalidNamespace".into(), message }
}

/// The policy an object's finalizers ask for.
fn own_policy(head: &Head) -> Propagation {
    let has = |name: &str| head.finalizers.iter().any(|f| f == name);
    if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }
}

/// An object that is going: what its finalizers of ours still ask for.
fn release(view: &View, resource: &Resource, item: &Item) -> Plan {
    let head = &item.object.head;
    let has = |name: &str| head.finalizers.iter().any(|f| f == name);
    let dependents: Vec<(&Resource, &Item)> = graph::dependents(view, &head.uid).collect();
    let mut plan = Plan::none();
    if has(ORPHAN) {
        plan.batch(dependents.iter().map(|(r, i)| disown(r, i, &head.uid)).collect());
        plan.act(drop_finalizer(resource, &item.object, ORPHAN));
    } else if has(FOREGROUND) {
        let blocking = |i: &Item| i.object.head.owners.iter().any(|o| o.uid == head.uid && o.block_owner_deletion);
        if !dependents.iter().any(|(_, i)| blocking(i)) {
            plan.act(drop_finalizer(resource, &item.object, FOREGROUND));
        }
    }
    plan
}

fn disown(resource: &Resource, item: &Item, uid: &SmolStr) -> Action {
    let rest: Vec<Value> =
        item.object.head.owners.iter().filter(|o| o.uid != *uid).map(|o| json!(reference(o))).collect();
    patch(resource, &item.object, json!({"ownerReferences": rest}))
}

fn drop_finalizer(resource: &Resource, object: &Object, name: &str) -> Action {
    let rest: Vec<&SmolStr> = object.head.finalizers.iter().filter(|f| *f != name).collect();
    patch(resource, object, json!({"finalizers": rest}))
}

fn patch(resource: &Resource, object: &Object, mut metadata: Value) -> Action {
    metadata["resourceVersion"] = json!(object.revision.to_string());
    metadata["uid"] = json!(object.head.uid);
    Action::Patch {
        to: Ref::to(resource, object),
        subresource: "",
        media_type: MERGE_PATCH,
        patch: json!({"metadata": metadata}),
    }
}
