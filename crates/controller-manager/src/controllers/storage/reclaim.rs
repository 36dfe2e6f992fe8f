//! Volumes on nodes' disks are given back through their node, which alone can remove the files.
//!
//! The controller asks by an annotation of the Node, `reclaim.kybern.io/VOLUME: delete`; the node removes
//! the directory of that volume below its own storage directory and answers with `done`. Then the volume
//! goes, and the annotation after it. So a node needs no right over volumes, and no word of the API
//! makes it remove anything else.

use super::local_path::PROVISIONER;
use super::patch;
use super::rows::VolumeRow;
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kybern_client::store::Item;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Guard, Plan, Ref, delete};
use kybern_reconcile::view::{World, decode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Annotation of a volume: the node that has it.
pub(super) const NODE: &str = "kybern.io/node";
/// Before a volume's name, the annotation of a Node.
const ASK: &str = "reclaim.kybern.io/";

/// The volumes that a node was asked to remove, and what it answered. One that cannot be read was
/// asked nothing.
pub(super) fn asked(node: &Item) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Parts {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    struct Meta {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let all = node.object.view::<Parts>().map(|p| p.metadata.annotations).unwrap_or_default();
    all.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(ASK)?.to_owned(), value))).collect()
}

/// Removes a volume that was released, step by step.
pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<PersistentVolume>("", &key.name) else {
        for node in world.view.of::<Node>().iter().filter(|n| asked(n).contains_key(key.name.as_str())) {
            // The view may lack a volume that is there: its node must not be told twice.
            plan.require(Guard::Absent {
                object: Ref::typed::<PersistentVolume>("", key.name.clone()),
                uid: "".into(),
            });
            plan.act(tell(node, &key.name, Value::Null));
        }
        return Ok(plan);
    };
    let Some(row) = item.row::<VolumeRow>().filter(|r| r.provisioner == PROVISIONER) else { return Ok(plan) };
    if row.phase != "Released" || !row.deletes || item.object.head.deleting.is_some() {
        return Ok(plan);
    }
    let volume: PersistentVolume = decode(item)?;
    let node = volume.metadata.annotations.as_ref().and_then(|a| a.get(NODE)).cloned().unwrap_or_default();
    let resource = typed::resource::<PersistentVolume>();
    let Some(node) = world.view.get::<Node>("", &node) else {
        // With the node its disk has gone.
        plan.require(Guard::Absent { object: Ref::typed::<Node>("", node), uid: "".into() });
        plan.act(delete(&resource, &item.object, None));
        return Ok(plan);
    };
    match asked(node).get(key.name.as_str()).map(String::as_str) {
        None => plan.act(tell(node, &key.name, json!("delete"))),
        Some("done") => plan.act(delete(&resource, &item.object, None)),
        Some(_) => {}
    }
    Ok(plan)
}

fn tell(node: &Item, volume: &str, word: Value) -> kybern_reconcile::plan::Action {
    patch::<Node>(node, "", json!({"metadata": {"annotations": {format!("{ASK}{volume}"): word}}}))
}
