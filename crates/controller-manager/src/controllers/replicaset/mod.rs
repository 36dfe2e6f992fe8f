//! Keeps as many pods as a ReplicaSet or a ReplicationController asks for.
//!
//! Both kinds say the same in the same fields (but for the form of the selector, which their rows
//! read), so one plan serves both, with the kind as its parameter.

mod rank;
mod status;

use crate::members::{Member, next_available};
use crate::ownership::{claim, watch_claimed};
use crate::rows::SelectorRow;
use crate::template::{announce_create, announce_delete, pod};
use k8s_openapi::Resource as Kind;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use kybern_api::object::Object;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Plan, create, delete, report};
use kybern_reconcile::view::{World, decode};
use serde::Deserialize;
use std::sync::Arc;

/// Pods created or deleted by one plan at most.
const BURST: usize = 500;

/// The controller of ReplicaSets.
pub(crate) fn def() -> ControllerDef {
    define::<ReplicaSet>("replicaset-controller")
}

/// The controller of ReplicationControllers.
pub(crate) fn replication_controllers() -> ControllerDef {
    define::<ReplicationController>("replication-controller")
}

fn define<K: Kind + 'static>(name: &'static str) -> ControllerDef {
    ControllerDef {
        name,
        watches: vec![Watch::primary::<K>(), watch_claimed::<Pod, K>()],
        writes: vec![
            Access::to::<K>(&["update", "patch"]),
            Access::sub::<K>("status", &["update", "patch"]),
            Access::sub::<K>("finalizers", &["update"]),
            Access::to::<Pod>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 8,
        plan: Arc::new(plan::<K>),
    }
}

/// What is read of either kind. Their statuses are spelt alike.
#[derive(Deserialize)]
struct Set {
    #[serde(default)]
    spec: Spec,
    status: Option<ReplicaSetStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i32>,
    min_ready_seconds: i32,
    template: Option<PodTemplateSpec>,
}

impl Set {
    fn wanted(&self) -> usize {
        usize::try_from(self.spec.replicas.unwrap_or(1)).unwrap_or(0)
    }
}

fn plan<K: Kind>(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<K>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let owner = &item.object;
    let set: Set = decode(item)?;
    let (owned, claims) = claim::<Pod, K>(world.view, owner, selector);
    if !claims.is_empty() {
        // Pods that are about to be adopted must not be made a second time.
        return Ok(claims);
    }
    let mut plan = Plan::none();
    let all: Vec<Member<'_>> = owned.into_iter().filter_map(Member::of).collect();
    let pods: Vec<Member<'_>> = all.iter().copied().filter(Member::is_active).collect();

    let status = status::status::<K>(world, owner, &set, &all, &pods);
    plan.act(report::<K>(owner, set.status.as_ref(), &status)?);
    if owner.head.deleting.is_none() {
        plan.batch(scale::<K>(world, owner, &set, &pods)?);
    }
    if let Some(at) = next_available(pods.iter().copied(), set.spec.min_ready_seconds, world.now) {
        plan.at(at, world.now);
    }
    Ok(plan)
}

/// Creates what is missing or deletes what is too much.
fn scale<K: Kind>(world: &World<'_>, owner: &Object, set: &Set, pods: &[Member<'_>]) -> Result<Vec<Action>, Error> {
    let wanted = set.wanted();
    if pods.len() < wanted {
        let missing = (wanted - pods.len()).min(BURST);
        let pod = pod::<K>(owner, set.spec.template.clone().unwrap_or_default());
        let action = create(&pod, Some(announce_create::<K>(owner)))?;
        return Ok(vec![action; missing]);
    }
    let surplus = (pods.len() - wanted).min(BURST);
    if surplus == 0 {
        return Ok(Vec::new());
    }
    let resource = typed::resource::<Pod>();
    let going = rank::victims(pods, surplus, &rank::neighbours(world.view, owner), world.now);
    Ok(going.iter().map(|m| delete(&resource, m.object, Some(announce_delete::<K>(owner)))).collect())
}
