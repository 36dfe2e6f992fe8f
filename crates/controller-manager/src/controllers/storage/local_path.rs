//! Volumes on the nodes' own disks: made for the node that the scheduler chose, given back through it.
//!
//! A node says by an annotation where it keeps volumes. It makes a volume's directory when a pod first
//! uses it; to have it removed, see [`super::reclaim`].

use super::reclaim::{self, NODE};
use super::rows::{ClaimRow, ClassRow, PROVISIONED_BY, SELECTED_NODE, VolumeRow};
use super::{VOLUME, patch};
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Announce, Note, Plan, create, reference};
use kybern_reconcile::view::{View, World, decode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What classes name to get such volumes.
pub(super) const PROVISIONER: &str = "kybern.io/local-path";
/// Annotation of a node: the directory of its volumes.
const DIRECTORY: &str = "kybern.io/local-path";
const HOST_NAME: &str = "kubernetes.io/hostname";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "local-path-provisioner",
        watches: vec![
            Watch::primary::<PersistentVolumeClaim>(),
            Watch::mapped::<PersistentVolume>(|delta, _| {
                delta.latest().map(|v| super::volume_key(&v.object.head.name)).into_iter().collect()
            }),
            Watch::read::<StorageClass>(),
            Watch::mapped::<Node>(of_node),
        ],
        writes: vec![
            Access::to::<PersistentVolume>(&["create", "delete", "patch"]),
            Access::to::<PersistentVolumeClaim>(&["patch"]),
            Access::to::<Node>(&["patch"]),
        ],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(|world, key| if key.kind == VOLUME { reclaim::plan(world, key) } else { plan(world, key) }),
    }
}

/// A node concerns the claims that wait for it, and the volumes whose end it reports.
fn of_node(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(node) = delta.latest() else { return Vec::new() };
    let waits = |i: &&Item| i.row::<ClaimRow>().is_some_and(|c| !c.is_bound && c.node == node.object.head.name);
    let claims = view.of::<PersistentVolumeClaim>().iter().filter(waits).map(Key::of);
    claims.chain(reclaim::asked(node).into_keys().map(|name| super::volume_key(&name))).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<PersistentVolumeClaim>(&key.namespace, &key.name) else {
        return Ok(Plan::none());
    };
    let Some(row) = item.row::<ClaimRow>() else { return Ok(Plan::none()) };
    let class = world.view.get::<StorageClass>("", &row.class).and_then(Item::row::<ClassRow>);
    let Some(class) = class.filter(|c| c.provisioner == PROVISIONER) else { return Ok(Plan::none()) };
    if row.is_bound {
        return grow(world, item, row, class);
    }
    if !row.volume.is_empty() {
        return Ok(Plan::none());
    }
    let name = format!("pvc-{}", item.object.head.uid);
    let is_made = world.view.get::<PersistentVolume>("", &name).is_some();
    if is_made || item.object.head.deleting.is_some() || class.waits && row.node.is_empty() {
        return Ok(Plan::none());
    }
    let mut plan = Plan::none();
    match place(world, row)? {
        Ok(place) => {
            let claim: PersistentVolumeClaim = decode(item)?;
            plan.act(create(&volume(item, claim, class, row, (name, place)), Some(announce(item)))?);
        }
        Err(why) => {
            let about = reference::<PersistentVolumeClaim>(&item.object);
            let message = format!("failed to provision volume with StorageClass {:?}: {why}", row.class);
            plan.note(Note { about, warning: true, reason: "ProvisioningFailed".into(), message });
            if !row.node.is_empty() && world.view.get::<Node>("", &row.node).is_none() {
                // The node is gone: the scheduler is to choose again.
                let change = json!({"metadata": {"annotations": {SELECTED_NODE: Value::Null}}});
                plan.act(patch::<PersistentVolumeClaim>(item, "", change));
            }
        }
    }
    Ok(plan)
}

