//! What a budget reports: healthy pods against those that must be, and what may go.

use super::PATIENCE;
use super::expected::{Expected, expected};
use crate::rows::PodRow;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kybern_api::meta::selector::Selector;
use kybern_client::store::Item;
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Note, Plan, change, later, reference};
use kybern_reconcile::view::World;
use std::collections::BTreeMap;

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// Brings the status up to date.
pub(super) fn report(
    world: &World<'_>,
    item: &Item,
    budget: &PodDisruptionBudget,
    pods: &[&Item],
    selector: &Selector,
) -> Result<Plan, Error> {
    let mut notes = Vec::new();
    let mut note = |warning, reason: &str, message: String| {
        notes.push(Note {
            about: reference::<PodDisruptionBudget>(&item.object),
            warning,
            reason: reason.into(),
            message,
        });
    };
    if pods.is_empty() {
        note(false, "NoPods", "No matching pods found".into());
    }
    let mut new = budget.clone();
    let mut plan = Plan::none();
    match expected(world.view, budget, pods) {
        Err(why) => {
            note(
                true,
                "CalculateExpectedPodCountFailed",
                format!("Failed to calculate the number of expected pods: {why}"),
            );
            new.status = Some(failed(world, budget, &why));
        }
        Ok(expected) => {
            if expected.unmanaged {
                let text = "were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";
                note(
                    true,
                    "UnmanagedPods",
                    format!("Pods selected by this PodDisruptionBudget (selector: {selector}) {text}"),
                );
            }
            let promised = Promised::of(world, budget, pods);
            new.status = Some(counted(world, budget, pods, &expected, &promised));
            if let Some(at) = promised.next {
                plan.at(at, world.now);
            }
            promised.overdue.iter().for_each(|pod| plan.note(not_deleted(item, pod)));
        }
    }
    // Events tell of changes; a status that stays has been told of.
    if let Some(action) = change(budget, &new, "status")? {
        notes.into_iter().for_each(|n| plan.note(n));
        plan.act(action);
    }
    Ok(plan)
}

fn not_deleted(budget: &Item, pod: &Item) -> Note {
    let message = format!("Pod was expected by PDB {} to be deleted but it wasn't", budget.object.head.key());
    Note { about: reference::<Pod>(&pod.object), warning: true, reason: "NotDeleted".into(), message }
}

/// Evictions that were granted and have not begun yet.
#[derive(Default)]
struct Promised<'a> {
    pods: BTreeMap<String, Time>,
    /// When the next of them is overdue.
    next: Option<Timestamp>,
    overdue: Vec<&'a Item>,
}

impl<'a> Promised<'a> {
    fn of(world: &World<'_>, budget: &PodDisruptionBudget, pods: &[&'a Item]) -> Self {
        let granted = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
        let mut promised = Self::default();
        for pod in pods.iter().filter(|p| p.object.head.deleting.is_none()) {
            let Some(at) = granted.get(pod.object.head.name.as_str()) else { continue };
            let due = later(at.0, PATIENCE);
            if due <= world.now {
                promised.overdue.push(pod);
            } else {
                promised.next = Some(promised.next.map_or(due, |n| n.min(due)));
                promised.pods.insert(pod.object.head.name.to_string(), at.clone());
            }
        }
        promised
    }
}

fn counted(
    world: &World<'_>,
    budget: &PodDisruptionBudget,
    pods: &[&Item],
    expected: &Expected,
    promised: &Promised<'_>,
) -> PodDisruptionBudgetStatus {
    let healthy = pods.iter().filter(|p| {
        let head = &p.object.head;
        head.deleting.is_none()
            && !promised.pods.contains_key(head.name.as_str())
            && p.row::<PodRow>().is_some_and(|r| r.ready)
    });
    let current_healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let spare = current_healthy.saturating_sub(expected.healthy).max(0);
    let disruptions_allowed = if expected.pods > 0 { spare } else { 0 };
    let reason = if disruptions_allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    PodDisruptionBudgetStatus {
        current_healthy: Some(current_healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(disruptions_allowed),
        disrupted_pods: (!promised.pods.is_empty()).then(|| promised.pods.clone()),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(world, budget, disruptions_allowed > 0, reason, "")),
    }
}

/// Nobody may be evicted while it is not known how many pods there should be.
fn failed(world: &World<'_>, budget: &PodDisruptionBudget, why: &str) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(world, budget, false, "SyncFailed", why)),
        ..budget.status.clone().unwrap_or_default()
    }
}

/// The conditions with DisruptionAllowed as it is now; its time moves only when its status does.
fn conditions(
    world: &World<'_>,
    budget: &PodDisruptionBudget,
    allowed: bool,
    reason: &str,
    message: &str,
) -> Vec<Condition> {
    let mut all = budget.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let status = if allowed { "True" } else { "False" };
    let old = all.iter().position(|c| c.type_ == DISRUPTION_ALLOWED);
    let since = old.filter(|i| all[*i].status == status).map(|i| all[i].last_transition_time.clone());
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or_else(|| world.time()),
    };
    match old {
        Some(i) => all[i] = condition,
        None => all.push(condition),
    }
    all
}
