//! Reports on the Ingresses of Kybern's own classes: where they are served, and what is wrong with them.
//!
//! The proxies of the nodes serve them by the same rules ([`kybern_api::ingress`]); this controller writes
//! what they have in common once, wherever there are how many of them.

mod problems;

use crate::rows::NodeRow;
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::networking::v1::{
    Ingress, IngressClass, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus,
};
use kybern_api::ingress::{self as facts, Class};
use kybern_api::object::Object;
use kybern_client::store::{Delta, Item, Row};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Note, Plan, reference, report};
use kybern_reconcile::view::{View, World, decode};
use smol_str::SmolStr;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The key of all addresses; other keys are Ingresses whose problems are told.
const ADDRESSES: &str = "addresses";

/// An Ingress as the proxies read it; None: it cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IngressRow(Option<facts::Ingress>);

/// Makes the row of an Ingress.
pub(crate) fn row(object: &Object) -> Row {
    Arc::new(IngressRow(facts::Ingress::of(object).ok()))
}

fn facts_of(item: &Item) -> Option<&facts::Ingress> {
    item.row::<IngressRow>()?.0.as_ref()
}

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "ingress-controller",
        watches: vec![
            Watch::mapped::<Ingress>(ingress_changed),
            Watch::mapped::<IngressClass>(class_changed),
            Watch::mapped::<Node>(node_changed),
            Watch::mapped::<Service>(|delta, view| {
                naming(delta, view, |i, name| i.backends().any(|b| b.service == name))
            }),
            Watch::mapped::<Secret>(|delta, view| naming(delta, view, |i, name| i.secrets().any(|s| s == name))),
        ],
        writes: vec![Access::sub::<Ingress>("status", &["update", "patch"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(plan),
    }
}

fn addresses_key() -> Key {
    Key { kind: ADDRESSES.into(), ..Key::default() }
}

/// The addresses, and the problems of the Ingress and of those that want what it has or had.
fn ingress_changed(delta: &Delta, view: &View) -> Vec<Key> {
    let mut keys = vec![addresses_key()];
    let row = |item: &Option<Item>| item.as_ref().and_then(facts_of).cloned();
    let (old, new) = (row(&delta.old), row(&delta.new));
    if old == new {
        return keys;
    }
    keys.extend(delta.new.as_ref().map(Key::of));
    let both = || old.iter().chain(&new);
    let beside = |item: &&Item| {
        let is_other = delta.latest().is_some_and(|i| Key::of(i) != Key::of(item));
        is_other && facts_of(item).is_some_and(|other| both().any(|i| problems::meet(i, other)))
    };
    keys.extend(view.of::<Ingress>().iter().filter(beside).map(Key::of));
    keys
}

fn class_changed(_: &Delta, view: &View) -> Vec<Key> {
    let mut keys = vec![addresses_key()];
    keys.extend(view.of::<Ingress>().iter().map(Key::of));
    keys
}

fn node_changed(delta: &Delta, _: &View) -> Vec<Key> {
    let of = |item: &Option<Item>| {
        let item = item.as_ref()?;
        let row = item.row::<NodeRow>()?;
        Some((row.ready, row.addresses.clone(), item.object.head.labels.clone()))
    };
    if of(&delta.old) == of(&delta.new) { Vec::new() } else { vec![addresses_key()] }
}

/// The Ingresses of the namespace that name the object.
fn naming(delta: &Delta, view: &View, names: fn(&facts::Ingress, &str) -> bool) -> Vec<Key> {
    let Some(latest) = delta.latest() else { return Vec::new() };
    let head = &latest.object.head;
    let of_namespace = view.of::<Ingress>().in_namespace(&head.namespace);
    of_namespace.filter(|i| facts_of(i).is_some_and(|i| names(i, &head.name))).map(Key::of).collect()
}

fn classes(view: &View) -> Vec<Class> {
    facts::classes(view.of::<IngressClass>().iter().map(|i| &i.object))
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    if key.kind == ADDRESSES { addresses(world.view) } else { tell(world.view, key) }
}

/// The status of every Ingress of ours: the addresses of the ready nodes that serve its class.
fn addresses(view: &View) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let served: HashMap<SmolStr, IngressStatus> =
        classes(view).into_iter().map(|c| (c.name.clone(), status(view, &c))).collect();
    for item in view.of::<Ingress>().iter().filter(|i| i.object.head.deleting.is_none()) {
        let Some(status) = facts_of(item).and_then(|i| served.get(&i.class)) else { continue };
        let stored: Ingress = decode(item)?;
        plan.act(report::<Ingress>(&item.object, stored.status.as_ref(), status)?);
    }
    Ok(plan)
}

fn status(view: &View, class: &Class) -> IngressStatus {
    let serves = |item: &&Item| class.is_served_by(&item.object.head);
    let rows = view.of::<Node>().iter().filter(serves).filter_map(Item::row::<NodeRow>);
    let addresses: BTreeSet<&SmolStr> = rows.filter(|r| r.ready).flat_map(|r| &r.addresses).collect();
    let entry =
        |ip: &SmolStr| IngressLoadBalancerIngress { ip: Some(ip.to_string()), ..IngressLoadBalancerIngress::default() };
    let ingress = Some(addresses.into_iter().map(entry).collect::<Vec<_>>()).filter(|list| !list.is_empty());
    IngressStatus { load_balancer: Some(IngressLoadBalancerStatus { ingress }) }
}

/// What is wrong with one Ingress of ours, as events.
fn tell(view: &View, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = view.get::<Ingress>(&key.namespace, &key.name) else { return Ok(plan) };
    let classes = classes(view);
    let ours = |i: &facts::Ingress| classes.iter().any(|c| c.name == i.class);
    let Some(ingress) = facts_of(item).filter(|i| ours(i) && item.object.head.deleting.is_none()) else {
        return Ok(plan);
    };
    let rivals = view.of::<Ingress>().iter().filter_map(facts_of).filter(|other| ours(other));
    for (reason, message) in problems::of(ingress, rivals, view)? {
        plan.note(Note { about: reference::<Ingress>(&item.object), warning: true, reason: reason.into(), message });
    }
    Ok(plan)
}
