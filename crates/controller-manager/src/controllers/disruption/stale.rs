//! A pod marked for a disruption that never came is marked so no longer.

use super::PATIENCE;
use crate::rows::PodRow;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kybern_reconcile::Error;
use kybern_reconcile::def::Key;
use kybern_reconcile::plan::{Plan, change, later};
use kybern_reconcile::view::{World, decode};

pub(super) fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(item) = world.view.get::<Pod>(&key.namespace, &key.name) else { return Ok(plan) };
    let Some(row) = item.row::<PodRow>() else { return Ok(plan) };
    let Some(since) = row.disrupted.filter(|_| item.object.head.deleting.is_none() && !row.phase.is_terminal()) else {
        return Ok(plan);
    };
    let due = later(Timestamp::from_second(since).unwrap_or(Timestamp::UNIX_EPOCH), PATIENCE);
    if due > world.now {
        plan.at(due, world.now);
        return Ok(plan);
    }
    let pod: Pod = decode(item)?;
    let mut restored = pod.clone();
    let conditions = restored.status.get_or_insert_default().conditions.get_or_insert_default();
    if let Some(mark) = conditions.iter_mut().find(|c| c.type_ == "DisruptionTarget") {
        *mark = PodCondition {
            type_: "DisruptionTarget".into(),
            status: "False".into(),
            last_transition_time: Some(world.time()),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
    }
    plan.act(change(&pod, &restored, "status")?);
    Ok(plan)
}
