//! Pods with stable names and storage, one for each ordinal.
//!
//! `identity` derives names, labels and volumes from ordinals; `claims` makes claims and hands them
//! over; `replicas` decides which pods come and go; `update` which are replaced by newer ones;
//! `status` reports. The history of templates is [`crate::revisions`].

mod claims;
mod identity;
mod replicas;
mod status;
mod update;

use crate::members::{Member, next_available};
use crate::ownership::{claim_where, watch_claimed};
use crate::revisions::{self, History, Progress, Subject};
use crate::rows::SelectorRow;
use claims::Claims;
use k8s_openapi::api::apps::v1::{ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kybern_api::object::Object;
use kybern_client::store::Delta;
use kybern_reconcile::Error;
use kybern_reconcile::def::{Access, ControllerDef, Key, Watch};
use kybern_reconcile::plan::{Plan, report};
use kybern_reconcile::view::{View, World, decode};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The definition.
pub(crate) fn def() -> ControllerDef {
    ControllerDef {
        name: "statefulset-controller",
        watches: vec![
            Watch::primary::<StatefulSet>(),
            watch_pods(),
            watch_claimed::<ControllerRevision, StatefulSet>(),
            Watch::mapped::<PersistentVolumeClaim>(sets_of_claim),
        ],
        writes: vec![
            Access::to::<StatefulSet>(&["update", "patch"]),
            Access::sub::<StatefulSet>("status", &["update", "patch"]),
            Access::sub::<StatefulSet>("finalizers", &["update"]),
            Access::to::<Pod>(&["create", "delete", "patch", "update"]),
            // An owner of a claim that blocks its owner's deletion.
            Access::sub::<Pod>("finalizers", &["update"]),
            Access::to::<PersistentVolumeClaim>(&["create", "patch", "update"]),
            Access::to::<ControllerRevision>(&["create", "delete", "patch", "update"]),
        ],
        seeds: Vec::new(),
        workers: 4,
        plan: Arc::new(plan),
    }
}

/// Pods concern the set that manages them, those that would take them, and the one whose name they
/// bear: a foreign pod of that name keeps the set's own away.
fn watch_pods() -> Watch {
    let claimed = watch_claimed::<Pod, StatefulSet>();
    Watch::mapped::<Pod>(move |delta, view| {
        let mut keys = (claimed.keys)(delta, view);
        let head = delta.latest().map(|i| &i.object.head);
        let named = head.and_then(|h| Some((h, identity::parse(&h.name)?.0)));
        if let Some((head, set)) = named.filter(|(h, set)| view.get::<StatefulSet>(&h.namespace, set).is_some()) {
            keys.push(Key::new(head.namespace.clone(), set));
        }
        keys
    })
}

/// The sets whose pods may wait for a claim of this name.
fn sets_of_claim(delta: &Delta, view: &View) -> Vec<Key> {
    let Some(head) = delta.latest().map(|i| &i.object.head) else { return Vec::new() };
    let Some((rest, _)) = identity::parse(&head.name) else { return Vec::new() };
    let sets = view.of::<StatefulSet>().in_namespace(&head.namespace);
    sets.filter(|i| rest.strip_suffix(i.object.head.name.as_str()).is_some_and(|r| r.ends_with('-')))
        .map(Key::of)
        .collect()
}

fn plan(world: &World<'_>, key: &Key) -> Result<Plan, Error> {
    let Some(item) = world.view.get::<StatefulSet>(&key.namespace, &key.name) else { return Ok(Plan::none()) };
    let Some(SelectorRow(selector)) = item.row() else { return Ok(Plan::none()) };
    let set: StatefulSet = decode(item)?;
    let owner = &item.object;
    let ours = |pod: &Object| {
        selector.matches(&*pod.head) && identity::parse(&pod.head.name).is_some_and(|(set, _)| set == owner.head.name)
    };
    let (owned, claims) = claim_where::<Pod, StatefulSet>(world.view, owner, ours);
    if !claims.is_empty() {
        return Ok(claims);
    }
    let template = set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let subject = Subject {
        owner,
        selector,
        annotations: set.metadata.annotations.as_ref(),
        template: &template,
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
        hash_label: "controller.kubernetes.io/hash",
    };
    let history = match revisions::history::<StatefulSet>(world.view, &subject)? {
        Progress::Pending(plan) => return Ok(plan),
        Progress::Ready(history) => history,
    };
    let pods = owned.into_iter().filter_map(Member::of);
    let pods = pods.filter_map(|m| Some((identity::parse(&m.object.head.name)?.1, m))).collect();
    let current = current(&set, &history, &template)?;
    let update = Version { name: history.present().name().to_owned(), template: template.clone() };
    Turn { world, owner, set: &set, pods, current, update, history: &history }.plan()
}

/// The revision that pods below the partition keep; the present one where it is not known (any more).
fn current(set: &StatefulSet, history: &History<'_>, present: &PodTemplateSpec) -> Result<Version, Error> {
    let name = set.status.as_ref().and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
    match history.find(name).filter(|r| r.name() != history.present().name()) {
        Some(revision) => Ok(Version { name: name.to_owned(), template: revision.template()? }),
        None => Ok(Version { name: history.present().name().to_owned(), template: present.clone() }),
    }
}

/// A revision by name, with its template.
struct Version {
    name: String,
    template: PodTemplateSpec,
}

/// One set and what there is of it, while a plan is made.
struct Turn<'a> {
    world: &'a World<'a>,
    owner: &'a Object,
    set: &'a StatefulSet,
    /// By ordinal.
    pods: BTreeMap<i64, Member<'a>>,
    current: Version,
    update: Version,
    history: &'a History<'a>,
}

