//! Kinds of the core group.

mod binding;
mod component_status;
mod config_map;
mod endpoints;
mod endpoints_pack;
pub(super) mod event;
mod limit_range;
mod limit_range_rules;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_cells;
mod pod_selectors;
mod pod_template;
mod qos;
mod replication_controller;
mod resource_quota;
mod resource_quota_rules;
mod secret;
mod service;
mod service_account;
mod service_rules;
mod service_update;
pub(crate) mod storage_rules;

use crate::kind::{KindDef, View};
use crate::tree;
use serde_json::Value;

pub(super) fn rows() -> Vec<KindDef> {
    vec![
        binding::row(),
        component_status::row(),
        config_map::row(),
        endpoints::row(),
        event::row(),
        limit_range::row(),
        namespace::row(),
        node::row(),
        persistent_volume::row(),
        persistent_volume_claim::row(),
        pod::row(),
        pod_template::row(),
        replication_controller::row(),
        resource_quota::row(),
        secret::row(),
        service::row(),
        service_account::row(),
    ]
}

/// The phase of a volume or claim; one that is being deleted is Terminating.
fn phase(view: &View<'_>) -> Value {
    if view.head.deleting.is_some() { "Terminating".into() } else { tree::text(view.obj, "status.phase").into() }
}

/// The class of a volume or claim: the older annotation wins over the field.
fn storage_class(view: &View<'_>) -> Value {
    let annotation =
        tree::at(view.obj, "metadata.annotations").and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    annotation.and_then(Value::as_str).unwrap_or_else(|| tree::text(view.obj, "spec.storageClassName")).into()
}
