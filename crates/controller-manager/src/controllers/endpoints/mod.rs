//! Which pods answer for a Service: EndpointSlices and, for older readers, Endpoints.
//!
//! `backend` reads pods once for both; `slices` and `legacy` project them. `mirror` makes slices of
//! Endpoints that are kept by hand.

mod backend;
mod legacy;
mod mirror;
mod slices;

use crate::ownership::selecting;
use crate::rows::PodRow;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::view::View;
use smol_str::SmolStr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// On slices and endpoints of a Service without a cluster IP.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The EndpointSlice controller.
pub(crate) fn slices() -> ControllerDef {
    ControllerDef {
        name: "endpointslice-controller",
        watches: vec![
            Watch::primary::<Service>(),
            Watch::mapped::<Pod>(services_of_pod),
            Watch::mapped::<EndpointSlice>(service_of_slice),
            Watch::read::<Node>(),
        ],
        writes: vec![
            Access::to::<EndpointSlice>(&["create", "update", "patch", "delete"]),
            Access::sub::<Service>("finalizers", &["update"]),
        ],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(slices::plan),
    }
}

/// The Endpoints controller.
pub(crate) fn endpoints() -> ControllerDef {
    ControllerDef {
        name: "endpoint-controller",
        watches: vec![
            Watch::primary::<Service>(),
            Watch::mapped::<Pod>(services_of_pod),
            Watch::primary::<Endpoints>(),
        ],
        writes: vec![Access::to::<Endpoints>(&["create", "update", "patch", "delete"])],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(legacy::plan),
    }
}

/// The EndpointSlice mirroring controller.
pub(crate) fn mirroring() -> ControllerDef {
    ControllerDef {
        name: "endpointslicemirroring-controller",
        watches: vec![
            Watch::primary::<Endpoints>(),
            Watch::primary::<Service>(),
            Watch::mapped::<EndpointSlice>(service_of_slice),
        ],
        writes: vec![
            Access::to::<EndpointSlice>(&["create", "update", "patch", "delete"]),
            Access::sub::<Endpoints>("finalizers", &["update"]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(mirror::plan),
    }
}

/// A pod concerns the services that select it now and those that selected it before, if anything
/// they publish has changed.
fn services_of_pod(delta: &Delta, view: &View) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&delta.old, &delta.new)
        && publishes_the_same(old, new)
    {
        return Vec::new();
    }
    let mut keys: Vec<Key> =
        [&delta.old, &delta.new].into_iter().flatten().flat_map(|i| selecting::<Service>(view, &i.object)).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Would both states of a pod show the same in endpoints? (Its ports are fixed at creation.)
fn publishes_the_same(old: &Item, new: &Item) -> bool {
    let shown = |i: &Item| i.row::<PodRow>().map(|r| (r.ready, r.phase.is_terminal(), r.node.clone(), r.ips.clone()));
    let (a, b) = (&old.object.head, &new.object.head);
    a.labels == b.labels && a.deleting.is_some() == b.deleting.is_some() && a.uid == b.uid && shown(old) == shown(new)
}

fn service_of_slice(delta: &Delta, _: &View) -> Vec<Key> {
    let key = |i: &Item| Some(Key::new(i.object.head.namespace.clone(), i.object.head.label(slices::SERVICE_NAME)?));
    let mut keys: Vec<Key> = [&delta.old, &delta.new].into_iter().flatten().filter_map(key).collect();
    keys.dedup();
    keys
}

/// Does this controller keep endpoints for the Service? Not without a selector: others do then.
fn is_ours(service: &Service, namespace_of: &SmolStr) -> bool {
    let spec = service.spec.clone().unwrap_or_default();
    let selects = spec.selector.is_some_and(|s| !s.is_empty());
    selects
        && spec.type_.as_deref() != Some("ExternalName")
        && !namespace_of.is_empty()
        && service.metadata.deletion_timestamp.is_none()
}

fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

/// The Service's own labels and the mark of a headless one.
fn service_labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}
