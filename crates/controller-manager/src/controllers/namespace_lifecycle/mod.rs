//! Empties a namespace that is being deleted, pods first, then lets it go. `conditions` says what holds
//! it up meanwhile.

mod conditions;

use crate::kinds::Collection;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kybern_client::store::{Delta, Item};
use kybern_client::transport::Resource;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Guard, Plan, Ref, delete};
use kybern_reconcile::view::{View, World, decode};
use std::sync::Arc;

/// The finalizer in `spec.finalizers` that stands for this controller.
const FINALIZER: &str = "kubernetes";

/// The definition. `kinds`: every collection objects can be in.
pub(crate) fn def(kinds: &[Collection]) -> ControllerDef {
    let namespaced: Arc<[Resource]> = kinds.iter().filter(|k| k.namespaced).map(|k| k.resource.clone()).collect();
    let mut watches = vec![Watch::primary::<Namespace>()];
    watches.extend(namespaced.iter().map(|r| Watch { resource: r.clone(), keys: Arc::new(held_by) }));
    ControllerDef {
        name: "namespace-controller",
        watches,
        writes: vec![
            Access::everything(&["delete", "deletecollection", "get", "list"]),
            Access::sub::<Namespace>("finalize", &["update"]),
            Access::sub::<Namespace>("status", &["update", "patch"]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(move |world, key| plan(world, key, &namespaced)),
    }
}

/// An object that went may have been the last one; one that lingers is what people want to know of.
fn held_by(delta: &Delta, view: &View) -> Vec<Key> {
    let state =
        |i: &Option<Item>| i.as_ref().map(|i| (i.object.head.deleting.is_some(), i.object.head.finalizers.clone()));
    let (before, after) = (state(&delta.old), state(&delta.new));
    let lingers = after.as_ref().is_some_and(|(deleting, _)| *deleting);
    let Some(latest) = delta.latest().filter(|_| before != after && (after.is_none() || lingers)) else {
        return Vec::new();
    };
    let namespace = &latest.object.head.namespace;
    let dying = view.get::<Namespace>("", namespace).is_some_and(|n| n.object.head.deleting.is_some());
    dying.then(|| Key::new("", namespace.clone())).into_iter().collect()
}

fn plan(world: &World<'_>, key: &Key, namespaced: &[Resource]) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<Namespace>("", &key.name).filter(|n| n.object.head.deleting.is_some()) else {
        return Ok(Plan::none());
    };
    let namespace: Namespace = decode(item)?;
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(Plan::none());
    }
    // Pods go first: what they use (and what guards them) must outlive them.
    let pods = [typed::resource::<Pod>()];
    if world.view.of::<Pod>().in_namespace(&key.name).next().is_some() {
        let mut plan = empty(world.view, &key.name, pods.iter());
        plan.act(conditions::report(world, &namespace, &pods)?);
        return Ok(plan);
    }
    let mut plan = empty(world.view, &key.name, namespaced.iter());
    let occupied =
        namespaced.iter().any(|r| world.view.store(&r.group, &r.plural).in_namespace(&key.name).next().is_some());
    if occupied {
        plan.act(conditions::report(world, &namespace, namespaced)?);
    } else {
        plan.require(Guard::Empty { resources: namespaced.to_vec(), namespace: key.name.clone() });
        plan.act(finalize(namespace)?);
    }
    Ok(plan)
}

/// Deletes what is not being deleted yet.
fn empty<'a>(view: &View, namespace: &str, resources: impl Iterator<Item = &'a Resource>) -> Plan {
    let mut plan = Plan::none();
    for resource in resources {
        let alive = |i: &&Item| i.object.head.deleting.is_none();
        let items = view.store(&resource.group, &resource.plural).in_namespace(namespace).filter(alive);
        plan.batch(items.map(|i| delete(resource, &i.object, None)).collect());
    }
    plan
}

fn finalize(mut namespace: Namespace) -> Result<Action, Error> {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let object = typed::tree(&namespace).map_err(Error::Encode)?;
    Ok(Action::Update { to: Ref::typed::<Namespace>("", name), subresource: "finalize", object })
}
