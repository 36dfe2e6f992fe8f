//! Rolls a Deployment's pods from one template to the next by scaling its ReplicaSets.
//!
//! `sets` reads the world and tells new from old; `revision` keeps the new set and the annotations
//! that `kubectl rollout` reads; `rollout` and `proportion` decide sizes; `status` reports;
//! `annotations` knows the words. Rollbacks are kubectl's: it writes an old template back.

mod annotations;
mod proportion;
mod revision;
mod rollout;
mod sets;
mod status;

use crate::ownership::{claim, watch_claimed};
use crate::rows::SelectorRow;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Note, Plan, reference};
use kybern_reconcile::view::{World, decode};
use sets::{Set, Sets};
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "deployment-controller",
        watches: vec![
            Watch::primary::<Deployment>(),
            watch_claimed::<ReplicaSet, Deployment>(),
            Watch::mapped::<Pod>(recreate_waits),
        ],
        writes: vec![
            Access::to::<Deployment>(&["update", "patch"]),
            Access::sub::<Deployment>("status", &["update", "patch"]),
            Access::sub::<Deployment>("finalizers", &["update"]),
            Access::to::<ReplicaSet>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(plan),
    }
}

/// A pod that is gone may be what a Recreate rollout waits for.
fn recreate_waits(delta: &kybern_client::store::Delta, view: &kybern_reconcile::view::View) -> Vec<Key> {
    let (Some(old), None) = (&delta.old, &delta.new) else { return Vec::new() };
    let head = &old.object.head;
    let Some(set) = head.controller().and_then(|set| view.get::<ReplicaSet>(&head.namespace, &set.name)) else {
        return Vec::new();
    };
    set.object.head.controller().map(|d| Key::new(head.namespace.clone(), d.name.clone())).into_iter().collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<Deployment>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let (owned, claims) = claim::<ReplicaSet, Deployment>(world.view, &item.object, selector);
    if !claims.is_empty() {
        return Ok(claims);
    }
    let deployment: Deployment = decode(item)?;
    if selector.is_everything() {
        let mut plan = Plan::none();
        let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
        plan.note(Note {
            about: reference::<Deployment>(&item.object),
            warning: true,
            reason: "SelectingAll".into(),
            message,
        });
        return Ok(plan);
    }
    let sets = owned.into_iter().map(Set::read).collect::<Result<Vec<_>, _>>()?;
    Rollout { world, item, sets: Sets::sort(&deployment, sets), deployment }.plan()
}

/// One Deployment and its sets, while a plan is made.
struct Rollout<'a> {
    world: &'a World<'a>,
    item: &'a kybern_client::store::Item,
    deployment: Deployment,
    sets: Sets<'a>,
}

impl Rollout<'_> {
    fn plan(&self) -> Result<Plan, Error> {
        if self.item.object.head.deleting.is_some() {
            return self.report(&status::Progress::Quiet);
        }
        if self.is_paused() || self.is_scaling() {
            return self.hold();
        }
        if self.sets.new.is_none() && !self.old_comes_first() {
            return self.make_set();
        }
        let mut plan = self.refresh_set()?;
        if !plan.is_empty() {
            // Sizes follow once the view shows the set as it is now.
            plan.extend(self.report(&status::Progress::Found)?);
            plan.extend(self.number());
            return Ok(plan);
        }
        plan = self.roll()?;
        let moving = !plan.is_empty();
        plan.extend(self.report(&status::Progress::Rolling)?);
        plan.extend(self.number());
        if !moving && self.is_complete() {
            plan.extend(self.clean_history());
        }
        Ok(plan)
    }

    /// Paused or just resized: keep the proportions, start nothing.
    fn hold(&self) -> Result<Plan, Error> {
        let mut plan = self.refresh_set()?;
        if plan.is_empty() {
            plan = self.resize()?;
        }
        plan.extend(self.report(&status::Progress::Quiet)?);
        plan.extend(self.number());
        if self.is_paused() {
            plan.extend(self.clean_history());
        }
        Ok(plan)
    }

    fn is_paused(&self) -> bool {
        self.deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false)
    }

    /// Does an active set remember another size of the Deployment than it has now?
    fn is_scaling(&self) -> bool {
        let desired = self.desired();
        self.sets
            .all()
            .filter(|s| s.replicas() > 0)
            .any(|s| s.annotated(annotations::DESIRED).is_some_and(|n| n != desired))
    }

    /// Sets a set's size, remembers the Deployment's, and says so.
    fn scale(&self, set: &Set<'_>, replicas: i32) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        let mut sized = set.object.clone();
        if let Some(spec) = sized.spec.as_mut() {
            spec.replicas = Some(replicas);
        }
        annotations::remember_size(&mut sized, self.desired(), self.limit());
        let action: Option<Action> = kybern_reconcile::plan::change(&set.object, &sized, "")?;
        plan.act(action);
        if replicas != set.replicas() {
            plan.note(self.scaled(set.name(), set.replicas(), replicas));
        }
        Ok(plan)
    }

    fn scaled(&self, set: &str, from: i32, to: i32) -> Note {
        let direction = if to > from { "up" } else { "down" };
        Note {
            about: reference::<Deployment>(&self.item.object),
            warning: false,
            reason: "ScalingReplicaSet".into(),
            message: format!("Scaled {direction} replica set {set} from {from} to {to}"),
        }
    }

    /// Deletes old sets beyond the history limit.
    fn clean_history(&self) -> Plan {
        let mut plan = Plan::none();
        let limit = self.deployment.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
        let mut old: Vec<&Set<'_>> = self.sets.old.iter().filter(|s| s.item.object.head.deleting.is_none()).collect();
        old.sort_by_key(|s| (s.revision(), s.item.object.head.created));
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let resource = kybern_client::typed::resource::<ReplicaSet>();
        for set in old.into_iter().take(surplus).filter(|s| s.is_drained()) {
            plan.act(kybern_reconcile::plan::delete(&resource, &set.item.object, None));
        }
        plan
    }
}
