//! One pod on each node that its template fits.
//!
//! `nodes` says what belongs on which node; `pod` makes the pod of a node, which the scheduler binds
//! there by affinity; `manage` decides what is created and deleted; `update` replaces pods of older
//! templates; `status` reports. The history of templates is [`crate::revisions`].

mod manage;
mod nodes;
mod pod;
mod status;
mod update;

use crate::members::{Member, next_available};
use crate::ownership::{claim, watch_claimed};
use crate::revisions::{self, History, Progress, Subject};
use crate::rows::{NodeRow, SelectorRow};
use crate::shares::{Round, share};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use kybern_api::object::Object;
use kybern_client::store::{Delta, Item};
use kybern_client::typed;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Action, Note, Plan, delete, reference, report};
use kybern_reconcile::view::{View, World, decode};
use nodes::Spot;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The label with the hash of the pod's revision.
const HASH_LABEL: &str = "controller-revision-hash";

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "daemon-set-controller",
        watches: vec![
            Watch::primary::<DaemonSet>(),
            watch_claimed::<Pod, DaemonSet>(),
            watch_claimed::<ControllerRevision, DaemonSet>(),
            Watch::mapped::<Node>(sets_of_node),
        ],
        writes: vec![
            Access::to::<DaemonSet>(&["update", "patch"]),
            Access::sub::<DaemonSet>("status", &["update", "patch"]),
            Access::sub::<DaemonSet>("finalizers", &["update"]),
            Access::to::<Pod>(&["create", "delete", "patch", "update"]),
            Access::to::<ControllerRevision>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 2,
        plan: Arc::new(plan),
    }
}

/// Every set, when a node comes, goes, or changes in what decides about pods; heartbeats do not.
fn sets_of_node(delta: &Delta, view: &View) -> Vec<Key> {
    let decisive = |i: &Item| (i.object.head.labels.clone(), i.row::<NodeRow>().map(|r| r.taints.clone()));
    if delta.old.is_some() && delta.old.as_ref().map(decisive) == delta.new.as_ref().map(decisive) {
        return Vec::new();
    }
    view.of::<DaemonSet>().iter().map(Key::of).collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<DaemonSet>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let owner = &item.object;
    if owner.head.deleting.is_some() {
        return Ok(Plan::none());
    }
    if selector.is_everything() {
        return Ok(selecting_all(owner));
    }
    let (owned, claims) = claim::<Pod, DaemonSet>(world.view, owner, selector);
    if !claims.is_empty() {
        return Ok(claims);
    }
    let set: DaemonSet = decode(item)?;
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let subject = Subject {
        owner,
        selector,
        annotations: set.metadata.annotations.as_ref(),
        template: &template,
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
        hash_label: HASH_LABEL,
    };
    let history = match revisions::history::<DaemonSet>(world.view, &subject)? {
        Progress::Pending(plan) => return Ok(plan),
        Progress::Ready(history) => history,
    };
    let hash = history.present().label(HASH_LABEL);
    if hash.is_empty() {
        let mut plan = Plan::none();
        plan.act(revisions::label(history.present(), HASH_LABEL));
        return Ok(plan);
    }
    let pods: Vec<Member<'_>> = owned.into_iter().filter_map(Member::of).collect();
    let spots = nodes::spots(world.view, &template, &pods)?;
    Turn { world, owner, set: &set, template: &template, pods, spots, hash, history: &history }.plan()
}

fn selecting_all(owner: &Object) -> Plan {
    let mut plan = Plan::none();
    plan.note(Note {
        about: reference::<DaemonSet>(owner),
        warning: true,
        reason: "SelectingAll".into(),
        message: "This daemon set is selecting all pods. A non-empty selector is required.".into(),
    });
    plan
}

/// One set, its pods and the nodes, while a plan is made.
struct Turn<'a> {
    world: &'a World<'a>,
    owner: &'a Object,
    set: &'a DaemonSet,
    template: &'a PodTemplateSpec,
    pods: Vec<Member<'a>>,
    spots: Vec<Spot<'a>>,
    /// Of the present template.
    hash: &'a str,
    history: &'a History<'a>,
}

impl<'a> Turn<'a> {
    fn plan(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        plan.act(report::<DaemonSet>(self.owner, self.set.status.as_ref(), &self.status())?);
        plan.extend(self.merge_duplicates());
        let managed = self.manage()?;
        // Updates count on what manage() leaves: one step, one look.
        let steady = managed.is_empty();
        plan.extend(managed);
        if steady && self.is_rolling() {
            plan.extend(self.roll()?);
        }
        plan.extend(self.clean_history());
        if let Some(at) = next_available(self.pods.iter().copied(), self.min_ready(), self.world.now) {
            plan.at(at, self.world.now);
        }
        Ok(plan)
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn is_available(&self, pod: &Member<'_>) -> bool {
        pod.is_available(self.min_ready(), self.world.now)
    }
    fn is_updated(&self, pod: &Member<'_>) -> bool {
        pod.label(HASH_LABEL) == self.hash
    }
    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
        strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }
    fn rolling(&self) -> Option<&'a RollingUpdateDaemonSet> {
        self.set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()
    }
    /// Nodes that shall have a pod.
    fn desired(&self) -> i32 {
        crate::members::count(&self.spots, |s| s.should_run)
    }
    /// Nodes that may have two pods while they are updated; shares round up.
    fn max_surge(&self) -> i32 {
        let surge = self.rolling().and_then(|r| r.max_surge.as_ref());
        surge.map_or(0, |v| share(v, self.desired(), Round::Up))
    }
    /// Nodes that may be without an available pod; 1 where neither limit leaves room.
    fn max_unavailable(&self) -> i32 {
        let limit = self.rolling().and_then(|r| r.max_unavailable.as_ref());
        let limit = limit.map_or(1, |v| share(v, self.desired(), Round::Up));
        if limit == 0 && self.max_surge() == 0 { 1 } else { limit }
    }
    fn delete(&self, pod: &Member<'_>) -> Action {
        let announce = crate::template::announce_delete::<DaemonSet>(self.owner);
        delete(&typed::resource::<Pod>(), pod.object, Some(announce))
    }

    /// Several revisions of the present template (adopted ones) become one, and so do their pods.
    fn merge_duplicates(&self) -> Plan {
        let mut plan = Plan::none();
        for revision in self.history.duplicates() {
            let hash = revision.label(HASH_LABEL);
            let pods = self.pods.iter().filter(|m| m.label(HASH_LABEL) == hash && !m.is_deleting());
            plan.batch(pods.map(|m| pod::relabel(m.object, self.hash)).collect());
            plan.act(revisions::forget(revision));
        }
        plan
    }

    /// Deletes revisions beyond the history limit that no pod has.
    fn clean_history(&self) -> Plan {
        let mut plan = Plan::none();
        let limit = self.set.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return plan };
        let live: BTreeSet<&str> = self.pods.iter().map(|m| m.label(HASH_LABEL)).collect();
        let duplicate = |name: &str| self.history.duplicates().any(|d| d.name() == name);
        let old: Vec<_> = self.history.old().filter(|r| !duplicate(r.name())).collect();
        let surplus = old.len().saturating_sub(limit);
        for revision in old.into_iter().filter(|r| !live.contains(r.label(HASH_LABEL))).take(surplus) {
            plan.act(revisions::forget(revision));
        }
        plan
    }
}