impl<'a> Turn<'a> {
    fn plan(&self) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        plan.act(report::<StatefulSet>(self.owner, self.set.status.as_ref(), &self.status())?);
        if self.owner.head.deleting.is_none() {
            plan.extend(self.move_on()?);
        }
        plan.extend(self.clean_history());
        if let Some(at) = next_available(self.pods.values().copied(), self.min_ready(), self.world.now) {
            plan.at(at, self.world.now);
        }
        Ok(plan)
    }

    fn replicas(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1).max(0)
    }
    fn start(&self) -> i64 {
        let start = self.set.spec.as_ref().and_then(|s| s.ordinals.as_ref()).and_then(|o| o.start);
        start.unwrap_or(0).max(0).into()
    }
    /// The ordinals that shall have a pod.
    fn range(&self) -> RangeInclusive<i64> {
        self.start()..=self.start() + i64::from(self.replicas()) - 1
    }
    /// The pods of the range, the lowest ordinal first.
    fn kept(&self) -> impl DoubleEndedIterator<Item = (i64, &Member<'a>)> {
        let range = self.range();
        self.pods.iter().map(|(o, m)| (*o, m)).filter(move |(o, _)| range.contains(o))
    }
    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    /// Are pods made and deleted one after the other?
    fn is_ordered(&self) -> bool {
        self.set.spec.as_ref().and_then(|s| s.pod_management_policy.as_deref()) != Some("Parallel")
    }
    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
        strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }
    fn rolling(&self) -> Option<&'a RollingUpdateStatefulSetStrategy> {
        self.set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()
    }
    fn partition(&self) -> i64 {
        self.rolling().and_then(|r| r.partition).unwrap_or(0).max(0).into()
    }
    fn is_unavailable(&self, pod: &Member<'_>) -> bool {
        let available = pod.is_running_and_ready() && pod.is_available(self.min_ready(), self.world.now);
        !available || pod.is_deleting()
    }
    fn claims(&self) -> Claims<'a> {
        Claims { world: self.world, owner: self.owner, set: self.set }
    }

    /// Deletes revisions beyond the history limit that no pod has.
    fn clean_history(&self) -> Plan {
        let mut plan = Plan::none();
        let limit = self.set.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
        let Ok(limit) = usize::try_from(limit) else { return plan };
        let mut live: BTreeSet<&str> = self.pods.values().map(|m| m.label(identity::REVISION_LABEL)).collect();
        live.insert(&self.current.name);
        let dead: Vec<_> = self.history.old().filter(|r| !live.contains(r.name())).collect();
        for revision in dead.iter().take(dead.len().saturating_sub(limit)) {
            plan.act(revisions::forget(revision));
        }
        plan
    }
}
