//! What a ReplicaSet reports.

use super::Member;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use kybern_api::meta::selector::Selector;
use kybern_reconcile::view::World;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The status that follows from the pods.
pub(super) fn status(world: &World<'_>, set: &ReplicaSet, pods: &[Member<'_>]) -> ReplicaSetStatus {
    let min_ready = min_ready(set);
    let count =
        |test: &dyn Fn(&Member<'_>) -> bool| i32::try_from(pods.iter().filter(|m| test(m)).count()).unwrap_or(i32::MAX);
    let template = template_selector(set);
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&|m| template.matches(&*m.object.head))),
        ready_replicas: some(count(&|m| m.row.ready)),
        available_replicas: some(count(&|m| m.available_at(min_ready).is_some_and(|at| at <= world.now))),
        observed_generation: set.metadata.generation,
        conditions: conditions(world, old.conditions),
        ..old
    }
}

/// When the next ready pod becomes available, if time alone will bring that about.
pub(super) fn next_available(now: Timestamp, set: &ReplicaSet, pods: &[Member<'_>]) -> Option<Timestamp> {
    pods.iter().filter_map(|m| m.available_at(min_ready(set))).filter(|at| *at > now).min()
}

fn min_ready(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
}

/// Zero counts are left out, as in Kubernetes' own objects.
fn some(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

fn template_selector(set: &ReplicaSet) -> Selector {
    let template = set.spec.as_ref().and_then(|s| s.template.as_ref()).and_then(|t| t.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.as_ref()).map(|l| serde_json::json!(l));
    Selector::from_map(labels.as_ref())
}

/// A failure of the last attempt is shown until an attempt succeeds.
fn conditions(world: &World<'_>, old: Option<Vec<ReplicaSetCondition>>) -> Option<Vec<ReplicaSetCondition>> {
    let mut all = old.unwrap_or_default();
    let before = all.iter().position(|c| c.type_ == REPLICA_FAILURE).map(|i| all.remove(i));
    if let Some(message) = world.failure {
        let kept = before.filter(|c| c.message.as_deref() == Some(message));
        all.push(kept.unwrap_or_else(|| ReplicaSetCondition {
            type_: REPLICA_FAILURE.into(),
            status: "True".into(),
            reason: Some("FailedCreate".into()),
            message: Some(message.into()),
            last_transition_time: Some(world.time()),
        }));
    }
    (!all.is_empty()).then_some(all)
}
