//! What a Deployment reports: counts and the conditions that `kubectl rollout status` reads.

use super::Rollout;
use super::sets::Set;
use crate::members::some;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use kybern_reconcile::Error;
use kybern_reconcile::plan::{Plan, change, later};
use std::time::Duration;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// The reason that marks a finished rollout; later loss of pods does not restart the deadline.
const FINISHED: &str = "NewReplicaSetAvailable";
/// The reason of a rollout whose deadline has passed.
const LATE: &str = "ProgressDeadlineExceeded";

/// What this plan is doing, for the Progressing condition.
pub(super) enum Progress {
    /// Nothing that counts as progress.
    Quiet,
    /// The new set was found again.
    Found,
    /// The new set is being created.
    Created(String),
    /// The new set could not be created: its name, and why.
    Refused(String, String),
    /// Pods move from old sets to the new one.
    Rolling,
}

impl Rollout<'_> {
    /// Writes the status if it changed, and comes back when the progress deadline is due.
    pub(super) fn report(&self, progress: &Progress) -> Result<Plan, Error> {
        let mut plan = Plan::none();
        let mut status = self.counts();
        let mut conditions = status.conditions.take().unwrap_or_default();
        self.put(&mut conditions, self.availability(&status));
        if self.progress_deadline().is_none() {
            conditions.retain(|c| c.type_ != PROGRESSING);
        }
        if let Some(condition) = self.progress(progress, &status, &conditions) {
            self.put(&mut conditions, condition);
        }
        self.replica_failure(&mut conditions);
        if let Some(deadline) = self.deadline(&conditions) {
            plan.at(deadline, self.world.now);
        }
        status.conditions = (!conditions.is_empty()).then_some(conditions);
        let mut reported = self.deployment.clone();
        reported.status = Some(status);
        plan.act(change(&self.deployment, &reported, "status")?);
        Ok(plan)
    }

    /// Is every pod of the new template, available, and none left over?
    pub(super) fn is_complete(&self) -> bool {
        let desired = self.desired();
        let counts = self.counts();
        let at = |n: Option<i32>| n.unwrap_or(0) == desired;
        at(counts.updated_replicas) && at(counts.replicas) && at(counts.available_replicas)
    }

    fn counts(&self) -> DeploymentStatus {
        let available = self.sets.sum(Set::available);
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: some(self.sets.sum(Set::actual)),
            updated_replicas: some(self.sets.new.as_ref().map_or(0, Set::actual)),
            ready_replicas: some(self.sets.sum(Set::ready)),
            available_replicas: some(available),
            unavailable_replicas: some((self.sets.sum(Set::replicas) - available).max(0)),
            terminating_replicas: self.sets.terminating(),
            ..self.deployment.status.clone().unwrap_or_default()
        }
    }

    fn availability(&self, status: &DeploymentStatus) -> DeploymentCondition {
        if status.available_replicas.unwrap_or(0) >= self.desired() - self.max_unavailable() {
            self.condition(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into())
        } else {
            let message = "Deployment does not have minimum availability.".into();
            self.condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message)
        }
    }

    /// The Progressing condition, where it changes.
    fn progress(
        &self,
        progress: &Progress,
        now: &DeploymentStatus,
        conditions: &[DeploymentCondition],
    ) -> Option<DeploymentCondition> {
        let current = conditions.iter().find(|c| c.type_ == PROGRESSING);
        let reason = current.and_then(|c| c.reason.as_deref()).unwrap_or_default();
        self.progress_deadline()?;
        if self.is_paused() {
            return (reason != "DeploymentPaused")
                .then(|| self.condition(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".into()));
        }
        if reason == "DeploymentPaused" {
            return Some(self.condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into()));
        }
        match progress {
            Progress::Quiet => None,
            Progress::Created(name) => Some(self.condition(
                PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                format!("Created new replica set \"{name}\""),
            )),
            Progress::Refused(name, why) => Some(self.condition(
                PROGRESSING,
                "False",
                "ReplicaSetCreateError",
                format!("Failed to create new replica set \"{name}\": {why}"),
            )),
            Progress::Found if current.is_none() => {
                let message = format!("Found new replica set \"{}\"", self.new_set_name());
                Some(self.condition(PROGRESSING, "True", "FoundNewReplicaSet", message))
            }
            Progress::Found | Progress::Rolling => self.rolling_condition(now, current),
        }
    }

    fn rolling_condition(
        &self,
        now: &DeploymentStatus,
        current: Option<&DeploymentCondition>,
    ) -> Option<DeploymentCondition> {
        let finished = current.is_some_and(|c| c.reason.as_deref() == Some(FINISHED));
        if finished && now.replicas == now.updated_replicas {
            return None;
        }
        let what = self.rolled();
        if self.is_complete() {
            let message = format!("{what} has successfully progressed.");
            return Some(self.condition(PROGRESSING, "True", FINISHED, message));
        }
        if self.has_progressed(now) || current.is_none() {
            let mut condition =
                self.condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."));
            if let Some(current) = current.filter(|c| c.status == "True") {
                condition.last_transition_time.clone_from(&current.last_transition_time);
            }
            return Some(condition);
        }
        let late = !finished && self.deadline_of(current).is_some_and(|at| at <= self.world.now);
        late.then(|| {
            let message = format!("{what} has timed out progressing.");
            self.condition(PROGRESSING, "False", LATE, message)
        })
    }

    /// Is more done than when the status was last written?
    fn has_progressed(&self, now: &DeploymentStatus) -> bool {
        let before = self.deployment.status.clone().unwrap_or_default();
        let n = |v: Option<i32>| v.unwrap_or(0);
        let old_pods = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
        n(now.updated_replicas) > n(before.updated_replicas)
            || old_pods(now) < old_pods(&before)
            || n(now.ready_replicas) > n(before.ready_replicas)
            || n(now.available_replicas) > n(before.available_replicas)
    }

    /// When the progress deadline is due, while a rollout is under way.
    fn deadline(&self, conditions: &[DeploymentCondition]) -> Option<Timestamp> {
        let current = conditions.iter().find(|c| c.type_ == PROGRESSING)?;
        let reason = current.reason.as_deref().unwrap_or_default();
        let open = ![FINISHED, LATE].contains(&reason) && !self.is_paused();
        self.deadline_of(Some(current)).filter(|at| open && *at > self.world.now)
    }

    fn deadline_of(&self, condition: Option<&DeploymentCondition>) -> Option<Timestamp> {
        let since = condition?.last_update_time.as_ref()?.0;
        Some(later(since, self.progress_deadline()?))
    }

    /// None where the Deployment sets no deadline.
    fn progress_deadline(&self) -> Option<Duration> {
        let seconds = self.deployment.spec.as_ref()?.progress_deadline_seconds.unwrap_or(600);
        (seconds != i32::MAX).then(|| Duration::from_secs(seconds.max(0).unsigned_abs().into()))
    }

    /// The sets' failure to create pods is the Deployment's.
    fn replica_failure(&self, conditions: &mut Vec<DeploymentCondition>) {
        let failure = self.sets.new.iter().chain(&self.sets.old).find_map(|set| {
            set.object.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == REPLICA_FAILURE)
        });
        match failure {
            Some(c) => {
                let (reason, message) = (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default());
                self.put(conditions, self.condition(REPLICA_FAILURE, &c.status, &reason, message));
            }
            None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        }
    }

    /// What progresses: the new set, or, before there is one, the Deployment.
    fn rolled(&self) -> String {
        match &self.sets.new {
            Some(set) => format!("ReplicaSet \"{}\"", set.name()),
            None => format!("Deployment \"{}\"", self.item.object.head.name),
        }
    }

    fn new_set_name(&self) -> &str {
        self.sets.new.as_ref().map_or("", Set::name)
    }

    fn condition(&self, kind: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
        DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_update_time: Some(self.world.time()),
            last_transition_time: Some(self.world.time()),
        }
    }

    /// Puts a condition in; one that says the same as before leaves the old times, unless it reports
    /// progress, whose time is what the deadline counts from.
    fn put(&self, conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
        match conditions.iter_mut().find(|c| c.type_ == new.type_) {
            None => conditions.push(new),
            Some(old) => {
                let same = old.status == new.status && old.reason == new.reason;
                if same && new.reason.as_deref() != Some("ReplicaSetUpdated") {
                    return;
                }
                if old.status == new.status {
                    new.last_transition_time.clone_from(&old.last_transition_time);
                }
                *old = new;
            }
        }
    }
}
