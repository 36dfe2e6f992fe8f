//! What every cluster and every namespace has: the system namespaces, a `default` service account,
//! the root CA's config map.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_api::certificates;
use kybern_client::store::Delta;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change, create};
use kybern_reconcile::view::{View, World, decode};
use std::collections::BTreeMap;
use std::sync::Arc;

const SYSTEM: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const SERVICE_ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";

/// Keeps the system namespaces. (A server makes them when it starts; this brings back a deleted one.)
pub(crate) fn system() -> ControllerDef {
    ControllerDef {
        name: "system-namespaces-controller",
        watches: vec![Watch::primary::<Namespace>()],
        writes: vec![Access::to::<Namespace>(&["create"])],
        seeds: SYSTEM.iter().map(|n| Key::new("", *n)).collect(),
        workers: 1,
        plan: Arc::new(plan_system),
    }
}

fn plan_system(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if SYSTEM.contains(&key.name.as_str()) && world.view.get::<Namespace>("", &key.name).is_none() {
        let metadata = ObjectMeta { name: Some(key.name.to_string()), ..ObjectMeta::default() };
        plan.act(create(&Namespace { metadata, ..Namespace::default() }, None)?);
    }
    Ok(plan)
}

/// Keeps a service account `default` in every namespace.
pub(crate) fn service_accounts() -> ControllerDef {
    ControllerDef {
        name: "service-account-controller",
        watches: vec![Watch::primary::<Namespace>(), Watch::mapped::<ServiceAccount>(|d, _| gone(d, SERVICE_ACCOUNT))],
        writes: vec![Access::to::<ServiceAccount>(&["create"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan_service_account),
    }
}

fn plan_service_account(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if is_open(world.view, &key.name) && world.view.get::<ServiceAccount>(&key.name, SERVICE_ACCOUNT).is_none() {
        plan.act(create(
            &ServiceAccount { metadata: named(&key.name, SERVICE_ACCOUNT), ..ServiceAccount::default() },
            None,
        )?);
    }
    Ok(plan)
}

/// Keeps the config map with the certificates of the CAs that sign the servers' certificates: those that the
/// leader has published, or `ca_pem` until it has.
pub(crate) fn root_ca(ca_pem: String) -> ControllerDef {
    ControllerDef {
        name: "root-ca-cert-publisher",
        watches: vec![Watch::primary::<Namespace>(), Watch::mapped::<ConfigMap>(root_ca_changed)],
        writes: vec![Access::to::<ConfigMap>(&["create", "update", "patch"])],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(move |world, key| plan_root_ca(world, key, &ca_pem)),
    }
}

fn root_ca_changed(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(item) = delta.latest() else { return Vec::new() };
    let head = &item.object.head;
    if head.name == ROOT_CA {
        return vec![Key::new("", head.namespace.clone())];
    }
    let published = head.name == certificates::CONFIG_MAP && head.namespace == certificates::NAMESPACE;
    if published { view.of::<Namespace>().iter().map(Key::of).collect() } else { Vec::new() }
}

fn plan_root_ca(world: &World<'_>, key: &Key, ca_pem: &str) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    if !is_open(world.view, &key.name) {
        return Ok(plan);
    }
    let published = world.view.find::<ConfigMap>(certificates::NAMESPACE, certificates::CONFIG_MAP)?;
    let published = published.and_then(|map| map.data).and_then(|mut data| data.remove(certificates::CA));
    let data = |pem: &str| Some(BTreeMap::from([(CA_KEY.to_owned(), pem.to_owned())]));
    match (world.view.get::<ConfigMap>(&key.name, ROOT_CA), published) {
        (None, published) => {
            let data = data(published.as_deref().unwrap_or(ca_pem));
            plan.act(create(&ConfigMap { metadata: named(&key.name, ROOT_CA), data, ..ConfigMap::default() }, None)?);
        }
        // What is there may be newer than what this leader began with.
        (Some(_), None) => {}
        (Some(item), Some(pem)) => {
            let present: ConfigMap = decode(item)?;
            plan.act(change(&present, &ConfigMap { data: data(&pem), ..present.clone() }, "")?);
        }
    }
    Ok(plan)
}

/// Does the namespace exist and take new objects?
fn is_open(view: &View, namespace: &str) -> bool {
    view.get::<Namespace>("", namespace).is_some_and(|n| n.object.head.deleting.is_none())
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), namespace: Some(namespace.into()), ..ObjectMeta::default() }
}

/// The namespace in which the object of this name has gone.
fn gone(delta: &Delta, name: &str) -> Vec<Key> {
    let gone = delta.old.as_ref().filter(|i| delta.new.is_none() && i.object.head.name == name);
    gone.map(|i| Key::new("", i.object.head.namespace.clone())).into_iter().collect()
}
