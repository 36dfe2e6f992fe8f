//! Says of every FlowSchema whether its priority level exists (condition Dangling).

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, FlowSchemaCondition, PriorityLevelConfiguration};
use kybern_client::store::{Delta, Item};
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, change};
use kybern_reconcile::view::{View, World};
use std::sync::Arc;

const DANGLING: &str = "Dangling";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "flow-schema-controller",
        watches: vec![Watch::primary::<FlowSchema>(), Watch::mapped::<PriorityLevelConfiguration>(all)],
        writes: vec![Access::sub::<FlowSchema>("status", &["update", "patch"])],
        seeds: Vec::new(),
        workers: 1,
        plan: Arc::new(plan),
    }
}

/// A level that came or went concerns whoever names it; there are few schemas.
fn all(delta: &Delta, view: &View) -> Vec<Key> {
    let came_or_went = delta.old.is_none() || delta.new.is_none();
    let schemas = view.of::<FlowSchema>();
    schemas.iter().filter(|_| came_or_went).map(|i: &Item| Key::of(i)).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let mut plan = Plan::none();
    let Some(stored) = world.view.find::<FlowSchema>("", &key.name)? else { return Ok(plan) };
    let level = stored.spec.as_ref().map(|s| s.priority_level_configuration.name.clone()).unwrap_or_default();
    let exists = world.view.get::<PriorityLevelConfiguration>("", &level).is_some();
    let (status, reason, outcome) =
        if exists { ("False", "Found", "and it exists") } else { ("True", "NotFound", "but there is no such object") };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" {outcome}");
    let mut told = stored.clone();
    let conditions = told.status.get_or_insert_default().conditions.get_or_insert_default();
    let place = conditions.iter().position(|c| c.type_.as_deref() == Some(DANGLING));
    let old = place.map(|p| conditions.remove(p)).unwrap_or_default();
    let same = old.status.as_deref() == Some(status);
    let since = old.last_transition_time.filter(|_| same).unwrap_or_else(|| world.time());
    conditions.push(FlowSchemaCondition {
        type_: Some(DANGLING.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(since),
    });
    plan.act(change(&stored, &told, "status")?);
    Ok(plan)
}
