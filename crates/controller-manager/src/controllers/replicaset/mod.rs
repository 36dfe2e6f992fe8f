//! Keeps as many pods as a ReplicaSet asks for.

mod rank;
mod status;

use crate::ownership::{claim, watch_claimed};
use crate::rows::{PodRow, SelectorRow};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kybern_api::object::Object;
use kybern_client::store::Item;
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Announce, Plan, change, controller_reference, create, delete, later, reference};
use kybern_reconcile::view::{World, decode};
use std::sync::Arc;
use std::time::Duration;

/// Pods created or deleted by one plan at most.
const BURST: usize = 500;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "replicaset-controller",
        watches: vec![Watch::primary::<ReplicaSet>(), watch_claimed::<Pod, ReplicaSet>()],
        writes: vec![
            Access::to::<ReplicaSet>(&["update", "patch"]),
            Access::sub::<ReplicaSet>("status", &["update", "patch"]),
            Access::sub::<ReplicaSet>("finalizers", &["update"]),
            Access::to::<Pod>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 8,
        plan: Arc::new(plan),
    }
}

/// A pod of the set and its row.
#[derive(Clone, Copy)]
struct Member<'a> {
    object: &'a Object,
    row: &'a PodRow,
}

impl Member<'_> {
    fn is_active(&self) -> bool {
        !self.row.phase.is_terminal() && self.object.head.deleting.is_none()
    }
    /// When it counts (or began to count) as available; None while it is not ready.
    fn available_at(&self, min_ready: i32) -> Option<Timestamp> {
        let since = Timestamp::from_second(self.row.ready_since).ok()?;
        self.row.ready.then(|| later(since, Duration::from_secs(min_ready.max(0).unsigned_abs().into())))
    }
}

fn members<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<Member<'a>> {
    items.filter_map(|i| Some(Member { object: &i.object, row: i.row()? })).filter(Member::is_active).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<ReplicaSet>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let set: ReplicaSet = decode(item)?;
    let (owned, mut plan) = claim::<Pod, ReplicaSet>(world.view, &item.object, selector);
    let pods = members(owned.into_iter());

    let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1).max(0);
    let mut updated = set.clone();
    updated.status = Some(status::status(world, &set, &pods));
    plan.act(change(&set, &updated, "status")?);
    if item.object.head.deleting.is_none() {
        plan.batch(scale(world, &item.object, &set, &pods, usize::try_from(wanted).unwrap_or(0))?);
    }
    if let Some(at) = status::next_available(world.now, &set, &pods) {
        plan.at(at, world.now);
    }
    Ok(plan)
}

/// Creates what is missing or deletes what is too much.
fn scale(
    world: &World<'_>,
    owner: &Object,
    set: &ReplicaSet,
    pods: &[Member<'_>],
    wanted: usize,
) -> Result<Vec<Action>, Error> {
    if pods.len() < wanted {
        let missing = (wanted - pods.len()).min(BURST);
        let action = create(&pod(owner, set), Some(announce_create(owner)))?;
        return Ok(vec![action; missing]);
    }
    let surplus = (pods.len() - wanted).min(BURST);
    if surplus == 0 {
        return Ok(Vec::new());
    }
    let resource = typed::resource::<Pod>();
    let ranked = rank::victims_first(pods, &rank::neighbours(world.view, owner));
    Ok(ranked.iter().take(surplus).map(|m| delete(&resource, m.object, Some(announce_delete(owner)))).collect())
}

fn pod(owner: &Object, set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    // Kubernetes cuts the prefix so that prefix and suffix fit into a name.
    let prefix: String = format!("{}-", owner.head.name).chars().take(248).collect();
    let metadata = ObjectMeta {
        generate_name: Some(prefix),
        namespace: Some(owner.head.namespace.to_string()),
        labels: meta.labels,
        annotations: meta.annotations,
        finalizers: meta.finalizers,
        owner_references: Some(vec![controller_reference::<ReplicaSet>(owner)]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec, status: None }
}

fn announce_create(owner: &Object) -> Announce {
    Announce {
        about: reference::<ReplicaSet>(owner),
        done: ("SuccessfulCreate", "Created pod: {}".into()),
        failed: ("FailedCreate", "Error creating: ".into()),
    }
}

fn announce_delete(owner: &Object) -> Announce {
    Announce {
        about: reference::<ReplicaSet>(owner),
        done: ("SuccessfulDelete", "Deleted pod: {}".into()),
        failed: ("FailedDelete", "Error deleting: ".into()),
    }
}
