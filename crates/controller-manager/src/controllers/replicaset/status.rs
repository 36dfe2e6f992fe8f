//! What a ReplicaSet or ReplicationController reports.

use super::Set;
use crate::members::{Member, count, some};
use k8s_openapi::Resource as Kind;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use kybern_api::meta::selector::Selector;
use kybern_api::object::Object;
use kybern_reconcile::view::World;
use std::cmp::Ordering;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status that follows from all pods and the active ones among them.
pub(super) fn status<K: Kind>(
    world: &World<'_>,
    owner: &Object,
    set: &Set,
    all: &[Member<'_>],
    pods: &[Member<'_>],
) -> ReplicaSetStatus {
    let min_ready = set.spec.min_ready_seconds;
    let template = template_selector(set);
    let old = set.status.clone().unwrap_or_default();
    // Only ReplicaSets know the field.
    let terminating = (K::KIND == ReplicaSet::KIND).then(|| count(all, |m| m.is_terminating()));
    // One walk: a set may have very many pods.
    let (mut labeled, mut ready, mut available) = (0, 0, 0);
    for member in pods {
        labeled += i32::from(template.matches(&*member.object.head));
        ready += i32::from(member.row.ready);
        available += i32::from(member.is_available(min_ready, world.now));
    }
    ReplicaSetStatus {
        replicas: count(pods, |_| true),
        fully_labeled_replicas: some(labeled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: terminating,
        observed_generation: Some(owner.head.generation),
        conditions: conditions(world, old.conditions, reason(pods.len().cmp(&set.wanted()))),
    }
}

fn template_selector(set: &Set) -> Selector {
    let template = set.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.as_ref()).map(|l| serde_json::json!(l));
    Selector::from_map(labels.as_ref())
}

/// What a failure means while there are too few or too many pods; nothing once the number is right.
fn reason(pods_to_wanted: Ordering) -> Option<&'static str> {
    match pods_to_wanted {
        Ordering::Less => Some("FailedCreate"),
        Ordering::Greater => Some("FailedDelete"),
        Ordering::Equal => None,
    }
}

/// A failure of the last attempt is shown until an attempt succeeds.
fn conditions(
    world: &World<'_>,
    old: Option<Vec<ReplicaSetCondition>>,
    reason: Option<&str>,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut all = old.unwrap_or_default();
    let before = all.iter().position(|c| c.type_ == REPLICA_FAILURE).map(|i| all.remove(i));
    if let (Some(message), Some(reason)) = (world.failure, reason) {
        let kept = before.filter(|c| c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message));
        all.push(kept.unwrap_or_else(|| ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(world.time()),
        }));
    }
    (!all.is_empty()).then_some(all)
}
