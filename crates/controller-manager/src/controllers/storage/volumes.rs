//! The volume's side of binding: its phase, and what becomes of it when its claim is gone.

use super::patch;
use super::rows::{BOUND_BY_CONTROLLER, ClaimRow, VolumeRow};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Guard, Plan, Ref};
use kybern_reconcile::view::World;
use serde_json::{Value, json};

/// Brings a volume's phase up to what its claim says.
pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<PersistentVolume>("", &key.name) else { return Ok(Plan::none()) };
    let Some(row) = item.row::<VolumeRow>() else { return Ok(Plan::none()) };
    let mut plan = Plan::none();
    let Some((name, uid)) = row.claim.as_ref().filter(|(_, uid)| !uid.is_empty()) else {
        // Free, or set aside for a claim that has not come yet.
        set_phase(world, item, row, "Available", &mut plan);
        return Ok(plan);
    };
    let claim = world.view.get::<PersistentVolumeClaim>(&name.namespace, &name.name);
    let Some(claim) = claim.filter(|c| c.object.head.uid == *uid).and_then(Item::row::<ClaimRow>) else {
        if row.phase != "Released" && row.phase != "Failed" {
            // The view may lack a claim that was made just now: ask the server.
            let object = Ref::typed::<PersistentVolumeClaim>(name.namespace.clone(), name.name.clone());
            plan.require(Guard::Absent { object, uid: uid.clone() });
            set_phase(world, item, row, "Released", &mut plan);
        }
        return Ok(plan);
    };
    if claim.volume == item.object.head.name {
        set_phase(world, item, row, "Bound", &mut plan);
    } else if !claim.volume.is_empty() && row.is_bound_by_controller {
        // The claim went to another volume: this one is free again.
        let annotations = json!({BOUND_BY_CONTROLLER: Value::Null});
        let change = json!({"metadata": {"annotations": annotations}, "spec": {"claimRef": Value::Null}});
        plan.act(patch::<PersistentVolume>(item, "", change));
    } else if !claim.volume.is_empty() {
        plan.act(patch::<PersistentVolume>(item, "", json!({"spec": {"claimRef": {"uid": Value::Null}}})));
    }
    Ok(plan)
}

fn set_phase(world: &World<'_>, item: &Item, row: &VolumeRow, phase: &str, plan: &mut Plan) {
    if row.phase != phase {
        let status = json!({"phase": phase, "lastPhaseTransitionTime": world.time(), "message": Value::Null});
        plan.act(patch::<PersistentVolume>(item, "status", json!({ "status": status })));
    }
}