/// A volume on a node's disk is a directory: it is as large as its claim wishes.
fn grow(world: &World<'_>, claim: &Item, row: &ClaimRow, class: &ClassRow) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<PersistentVolume>("", &row.volume) else { return Ok(plan) };
    let volume = item.row::<VolumeRow>().filter(|v| v.provisioner == PROVISIONER && v.size < row.size);
    if volume.is_some_and(|v| v.claim.as_ref().is_some_and(|(_, uid)| *uid == claim.object.head.uid)) && class.grows {
        let claim: PersistentVolumeClaim = decode(claim)?;
        let size = claim.spec.and_then(|s| s.resources).and_then(|r| r.requests);
        plan.act(patch::<PersistentVolume>(item, "", json!({"spec": {"capacity": size}})));
    }
    Ok(plan)
}

/// Where a volume is made.
struct Place {
    node: String,
    host_name: String,
    directory: String,
}

/// Where, or why nowhere.
fn place(world: &World<'_>, claim: &ClaimRow) -> Result<Result<Place, String>, Error> {
    if claim.is_block {
        return Ok(Err("volumes on a node's disk have no volumeMode Block".into()));
    }
    if let Some(mode) = claim.modes.iter().find(|m| !matches!(m.as_str(), "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Ok(Err(format!("volumes on a node's disk have no access mode {mode}")));
    }
    if claim.selector.is_some() {
        return Ok(Err("claim.spec.selector is not supported".into()));
    }
    if claim.node.is_empty() {
        return Ok(Err("no node was chosen: the class needs volumeBindingMode WaitForFirstConsumer".into()));
    }
    let Some(node) = world.view.find::<Node>("", &claim.node)? else {
        return Ok(Err(format!("node {:?} not found", claim.node)));
    };
    let of = |map: Option<BTreeMap<String, String>>, key: &str| map.and_then(|m| m.get(key).cloned());
    let host_name = of(node.metadata.labels, HOST_NAME).unwrap_or_else(|| claim.node.to_string());
    let directory = of(node.metadata.annotations, DIRECTORY);
    let place = directory.map(|directory| Place { node: claim.node.to_string(), host_name, directory });
    Ok(place.ok_or_else(|| format!("node {:?} keeps no volumes: it has no annotation {DIRECTORY}", claim.node)))
}

fn volume(
    item: &Item,
    claim: PersistentVolumeClaim,
    class: &ClassRow,
    row: &ClaimRow,
    (name, place): (String, Place),
) -> PersistentVolume {
    let spec = claim.spec.unwrap_or_default();
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: HOST_NAME.into(),
            operator: "In".into(),
            values: Some(vec![place.host_name]),
        }]),
        ..NodeSelectorTerm::default()
    };
    let annotations = [(PROVISIONED_BY, PROVISIONER.to_owned()), (NODE, place.node)];
    PersistentVolume {
        metadata: ObjectMeta {
            annotations: Some(annotations.map(|(k, v)| (k.to_owned(), v)).into()),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: spec.resources.and_then(|r| r.requests),
            access_modes: spec.access_modes,
            persistent_volume_reclaim_policy: Some(class.reclaim.to_string()),
            storage_class_name: Some(row.class.to_string()),
            volume_mode: Some("Filesystem".into()),
            mount_options: (!class.mount_options.is_empty()).then(|| class.mount_options.clone()),
            local: Some(LocalVolumeSource { path: format!("{}/{name}", place.directory), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            claim_ref: Some(reference::<PersistentVolumeClaim>(&item.object)),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

fn announce(claim: &Item) -> Announce {
    Announce {
        about: reference::<PersistentVolumeClaim>(&claim.object),
        done: ("ProvisioningSucceeded", format!("Successfully provisioned volume pvc-{}", claim.object.head.uid)),
        failed: ("ProvisioningFailed", "failed to create the volume: ".into()),
    }
}
